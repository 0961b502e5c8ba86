//! Reading what keys name: one set-based statement per kind, one index probe per key, all of it
//! from one snapshot.

use super::SqliteStore;
use super::registers::Macs;
use super::rows::{account, account_columns, blob32, claim, claim_columns, corrupt, get, small};
use crate::model::{
    Account, ClaimRow, Keys, PlatformId, Tombstone, UnionId, UnionKey, UnionRead, UserId, View,
};
use crate::sqlite::{Fault, Select, Snapshot, Tx, Val};
use crate::store::rules::{UNIONID_LIMIT, verdict_code};
use crate::store::{Batch, Settled, StoreError};
use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::sqlite::SqliteRow;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Where a read takes place.
pub(super) enum Source<'a> {
    /// On a reader, beside the writer.
    Snapshot(Snapshot<'a>),
    /// On the writer's connection.
    Tx(Tx<'a>),
}

impl Source<'_> {
    pub(super) async fn all(
        &mut self,
        sql: &'static str,
        args: Vec<Val>,
    ) -> Result<Vec<SqliteRow>, Fault> {
        match self {
            Self::Snapshot(s) => s.all(sql, args).await,
            Self::Tx(tx) => tx.all(sql, args).await,
        }
    }

    pub(super) async fn many(
        &mut self,
        what: &Select,
        keys: Vec<Val>,
    ) -> Result<Vec<SqliteRow>, Fault> {
        match self {
            Self::Snapshot(s) => s.many(what, keys).await,
            Self::Tx(tx) => tx.many(what, keys).await,
        }
    }
}

impl Source<'_> {
    /// Ends a transaction that only read.
    pub(super) async fn end(self) -> Result<(), Fault> {
        match self {
            Self::Snapshot(_) => Ok(()),
            Self::Tx(tx) => tx.end().await,
        }
    }
}

/// What was read, with what writing needs to know besides.
#[derive(Default)]
pub(super) struct Loaded {
    /// What planners see.
    pub view: View,
    /// Row ids of accounts that are stored, as far as they were met.
    pub ids: FxHashMap<Account, i64>,
    /// The version of the state that was read.
    pub version: i64,
    /// The largest row id of an account.
    pub last_id: i64,
    /// Row ids from here on are of accounts that the batch makes.
    pub first_new: i64,
    /// Which registers hold anything: most stores have none, and need not compute macs.
    tombstones: bool,
    /// Accounts asked for, by mac, where a register holds anything.
    macs: Macs,
    rulings: bool,
    pairs: bool,
}

pub(super) const ACCOUNTS: Select = Select {
    head: concat!(
        "SELECT ",
        account_columns!(),
        " FROM accounts a WHERE a.anchor IN ("
    ),
    columns: 1,
    tail: ")",
};
pub(super) const CLAIMS: Select = Select {
    head: concat!(
        "SELECT ",
        claim_columns!(),
        " FROM claims c WHERE c.account IN ("
    ),
    columns: 1,
    tail: ")",
};
/// Accepted claims first, one more than the limit. [`UNIONID_LIMIT`] + 1 stands in the text.
pub(super) const UNIONIDS: Select = Select {
    head: "WITH k(tag) AS (VALUES",
    columns: 1,
    tail: concat!(
        ") SELECT ",
        claim_columns!(),
        ", a.key FROM k CROSS JOIN claims c ON c.account IN (SELECT x.account FROM claims x WHERE \
         x.tag = k.tag AND x.verdict < 2 ORDER BY x.verdict LIMIT 257) AND c.tag = k.tag \
         CROSS JOIN accounts a ON a.id = c.account"
    ),
};
/// Rejected ones are there by operators' hands: few.
pub(super) const REJECTED: Select = Select {
    head: "WITH k(tag) AS (VALUES",
    columns: 1,
    tail: concat!(
        ") SELECT ",
        claim_columns!(),
        ", a.key FROM k CROSS JOIN claims c ON c.tag = k.tag AND c.verdict = 2 CROSS JOIN accounts a ON a.id = c.account"
    ),
};
pub(super) const TOMBSTONES: Select = Select {
    head: "SELECT mac, erased_at, revision, own_ids FROM tombstones WHERE mac IN (",
    columns: 1,
    tail: ")",
};
pub(super) const FINISHED: Select = Select {
    head: "WITH k(partition, offset) AS (VALUES",
    columns: 2,
    tail: ") SELECT d.partition, d.offset, d.done_at IS NOT NULL, d.silent FROM k CROSS JOIN deferred d \
           ON d.partition = k.partition AND d.offset = k.offset",
};
const HEAD: &str = "SELECT version, (SELECT coalesce(max(id), 0) FROM accounts), \
     EXISTS (SELECT 1 FROM tombstones), EXISTS (SELECT 1 FROM rulings), \
     EXISTS (SELECT 1 FROM pairs) FROM store";

