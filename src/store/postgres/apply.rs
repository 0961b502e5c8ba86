//! Applying a batch: read and plan without locks, then lock what the plan rests on, read that
//! again, and write. Where it has changed meanwhile, plan again with the locks held.
//!
//! What a plan rests on: every account that it writes about, every unionid, and every account that
//! the planner asked for. Accounts of [`Batch::keys`] that it does not write about are not locked:
//! a login that changes nothing must not cost a write because it shares a batch with one that does.
//! Only an erasure could make writing about them wrong, and it waits for all batches under way
//! ([`SHARED`], [`ALONE`]).

use super::PostgresStore;
use super::lock::{Locked, Wanted};
use super::rows::{get, small};
use super::session::{Fault, Session, query};
use super::view::{Loaded, erasures};
use crate::model::{Account, Changes, Keys};
use crate::store::records::encode;
use crate::store::rules::{gone, is_empty};
use crate::store::{Batch, JobNote, Planner, Position, Settled, Step, StoreError, WaitsFor, Write};
use rustc_hash::FxHashSet;
use std::time::Duration;

/// Round-trips of one planning. A component holds far fewer accounts and unionids than this, and
/// each round-trip reads a whole layer of all components of the batch.
const STEPS: u32 = 1_000;
/// Times that what a plan rests on may grow under it. Each time it is planned on fresher data.
const GROWTHS: u32 = 50;
/// Transactions that are begun for one batch. Deadlocks and the like need others at the same rows
/// at the same moment, who get on meanwhile.
pub(super) const TRIES: u32 = 20;
/// Pause before the next try, times its number.
const PAUSE: Duration = Duration::from_millis(5);

/// Writers of names: any number at once. The same key as in [`ALONE`].
pub(super) const SHARED: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SELECT pg_advisory_xact_lock_shared(1970170220, 1); SAVEPOINT batch";
/// An erasure: alone, so that nobody writes a name that was read before it.
const ALONE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SELECT pg_advisory_xact_lock(1970170220, 1); SAVEPOINT batch";
const BACK: &str = "ROLLBACK TO SAVEPOINT batch";

/// What a planning came to.
pub(super) struct Planned {
    /// What it was planned on.
    pub loaded: Loaded,
    /// What to write.
    pub changes: Changes,
    /// Outbox rows, encoded before any lock is held.
    pub outbox: Vec<(u32, Vec<u8>)>,
    /// Progress of the job that the batch is part of.
    pub job: Option<JobNote>,
    /// Accounts of which only a tombstone is left after the batch: their names are not written.
    pub gone: FxHashSet<Account>,
}

/// A batch on its way.
struct Work<'a> {
    batch: &'a Batch,
    planner: &'a mut dyn Planner,
    /// What the planner asked for beyond the batch's keys, in whichever planning.
    asked: Keys,
}

impl PostgresStore {
    pub(super) async fn apply_batch(
        &self,
        batch: &Batch,
        planner: &mut dyn Planner,
    ) -> Result<(), Fault> {
        let asked = Keys::default();
        let mut work = Work {
            batch,
            planner,
            asked,
        };
        let mut session = self.session().await?;
        for n in 1..=TRIES {
            match self.attempt(&mut session, &mut work).await {
                Err(Fault::Again(why)) => {
                    tracing::debug!(why, "a batch is tried again");
                    session.run("ROLLBACK").await?;
                    tokio::time::sleep(pause(n)).await;
                }
                Err(Fault::Store(error)) => {
                    // The connection may well be fine; if it is not, it is closed.
                    if session.run("ROLLBACK").await.is_ok() {
                        session.give_back();
                    }
                    return Err(error.into());
                }
                Ok(()) => {
                    session.give_back();
                    return Ok(());
                }
            }
        }
        session.give_back();
        Err(Fault::Again("too often for one batch"))
    }

    async fn attempt(&self, session: &mut Session, work: &mut Work<'_>) -> Result<(), Fault> {
        session.snapshot().await?;
        let mut planned = self.plan_unlocked(session, work).await?;
        session.commit().await?;
        let batch = work.batch;
        if planned.is_nothing() && is_bare(batch) {
            return super::write::positions(session, &batch.positions).await;
        }
        let alone = !planned.changes.erased.is_empty();
        session.run(if alone { ALONE } else { SHARED }).await?;
        let mut locked = Locked::default();
        if self.rests_on_nothing(work, &planned) {
            locked.is_current(session, &planned).await?;
        } else {
            (planned, locked) = self.lock_and_plan(session, work, planned).await?;
        }
        if !alone && !planned.changes.erased.is_empty() {
            return Err(Fault::Again("an erasure came up"));
        }
        self.finish(session, batch, &planned, &locked).await
    }

