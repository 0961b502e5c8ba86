//! Reading what keys name: one set-based statement per kind, one index probe per key.
//!
//! Keys go through `LATERAL (… LIMIT)`, which PostgreSQL cannot turn into a join of whole tables.
//! Registers are looked for only where the account's row says that there are any.

use super::PostgresStore;
use super::rows::{
    account, account_columns, claim, claim_columns, corrupt, get, key_or_null, millis, nth, ruled,
    union_key,
};
use super::session::{Fault, Session, query};
use crate::model::{
    Account, ClaimKey, ClaimRow, Keys, NeverPair, Tombstone, UnionKey, UnionRead, UserId, View,
};
use crate::store::StoreError;
use crate::store::rules::UNIONID_LIMIT;
use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// An account with its claims: a row for each claim, or one without.
pub(super) const ACCOUNTS: &str = concat!(
    "SELECT k.n, a.id, a.marked, ",
    account_columns!(),
    ", c.unionid, ",
    claim_columns!(),
    " FROM unnest($1::uuid[]) WITH ORDINALITY AS k(own, n) \
     CROSS JOIN LATERAL (SELECT * FROM accounts x WHERE x.own = k.own LIMIT 1) a \
     LEFT JOIN LATERAL (SELECT * FROM claims x WHERE x.account = a.id OFFSET 0) c ON true"
);
/// Claims on a unionid: accepted ones first, rejected ones last, one more than the limit.
/// [`UNIONID_LIMIT`] + 1 stands in the text.
pub(super) const UNIONIDS: &str = concat!(
    "SELECT k.n, u.id, c.account, a.key, ",
    claim_columns!(),
    " FROM unnest($1::uuid[]) WITH ORDINALITY AS k(tag, n) \
     CROSS JOIN LATERAL (SELECT x.id FROM unionids x WHERE x.tag = k.tag LIMIT 1) u \
     LEFT JOIN LATERAL (SELECT * FROM claims x WHERE x.unionid = u.id ORDER BY x.verdict \
     LIMIT 257) c ON true \
     LEFT JOIN LATERAL (SELECT x.key FROM accounts x WHERE x.id = c.account LIMIT 1) a ON true"
);
/// All rejected claims of those unionids where they did not fit.
pub(super) const REJECTED: &str = concat!(
    "SELECT k.n, k.id, c.account, a.key, ",
    claim_columns!(),
    " FROM unnest($1::bigint[]) WITH ORDINALITY AS k(id, n) \
     CROSS JOIN LATERAL (SELECT * FROM claims x WHERE x.unionid = k.id AND x.verdict = 2 \
     OFFSET 0) c \
     LEFT JOIN LATERAL (SELECT x.key FROM accounts x WHERE x.id = c.account LIMIT 1) a ON true"
);
pub(super) const TOMBSTONES: &str = "SELECT k.n, t.erased_at, t.revision, t.own_ids \
     FROM unnest($1::bigint[]) WITH ORDINALITY AS k(id, n) \
     CROSS JOIN LATERAL (SELECT * FROM tombstones x WHERE x.account = k.id LIMIT 1) t";
pub(super) const RULINGS: &str = "SELECT k.n, r.platform, r.union_id, r.verdict, r.at, r.author, \
     r.note FROM unnest($1::bigint[]) WITH ORDINALITY AS k(id, n) \
     CROSS JOIN LATERAL (SELECT * FROM rulings x WHERE x.account = k.id OFFSET 0) r";
pub(super) const PAIRS: &str = "SELECT p.a, p.b, a.key, b.key, p.verdict, p.at, p.author, p.note \
     FROM unnest($1::bigint[]) AS k(id) \
     CROSS JOIN LATERAL (SELECT * FROM pairs x WHERE x.a = k.id \
     UNION ALL SELECT * FROM pairs x WHERE x.b = k.id) p \
     LEFT JOIN LATERAL (SELECT x.key FROM accounts x WHERE x.id = p.a LIMIT 1) a ON true \
     LEFT JOIN LATERAL (SELECT x.key FROM accounts x WHERE x.id = p.b LIMIT 1) b ON true";
const ERASURES: &str = "SELECT erasures FROM store";

