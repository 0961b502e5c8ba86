//! Look-ups: accounts, users, unionids, events. Users are no rows: a user is walked from the
//! account that its id is the own id of, along claims that link.

use super::SqliteStore;
use super::rows::{
    account, account_columns, blob16, claim, claim_columns, corrupt, get, millis, parsed,
    parsed_or_null,
};
use super::view::union_key;
use crate::model::{Account, EventId, Millis, UnionKey, UserId};
use crate::sqlite::{Select, Snapshot, Val};
use crate::store::rules::state_of;
use crate::store::{FoundAccount, FoundUser, StoreError, Tracked};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Rounds of walking from account to account. A user holds at most 64 accounts, and each round
/// reaches at least one more.
const ROUNDS: usize = 64;

pub(super) const BY_ANCHOR: Select = Select {
    head: "SELECT id FROM accounts WHERE anchor IN (",
    columns: 1,
    tail: ")",
};
pub(super) const BY_ID: Select = Select {
    head: concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts a WHERE a.id IN ("
    ),
    columns: 1,
    tail: ")",
};
const CLAIMS: Select = Select {
    head: concat!(
        "SELECT ",
        claim_columns!(),
        " FROM claims c WHERE c.account IN ("
    ),
    columns: 1,
    tail: ") ORDER BY c.account, c.platform, c.unionid",
};
pub(super) const LINKED_UNIONIDS: Select = Select {
    head: "SELECT DISTINCT tag, platform, unionid FROM claims WHERE why IS NULL AND account IN (",
    columns: 1,
    tail: ")",
};
/// An active claim's unionid is claimed by few: one that many claim activates nothing.
pub(super) const LINKED_ACCOUNTS: Select = Select {
    head: "WITH k(tag, platform, unionid) AS (VALUES",
    columns: 3,
    tail: ") SELECT c.account FROM k CROSS JOIN claims c ON c.tag = k.tag AND c.verdict < 2 \
           AND c.why IS NULL AND c.unionid = k.unionid AND c.platform = k.platform",
};
/// Accounts that an own id may belong to: of a first life by the anchor (with the key, to tell),
/// else noted. NULL: gone.
pub(super) const BY_OWN: &str = "SELECT id, key FROM accounts WHERE anchor = ?1 AND generation = 0 \
     UNION ALL SELECT account, NULL FROM own_ids WHERE own = ?2";

impl SqliteStore {
    pub(super) async fn read_accounts(
        &self,
        accounts: &[Account],
    ) -> Result<Vec<Option<FoundAccount>>, StoreError> {
        let mut snapshot = self.file.snapshot().await?;
        let anchors = accounts.iter().map(|a| self.anchor(a).into());
        let mut ids = BTreeSet::new();
        for row in snapshot.many(&BY_ANCHOR, anchors.collect()).await? {
            ids.insert(get(&row, 0)?);
        }
        let found = load(&mut snapshot, &ids).await?.into_values();
        let found: Vec<FoundAccount> = found.collect();
        let found: FxHashMap<&Account, &FoundAccount> =
            found.iter().map(|f| (&f.row.account, f)).collect();
        let found = accounts.iter().map(|a| found.get(a).map(|f| (*f).clone()));
        Ok(found.collect())
    }

    pub(super) async fn read_user(&self, user: UserId) -> Result<FoundUser, StoreError> {
        let mut snapshot = self.file.snapshot().await?;
        let first = match self.own(&mut snapshot, user).await? {
            None => return Ok(FoundUser::Unknown),
            Some(None) => return Ok(FoundUser::Gone),
            Some(Some(id)) => id,
        };
        let members = walk(&mut snapshot, first).await?;
        let accounts = load(&mut snapshot, &members).await?.into_values();
        let mut accounts: Vec<FoundAccount> = accounts.collect();
        accounts.sort_by(|a, b| a.row.account.cmp(&b.row.account));
        // All members say the same; asked for is the one whose own id it is.
        match accounts.first() {
            Some(one) => Ok(FoundUser::Is(one.row.user, accounts)),
            None => Err(StoreError::Corrupt("an own id of no account".into())),
        }
    }