    /// Steps 2 to 7: returns a plan together with the locks that it rests on.
    async fn lock_and_plan(
        &self,
        session: &mut Session,
        work: &mut Work<'_>,
        mut planned: Planned,
    ) -> Result<(Planned, Locked), Fault> {
        let mut wanted = Wanted::default();
        for _ in 0..GROWTHS {
            self.want(&mut wanted, work, &planned);
            let mut locked = self.lock(session, &wanted, &planned).await?;
            let fresh = self
                .read_again(session, work.batch, &wanted, &locked)
                .await?;
            if locked.agrees(&planned, &fresh, &wanted) {
                planned.loaded.complete(fresh);
                return Ok((planned, locked));
            }
            // Somebody was faster. All is read anew, and the locked part of it stays as it is.
            let mut loaded = Loaded {
                mine: locked.made_accounts(),
                erasures: erasures(session).await?,
                ..Loaded::default()
            };
            self.read_deferred(session, work.batch, &mut loaded.view, false)
                .await?;
            let mut keys = planned.loaded.view.asked.clone();
            keys.accounts.extend(wanted.accounts.values().cloned());
            keys.unionids.extend(wanted.unionids.values().cloned());
            self.extend(session, &mut loaded, &keys).await?;
            planned = self.plan(session, work, loaded).await?;
            locked.replanned = true;
            if self.is_covered(&wanted, work, &planned) {
                return Ok((planned, locked));
            }
            session.run(BACK).await?;
            locked.undo(&wanted, &mut planned.loaded);
        }
        Err(Fault::Again("what the batch touches went on growing"))
    }

    async fn plan_unlocked(
        &self,
        session: &mut Session,
        work: &mut Work<'_>,
    ) -> Result<Planned, Fault> {
        let mut loaded = Loaded {
            erasures: erasures(session).await?,
            ..Loaded::default()
        };
        self.read_deferred(session, work.batch, &mut loaded.view, false)
            .await?;
        self.extend(session, &mut loaded, &work.batch.keys).await?;
        let mut planned = self.plan(session, work, loaded).await?;
        if !planned.changes.resolved.is_empty() {
            self.keep_awaited(session, &mut planned).await?;
        }
        Ok(planned)
    }

    /// Asks the planner until it has decided.
    async fn plan(
        &self,
        session: &mut Session,
        work: &mut Work<'_>,
        mut loaded: Loaded,
    ) -> Result<Planned, Fault> {
        for _ in 0..STEPS {
            match work.planner.step(&loaded.view) {
                Step::Write(write) => return Ok(prepare(loaded, *write)?),
                Step::Read(more) => {
                    self.extend(session, &mut loaded, &more).await?;
                    work.asked.accounts.extend(more.accounts);
                    work.asked.unionids.extend(more.unionids);
                }
            }
        }
        let why = format!("the planner was not done after {STEPS} steps");
        Err(StoreError::Corrupt(why).into())
    }

    /// Adds what the plan rests on.
    fn want(&self, wanted: &mut Wanted, work: &Work<'_>, planned: &Planned) {
        let changes = &planned.changes;
        // A key or a link that comes at this moment must find the row that waits for it, or be found
        // by the attempt that follows: whoever brings it has the account's lock until it is there.
        let deferred = work.batch.defer.iter();
        let deferred = deferred.map(|d| (d.waits_for, d.account.as_ref()));
        let again = work
            .batch
            .settle
            .iter()
            .filter_map(|settled| match settled {
                Settled::Again {
                    waits_for, account, ..
                } => Some((*waits_for, account.as_ref())),
                Settled::Done { .. } => None,
            });
        let keyless = deferred.chain(again);
        let keyless = keyless.filter(|(waits_for, _)| *waits_for == WaitsFor::SessionKey);
        let asked = &planned.loaded.view.asked.accounts;
        let unread = changes.resolved.iter().filter(|a| !asked.contains(*a));
        let accounts = (written(changes).chain(&work.asked.accounts).chain(unread))
            .chain(keyless.filter_map(|(_, account)| account));
        for account in accounts {
            wanted.accounts.insert(self.own(account), account.clone());
        }
        let unionids = (work.batch.keys.unionids.iter())
            .chain(&work.asked.unionids)
            .chain(changes.claims.iter().map(|c| &c.key.union));
        for union in unionids {
            wanted.unionids.insert(self.tag(union), union.clone());
        }
    }

