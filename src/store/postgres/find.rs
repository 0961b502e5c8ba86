//! Look-ups: accounts, users, unionids, events. Users are no rows: a user is walked from the
//! account that its id is the own id of, along claims that link.

use super::PostgresStore;
use super::rows::{
    account, account_columns, claim, claim_columns, corrupt, get, key_or_null, millis, parsed,
};
use super::session::{Fault, Session, query};
use crate::model::{Account, EventId, UnionKey, UserId};
use crate::store::rules::state_of;
use crate::store::{FoundAccount, FoundUser, StoreError, Tracked};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Rounds of walking from account to account. A user holds at most 64 accounts, and each round
/// reaches at least one more.
const ROUNDS: usize = 64;

pub(super) const BY_OWN: &str = "SELECT a.id FROM unnest($1::uuid[]) AS k(own) \
     CROSS JOIN LATERAL (SELECT x.id FROM accounts x WHERE x.own = k.own LIMIT 1) a";
pub(super) const BY_ID: &str = concat!(
    "SELECT a.id, a.key, ",
    account_columns!(),
    ", c.unionid, ",
    claim_columns!(),
    " FROM unnest($1::bigint[]) AS k(id) \
     CROSS JOIN LATERAL (SELECT * FROM accounts x WHERE x.id = k.id AND x.user_id IS NOT NULL \
     LIMIT 1) a LEFT JOIN LATERAL (SELECT * FROM claims x WHERE x.account = a.id OFFSET 0) c ON true"
);
/// Accounts of the next round. An active claim's unionid is claimed by few: one that many claim
/// activates nothing.
pub(super) const LINKED: &str = "SELECT DISTINCT o.account FROM unnest($1::bigint[]) AS k(id) \
     CROSS JOIN LATERAL (SELECT x.unionid FROM claims x WHERE x.account = k.id AND x.why IS NULL \
     OFFSET 0) c CROSS JOIN LATERAL (SELECT x.account FROM claims x WHERE x.unionid = c.unionid \
     AND x.verdict < 2 AND x.why IS NULL OFFSET 0) o";
/// The account behind an own id; NULL: gone.
pub(super) const OWNER: &str = "SELECT id FROM accounts WHERE own = $1 AND generation = 0 \
     AND user_id IS NOT NULL UNION ALL SELECT account FROM own_ids WHERE own = $1";
pub(super) const BY_UNIONID: &str = "SELECT a.user_id FROM unionids u \
     CROSS JOIN LATERAL (SELECT x.account FROM claims x WHERE x.unionid = u.id AND x.verdict < 2 \
     AND x.why IS NULL LIMIT 1) c \
     CROSS JOIN LATERAL (SELECT x.user_id FROM accounts x WHERE x.id = c.account LIMIT 1) a \
     WHERE u.tag = $1";

impl PostgresStore {
    pub(super) async fn read_accounts(
        &self,
        accounts: &[Account],
    ) -> Result<Vec<Option<FoundAccount>>, Fault> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let owns: Vec<Uuid> = accounts.iter().map(|a| self.own(a)).collect();
        let mut session = self.session().await?;
        session.snapshot().await?;
        let rows = session.all(query(BY_OWN).bind(owns)).await?;
        let ids = rows.iter().map(|row| get(row, 0));
        let ids: BTreeSet<i64> = ids.collect::<Result<_, StoreError>>()?;
        let found: Vec<FoundAccount> = load(&mut session, &ids).await?.into_values().collect();
        session.commit().await?;
        session.give_back();
        let found: FxHashMap<&Account, &FoundAccount> =
            found.iter().map(|f| (&f.row.account, f)).collect();
        let found = accounts.iter().map(|a| found.get(a).map(|f| (*f).clone()));
        Ok(found.collect())
    }

    pub(super) async fn read_user(&self, user: UserId) -> Result<FoundUser, Fault> {
        let mut session = self.session().await?;
        session.snapshot().await?;
        let found = walk_user(&mut session, user).await?;
        session.commit().await?;
        session.give_back();
        Ok(found)
    }

    pub(super) async fn read_unionid(&self, union: &UnionKey) -> Result<Option<UserId>, Fault> {
        let rows = self.read(query(BY_UNIONID).bind(self.tag(union))).await?;
        let user = rows.first().map(|row| get(row, 0)).transpose()?;
        Ok(user.map(UserId))
    }

    pub(super) async fn read_event(&self, event: &EventId) -> Result<Option<Tracked>, Fault> {
        let sql = "SELECT event, state, account, reason, at FROM tracked WHERE event = $1";
        let rows = self
            .read(query(sql).bind(event.as_str().to_owned()))
            .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(Tracked {
            event: parsed(row, 0, EventId::parse)?,
            state: state_of(get(row, 1)?).ok_or_else(|| corrupt(row, 1))?,
            account: key_or_null(row, 2)?,
            reason: get(row, 3)?,
            at: millis(row, 4)?,
        }))
    }
}

