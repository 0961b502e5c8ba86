//! Locking what a plan rests on, by keys that never change: unionids first, then accounts, each in
//! the order of their keys, so that no two batches wait for each other.
//!
//! A key without a row gets one: whoever comes second with the same waits in his `INSERT` for the
//! first to commit, and finds the row to be locked. A row that this transaction made is locked by
//! having been made, and holds the planned account at once: most new accounts are written once.
//! Never through a join with what may change: after waiting, PostgreSQL checks the condition anew
//! and returns nothing, silently.

use super::PostgresStore;
use super::apply::Planned;
use super::columns::AccountColumns;
use super::rows::get;
use super::session::{Fault, Session, query};
use super::view::{Loaded, erasures};
use crate::model::{Account, AccountRow, ClaimRow, Keys, UnionKey, View};
use crate::store::Batch;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use uuid::Uuid;

pub(super) const MAKE_UNIONIDS: &str = "INSERT INTO unionids (tag) SELECT * FROM unnest($1::uuid[]) \
     ON CONFLICT (tag) DO NOTHING RETURNING tag, id";
pub(super) const LOCK_UNIONIDS: &str = "SELECT x.tag, x.id FROM unnest($1::uuid[]) AS k(tag) \
     CROSS JOIN LATERAL (SELECT u.tag, u.id FROM unionids u WHERE u.tag = k.tag LIMIT 1 \
     FOR NO KEY UPDATE) x";
pub(super) const LOCK_ACCOUNTS: &str = "SELECT x.own, x.id FROM unnest($1::uuid[]) AS k(own) \
     CROSS JOIN LATERAL (SELECT a.own, a.id FROM accounts a WHERE a.own = k.own LIMIT 1 \
     FOR NO KEY UPDATE) x";

/// What to lock, in order.
#[derive(Default)]
pub(super) struct Wanted {
    /// Accounts by `own`.
    pub accounts: BTreeMap<Uuid, Account>,
    /// Unionids by tag.
    pub unionids: BTreeMap<Uuid, UnionKey>,
}

impl Wanted {
    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.unionids.is_empty()
    }
}

/// What is locked.
#[derive(Default)]
pub(super) struct Locked {
    /// Row ids by `own`.
    pub accounts: FxHashMap<Uuid, i64>,
    /// Row ids by tag.
    pub unionids: FxHashMap<Uuid, i64>,
    /// Accounts whose rows were made here, and whether with the planned content.
    pub made: FxHashMap<Account, bool>,
    made_unionids: FxHashSet<Uuid>,
    /// It was planned anew since rows were made.
    pub replanned: bool,
}

impl PostgresStore {
    pub(super) async fn lock(
        &self,
        session: &mut Session,
        wanted: &Wanted,
        planned: &Planned,
    ) -> Result<Locked, Fault> {
        let mut locked = Locked::default();
        lock_unionids(session, wanted, planned, &mut locked).await?;
        make_accounts(session, wanted, planned, &mut locked).await?;
        let rest = (wanted.accounts.keys()).filter(|own| !locked.accounts.contains_key(*own));
        let rest: Vec<Uuid> = rest.copied().collect();
        let found = lock_rows(session, LOCK_ACCOUNTS, rest).await?;
        locked.accounts.extend(found);
        Ok(locked)
    }

    /// Reads what is locked and was there before, in statements of their own.
    pub(super) async fn read_again(
        &self,
        session: &mut Session,
        batch: &Batch,
        wanted: &Wanted,
        locked: &Locked,
    ) -> Result<Loaded, Fault> {
        let mut fresh = Loaded {
            erasures: erasures(session).await?,
            ..Loaded::default()
        };
        self.read_deferred(session, batch, &mut fresh.view, true)
            .await?;
        let keys = locked.found(wanted);
        self.extend(session, &mut fresh, &keys).await?;
        Ok(fresh)
    }
}

async fn lock_unionids(
    session: &mut Session,
    wanted: &Wanted,
    planned: &Planned,
    locked: &mut Locked,
) -> Result<(), Fault> {
    let unmet = (wanted.unionids.iter()).filter(|(_, u)| !planned.loaded.unionids.contains_key(*u));
    let unmet: Vec<Uuid> = unmet.map(|(tag, _)| *tag).collect();
    if !unmet.is_empty() {
        for row in session.all(query(MAKE_UNIONIDS).bind(unmet)).await? {
            let tag = get(&row, 0)?;
            locked.unionids.insert(tag, get(&row, 1)?);
            locked.made_unionids.insert(tag);
        }
    }
    let rest = (wanted.unionids.keys()).filter(|tag| !locked.unionids.contains_key(*tag));
    let rest: Vec<Uuid> = rest.copied().collect();
    let found = lock_rows(session, LOCK_UNIONIDS, rest).await?;
    locked.unionids.extend(found);
    Ok(())
}

