//! The outbox: all records of a batch for one partition in one row, numbered without gaps in
//! commit order.

use super::SqliteStore;
use super::rows::{blob16, corrupt, count, get, int, len};
use crate::sqlite::{Insert, Select, Tx, Val};
use crate::store::records::decode;
use crate::store::rules::expect_rows;
use crate::store::{OutboxRow, StoreError};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Relayed rows that pile up before they are deleted, in a transaction that is made anyway.
const PRUNE_AFTER: u64 = 16;
/// Rows of one reading, however small they are.
const READ_ROWS: i64 = 256;

const HEADS: Insert = Insert {
    head: "INSERT INTO heads (partition, seq) VALUES",
    columns: 2,
    tail: "ON CONFLICT (partition) DO UPDATE SET seq = heads.seq + 1",
};
const READ_HEADS: Select = Select {
    head: "SELECT partition, seq FROM heads WHERE partition IN (",
    columns: 1,
    tail: ")",
};
const ROWS: Insert = Insert {
    head: "INSERT INTO outbox (partition, seq, row, records) VALUES",
    columns: 4,
    tail: "",
};

impl SqliteStore {
    /// Appends rows, at most one per partition.
    pub(super) async fn write_outbox(
        &self,
        tx: &mut Tx<'_>,
        rows: &[(u32, Vec<u8>)],
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let first = rows.iter().flat_map(|(p, _)| [(*p).into(), Val::Int(1)]);
        let first: Vec<Val> = first.collect();
        let touched = tx.insert(&HEADS, first).await?;
        expect_rows("heads", rows.len(), touched)?;
        let keys = rows.iter().map(|(p, _)| (*p).into()).collect();
        let mut seqs = BTreeMap::new();
        for row in tx.many(&READ_HEADS, keys).await? {
            seqs.insert(super::rows::small(&row, 0)?, count(&row, 1)?);
        }
        let mut values = Vec::with_capacity(rows.len() * ROWS.columns);
        for (partition, records) in rows {
            values.extend([
                (*partition).into(),
                int(seqs.get(partition).copied().unwrap_or_default()),
                Val::Blob(Uuid::new_v4().as_bytes().to_vec()),
                Val::Blob(records.clone()),
            ]);
        }
        let touched = tx.insert(&ROWS, values).await?;
        expect_rows("outbox rows", rows.len(), touched)?;
        self.prune_outbox(tx, PRUNE_AFTER).await
    }

    /// Deletes relayed rows where at least `worth` have piled up. The newest relayed one stays: it
    /// tells this store from a restored one.
    pub(super) async fn prune_outbox(&self, tx: &mut Tx<'_>, worth: u64) -> Result<(), StoreError> {
        for (partition, mark) in self.relayed.all() {
            if mark.seq.saturating_sub(mark.pruned) <= worth {
                continue;
            }
            tx.exec(
                "DELETE FROM outbox WHERE partition = ? AND seq < ?",
                vec![partition.into(), int(mark.seq)],
            )
            .await?;
            // Should this transaction fail, the next prune of the partition deletes these too.
            self.relayed.pruned(partition, mark.seq);
        }
        Ok(())
    }

    pub(super) async fn read_outbox(
        &self,
        after: &[(u32, u64)],
        bytes: usize,
    ) -> Result<Vec<(u32, OutboxRow)>, StoreError> {
        let mut rows = Vec::new();
        for (partition, after) in after {
            let read = self.read_partition(*partition, *after, bytes).await?;
            rows.extend(read.into_iter().map(|row| (*partition, row)));
        }
        Ok(rows)
    }

    async fn read_partition(
        &self,
        partition: u32,
        after: u64,
        bytes: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        // The running sum reads lengths only, never the records of rows that are not wanted.
        let rows = self
            .file
            .all(
                "SELECT o.seq, o.row, o.records FROM (SELECT seq, sum(n) OVER (ORDER BY seq) - n \
                 AS before FROM (SELECT seq, length(records) AS n FROM outbox \
                 WHERE partition = ?1 AND seq > ?2 ORDER BY seq LIMIT ?4)) w \
                 CROSS JOIN outbox o ON o.partition = ?1 AND o.seq = w.seq \
                 WHERE w.before < max(?3, 1) ORDER BY o.seq",
                vec![partition.into(), int(after), len(bytes), READ_ROWS.into()],
            )
            .await?;
        let rows = rows.iter().map(|row| {
            Ok(OutboxRow {
                seq: count(row, 0)?,
                row: Uuid::from_bytes(blob16(row, 1)?),
                records: decode(get(row, 2)?).ok_or_else(|| corrupt(row, 2))?,
            })
        });
        rows.collect()
    }

    pub(super) async fn read_outbox_row(
        &self,
        partition: u32,
        seq: u64,
    ) -> Result<Option<Uuid>, StoreError> {
        let sql = "SELECT row FROM outbox WHERE partition = ? AND seq = ?";
        let rows = self.file.all(sql, vec![partition.into(), int(seq)]).await?;
        let id = rows.first().map(|row| blob16(row, 0)).transpose()?;
        Ok(id.map(Uuid::from_bytes))
    }

    pub(super) async fn read_outbox_head(&self, partition: u32) -> Result<u64, StoreError> {
        let sql = "SELECT seq FROM heads WHERE partition = ?";
        let rows = self.file.all(sql, vec![partition.into()]).await?;
        let seq = rows.first().map(|row| count(row, 0)).transpose()?;
        Ok(seq.unwrap_or_default())
    }
}
