//! Applying a batch: read, plan beside other writers, then write in one transaction if the state is
//! still the one that was planned on, else plan again; after a few tries plan inside the transaction.
//!
//! Each reading is a transaction of its own; equal versions make them one snapshot. They run on the
//! writer's connection, whose page cache stays warm: it is a third of the time of a large batch.

use super::SqliteStore;
use super::rows::get;
use super::view::{Loaded, Source, deferred};
use crate::model::{Account, Changes, Keys};
use crate::sqlite::Tx;
use crate::store::records::encode;
use crate::store::rules::{gone, is_empty};
use crate::store::{Batch, Planner, Position, Step, StoreError, Write};
use rustc_hash::FxHashSet;

/// Tries at planning beside other writers, before planning with the writer held.
const TRIES: u32 = 3;
/// Round-trips of one planning. A component holds far fewer accounts and unionids than this, and
/// each round-trip reads a whole layer of all components of the batch.
const STEPS: u32 = 1_000;

/// What a planning came to.
pub(super) struct Planned {
    /// What it was planned on.
    pub loaded: Loaded,
    /// What to write.
    pub changes: Changes,
    /// Outbox rows, encoded before the writer is held.
    pub outbox: Vec<(u32, Vec<u8>)>,
    /// Accounts of which only a tombstone is left after the batch: their names are not written.
    pub gone: FxHashSet<Account>,
}

impl SqliteStore {
    pub(super) async fn apply_batch(
        &self,
        batch: &Batch,
        planner: &mut dyn Planner,
    ) -> Result<(), StoreError> {
        for _ in 0..TRIES {
            let Some(planned) = self.plan(batch, planner, None).await? else {
                continue;
            };
            if is_nothing(batch, &planned) {
                return Ok(());
            }
            let mut tx = self.file.begin().await?;
            if version(&mut tx).await? == planned.loaded.version {
                return self.finish(tx, batch, &planned).await;
            }
        }
        let mut held = Source::Tx(self.file.begin().await?);
        let planned = self.plan(batch, planner, Some(&mut held)).await?;
        match (held, planned) {
            (Source::Tx(tx), Some(planned)) if !is_nothing(batch, &planned) => {
                self.finish(tx, batch, &planned).await
            }
            _ => Ok(()),
        }
    }

    /// Asks the planner until it has decided. `None`: the state moved between two readings.
    async fn plan(
        &self,
        batch: &Batch,
        planner: &mut dyn Planner,
        mut held: Option<&mut Source<'_>>,
    ) -> Result<Option<Planned>, StoreError> {
        let mut loaded = None;
        let mut decided: Option<Write> = None;
        let mut keys = batch.keys.clone();
        for _ in 0..STEPS {
            let read = self.read(held.as_deref_mut(), batch, loaded, &keys);
            let Some(known) = read.await? else {
                return Ok(None);
            };
            let write = match decided.take() {
                Some(write) => write,
                None => match planner.step(&known.view) {
                    Step::Write(write) => *write,
                    Step::Read(more) => {
                        keys = more;
                        loaded = Some(known);
                        continue;
                    }
                },
            };
            keys = unread(&known, &write.changes);
            if keys.is_empty() {
                return prepare(known, write).map(Some);
            }
            loaded = Some(known);
            decided = Some(write);
        }
        Err(StoreError::Corrupt(format!(
            "the planner was not done after {STEPS} steps"
        )))
    }

    /// Reads more keys: where the transaction is held, in it, else for a moment on its own.
    async fn read(
        &self,
        held: Option<&mut Source<'_>>,
        batch: &Batch,
        loaded: Option<Loaded>,
        keys: &Keys,
    ) -> Result<Option<Loaded>, StoreError> {
        if let Some(source) = held {
            return self.read_from(source, batch, loaded, keys).await;
        }
        let mut source = Source::Tx(self.file.look().await?);
        let loaded = self.read_from(&mut source, batch, loaded, keys).await?;
        source.end().await?;
        Ok(loaded)
    }

