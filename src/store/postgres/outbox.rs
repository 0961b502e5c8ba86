//! The outbox: all records of a batch for one partition in one row, numbered without gaps in commit
//! order. A sequence would give numbers before commits: whoever polls "after n" would lose rows
//! that commit late.

use super::PostgresStore;
use super::rows::{corrupt, count, get, int, int32, small};
use super::session::{Fault, Session, query};
use crate::store::records::decode;
use crate::store::rules::expect_rows;
use crate::store::{OutboxRow, StoreError};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Relayed rows that pile up before they are deleted.
const PRUNE_AFTER: u64 = 32;
/// Rows of one reading, however small they are.
const READ_ROWS: i64 = 256;

/// Locks the heads in the order of the partitions; held to the end of the transaction, they make
/// the order of the numbers that of the commits.
const HEADS: &str = "INSERT INTO heads (partition, seq) SELECT k.partition, 1 \
     FROM unnest($1::integer[]) AS k(partition) \
     ON CONFLICT (partition) DO UPDATE SET seq = heads.seq + 1 RETURNING partition, seq";
const ROWS: &str = "INSERT INTO outbox (partition, seq, row_id, records) \
     SELECT * FROM unnest($1::integer[], $2::bigint[], $3::uuid[], $4::bytea[])";
/// The running sum reads lengths only, never the records of rows that are not wanted.
pub(super) const READ: &str = "SELECT k.partition, o.seq, o.row_id, o.records \
     FROM unnest($1::integer[], $2::bigint[]) AS k(partition, after) \
     CROSS JOIN LATERAL (SELECT seq, sum(n) OVER (ORDER BY seq) - n AS before \
     FROM (SELECT x.seq, octet_length(x.records)::bigint AS n FROM outbox x \
     WHERE x.partition = k.partition AND x.seq > k.after ORDER BY x.seq LIMIT $4) r) w \
     CROSS JOIN LATERAL (SELECT * FROM outbox x WHERE x.partition = k.partition \
     AND x.seq = w.seq LIMIT 1) o \
     WHERE w.before < greatest($3::bigint, 1) ORDER BY k.partition, o.seq";
pub(super) const PRUNE: &str = "DELETE FROM outbox WHERE partition = $1 AND seq < $2";

/// Appends rows, at most one per partition.
pub(super) async fn write(session: &mut Session, rows: &[(u32, Vec<u8>)]) -> Result<(), Fault> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut partitions: Vec<i32> = rows.iter().map(|(p, _)| int32(*p)).collect();
    partitions.sort_unstable();
    let mut seqs = BTreeMap::new();
    for row in session.all(query(HEADS).bind(partitions)).await? {
        seqs.insert(small(&row, 0)?, get::<i64>(&row, 1)?);
    }
    expect_rows("heads", rows.len(), seqs.len() as u64)?;
    let seq_of = |partition| seqs.get(partition).copied().unwrap_or_default();
    let ids = rows.iter().map(|_| Uuid::new_v4());
    let put = query(ROWS)
        .bind(rows.iter().map(|(p, _)| int32(*p)).collect::<Vec<_>>())
        .bind(rows.iter().map(|(p, _)| seq_of(p)).collect::<Vec<_>>())
        .bind(ids.collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, r)| r.as_slice()).collect::<Vec<_>>());
    let touched = session.exec(put).await?;
    Ok(expect_rows("outbox rows", rows.len(), touched)?)
}

impl PostgresStore {
    pub(super) async fn note_relayed(
        &self,
        partition: u32,
        seq: u64,
        inline_below: i64,
    ) -> Result<(), Fault> {
        self.relayed.note(partition, seq, inline_below);
        self.prune_outbox(PRUNE_AFTER).await
    }

    /// Deletes relayed rows where more than `worth` have piled up. The newest relayed one stays: it
    /// tells this store from a restored one.
    pub(super) async fn prune_outbox(&self, worth: u64) -> Result<(), Fault> {
        for (partition, mark) in self.relayed.all() {
            if mark.seq.saturating_sub(mark.pruned) <= worth {
                continue;
            }
            let mut session = self.session().await?;
            // Rows that come back after a crash are deleted by the next pruning.
            session
                .run("BEGIN; SET LOCAL synchronous_commit = off")
                .await?;
            let prune = query(PRUNE).bind(int32(partition)).bind(int(mark.seq));
            session.exec(prune).await?;
            session.commit().await?;
            session.give_back();
            self.relayed.pruned(partition, mark.seq);
        }
        Ok(())
    }

    pub(super) async fn read_outbox(
        &self,
        after: &[(u32, u64)],
        bytes: usize,
    ) -> Result<Vec<(u32, OutboxRow)>, Fault> {
        let read = query(READ)
            .bind(after.iter().map(|(p, _)| int32(*p)).collect::<Vec<_>>())
            .bind(after.iter().map(|(_, seq)| int(*seq)).collect::<Vec<_>>())
            .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
            .bind(READ_ROWS);
        let rows = self.read(read).await?;
        let rows = rows.iter().map(|row| {
            let read = OutboxRow {
                seq: count(row, 1)?,
                row: get(row, 2)?,
                records: decode(get(row, 3)?).ok_or_else(|| corrupt(row, 3))?,
            };
            Ok((small(row, 0)?, read))
        });
        Ok(rows.collect::<Result<_, StoreError>>()?)
    }

    pub(super) async fn read_outbox_row(
        &self,
        partition: u32,
        seq: u64,
    ) -> Result<Option<Uuid>, Fault> {
        let sql = "SELECT row_id FROM outbox WHERE partition = $1 AND seq = $2";
        let rows = self.read(query(sql).bind(int32(partition)).bind(int(seq)));
        let rows = rows.await?;
        Ok(rows.first().map(|row| get(row, 0)).transpose()?)
    }

    pub(super) async fn read_outbox_head(&self, partition: u32) -> Result<u64, Fault> {
        let sql = "SELECT seq FROM heads WHERE partition = $1";
        let rows = self.read(query(sql).bind(int32(partition))).await?;
        let seq = rows.first().map(|row| count(row, 0)).transpose()?;
        Ok(seq.unwrap_or_default())
    }
}