/// What was read, with what writing needs to know besides.
#[derive(Default)]
pub(super) struct Loaded {
    /// What planners see.
    pub view: View,
    /// Row ids of accounts that were met and have a row, living or not.
    pub ids: FxHashMap<Account, i64>,
    /// Row ids of unionids that were met and have a row.
    pub unionids: FxHashMap<UnionKey, i64>,
    /// The store's count of batches that erased, when this was read.
    pub erasures: i64,
    /// Accounts whose rows this transaction made itself: for planners there are none.
    pub mine: FxHashSet<Account>,
}

impl Loaded {
    /// Takes over accounts that nobody asked for and that are written all the same.
    pub(super) fn complete(&mut self, fresh: Self) {
        for (who, row) in fresh.view.accounts {
            self.view.accounts.entry(who).or_insert(row);
        }
    }
}

impl PostgresStore {
    pub(super) async fn read_view(&self, keys: &Keys) -> Result<View, Fault> {
        let mut session = self.session().await?;
        session.snapshot().await?;
        let mut loaded = Loaded::default();
        self.extend(&mut session, &mut loaded, keys).await?;
        session.commit().await?;
        session.give_back();
        Ok(loaded.view)
    }

    /// Reads keys that were not read before.
    pub(super) async fn extend(
        &self,
        session: &mut Session,
        loaded: &mut Loaded,
        keys: &Keys,
    ) -> Result<(), Fault> {
        let asked = &loaded.view.asked;
        let accounts: Vec<Account> = keys.accounts.difference(&asked.accounts).cloned().collect();
        let unionids: Vec<UnionKey> = keys.unionids.difference(&asked.unionids).cloned().collect();
        if !accounts.is_empty() {
            let marked = self.add_accounts(session, loaded, &accounts).await?;
            add_registers(session, loaded, &marked).await?;
        }
        if !unionids.is_empty() {
            self.add_unionids(session, loaded, &unionids).await?;
        }
        loaded.view.asked.accounts.extend(accounts);
        loaded.view.asked.unionids.extend(unionids);
        Ok(())
    }

    /// Adds accounts with their claims; returns those about which there are registers.
    async fn add_accounts(
        &self,
        session: &mut Session,
        loaded: &mut Loaded,
        accounts: &[Account],
    ) -> Result<Vec<(i64, Account)>, Fault> {
        let owns: Vec<Uuid> = accounts.iter().map(|a| self.own(a)).collect();
        let (mut marked, mut last) = (Vec::new(), 0);
        for row in session.all(query(ACCOUNTS).bind(owns)).await? {
            let who = nth(&row, 0, accounts)?;
            if loaded.mine.contains(who) {
                continue;
            }
            let ordinal: i64 = get(&row, 0)?;
            if ordinal != last {
                last = ordinal;
                let id = get(&row, 1)?;
                loaded.ids.insert(who.clone(), id);
                if get(&row, 2)? {
                    marked.push((id, who.clone()));
                }
                if let Some(found) = account(&row, 3, who.clone())? {
                    loaded.view.accounts.insert(who.clone(), found);
                }
            }
            if let Some(unionid) = get::<Option<i64>>(&row, 13)? {
                let found = claim(&row, 14, who.clone())?;
                loaded.unionids.insert(found.key.union.clone(), unionid);
                let claims = loaded.view.claims.entry(who.clone()).or_default();
                claims.push(found);
            }
        }
        // Two readings of one state are the same view.
        for who in accounts {
            if let Some(claims) = loaded.view.claims.get_mut(who) {
                claims.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            }
        }
        Ok(marked)
    }

