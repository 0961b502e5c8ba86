//! Deferred resolutions: added and settled with a batch, leased when due, woken by session keys.
//!
//! A lease is a later `next_at`: if the process dies, the row is due again at its end. What a row
//! waits for may come while it is leased; `woken` remembers that, so that the attempt that missed
//! it is followed by another at once. [`Store::hasten`] does the same to a whole app.
//!
//! [`Store::hasten`]: crate::store::Store::hasten

use super::SqliteStore;
use super::apply::Planned;
use super::rows::{count, get, len, millis, parsed, parsed_or_null, small};
use crate::model::{Account, AppId, EventId, Millis, Room};
use crate::sqlite::{Insert, Select, Tx, Val};
use crate::store::rules::{ended_at, expect_rows, in_turns};
use crate::store::{Batch, Deferred, Settled, StoreError, WaitsFor};
use rustc_hash::FxHashMap;
use sqlx::sqlite::SqliteRow;
use std::collections::{BTreeMap, BTreeSet};

const ADD: Insert = Insert {
    head: "INSERT INTO deferred (partition, offset, silent, event, app, account, has_code, \
           waits_key, next_at, expires_at, attempts, record, since, done_at) VALUES",
    columns: 14,
    tail: "ON CONFLICT (partition, offset) DO NOTHING",
};
/// Finished rows become markers, without name and record. They are as old as their last lease.
pub(super) const DONE: Insert = Insert {
    head: "WITH k(partition, offset) AS (VALUES",
    columns: 2,
    tail: ") UPDATE deferred SET done_at = min(max(since, next_at), expires_at), account = NULL, \
           record = x'', leased = 0 WHERE done_at IS NULL AND id IN (SELECT d.id FROM k \
           CROSS JOIN deferred d ON d.partition = k.partition AND d.offset = k.offset)",
};
/// A row that begins to wait for a key goes once more: until now no key woke it. Of an attempt whose lease
/// is over nothing is written.
pub(super) const AGAIN: &str = "UPDATE deferred SET waits_key = ?3, attempts = ?5, leased = 0, woken = 0, \
     next_at = CASE WHEN woken OR (?3 AND NOT waits_key) THEN 0 ELSE ?4 END \
     WHERE partition = ?1 AND offset = ?2 AND done_at IS NULL AND leased = 1 AND next_at = ?6";
pub(super) const WAKE: Insert = Insert {
    head: "UPDATE deferred SET woken = 1, next_at = CASE WHEN leased THEN next_at ELSE 0 END \
           WHERE done_at IS NULL AND waits_key = 1 AND account IN (VALUES",
    columns: 1,
    tail: ")",
};
/// Accounts that have what a row may wait for: a session key, or an active claim.
pub(super) const READY: Select = Select {
    head: "SELECT a.key FROM accounts a WHERE (EXISTS (SELECT 1 FROM session_keys s WHERE \
           s.account = a.id) OR EXISTS (SELECT 1 FROM claims c WHERE c.account = a.id \
           AND c.why IS NULL)) AND a.anchor IN (",
    columns: 1,
    tail: ")",
};
/// Due rows of each app, up to a limit each: codes newest first …
pub(super) const DUE_CODES: &str = "WITH RECURSIVE apps(app) AS (\
     SELECT min(app) FROM deferred WHERE done_at IS NULL AND has_code = 1 \
     UNION ALL SELECT (SELECT min(d.app) FROM deferred d WHERE d.done_at IS NULL \
     AND d.has_code = 1 AND d.app > apps.app) FROM apps WHERE app IS NOT NULL) \
     SELECT d.id, d.app FROM apps CROSS JOIN deferred d ON d.id IN (SELECT x.id FROM deferred x \
     WHERE x.done_at IS NULL AND x.has_code = 1 AND x.app = apps.app AND x.next_at <= ?1 \
     ORDER BY x.since DESC LIMIT ?2) ORDER BY d.since DESC, d.offset DESC";
/// … the others by the time at which they were due.
pub(super) const DUE_OTHERS: &str = "WITH RECURSIVE apps(app) AS (\
     SELECT min(app) FROM deferred WHERE done_at IS NULL AND has_code = 0 \
     UNION ALL SELECT (SELECT min(d.app) FROM deferred d WHERE d.done_at IS NULL \
     AND d.has_code = 0 AND d.app > apps.app) FROM apps WHERE app IS NOT NULL) \
     SELECT d.id, d.app FROM apps CROSS JOIN deferred d ON d.id IN (SELECT x.id FROM deferred x \
     WHERE x.done_at IS NULL AND x.has_code = 0 AND x.app = apps.app AND x.next_at <= ?1 \
     ORDER BY x.next_at LIMIT ?2) ORDER BY d.next_at, d.since, d.id";
