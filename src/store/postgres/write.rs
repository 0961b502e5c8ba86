//! Writing what a planner decided: accounts, claims, session keys, fates, positions. One statement
//! per kind, its values as arrays.
//!
//! Rows to replace are found by `= ANY(ARRAY[k.id])`: with a plain `=`, PostgreSQL also considers to
//! read the whole index in order, and does that for ever if the table was empty when it planned.

use super::PostgresStore;
use super::apply::Planned;
use super::columns::AccountColumns;
use super::lock::Locked;
use super::rows::{code, int32};
use super::session::{Fault, Session, query};
use crate::model::{Account, ClaimStatus, UnionKey};
use crate::store::rules::{changes_view, expect_rows, fate, state_word};
use crate::store::{Batch, Position, StoreError, Tracked};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;

pub(super) const PUT_CLAIMS: &str = "INSERT INTO claims (account, unionid, platform, union_id, at, \
     method, cause, why, verdict, reported) SELECT * FROM unnest($1::bigint[], $2::bigint[], \
     $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::smallint[], \
     $10::boolean[]) ON CONFLICT (account, unionid) DO UPDATE SET at = excluded.at, \
     method = excluded.method, cause = excluded.cause, why = excluded.why, \
     verdict = excluded.verdict, reported = excluded.reported";
pub(super) const PUT_SESSION_KEYS: &str = "INSERT INTO session_keys (account, at, exchanged, sealed) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::bytea[]) \
     ON CONFLICT (account, at, exchanged) DO UPDATE SET sealed = excluded.sealed";
/// An account keeps its three newest keys: one is valid at a time (`docs/wechat.md` §3.3), and a
/// front end's data may be one or two logins late.
pub(super) const TRIM_SESSION_KEYS: &str = "DELETE FROM session_keys s USING \
     (SELECT o.account, o.at, o.exchanged FROM unnest($1::bigint[]) AS k(id) CROSS JOIN LATERAL \
     (SELECT x.account, x.at, x.exchanged FROM session_keys x WHERE x.account = k.id \
     ORDER BY x.at DESC, x.exchanged DESC OFFSET 3) o OFFSET 0) o \
     WHERE s.account = ANY(ARRAY[o.account]) AND s.at = ANY(ARRAY[o.at]) \
     AND s.exchanged = ANY(ARRAY[o.exchanged])";
pub(super) const DROP_SESSION_KEYS: &str =
    "DELETE FROM session_keys WHERE account = ANY($1::bigint[])";
/// A fate that is final is not taken back by a repeat that is deferred, nor by older news.
pub(super) const PUT_TRACKED: &str = "INSERT INTO tracked (event, state, account, reason, at) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) \
     ON CONFLICT (event) DO UPDATE SET state = excluded.state, account = excluded.account, \
     reason = excluded.reason, at = excluded.at WHERE excluded.at >= tracked.at \
     AND NOT (excluded.state = 'deferred' AND tracked.state <> 'deferred')";
const PUT_POSITIONS: &str = "INSERT INTO positions (partition, \"offset\", digest) \
     SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bytea[]) \
     ON CONFLICT (partition) DO UPDATE SET \"offset\" = excluded.\"offset\", \
     digest = excluded.digest";

/// A plan with the row ids of all that it names, for writing.
pub(super) struct Writing<'a> {
    pub store: &'a PostgresStore,
    pub planned: &'a Planned,
    pub locked: &'a Locked,
    /// Accounts of the changes: they live after the batch.
    born: FxHashSet<&'a Account>,
    /// Accounts whose stored life ends in the batch.
    ended: FxHashSet<&'a Account>,
}

