//! Deferred resolutions: added and settled with a batch, woken by session keys; leased in `due`.
//!
//! A lease is a later `next_at`: if the worker dies, the row is due again at its end. What a row
//! waits for may come while it is leased; `woken` remembers that, so that the attempt that missed
//! it is followed by another at once.

use super::PostgresStore;
use super::apply::Planned;
use super::rows::{get, int32, nth};
use super::session::{Fault, Session, query};
use crate::model::{Account, View};
use crate::store::rules::{ended_at, expect_rows};
use crate::store::{Batch, Deferred, Settled, StoreError, WaitsFor};
use rustc_hash::FxHashSet;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

macro_rules! finished {
    ($lock:literal) => {
        concat!(
            "SELECT k.n, d.done_at IS NOT NULL, d.silent \
             FROM unnest($1::integer[], $2::bigint[]) WITH ORDINALITY AS k(p, o, n) \
             CROSS JOIN LATERAL (SELECT x.done_at, x.silent FROM deferred x \
             WHERE x.partition = k.p AND x.\"offset\" = k.o LIMIT 1",
            $lock,
            ") d"
        )
    };
}
pub(super) const FINISHED: &str = finished!("");
pub(super) const LOCK_FINISHED: &str = finished!(" FOR NO KEY UPDATE");
pub(super) const ADD: &str = "INSERT INTO deferred (partition, \"offset\", silent, event, app, account, \
     has_code, waits_key, next_at, expires_at, attempts, record, since, done_at) SELECT * FROM \
     unnest($1::integer[], $2::bigint[], $3::boolean[], $4::text[], $5::text[], $6::text[], \
     $7::boolean[], $8::boolean[], $9::bigint[], $10::bigint[], $11::integer[], $12::bytea[], \
     $13::bigint[], $14::bigint[]) ON CONFLICT (partition, \"offset\") DO NOTHING";
/// Finished rows become markers, without name and record. They are as old as their last lease.
/// `done_at IS NULL` would make an index of all open rows look worth reading, here and in [`AGAIN`].
pub(super) const DONE: &str = "UPDATE deferred d SET \
     done_at = least(greatest(since, next_at), expires_at), account = NULL, record = '', \
     leased = false FROM unnest($1::integer[], $2::bigint[]) AS k(p, o) \
     WHERE d.partition = ANY(ARRAY[k.p]) AND d.\"offset\" = ANY(ARRAY[k.o]) \
     AND coalesce(d.done_at, -1) = -1";
/// A row that begins to wait for a key goes once more: until now no key woke it. Of an attempt whose lease
/// is over nothing is written.
pub(super) const AGAIN: &str = "UPDATE deferred d SET waits_key = k.waits_key, \
     attempts = k.attempts, leased = false, woken = false, \
     next_at = CASE WHEN d.woken OR (k.waits_key AND NOT d.waits_key) THEN 0 \
     ELSE k.next_at END \
     FROM unnest($1::integer[], $2::bigint[], $3::boolean[], $4::bigint[], $5::integer[], \
     $6::bigint[]) AS k(p, o, waits_key, next_at, attempts, lease) \
     WHERE d.partition = ANY(ARRAY[k.p]) AND d.\"offset\" = ANY(ARRAY[k.o]) \
     AND coalesce(d.done_at, -1) = -1 AND d.leased AND d.next_at = k.lease";
const ANY_WAITS: &str =
    "SELECT EXISTS (SELECT 1 FROM deferred WHERE done_at IS NULL AND waits_key)";
/// In two statements: as one, PostgreSQL may read all of the table to find the rows of a few ids.
pub(super) const WAITING: &str = "SELECT d.id FROM unnest($1::text[]) AS k(account) \
     CROSS JOIN LATERAL (SELECT x.id FROM deferred x WHERE x.done_at IS NULL AND x.waits_key \
     AND x.account = k.account OFFSET 0 FOR NO KEY UPDATE) d";
pub(super) const WAKE: &str = "UPDATE deferred SET woken = true, \
     next_at = CASE WHEN leased THEN next_at ELSE 0 END WHERE id = ANY($1::bigint[])";
/// Accounts that have what a row may wait for: a session key, or an active claim.
pub(super) const READY: &str = "SELECT k.n FROM unnest($1::uuid[]) WITH ORDINALITY AS k(own, n) \
     CROSS JOIN LATERAL (SELECT x.id FROM accounts x WHERE x.own = k.own LIMIT 1) a \
     WHERE EXISTS (SELECT 1 FROM session_keys s WHERE s.account = a.id OFFSET 0) \
     OR EXISTS (SELECT 1 FROM claims c WHERE c.account = a.id AND c.why IS NULL OFFSET 0)";