pub(super) const TAKE: Select = Select {
    head: "SELECT id, partition, offset, silent, event, app, account, has_code, waits_key, \
           next_at, expires_at, attempts, record, since FROM deferred WHERE id IN (",
    columns: 1,
    tail: ")",
};
/// Open rows of an app whose time has not come: those that wait for it, and those under way. What waits
/// for a key and goes on before its end does so because of the app, too.
pub(super) const LATER: &str = "SELECT json_group_array(id) FROM (\
     SELECT id FROM deferred WHERE done_at IS NULL AND has_code = 0 AND app = ?1 \
     AND next_at > ?2 \
     AND (leased = 1 OR waits_key = 0 OR next_at < expires_at) UNION ALL \
     SELECT id FROM deferred WHERE done_at IS NULL AND has_code = 1 AND app = ?1 \
     AND next_at > ?2 \
     AND (leased = 1 OR waits_key = 0 OR next_at < expires_at))";
pub(super) const HASTEN: &str = "UPDATE deferred SET next_at = ?2 WHERE done_at IS NULL \
     AND leased = 0 AND (waits_key = 0 OR next_at < expires_at) AND next_at > ?2 \
     AND id IN (SELECT value FROM json_each(?1))";
pub(super) const WAKE_LEASED: &str = "UPDATE deferred SET woken = 1 WHERE done_at IS NULL \
     AND leased = 1 AND id IN (SELECT value FROM json_each(?1))";
/// Rows of one transaction of [`HASTEN`]: some 50 ms of the writer.
const SLICE: usize = 1_000;
pub(super) const NEXT: &str = "SELECT min(next_at) FROM deferred WHERE done_at IS NULL";

/// Adds and settles a batch's deferred work; says whether a planner could see any of it.
pub(super) async fn write(
    store: &SqliteStore,
    tx: &mut Tx<'_>,
    batch: &Batch,
    planned: &Planned,
) -> Result<bool, StoreError> {
    let added = add(store, tx, batch, planned).await?;
    let finished = &planned.loaded.view.finished;
    let mut done = Vec::new();
    for settled in &batch.settle {
        match settled {
            Settled::Done { partition, offset } if finished.contains(&(*partition, *offset)) => {}
            Settled::Done { partition, offset } => done.push((*partition, *offset)),
            Settled::Again {
                partition,
                offset,
                lease,
                account: _,
                waits_for,
                next_at,
                attempts,
            } => {
                let waits_key = *waits_for == WaitsFor::SessionKey;
                let (waits, at) = (waits_key.into(), next_at.0.into());
                let (place, n) = ([(*partition).into(), (*offset).into()], (*attempts).into());
                let args = [&place[..], &[waits, at, n, lease.0.into()]].concat();
                tx.exec(AGAIN, args).await?;
            }
        }
    }
    done.sort_unstable();
    done.dedup();
    let keys = done.iter().flat_map(|(p, o)| [(*p).into(), (*o).into()]);
    let keys: Vec<Val> = keys.collect();
    let touched = tx.insert(&DONE, keys).await?;
    expect_rows("finished resolutions", done.len(), touched)?;
    Ok(added > 0 || !done.is_empty())
}

async fn add(
    store: &SqliteStore,
    tx: &mut Tx<'_>,
    batch: &Batch,
    planned: &Planned,
) -> Result<u64, StoreError> {
    // What a row waits for may have come since it was looked for: then it is due at once.
    let waiting = batch
        .defer
        .iter()
        .filter(|d| d.waits_for == WaitsFor::SessionKey);
    let waiting = waiting.filter_map(|d| d.account.as_ref());
    let keys: Vec<Val> = waiting.map(|a| store.anchor(a).into()).collect();
    let mut ready = BTreeSet::new();
    for row in tx.many(&READY, keys).await? {
        ready.insert(get::<String>(&row, 0)?);
    }
    let mut values = Vec::with_capacity(batch.defer.len() * ADD.columns);
    for d in &batch.defer {
        // Of an account that is erased there is nothing to wait for: only the marker is written.
        let erased = (d.account.as_ref()).is_some_and(|a| planned.gone.contains(a));
        let key = d.account.as_ref().filter(|_| !erased).map(Account::key);
        let waits_key = d.waits_for == WaitsFor::SessionKey;
        let at_once = waits_key && key.as_ref().is_some_and(|k| ready.contains(k));
        values.extend([
            d.partition.into(),
            d.offset.into(),
            d.silent.into(),
            d.event.as_str().into(),
            d.app.as_str().into(),
            key.map_or(Val::Null, Into::into),
            d.has_code.into(),
            waits_key.into(),
            if at_once { 0 } else { d.next_at.0 }.into(),
            d.expires_at.0.into(),
            d.attempts.into(),
            Val::Blob(if erased { Vec::new() } else { d.record.clone() }),
            d.since.0.into(),
            erased.then(|| ended_at(d)).into(),
        ]);
    }
    Ok(tx.insert(&ADD, values).await?)
}

