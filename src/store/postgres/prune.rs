//! Removing what is no longer needed, a slice per transaction, so that nobody waits long. Workers
//! that prune at the same moment pass over each other's rows.

use super::PostgresStore;
use super::rows::int32;
use super::session::{Fault, query};
use crate::model::Millis;
use crate::store::Prune;

/// Rows of one transaction.
const SLICE: i64 = 5_000;

const TRACKED: &str = "DELETE FROM tracked WHERE ctid = ANY(ARRAY(SELECT x.ctid FROM tracked x \
     WHERE x.at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";
const LEDGER: &str = "DELETE FROM ledger WHERE ctid = ANY(ARRAY(SELECT x.ctid FROM ledger x \
     WHERE x.at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";
const SENDS: &str = "DELETE FROM sends WHERE ctid = ANY(ARRAY(SELECT x.ctid FROM sends x \
     WHERE x.at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";
/// Only unresolved accounts have any: one pass.
const SESSION_KEYS: &str = "DELETE FROM session_keys WHERE ctid = ANY(ARRAY(SELECT x.ctid \
     FROM session_keys x WHERE x.at < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";
/// Markers of finished work that nothing brings up again: as old as the fates that are forgotten,
/// and of a record that is behind the partition's mark.
const MARKERS: &str = "DELETE FROM deferred WHERE ctid = ANY(ARRAY(SELECT x.ctid FROM deferred x \
     WHERE x.done_at < $1 AND x.partition = $3 AND x.\"offset\" < $4 LIMIT $2 \
     FOR UPDATE SKIP LOCKED))";

impl PostgresStore {
    pub(super) async fn prune_all(&self, what: Prune) -> Result<(), Fault> {
        self.slices(TRACKED, what.tracked_before, None).await?;
        self.slices(LEDGER, what.ledger_before, None).await?;
        self.slices(SENDS, what.ledger_before, None).await?;
        self.slices(SESSION_KEYS, what.session_keys_before, None)
            .await?;
        for (partition, mark) in self.relayed.all() {
            let of = Some((partition, mark.inline_below));
            self.slices(MARKERS, what.tracked_before, of).await?;
        }
        self.prune_outbox(0).await
    }

    async fn slices(
        &self,
        sql: &'static str,
        before: Millis,
        of: Option<(u32, i64)>,
    ) -> Result<(), Fault> {
        let mut session = self.session().await?;
        session.be_patient();
        // Ends: each round deletes, and what is old enough does not grow.
        loop {
            let mut delete = query(sql).bind(before.0).bind(SLICE);
            if let Some((partition, below)) = of {
                delete = delete.bind(int32(partition)).bind(below);
            }
            if session.exec(delete).await? == 0 {
                session.give_back();
                return Ok(());
            }
        }
    }
}