async fn make_accounts(
    session: &mut Session,
    wanted: &Wanted,
    planned: &Planned,
    locked: &mut Locked,
) -> Result<(), Fault> {
    let unmet = (wanted.accounts.iter()).filter(|(_, a)| !planned.loaded.ids.contains_key(*a));
    let unmet: Vec<(&Uuid, &Account)> = unmet.collect();
    if unmet.is_empty() {
        return Ok(());
    }
    let rows = planned
        .changes
        .accounts
        .iter()
        .map(|row| (&row.account, row));
    let rows: FxHashMap<&Account, &AccountRow> = rows.collect();
    let mut columns = AccountColumns::with_capacity(unmet.len());
    for (own, account) in unmet {
        match rows.get(account) {
            Some(row) => columns.push(row),
            None => columns.push_place(),
        }
        columns.owns.push(*own);
    }
    for row in session.all(columns.insert()).await? {
        let own: Uuid = get(&row, 0)?;
        locked.accounts.insert(own, get(&row, 1)?);
        if let Some(account) = wanted.accounts.get(&own) {
            let content = rows.contains_key(account);
            locked.made.insert(account.clone(), content);
        }
    }
    Ok(())
}

/// Locks rows in the order of the keys; all of them must be there.
async fn lock_rows(
    session: &mut Session,
    sql: &'static str,
    keys: Vec<Uuid>,
) -> Result<Vec<(Uuid, i64)>, Fault> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let meant = keys.len();
    let mut found = Vec::with_capacity(meant);
    for row in session.all(query(sql).bind(keys)).await? {
        found.push((get(&row, 0)?, get(&row, 1)?));
    }
    if found.len() != meant {
        return Err(Fault::Again("rows to lock were not found"));
    }
    Ok(found)
}

impl Locked {
    /// What was there before this transaction.
    fn found(&self, wanted: &Wanted) -> Keys {
        let accounts = wanted.accounts.values();
        let unionids = wanted.unionids.iter();
        Keys {
            accounts: (accounts.filter(|a| !self.made.contains_key(*a)))
                .cloned()
                .collect(),
            unionids: (unionids.filter(|(tag, _)| !self.made_unionids.contains(*tag)))
                .map(|(_, union)| union.clone())
                .collect(),
        }
    }

    /// Forgets in what was read here the rows that are undone with the savepoint.
    pub(super) fn undo(&self, wanted: &Wanted, loaded: &mut Loaded) {
        loaded.mine.clear();
        for tag in &self.made_unionids {
            if let Some(union) = wanted.unionids.get(tag) {
                loaded.unionids.remove(union);
            }
        }
    }

    /// Accounts whose rows were made here.
    pub(super) fn made_accounts(&self) -> FxHashSet<Account> {
        self.made.keys().cloned().collect()
    }

    /// For a batch that rests on no rows: nobody was erased since it was planned.
    pub(super) async fn is_current(
        &self,
        session: &mut Session,
        planned: &Planned,
    ) -> Result<(), Fault> {
        if erasures(session).await? == planned.loaded.erasures {
            return Ok(());
        }
        Err(Fault::Again("somebody was erased"))
    }

    /// Whether the locked part is still as it was planned on.
    pub(super) fn agrees(&self, planned: &Planned, fresh: &Loaded, wanted: &Wanted) -> bool {
        let (then, now) = (&planned.loaded.view, &fresh.view);
        planned.loaded.erasures == fresh.erasures
            && (then.finished == now.finished && then.deferred == now.deferred)
            && (wanted.accounts.values()).all(|a| same_account(then, now, a))
            && (wanted.unionids.values()).all(|u| same_unionid(then, now, u))
            && same_registers(then, now, wanted)
    }
}

fn same_account(then: &View, now: &View, account: &Account) -> bool {
    fn claims<'v>(view: &'v View, account: &Account) -> &'v [ClaimRow] {
        view.claims.get(account).map_or(&[][..], Vec::as_slice)
    }
    // What nobody asked for did not matter, only that it is locked.
    if !then.asked.accounts.contains(account) {
        return true;
    }
    then.accounts.get(account) == now.accounts.get(account)
        && then.tombstones.get(account) == now.tombstones.get(account)
        && claims(then, account) == claims(now, account)
}

fn same_unionid(then: &View, now: &View, union: &UnionKey) -> bool {
    !then.asked.unionids.contains(union) || then.unionids.get(union) == now.unionids.get(union)
}

fn same_registers(then: &View, now: &View, wanted: &Wanted) -> bool {
    if then.rulings.is_empty() && then.pairs.is_empty() {
        return now.rulings.is_empty() && now.pairs.is_empty();
    }
    let locked: FxHashSet<&Account> = wanted.accounts.values().collect();
    let rulings = then
        .rulings
        .iter()
        .filter(|(k, _)| locked.contains(&k.account));
    let pairs = (then.pairs.iter()).filter(|(p, _)| locked.contains(&p.a) || locked.contains(&p.b));
    rulings.eq(now.rulings.iter()) && pairs.eq(now.pairs.iter())
}