    async fn read_from(
        &self,
        source: &mut Source<'_>,
        batch: &Batch,
        loaded: Option<Loaded>,
        keys: &Keys,
    ) -> Result<Option<Loaded>, StoreError> {
        let head = self.begin_view(source).await?;
        let mut loaded = match loaded {
            Some(loaded) if loaded.version != head.version => return Ok(None),
            Some(loaded) => loaded,
            None => {
                let mut first = head;
                deferred(source, batch, &mut first.view).await?;
                first
            }
        };
        self.extend(source, &mut loaded, keys).await?;
        Ok(Some(loaded))
    }

    async fn finish(
        &self,
        mut tx: Tx<'_>,
        batch: &Batch,
        planned: &Planned,
    ) -> Result<(), StoreError> {
        let mut seen = self.write_changes(&mut tx, planned).await?;
        seen |= super::deferred::write(self, &mut tx, batch, planned).await?;
        self.end_waiting(&mut tx, &planned.changes).await?;
        super::write::tracked(&mut tx, batch, &planned.gone).await?;
        super::write::positions(&mut tx, &batch.positions).await?;
        self.write_outbox(&mut tx, &planned.outbox).await?;
        if seen {
            tx.exec("UPDATE store SET version = version + 1", vec![])
                .await?;
        }
        tx.commit().await?;
        if seen || !planned.outbox.is_empty() {
            self.wake();
        }
        Ok(())
    }

    pub(super) async fn read_positions(&self) -> Result<Vec<Position>, StoreError> {
        let sql = "SELECT partition, offset, digest FROM positions ORDER BY partition";
        let rows = self.file.all(sql, vec![]).await?;
        rows.iter()
            .map(|row| {
                Ok(Position {
                    partition: super::rows::small(row, 0)?,
                    offset: get(row, 1)?,
                    digest: get(row, 2)?,
                })
            })
            .collect()
    }
}

/// Everything that can be done before the writer is held.
fn prepare(mut loaded: Loaded, write: Write) -> Result<Planned, StoreError> {
    let rows = write.outbox.into_iter().filter(|(_, r)| !r.is_empty());
    let outbox = rows
        .map(|(partition, records)| Ok((partition, encode(&records)?)))
        .collect::<Result<_, StoreError>>()?;
    let changes = write.changes;
    for row in &changes.accounts {
        if !loaded.ids.contains_key(&row.account) {
            loaded.last_id += 1;
            loaded.ids.insert(row.account.clone(), loaded.last_id);
        }
    }
    Ok(Planned {
        gone: gone(&loaded.view, &changes, |a| loaded.ids.contains_key(a)),
        loaded,
        changes,
        outbox,
    })
}

async fn version(tx: &mut Tx<'_>) -> Result<i64, StoreError> {
    let rows = tx.all("SELECT version FROM store", vec![]).await?;
    let row = rows
        .first()
        .ok_or_else(|| StoreError::Corrupt("the store's own row is gone".into()))?;
    get(row, 0)
}

fn is_nothing(batch: &Batch, planned: &Planned) -> bool {
    is_empty(&planned.changes)
        && planned.outbox.is_empty()
        && batch.positions.is_empty()
        && batch.defer.is_empty()
        && batch.settle.is_empty()
        && batch.tracked.is_empty()
}

/// Accounts to write of which nobody has looked yet whether they are stored.
fn unread(loaded: &Loaded, changes: &Changes) -> Keys {
    let accounts = (changes.accounts.iter().map(|a| &a.account))
        .chain(changes.claims.iter().map(|c| &c.key.account))
        .chain(&changes.erased)
        .chain(&changes.resolved)
        .chain(changes.session_keys.iter().map(|(a, _)| a));
    let asked = &loaded.view.asked.accounts;
    let unread = accounts.filter(|a| !loaded.ids.contains_key(*a) && !asked.contains(*a));
    Keys {
        accounts: unread.cloned().collect(),
        ..Keys::default()
    }
}