async fn walk_user(session: &mut Session, user: UserId) -> Result<FoundUser, Fault> {
    let rows = session.all(query(OWNER).bind(user.0)).await?;
    let first = match rows.first() {
        None => return Ok(FoundUser::Unknown),
        Some(row) => match get(row, 0)? {
            None => return Ok(FoundUser::Gone),
            Some(id) => id,
        },
    };
    let members = walk(session, first).await?;
    let mut accounts: Vec<FoundAccount> = load(session, &members).await?.into_values().collect();
    accounts.sort_by(|a, b| a.row.account.cmp(&b.row.account));
    // All members say the same; asked for is the one whose own id it is.
    match accounts.first() {
        Some(one) => Ok(FoundUser::Is(one.row.user, accounts)),
        None => Err(StoreError::Corrupt("an own id of no account".into()).into()),
    }
}

/// All accounts linked to this one, itself included.
async fn walk(session: &mut Session, first: i64) -> Result<BTreeSet<i64>, Fault> {
    let mut members = BTreeSet::from([first]);
    let mut new = vec![first];
    for _ in 0..ROUNDS {
        let rows = session.all(query(LINKED).bind(std::mem::take(&mut new)));
        for row in rows.await? {
            let id = get(&row, 0)?;
            if members.insert(id) {
                new.push(id);
            }
        }
        if new.is_empty() {
            break;
        }
    }
    Ok(members)
}

/// Living accounts with their claims, by row.
pub(super) async fn load(
    session: &mut Session,
    ids: &BTreeSet<i64>,
) -> Result<BTreeMap<i64, FoundAccount>, Fault> {
    let keys: Vec<i64> = ids.iter().copied().collect();
    let mut found: BTreeMap<i64, FoundAccount> = BTreeMap::new();
    for row in session.all(query(BY_ID).bind(keys)).await? {
        let who = key_or_null(&row, 1)?.ok_or_else(|| corrupt(&row, 1))?;
        let id = get(&row, 0)?;
        if get::<Option<i64>>(&row, 12)?.is_some() {
            let claim = claim(&row, 13, who.clone())?;
            if let Some(of) = found.get_mut(&id) {
                of.claims.push(claim);
                continue;
            }
            let one = one(&row, who, vec![claim])?;
            found.insert(id, one);
        } else {
            found.insert(id, one(&row, who, Vec::new())?);
        }
    }
    for one in found.values_mut() {
        one.claims.sort_by(|a, b| a.key.union.cmp(&b.key.union));
    }
    Ok(found)
}

fn one(
    row: &sqlx::postgres::PgRow,
    who: Account,
    claims: Vec<crate::model::ClaimRow>,
) -> Result<FoundAccount, StoreError> {
    let row = account(row, 2, who)?.ok_or_else(|| corrupt(row, 2))?;
    Ok(FoundAccount { row, claims })
}