    async fn add_unionids(
        &self,
        session: &mut Session,
        loaded: &mut Loaded,
        unionids: &[UnionKey],
    ) -> Result<(), Fault> {
        let tags: Vec<Uuid> = unionids.iter().map(|u| self.tag(u)).collect();
        let mut full = Vec::new();
        for row in session.all(query(UNIONIDS).bind(tags)).await? {
            let union = nth(&row, 0, unionids)?;
            let id = get(&row, 1)?;
            loaded.unionids.insert(union.clone(), id);
            if get::<Option<i64>>(&row, 2)?.is_none() {
                continue;
            }
            let claim = union_claim(&row, loaded)?;
            let read = loaded.view.unionids.entry(union.clone()).or_default();
            read.claims.push(claim);
            if read.claims.len() > UNIONID_LIMIT {
                full.push((id, union.clone()));
            }
        }
        let mut more = Vec::new();
        for (id, union) in full {
            let read = loaded.view.unionids.entry(union.clone()).or_default();
            if cut(read) {
                more.push((id, union));
            }
        }
        if !more.is_empty() {
            let ids: Vec<i64> = more.iter().map(|(id, _)| *id).collect();
            for row in session.all(query(REJECTED).bind(ids)).await? {
                let (_, union) = nth(&row, 0, &more)?;
                let claim = union_claim(&row, loaded)?;
                let read = loaded.view.unionids.entry(union.clone()).or_default();
                read.claims.push(claim);
            }
        }
        for union in unionids {
            if let Some(read) = loaded.view.unionids.get_mut(union) {
                read.claims.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            }
        }
        Ok(())
    }
}

/// Of claims that did not all fit: rejected ones do not count, so either the others fill the limit
/// and more are left unread, or all rejected ones are to be read besides (`true`).
fn cut(read: &mut UnionRead) -> bool {
    use crate::model::ClaimVerdict::Reject;
    if read.claims.iter().any(|c| c.verdict == Some(Reject)) {
        read.claims.retain(|c| c.verdict != Some(Reject));
        return true;
    }
    read.claims.truncate(UNIONID_LIMIT);
    read.truncated = true;
    false
}

fn union_claim(row: &PgRow, loaded: &mut Loaded) -> Result<ClaimRow, StoreError> {
    let who = key_or_null(row, 3)?.ok_or_else(|| corrupt(row, 3))?;
    loaded.ids.insert(who.clone(), get(row, 2)?);
    claim(row, 4, who)
}

/// Adds the registers about accounts.
async fn add_registers(
    session: &mut Session,
    loaded: &mut Loaded,
    marked: &[(i64, Account)],
) -> Result<(), Fault> {
    if marked.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = marked.iter().map(|(id, _)| *id).collect();
    for row in session.all(query(TOMBSTONES).bind(ids.clone())).await? {
        let (_, who) = nth(&row, 0, marked)?;
        let stone = Tombstone {
            account: who.clone(),
            erased_at: millis(&row, 1)?,
            revision: super::rows::count(&row, 2)?,
            own_ids: get::<Vec<Uuid>>(&row, 3)?.into_iter().map(UserId).collect(),
        };
        loaded.view.tombstones.insert(who.clone(), stone);
    }
    for row in session.all(query(RULINGS).bind(ids.clone())).await? {
        let (_, who) = nth(&row, 0, marked)?;
        let key = ClaimKey {
            account: who.clone(),
            union: union_key(&row, 1)?,
        };
        loaded.view.rulings.insert(key, ruled(&row, 3)?);
    }
    // A pair whose other half was erased shows only to whoever asks for both halves, now or in an
    // earlier step: nobody else can meet it.
    let asked: FxHashMap<i64, &Account> = loaded.ids.iter().map(|(a, id)| (*id, a)).collect();
    for row in session.all(query(PAIRS).bind(ids)).await? {
        let (a, b) = (half(&row, 0, 2, &asked)?, half(&row, 1, 3, &asked)?);
        if let (Some(a), Some(b)) = (a, b) {
            loaded
                .view
                .pairs
                .insert(NeverPair { a, b }, ruled(&row, 4)?);
        }
    }
    Ok(())
}

fn half(
    row: &PgRow,
    id: usize,
    plain: usize,
    asked: &FxHashMap<i64, &Account>,
) -> Result<Option<Account>, StoreError> {
    match asked.get(&get(row, id)?) {
        Some(account) => Ok(Some((*account).clone())),
        None => key_or_null(row, plain),
    }
}

/// Reads how many batches have erased somebody.
pub(super) async fn erasures(session: &mut Session) -> Result<i64, Fault> {
    let rows = session.all(query(ERASURES)).await?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::Corrupt("the store's own row is gone".into()))?;
    Ok(get(row, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_reads_one_more_than_the_limit() {
        assert!(UNIONIDS.contains(&format!("LIMIT {})", UNIONID_LIMIT + 1)));
    }
}