impl SqliteStore {
    pub(super) async fn read_view(&self, keys: &Keys) -> Result<View, StoreError> {
        let mut source = Source::Snapshot(self.file.snapshot().await?);
        let mut loaded = self.begin_view(&mut source).await?;
        self.extend(&mut source, &mut loaded, keys).await?;
        Ok(loaded.view)
    }

    /// Reads what every view begins with.
    pub(super) async fn begin_view(&self, source: &mut Source<'_>) -> Result<Loaded, StoreError> {
        let rows = source.all(HEAD, vec![]).await?;
        let row = rows
            .first()
            .ok_or_else(|| StoreError::Corrupt("the store's own row is gone".into()))?;
        Ok(Loaded {
            version: get(row, 0)?,
            last_id: get(row, 1)?,
            tombstones: get(row, 2)?,
            rulings: get(row, 3)?,
            pairs: get(row, 4)?,
            ..Loaded::default()
        })
    }

    /// Reads keys that were not read before.
    pub(super) async fn extend(
        &self,
        source: &mut Source<'_>,
        loaded: &mut Loaded,
        keys: &Keys,
    ) -> Result<(), StoreError> {
        let asked = &loaded.view.asked;
        let accounts: Vec<Account> = keys.accounts.difference(&asked.accounts).cloned().collect();
        let unionids: Vec<UnionKey> = keys.unionids.difference(&asked.unionids).cloned().collect();
        if !accounts.is_empty() {
            self.add_accounts(source, loaded, &accounts).await?;
            self.add_registers(source, loaded, &accounts).await?;
        }
        self.add_unionids(source, loaded, &unionids).await?;
        loaded.view.asked.accounts.extend(accounts);
        loaded.view.asked.unionids.extend(unionids);
        Ok(())
    }

    async fn add_accounts(
        &self,
        source: &mut Source<'_>,
        loaded: &mut Loaded,
        accounts: &[Account],
    ) -> Result<(), StoreError> {
        let keys = accounts.iter().map(|a| self.anchor(a).into()).collect();
        let asked: FxHashSet<&Account> = accounts.iter().collect();
        let mut by_id = FxHashMap::default();
        for row in source.many(&ACCOUNTS, keys).await? {
            let found = account(&row)?;
            // Another account may share an anchor.
            if asked.contains(&found.account) {
                by_id.insert(get::<i64>(&row, 0)?, found.account.clone());
                loaded.view.accounts.insert(found.account.clone(), found);
            }
        }
        let keys = by_id.keys().map(|id| (*id).into()).collect();
        for row in source.many(&CLAIMS, keys).await? {
            let who = by_id
                .get(&get::<i64>(&row, 0)?)
                .ok_or_else(|| corrupt(&row, 0))?;
            let claims = loaded.view.claims.entry(who.clone()).or_default();
            claims.push(claim(&row, who.clone())?);
        }
        loaded.ids.extend(by_id.into_iter().map(|(id, a)| (a, id)));
        Ok(())
    }

    async fn add_unionids(
        &self,
        source: &mut Source<'_>,
        loaded: &mut Loaded,
        unionids: &[UnionKey],
    ) -> Result<(), StoreError> {
        let keys: Vec<Val> = unionids.iter().map(|u| self.tag(u).into()).collect();
        let mut read: FxHashMap<&UnionKey, UnionRead> = FxHashMap::default();
        let asked: FxHashSet<&UnionKey> = unionids.iter().collect();
        for row in source.many(&UNIONIDS, keys.clone()).await? {
            let found = union_claim(&row, loaded)?;
            // Another unionid may share a tag.
            if let Some(union) = asked.get(&found.key.union) {
                read.entry(union).or_default().claims.push(found);
            }
        }
        for read in read.values_mut() {
            if read.claims.len() > UNIONID_LIMIT {
                // The join gave them in no order: what is cut off must not be an accepted one.
                read.claims.sort_by_key(|c| verdict_code(c.verdict));
                read.claims.truncate(UNIONID_LIMIT);
                read.truncated = true;
            }
        }
        if loaded.rulings {
            for row in source.many(&REJECTED, keys).await? {
                let found = union_claim(&row, loaded)?;
                let union = asked.get(&found.key.union);
                let read = union.map(|union| read.entry(union).or_default());
                if let Some(read) = read.filter(|r| !r.truncated) {
                    read.claims.push(found);
                }
            }
        }
        let read = read.into_iter().map(|(union, read)| (union.clone(), read));
        loaded.view.unionids.extend(read);
        Ok(())
    }