/// Accounts that something waits for, or that have session keys to drop.
pub(super) const AWAITED: &str = "SELECT k.n FROM unnest($1::bigint[], $2::text[]) WITH ORDINALITY \
     AS k(id, key, n) WHERE EXISTS (SELECT 1 FROM session_keys s WHERE s.account = k.id OFFSET 0) \
     OR EXISTS (SELECT 1 FROM deferred d WHERE d.done_at IS NULL AND d.waits_key \
     AND d.account = k.key OFFSET 0)";
impl PostgresStore {
    /// Tells the view which of the batch's deferred resolutions have a row, and for which of them
    /// nothing may be published any more: finished ones (a row that is gone was finished and
    /// pruned), and those to defer that are known. May lock them, in order.
    pub(super) async fn read_deferred(
        &self,
        session: &mut Session,
        batch: &Batch,
        view: &mut View,
        lock: bool,
    ) -> Result<(), Fault> {
        let done = batch.settle.iter().filter_map(|s| match s {
            Settled::Done { partition, offset } => Some((*partition, *offset)),
            Settled::Again { .. } => None,
        });
        let done: BTreeSet<(u32, i64)> = done.collect();
        let defer: BTreeSet<(u32, i64)> = batch
            .defer
            .iter()
            .map(|d| (d.partition, d.offset))
            .collect();
        if done.is_empty() && defer.is_empty() {
            return Ok(());
        }
        let keys: Vec<(u32, i64)> = done.union(&defer).copied().collect();
        let read = query(if lock { LOCK_FINISHED } else { FINISHED })
            .bind(keys.iter().map(|(p, _)| int32(*p)).collect::<Vec<_>>())
            .bind(keys.iter().map(|(_, o)| *o).collect::<Vec<_>>());
        for row in session.all(read).await? {
            let id = *nth(&row, 0, &keys)?;
            view.deferred.insert(id, get(&row, 2)?);
            if get(&row, 1)? {
                view.finished.insert(id);
            }
        }
        let pruned = done
            .into_iter()
            .filter(|id| !view.deferred.contains_key(id));
        view.finished.extend(pruned);
        let known = defer
            .into_iter()
            .filter(|id| view.deferred.contains_key(id));
        view.finished.extend(known);
        Ok(())
    }