/// Makes due what waits for a session key of these accounts.
pub(super) async fn wake(tx: &mut Tx<'_>, accounts: &[&Account]) -> Result<(), StoreError> {
    if accounts.is_empty() {
        return Ok(());
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM deferred INDEXED BY deferred_key \
               WHERE done_at IS NULL AND waits_key = 1)";
    let rows = tx.all(sql, vec![]).await?;
    if rows.first().map(|row| get::<bool>(row, 0)).transpose()? == Some(true) {
        let keys = accounts.iter().map(|a| a.key().into()).collect();
        tx.insert(&WAKE, keys).await?;
    }
    Ok(())
}

impl SqliteStore {
    pub(super) async fn lease_due(
        &self,
        now: Millis,
        lease_ms: i64,
        room: &Room,
    ) -> Result<Vec<Deferred>, StoreError> {
        // Polled all the time: the writer is asked for only if there is something to take.
        if self.read_next_due().await?.is_none_or(|next| next > now) || room.total == 0 {
            return Ok(Vec::new());
        }
        let mut tx = self.file.begin().await?;
        let args = vec![now.0.into(), len(room.most_of_an_app())];
        let codes = candidates(&tx.all(DUE_CODES, args.clone()).await?)?;
        let others = candidates(&tx.all(DUE_OTHERS, args).await?)?;
        let ids = in_turns([codes, others], room);
        let mut taken = take(&mut tx, &ids).await?;
        let keys: Vec<Val> = ids.iter().map(|id| (*id).into()).collect();
        let (mut touched, next_at) = (0, now.plus(lease_ms));
        for id in keys {
            let sql = "UPDATE deferred SET next_at = ?, leased = 1, woken = 0 WHERE id = ?";
            touched += tx.exec(sql, vec![next_at.0.into(), id]).await?;
        }
        expect_rows("leases", ids.len(), touched)?;
        tx.commit().await?;
        let leased = ids.iter().filter_map(|id| taken.remove(id));
        Ok(leased.map(|d| Deferred { next_at, ..d }).collect())
    }

    pub(super) async fn hasten_app(&self, app: &AppId, now: Millis) -> Result<u64, StoreError> {
        let args = vec![app.as_str().into(), now.0.into()];
        let rows = self.file.all(LATER, args).await?;
        let ids = rows.first().map(|row| get::<&str>(row, 0)).transpose()?;
        // Found before the first is written: what comes back from an attempt meanwhile is not
        // hastened again.
        let mut ids: Vec<i64> = serde_json::from_str(ids.unwrap_or("[]"))
            .map_err(|_| StoreError::Corrupt("a list of ids".into()))?;
        // Those of one transaction lie together.
        ids.sort_unstable();
        let mut hastened = 0;
        for slice in ids.chunks(SLICE) {
            let ids: Val = serde_json::json!(slice).to_string().into();
            let mut tx = self.file.begin().await?;
            hastened += tx.exec(HASTEN, vec![ids.clone(), now.0.into()]).await?;
            tx.exec(WAKE_LEASED, vec![ids]).await?;
            tx.commit().await?;
        }
        if hastened > 0 {
            self.wake();
        }
        Ok(hastened)
    }

    pub(super) async fn read_next_due(&self) -> Result<Option<Millis>, StoreError> {
        let rows = self.file.all(NEXT, vec![]).await?;
        let next = rows.first().map(|row| get::<Option<i64>>(row, 0));
        Ok(next.transpose()?.flatten().map(Millis))
    }

    pub(super) async fn count_deferred(&self) -> Result<BTreeMap<AppId, u64>, StoreError> {
        let sql = "SELECT app, count(*) FROM deferred WHERE done_at IS NULL GROUP BY app";
        let rows = self.file.all(sql, vec![]).await?;
        rows.iter()
            .map(|row| Ok((parsed(row, 0, AppId::parse)?, count(row, 1)?)))
            .collect()
    }
}

/// Ids with their app, in order.
fn candidates(rows: &[SqliteRow]) -> Result<Vec<(i64, String)>, StoreError> {
    rows.iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?)))
        .collect()
}

async fn take(tx: &mut Tx<'_>, ids: &[i64]) -> Result<FxHashMap<i64, Deferred>, StoreError> {
    let keys = ids.iter().map(|id| (*id).into()).collect();
    let rows = tx.many(&TAKE, keys).await?;
    rows.iter()
        .map(|row| Ok((get(row, 0)?, deferred(row)?)))
        .collect()
}

/// A row as `TAKE` reads it.
pub(super) fn deferred(row: &SqliteRow) -> Result<Deferred, StoreError> {
    let parse: fn(&str) -> _ = Account::from_key;
    Ok(Deferred {
        partition: small(row, 1)?,
        offset: get(row, 2)?,
        silent: get(row, 3)?,
        event: parsed(row, 4, EventId::parse)?,
        app: parsed(row, 5, AppId::parse)?,
        account: parsed_or_null(row, 6, parse)?,
        has_code: get(row, 7)?,
        waits_for: match get(row, 8)? {
            true => WaitsFor::SessionKey,
            false => WaitsFor::Time,
        },
        next_at: millis(row, 9)?,
        expires_at: millis(row, 10)?,
        attempts: small(row, 11)?,
        record: get(row, 12)?,
        since: millis(row, 13)?,
    })
}