    async fn add_registers(
        &self,
        source: &mut Source<'_>,
        loaded: &mut Loaded,
        accounts: &[Account],
    ) -> Result<(), StoreError> {
        if !(loaded.tombstones || loaded.rulings || loaded.pairs) {
            return Ok(());
        }
        let macs = accounts.iter().map(|a| (self.mac(a), a.clone()));
        let macs: Vec<_> = macs.collect();
        let keys: Vec<Val> = macs.iter().map(|(m, _)| Val::Blob(m.to_vec())).collect();
        loaded.macs.extend(macs);
        if loaded.tombstones {
            for row in source.many(&TOMBSTONES, keys.clone()).await? {
                let who = loaded
                    .macs
                    .get(&blob32(&row, 0)?)
                    .ok_or_else(|| corrupt(&row, 0))?;
                let stone = tombstone(&row, who)?;
                loaded.view.tombstones.insert(who.clone(), stone);
            }
        }
        if loaded.rulings {
            super::registers::rulings(source, &mut loaded.view, &loaded.macs, keys.clone()).await?;
        }
        if loaded.pairs {
            super::registers::pairs(source, &mut loaded.view, &loaded.macs, keys).await?;
        }
        Ok(())
    }
}

fn union_claim(row: &SqliteRow, loaded: &mut Loaded) -> Result<ClaimRow, StoreError> {
    let who = Account::from_key(get(row, 10)?).map_err(|_| corrupt(row, 10))?;
    loaded.ids.insert(who.clone(), get(row, 0)?);
    claim(row, who)
}

fn tombstone(row: &SqliteRow, who: &Account) -> Result<Tombstone, StoreError> {
    let own_ids: &[u8] = get(row, 3)?;
    let (own_ids, rest) = own_ids.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(corrupt(row, 3));
    }
    Ok(Tombstone {
        account: who.clone(),
        erased_at: super::rows::millis(row, 1)?,
        own_ids: own_ids
            .iter()
            .map(|id| UserId(Uuid::from_bytes(*id)))
            .collect(),
        revision: super::rows::count(row, 2)?,
    })
}

/// Tells the view which of the batch's deferred resolutions have a row, and for which of them nothing
/// may be published any more: finished ones (a row that is gone was finished and pruned), and those
/// to defer that are known.
pub(super) async fn deferred(
    source: &mut Source<'_>,
    batch: &Batch,
    view: &mut View,
) -> Result<(), StoreError> {
    let done: BTreeSet<(u32, i64)> = batch
        .settle
        .iter()
        .filter_map(|s| match s {
            Settled::Done { partition, offset } => Some((*partition, *offset)),
            Settled::Again { .. } => None,
        })
        .collect();
    let defer = batch.defer.iter().map(|d| (d.partition, d.offset));
    let keys = done.iter().copied().chain(defer);
    let keys: Vec<Val> = keys.flat_map(|(p, o)| [p.into(), o.into()]).collect();
    let (mut known, mut over) = (BTreeMap::new(), BTreeSet::new());
    for row in source.many(&FINISHED, keys).await? {
        let id = (small(&row, 0)?, get::<i64>(&row, 1)?);
        known.insert(id, get(&row, 3)?);
        if get(&row, 2)? {
            over.insert(id);
        }
    }
    over.extend(done.into_iter().filter(|id| !known.contains_key(id)));
    let defer = batch.defer.iter().map(|d| (d.partition, d.offset));
    over.extend(defer.filter(|id| known.contains_key(id)));
    (view.finished, view.deferred) = (over, known);
    Ok(())
}

/// A unionid from two columns.
pub(super) fn union_key(row: &SqliteRow, first: usize) -> Result<UnionKey, StoreError> {
    Ok(UnionKey {
        platform: super::rows::parsed(row, first, PlatformId::parse)?,
        unionid: super::rows::parsed(row, first + 1, UnionId::parse)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_reads_one_more_than_the_limit() {
        let limit = format!("LIMIT {})", UNIONID_LIMIT + 1);
        assert!(UNIONIDS.tail.contains(&limit));
    }
}