    /// The row id behind an own id: `None` if it is nobody's, `Some(None)` if it is gone.
    async fn own(
        &self,
        snapshot: &mut Snapshot<'_>,
        user: UserId,
    ) -> Result<Option<Option<i64>>, StoreError> {
        let id = Val::Blob(user.0.as_bytes().to_vec());
        let args = vec![super::anchor_of(user).into(), id];
        let parse: fn(&str) -> _ = Account::from_key;
        for row in snapshot.all(BY_OWN, args).await? {
            let first_life = parsed_or_null(&row, 1, parse)?;
            let is_it = |a: Account| a.own_id(self.namespace, Millis(0)) == user;
            if first_life.is_none_or(is_it) {
                return Ok(Some(get(&row, 0)?));
            }
        }
        Ok(None)
    }

    pub(super) async fn read_unionid(
        &self,
        union: &UnionKey,
    ) -> Result<Option<UserId>, StoreError> {
        let sql = "SELECT a.user FROM claims c CROSS JOIN accounts a ON a.id = c.account \
                   WHERE c.tag = ? AND c.verdict < 2 AND c.why IS NULL AND c.unionid = ? \
                   AND c.platform = ? LIMIT 1";
        let args = vec![
            self.tag(union).into(),
            union.unionid.as_str().into(),
            union.platform.as_str().into(),
        ];
        let rows = self.file.all(sql, args).await?;
        let user = rows.first().map(|row| blob16(row, 0)).transpose()?;
        Ok(user.map(|id| UserId(Uuid::from_bytes(id))))
    }

    pub(super) async fn read_event(&self, event: &EventId) -> Result<Option<Tracked>, StoreError> {
        let sql = "SELECT event, state, account, reason, at FROM tracked WHERE event = ?";
        let rows = self.file.all(sql, vec![event.as_str().into()]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let parse: fn(&str) -> _ = Account::from_key;
        Ok(Some(Tracked {
            event: parsed(row, 0, EventId::parse)?,
            state: state_of(get(row, 1)?).ok_or_else(|| corrupt(row, 1))?,
            account: parsed_or_null(row, 2, parse)?,
            reason: get(row, 3)?,
            at: millis(row, 4)?,
        }))
    }
}

/// All accounts linked to this one, itself included.
async fn walk(snapshot: &mut Snapshot<'_>, first: i64) -> Result<BTreeSet<i64>, StoreError> {
    let mut members = BTreeSet::from([first]);
    let (mut new, mut seen) = (vec![first], BTreeSet::<UnionKey>::new());
    for _ in 0..ROUNDS {
        let keys = new.iter().map(|id| (*id).into()).collect();
        let mut unionids = Vec::new();
        for row in snapshot.many(&LINKED_UNIONIDS, keys).await? {
            let union = union_key(&row, 1)?;
            if seen.insert(union.clone()) {
                unionids.extend([
                    get::<i64>(&row, 0)?.into(),
                    union.platform.as_str().into(),
                    union.unionid.as_str().into(),
                ]);
            }
        }
        new.clear();
        for row in snapshot.many(&LINKED_ACCOUNTS, unionids).await? {
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

/// Accounts with their claims, by row.
pub(super) async fn load(
    snapshot: &mut Snapshot<'_>,
    ids: &BTreeSet<i64>,
) -> Result<BTreeMap<i64, FoundAccount>, StoreError> {
    let keys: Vec<Val> = ids.iter().map(|id| (*id).into()).collect();
    let mut found = BTreeMap::new();
    for row in snapshot.many(&BY_ID, keys.clone()).await? {
        let one = FoundAccount {
            row: account(&row)?,
            claims: Vec::new(),
        };
        found.insert(get::<i64>(&row, 0)?, one);
    }
    for row in snapshot.many(&CLAIMS, keys).await? {
        let of = found.get_mut(&get::<i64>(&row, 0)?);
        let of = of.ok_or_else(|| corrupt(&row, 0))?;
        let claim = claim(&row, of.row.account.clone())?;
        of.claims.push(claim);
    }
    Ok(found)
}