impl Writing<'_> {
    /// The row of an account that is locked.
    pub(super) fn id(&self, account: &Account) -> Result<i64, StoreError> {
        let known = self.planned.loaded.ids.get(account).copied();
        known
            .or_else(|| self.locked.accounts.get(&self.store.own(account)).copied())
            .ok_or_else(|| StoreError::Corrupt("a row of an account that is not locked".into()))
    }

    /// The row of an account that lives after the batch.
    fn living(&self, account: &Account) -> Result<i64, StoreError> {
        let lives = self.born.contains(account)
            || (self.planned.loaded.view.accounts.contains_key(account)
                && !self.ended.contains(account));
        if !lives {
            let why = "a row of an account that is not stored";
            return Err(StoreError::Corrupt(why.into()));
        }
        self.id(account)
    }

    fn unionid(&self, union: &UnionKey) -> Result<i64, StoreError> {
        let known = self.planned.loaded.unionids.get(union).copied();
        known
            .or_else(|| self.locked.unionids.get(&self.store.tag(union)).copied())
            .ok_or_else(|| StoreError::Corrupt("a claim on a unionid that is not locked".into()))
    }

    async fn accounts(&self, session: &mut Session) -> Result<(), Fault> {
        let rows = &self.planned.changes.accounts;
        let made = &self.locked.made;
        let exact = |account: &Account| {
            let made = made.get(account).copied().unwrap_or_default();
            made && !self.locked.replanned && !self.ended.contains(account)
        };
        let mut columns = AccountColumns::default();
        for row in rows.iter().filter(|row| !exact(&row.account)) {
            columns.ids.push(self.id(&row.account)?);
            columns.push(row);
        }
        if self.locked.replanned {
            // Made with a content that is not planned any more.
            let void = made
                .iter()
                .filter(|(a, full)| **full && !self.born.contains(a));
            for (account, _) in void {
                columns.ids.push(self.id(account)?);
                columns.push_place();
            }
        }
        let meant = columns.ids.len();
        if meant > 0 {
            let touched = session.exec(columns.update()).await?;
            expect_rows("accounts", meant, touched)?;
        }
        Ok(())
    }

    async fn claims(&self, session: &mut Session) -> Result<(), Fault> {
        let claims = &self.planned.changes.claims;
        if claims.is_empty() {
            return Ok(());
        }
        let (mut accounts, mut unionids) = (Vec::new(), Vec::new());
        for claim in claims {
            accounts.push(self.living(&claim.key.account)?);
            unionids.push(self.unionid(&claim.key.union)?);
        }
        let platform = claims.iter().map(|c| c.key.union.platform.as_str());
        let unionid = claims.iter().map(|c| c.key.union.unionid.as_str());
        let why = claims.iter().map(|c| match c.status {
            ClaimStatus::Active => None,
            ClaimStatus::Contested(why) => Some(why.word()),
        });
        let put = query(PUT_CLAIMS)
            .bind(accounts)
            .bind(unionids)
            .bind(platform.collect::<Vec<_>>())
            .bind(unionid.collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.at.0).collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.method.word()).collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.cause.as_str()).collect::<Vec<_>>())
            .bind(why.collect::<Vec<_>>())
            .bind(claims.iter().map(|c| code(c.verdict)).collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.reported).collect::<Vec<_>>());
        let touched = session.exec(put).await?;
        Ok(expect_rows("claims", claims.len(), touched)?)
    }

    /// Keeps new keys, drops those of resolved accounts, and wakes what waits for either.
    async fn session_keys(&self, session: &mut Session) -> Result<(), Fault> {
        let changes = &self.planned.changes;
        if !changes.session_keys.is_empty() {
            let mut keys = BTreeMap::new();
            for (account, key) in &changes.session_keys {
                let id = self.living(account)?;
                keys.insert((id, key.at.0, key.exchanged), key.sealed.as_slice());
            }
            let ids: Vec<i64> = keys.keys().map(|(id, ..)| *id).collect();
            let put = query(PUT_SESSION_KEYS)
                .bind(&ids)
                .bind(keys.keys().map(|(_, at, _)| *at).collect::<Vec<_>>())
                .bind(keys.keys().map(|(.., x)| *x).collect::<Vec<_>>())
                .bind(keys.values().copied().collect::<Vec<_>>());
            let touched = session.exec(put).await?;
            expect_rows("session keys", keys.len(), touched)?;
            let mut trimmed = ids;
            trimmed.dedup();
            session.exec(query(TRIM_SESSION_KEYS).bind(trimmed)).await?;
        }
        // An account that is new in this batch has no older keys; most batches have only such.
        let resolved = changes.resolved.iter();
        let stored = resolved.filter(|a| !self.locked.made.contains_key(*a));
        let stored: Vec<i64> = stored.filter_map(|a| self.id(a).ok()).collect();
        if !stored.is_empty() {
            session.exec(query(DROP_SESSION_KEYS).bind(stored)).await?;
        }
        let keyed = changes.session_keys.iter().map(|(a, _)| a);
        let ready = keyed.chain(&changes.resolved);
        super::deferred::wake(session, ready.map(Account::key).collect()).await
    }
}