    fn is_covered(&self, wanted: &Wanted, work: &Work<'_>, planned: &Planned) -> bool {
        let mut now = Wanted::default();
        self.want(&mut now, work, planned);
        (now.accounts.keys()).all(|own| wanted.accounts.contains_key(own))
            && (now.unionids.keys()).all(|tag| wanted.unionids.contains_key(tag))
    }

    fn rests_on_nothing(&self, work: &Work<'_>, planned: &Planned) -> bool {
        let mut wanted = Wanted::default();
        self.want(&mut wanted, work, planned);
        wanted.is_empty() && work.batch.defer.is_empty() && work.batch.settle.is_empty()
    }

    async fn finish(
        &self,
        session: &mut Session,
        batch: &Batch,
        planned: &Planned,
        locked: &Locked,
    ) -> Result<(), Fault> {
        let mut seen = self.write_changes(session, planned, locked).await?;
        seen |= self.write_deferred(session, batch, planned).await?;
        super::erase::end_waiting(session, &planned.changes).await?;
        super::write::tracked(session, batch, &planned.gone).await?;
        super::write::positions(session, &batch.positions).await?;
        if let Some(note) = &planned.job {
            super::jobs::note(session, &self.identity, note).await?;
        }
        super::outbox::write(session, &planned.outbox).await?;
        session.commit().await?;
        if seen || !planned.outbox.is_empty() {
            self.wake();
        }
        Ok(())
    }

    pub(super) async fn read_positions(&self) -> Result<Vec<Position>, Fault> {
        let sql = "SELECT partition, \"offset\", digest FROM positions ORDER BY partition";
        let rows = self.read(query(sql)).await?;
        let rows = rows.iter().map(|row| {
            Ok(Position {
                partition: small(row, 0)?,
                offset: get(row, 1)?,
                digest: get(row, 2)?,
            })
        });
        rows.collect()
    }
}

/// Everything that can be done before a lock is held.
fn prepare(loaded: Loaded, write: Write) -> Result<Planned, StoreError> {
    let rows = write.outbox.into_iter().filter(|(_, r)| !r.is_empty());
    let outbox = rows
        .map(|(partition, records)| Ok((partition, encode(&records)?)))
        .collect::<Result<_, StoreError>>()?;
    Ok(Planned {
        gone: gone(&loaded.view, &write.changes, |a| {
            loaded.view.accounts.contains_key(a)
        }),
        loaded,
        changes: write.changes,
        outbox,
        job: write.job,
    })
}

impl Planned {
    /// Whether nothing was decided to be written.
    fn is_nothing(&self) -> bool {
        is_empty(&self.changes) && self.outbox.is_empty() && self.job.is_none()
    }
}

/// Whether the batch has nothing but positions, besides what the planner decides.
fn is_bare(batch: &Batch) -> bool {
    batch.defer.is_empty() && batch.settle.is_empty() && batch.tracked.is_empty()
}

/// Accounts that the changes write about.
fn written(changes: &Changes) -> impl Iterator<Item = &Account> {
    (changes.accounts.iter().map(|a| &a.account))
        .chain(changes.claims.iter().map(|c| &c.key.account))
        .chain(&changes.erased)
        .chain(changes.tombstones.iter().map(|t| &t.account))
        .chain(changes.rulings.iter().map(|(key, _)| &key.account))
        .chain(changes.pairs.iter().flat_map(|(p, _)| [&p.a, &p.b]))
        .chain(changes.session_keys.iter().map(|(a, _)| a))
}

/// Longer each time, and another for each worker: two that met do not meet again.
pub(super) fn pause(n: u32) -> Duration {
    PAUSE * n + Duration::from_micros(u64::from(rand::random::<u16>()) / 8)
}
