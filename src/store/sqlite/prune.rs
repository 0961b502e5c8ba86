//! Removing what is no longer needed, a slice per transaction, so that nobody waits long.

use super::SqliteStore;
use super::rows::{get, int};
use crate::sqlite::Val;
use crate::store::{Prune, StoreError};

/// Rows of one transaction: some tens of milliseconds of the writer.
const SLICE: u64 = 5_000;

/// What to remove: a look beside the writer, and a deletion that is made only if that finds some.
/// Arguments: the time before which rows are old, how many at once, then what else they need.
struct Old {
    any: &'static str,
    delete: &'static str,
}

const TRACKED: Old = Old {
    any: "SELECT EXISTS (SELECT 1 FROM tracked WHERE at < ?1)",
    delete: "DELETE FROM tracked WHERE event IN (SELECT event FROM tracked \
             WHERE at < ?1 ORDER BY at LIMIT ?2)",
};
/// No index by time: rows come in about that order, so the old ones are found first.
const LEDGER: Old = Old {
    any: "SELECT EXISTS (SELECT 1 FROM ledger WHERE at < ?1)",
    delete: "DELETE FROM ledger WHERE id IN (SELECT id FROM ledger WHERE at < ?1 LIMIT ?2)",
};
/// The same.
const SENDS: Old = Old {
    any: "SELECT EXISTS (SELECT 1 FROM sends WHERE at < ?1)",
    delete: "DELETE FROM sends WHERE id IN (SELECT id FROM sends WHERE at < ?1 LIMIT ?2)",
};
/// Only unresolved accounts have any.
const SESSION_KEYS: Old = Old {
    any: "SELECT EXISTS (SELECT 1 FROM session_keys WHERE at < ?1)",
    delete: "DELETE FROM session_keys WHERE (account, at, exchanged) IN \
             (SELECT account, at, exchanged FROM session_keys WHERE at < ?1 LIMIT ?2)",
};
/// Markers of finished work that nothing brings up again: as old as the fates that are forgotten,
/// and of a record that is behind the partition's mark.
const MARKERS: Old = Old {
    any: "SELECT EXISTS (SELECT 1 FROM deferred \
          WHERE done_at < ?1 AND partition = ?3 AND offset < ?4)",
    delete: "DELETE FROM deferred WHERE id IN (SELECT id FROM deferred \
             WHERE done_at < ?1 AND partition = ?3 AND offset < ?4 LIMIT ?2)",
};

impl SqliteStore {
    pub(super) async fn prune_all(&self, what: Prune) -> Result<(), StoreError> {
        let before = |at: crate::model::Millis| vec![at.0.into(), int(SLICE)];
        self.slices(&TRACKED, before(what.tracked_before)).await?;
        self.slices(&LEDGER, before(what.ledger_before)).await?;
        self.slices(&SENDS, before(what.ledger_before)).await?;
        let keys = before(what.session_keys_before);
        self.slices(&SESSION_KEYS, keys).await?;
        for (partition, mark) in self.relayed.all() {
            let mut of = before(what.tracked_before);
            of.extend([partition.into(), mark.inline_below.into()]);
            self.slices(&MARKERS, of).await?;
        }
        let mut tx = self.file.begin().await?;
        self.prune_outbox(&mut tx, 0).await?;
        Ok(tx.commit().await?)
    }

    async fn slices(&self, old: &Old, args: Vec<Val>) -> Result<(), StoreError> {
        // Ends: each round deletes, and what is old enough does not grow.
        loop {
            let rows = self.file.all(old.any, args.clone()).await?;
            let any = rows.first().map(|row| get::<bool>(row, 0)).transpose()?;
            if any != Some(true) {
                return Ok(());
            }
            let mut tx = self.file.begin().await?;
            tx.exec(old.delete, args.clone()).await?;
            tx.commit().await?;
        }
    }
}