    /// Adds and settles a batch's deferred work; says whether a planner could see any of it.
    pub(super) async fn write_deferred(
        &self,
        session: &mut Session,
        batch: &Batch,
        planned: &Planned,
    ) -> Result<bool, Fault> {
        let added = self.add(session, batch, planned).await?;
        let finished = &planned.loaded.view.finished;
        let (mut done, mut again) = (BTreeSet::new(), BTreeMap::new());
        for settled in &batch.settle {
            match settled {
                Settled::Done { partition, offset }
                    if finished.contains(&(*partition, *offset)) => {}
                Settled::Done { partition, offset } => {
                    done.insert((*partition, *offset));
                }
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
                    let how = (waits_key, next_at.0, int32(*attempts));
                    again.insert((*partition, *offset, lease.0), how);
                }
            }
        }
        if !again.is_empty() {
            let again = query(AGAIN)
                .bind(again.keys().map(|(p, ..)| int32(*p)).collect::<Vec<_>>())
                .bind(again.keys().map(|(_, o, _)| *o).collect::<Vec<_>>())
                .bind(again.values().map(|(w, ..)| *w).collect::<Vec<_>>())
                .bind(again.values().map(|(_, at, _)| *at).collect::<Vec<_>>())
                .bind(again.values().map(|(.., n)| *n).collect::<Vec<_>>())
                .bind(again.keys().map(|(.., lease)| *lease).collect::<Vec<_>>());
            session.exec(again).await?;
        }
        if !done.is_empty() {
            let end = query(DONE)
                .bind(done.iter().map(|(p, _)| int32(*p)).collect::<Vec<_>>())
                .bind(done.iter().map(|(_, o)| *o).collect::<Vec<_>>());
            let touched = session.exec(end).await?;
            expect_rows("finished resolutions", done.len(), touched)?;
        }
        Ok(added > 0 || !done.is_empty())
    }

    async fn add(
        &self,
        session: &mut Session,
        batch: &Batch,
        planned: &Planned,
    ) -> Result<usize, Fault> {
        if batch.defer.is_empty() {
            return Ok(0);
        }
        let ready = self.ready(session, batch).await?;
        let known = &planned.loaded.view.deferred;
        // In order, and the first of those that come twice, as one insert after the other would.
        let mut new: BTreeMap<(u32, i64), &Deferred> = BTreeMap::new();
        for d in &batch.defer {
            let id = (d.partition, d.offset);
            if !known.contains_key(&id) {
                new.entry(id).or_insert(d);
            }
        }
        let new: Vec<&Deferred> = new.into_values().collect();
        if new.is_empty() {
            return Ok(0);
        }
        // Of an account that is erased there is nothing to wait for: only the marker is written.
        let erased = |d: &&Deferred| (d.account.as_ref()).is_some_and(|a| planned.gone.contains(a));
        let named = |d: &&Deferred| d.account.as_ref().filter(|_| !erased(d)).map(Account::key);
        let record = |d: &&'_ Deferred| match erased(d) {
            true => Vec::new(),
            false => d.record.clone(),
        };
        let done_at = |d: &&Deferred| erased(d).then(|| ended_at(d));
        let waits_key = |d: &&Deferred| d.waits_for == WaitsFor::SessionKey;
        // What a row waits for may have come since it was looked for: then it is due at once.
        let next_at = |d: &&Deferred| {
            let at_once = waits_key(d) && d.account.as_ref().is_some_and(|a| ready.contains(a));
            if at_once { 0 } else { d.next_at.0 }
        };
        let add = query(ADD)
            .bind(new.iter().map(|d| int32(d.partition)).collect::<Vec<_>>())
            .bind(new.iter().map(|d| d.offset).collect::<Vec<_>>())
            .bind(new.iter().map(|d| d.silent).collect::<Vec<_>>())
            .bind(new.iter().map(|d| d.event.as_str()).collect::<Vec<_>>())
            .bind(new.iter().map(|d| d.app.as_str()).collect::<Vec<_>>())
            .bind(new.iter().map(named).collect::<Vec<_>>())
            .bind(new.iter().map(|d| d.has_code).collect::<Vec<_>>())
            .bind(new.iter().map(waits_key).collect::<Vec<_>>())
            .bind(new.iter().map(next_at).collect::<Vec<_>>())
            .bind(new.iter().map(|d| d.expires_at.0).collect::<Vec<_>>())
            .bind(new.iter().map(|d| int32(d.attempts)).collect::<Vec<_>>())
            .bind(new.iter().map(record).collect::<Vec<_>>())
            .bind(new.iter().map(|d| d.since.0).collect::<Vec<_>>())
            .bind(new.iter().map(done_at).collect::<Vec<_>>());
        if session.exec(add).await? != new.len() as u64 {
            // Somebody deferred the same meanwhile, and the planner has to know that.
            return Err(Fault::Again("a resolution was deferred twice"));
        }
        Ok(new.len())
    }

    /// Accounts that have what their rows are to wait for.
    async fn ready<'b>(
        &self,
        session: &mut Session,
        batch: &'b Batch,
    ) -> Result<FxHashSet<&'b Account>, Fault> {
        let waiting = batch.defer.iter();
        let waiting = waiting.filter(|d| d.waits_for == WaitsFor::SessionKey);
        let waiting: Vec<&Account> = waiting.filter_map(|d| d.account.as_ref()).collect();
        let mut ready = FxHashSet::default();
        if !waiting.is_empty() {
            let owns: Vec<Uuid> = waiting.iter().map(|a| self.own(a)).collect();
            for row in session.all(query(READY).bind(owns)).await? {
                ready.insert(*nth(&row, 0, &waiting)?);
            }
        }
        Ok(ready)
    }

    /// Of the accounts that are resolved, keeps those for which there is anything to do: a login
    /// that brings a key for a resolved account should stay a read.
    pub(super) async fn keep_awaited(
        &self,
        session: &mut Session,
        planned: &mut Planned,
    ) -> Result<(), Fault> {
        let asked = &planned.loaded.view.asked.accounts;
        let resolved = std::mem::take(&mut planned.changes.resolved);
        let (resolved, unread): (Vec<_>, Vec<_>) =
            resolved.into_iter().partition(|a| asked.contains(a));
        planned.changes.resolved = unread;
        let ids = resolved.iter().map(|a| planned.loaded.ids.get(a).copied());
        let ids: Vec<Option<i64>> = ids.collect();
        let keys: Vec<String> = resolved.iter().map(Account::key).collect();
        for row in session.all(query(AWAITED).bind(ids).bind(keys)).await? {
            let account = nth(&row, 0, &resolved)?.clone();
            planned.changes.resolved.push(account);
        }
        Ok(())
    }
}

/// Makes due what waits for a session key of these accounts.
pub(super) async fn wake(session: &mut Session, accounts: Vec<String>) -> Result<(), Fault> {
    if accounts.is_empty() {
        return Ok(());
    }
    let rows = session.all(query(ANY_WAITS)).await?;
    let any = rows.first().map(|row| get::<bool>(row, 0)).transpose()?;
    if any == Some(true) {
        let rows = session.all(query(WAITING).bind(accounts)).await?;
        let ids = rows.iter().map(|row| get(row, 0));
        let ids: Vec<i64> = ids.collect::<Result<_, StoreError>>()?;
        session.exec(query(WAKE).bind(ids)).await?;
    }
    Ok(())
}
