//! The group that reads the input topic: its term, and how far it got.

use super::codec;
use super::log::expect;
use crate::bus::{Assigned, Progress, Term};
use crate::sqlite::{Fault, File, Insert, Tx};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

const NEXT_TERM: &str = "INSERT INTO log_groups (name, term) VALUES (?, 1)
    ON CONFLICT (name) DO UPDATE SET term = term + 1 RETURNING term";
const TERM: &str = "SELECT term FROM log_groups WHERE name = ?";
const POSITIONS: &str = "SELECT p.partition, g.input, g.relay FROM log_partitions p
    LEFT JOIN log_positions g ON g.name = ?1 AND g.partition = p.partition
    WHERE p.topic = ?2 ORDER BY p.partition";
const TAILS: &str = "SELECT next, (SELECT term FROM log_groups WHERE name = ?1)
    FROM log_partitions WHERE topic = ?2 ORDER BY partition";
const SAVE: Insert = Insert {
    head: "INSERT INTO log_positions (name, partition, input, relay) VALUES",
    columns: 4,
    tail: "ON CONFLICT (name, partition) DO UPDATE SET input = excluded.input, relay = excluded.relay",
};
const RESET: &str = "INSERT INTO log_positions (name, partition, input, relay)
    SELECT ?1, partition, min(max(?3, start), next), NULL FROM log_partitions WHERE topic = ?2
    ON CONFLICT (name, partition) DO UPDATE SET input = excluded.input";
const COMMITTED: &str = "SELECT input FROM log_positions WHERE name = ? AND partition = ?";

/// Ends the term and begins the next; returns it.
pub async fn next_term(tx: &mut Tx<'_>, group: &str) -> Result<Term, Fault> {
    let rows = tx.all(NEXT_TERM, vec![group.into()]).await?;
    term_in(rows.first(), 0)
}

/// The term that may commit.
pub async fn term(tx: &mut Tx<'_>, group: &str) -> Result<Term, Fault> {
    let rows = tx.all(TERM, vec![group.into()]).await?;
    term_in(rows.first(), 0)
}

/// The term that may commit, and the next offset to be written of each input partition.
pub async fn tails(file: &File, group: &str, input: &str) -> Result<(Term, Vec<i64>), Fault> {
    let rows = file.all(TAILS, vec![group.into(), input.into()]).await?;
    let term = term_in(rows.first(), 1)?;
    let tails: Result<_, Fault> = rows.iter().map(|row| Ok(row.try_get(0)?)).collect();
    Ok((term, tails?))
}

/// What the group remembers of each input partition.
pub async fn positions(file: &File, group: &str, input: &str) -> Result<Vec<Assigned>, Fault> {
    let rows = file
        .all(POSITIONS, vec![group.into(), input.into()])
        .await?;
    let assigned = |row: &SqliteRow| {
        Ok(Assigned {
            partition: row.try_get(0)?,
            input: row.try_get(1)?,
            relay: codec::read_relay(row.try_get(2)?)?,
        })
    };
    rows.iter().map(assigned).collect()
}

/// The group's committed offset of one input partition.
pub async fn committed(tx: &mut Tx<'_>, group: &str, partition: u32) -> Result<Option<i64>, Fault> {
    let rows = tx
        .all(COMMITTED, vec![group.into(), partition.into()])
        .await?;
    rows.first().map(|row| Ok(row.try_get(0)?)).transpose()
}

/// Remembers how far the group got.
pub async fn save(tx: &mut Tx<'_>, group: &str, progress: &[Progress]) -> Result<(), Fault> {
    let mut values = Vec::with_capacity(progress.len() * SAVE.columns);
    for step in progress {
        values.push(group.into());
        values.push(step.partition.into());
        values.push(step.input.into());
        values.push(codec::relay(&step.relay)?.into());
    }
    expect(tx.insert(&SAVE, values).await?, progress.len())
}

/// Sets every committed offset, within what the log holds. The relay's positions belong to a group
/// of their own and stay.
pub async fn reset(tx: &mut Tx<'_>, group: &str, input: &str, to: i64) -> Result<u64, Fault> {
    tx.exec(RESET, vec![group.into(), input.into(), to.into()])
        .await
}

fn term_in(row: Option<&SqliteRow>, column: usize) -> Result<Term, Fault> {
    let term: i64 = row.ok_or_else(lost)?.try_get(column)?;
    u64::try_from(term).map(Term).map_err(|_| lost())
}

fn lost() -> Fault {
    Fault::Corrupt("the log has lost its group or its input topic".to_owned())
}