impl PostgresStore {
    /// Writes the changes; says whether a planner could see any of it.
    pub(super) async fn write_changes(
        &self,
        session: &mut Session,
        planned: &Planned,
        locked: &Locked,
    ) -> Result<bool, Fault> {
        let writing = Writing {
            store: self,
            planned,
            locked,
            born: planned
                .changes
                .accounts
                .iter()
                .map(|r| &r.account)
                .collect(),
            ended: planned.changes.erased.iter().collect(),
        };
        writing.erase(session).await?;
        writing.accounts(session).await?;
        writing.own_ids(session).await?;
        writing.claims(session).await?;
        writing.registers(session).await?;
        writing.session_keys(session).await?;
        Ok(changes_view(&planned.changes))
    }
}

/// Notes fates. An event that comes twice in a batch is noted twice, in order.
pub(super) async fn tracked(
    session: &mut Session,
    batch: &Batch,
    gone: &FxHashSet<Account>,
) -> Result<(), Fault> {
    let mut rounds: Vec<BTreeMap<&str, &Tracked>> = Vec::new();
    let mut seen: FxHashMap<&str, usize> = FxHashMap::default();
    for fate in &batch.tracked {
        let round = seen.entry(fate.event.as_str()).or_default();
        if rounds.len() == *round {
            rounds.push(BTreeMap::new());
        }
        if let Some(fates) = rounds.get_mut(*round) {
            fates.insert(fate.event.as_str(), fate);
        }
        *round += 1;
    }
    for fates in rounds {
        // In the order of the events: two batches with the same do not wait for each other.
        let erased = |f: &&Tracked| f.account.as_ref().is_some_and(|a| gone.contains(a));
        let named = |f: &&Tracked| f.account.as_ref().filter(|_| !erased(f)).map(Account::key);
        let put = query(PUT_TRACKED)
            .bind(fates.keys().copied().collect::<Vec<_>>())
            .bind(
                fates
                    .values()
                    .map(|f| state_word(fate(f.state, erased(f))))
                    .collect::<Vec<_>>(),
            )
            .bind(fates.values().map(named).collect::<Vec<_>>())
            .bind(
                fates
                    .values()
                    .map(|f| f.reason.as_deref())
                    .collect::<Vec<_>>(),
            )
            .bind(fates.values().map(|f| f.at.0).collect::<Vec<_>>());
        session.exec(put).await?;
    }
    Ok(())
}

/// Notes how far the input was applied, as given.
pub(super) async fn positions(session: &mut Session, given: &[Position]) -> Result<(), Fault> {
    if given.is_empty() {
        return Ok(());
    }
    let given: BTreeMap<u32, &Position> = given.iter().map(|p| (p.partition, p)).collect();
    let put = query(PUT_POSITIONS)
        .bind(given.keys().map(|p| int32(*p)).collect::<Vec<_>>())
        .bind(given.values().map(|p| p.offset).collect::<Vec<_>>())
        .bind(
            given
                .values()
                .map(|p| p.digest.as_slice())
                .collect::<Vec<_>>(),
        );
    let touched = session.exec(put).await?;
    Ok(expect_rows("positions", given.len(), touched)?)
}
