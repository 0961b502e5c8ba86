//! Records in the file: appending, reading, bounds. Everything about `log_records` that is not
//! retention.

use super::catalog::Placed;
use super::codec;
use crate::bus::Stored;
use crate::sqlite::{Fault, File, Insert, Tx, Val};
use rustc_hash::FxHashMap;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

/// Offsets take the low 44 bits of a place: nine years at 60,000 records/s in one partition, and
/// half a million partitions.
const OFFSET_BITS: u32 = 44;
const OFFSETS: i64 = 1 << OFFSET_BITS;

const RECORDS: Insert = Insert {
    head: "INSERT INTO log_records (place, timestamp, headers, key, value) VALUES",
    columns: 5,
    tail: "",
};
const HEADS: &str = "SELECT id, next, newest FROM log_partitions
    WHERE id IN (SELECT value FROM json_each(?))";
const MOVE_HEADS: &str = "UPDATE log_partitions SET next = j.value ->> 1, newest = j.value ->> 2
    FROM json_each(?) AS j WHERE log_partitions.id = j.value ->> 0";
const LOGS: &str = "SELECT id FROM log_partitions WHERE topic = ? ORDER BY partition";
const BOUNDS: &str = "SELECT start, next FROM log_partitions WHERE topic = ? ORDER BY partition";
/// Sizes come from the row header; the large values are touched only by the outer query, which
/// ends where the bytes (?4) are reached. The first record is always among them.
const READ: &str = "SELECT place, timestamp, headers, key, value FROM log_records
    WHERE place >= ?1 AND place <= (SELECT max(place) FROM (
        SELECT place, sum(size) OVER (ORDER BY place ROWS UNBOUNDED PRECEDING) - size AS before FROM (
            SELECT place, length(key) + ifnull(length(value), 0) + ifnull(length(headers), 0) AS size
            FROM log_records WHERE place >= ?1 AND place < ?2 ORDER BY place LIMIT ?3))
        WHERE before < ?4)
    ORDER BY place";

/// A partition in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// `log_partitions.id`.
    pub log: i64,
    /// Its number in the topic.
    pub number: u32,
}

impl Part {
    /// Where the record at `offset` lies.
    pub fn place(self, offset: i64) -> i64 {
        (self.log << OFFSET_BITS) | offset.clamp(0, OFFSETS - 1)
    }
}

/// The offset of the record at `place`.
pub fn offset(place: i64) -> i64 {
    place & (OFFSETS - 1)
}

/// Which records of a partition to read, and how many at most.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    pub from: i64,
    pub to: i64,
    pub records: usize,
    /// Reading ends with the record that reaches it.
    pub bytes: usize,
}

/// The next offset and the newest timestamp of a partition.
struct Head {
    next: i64,
    newest: i64,
}

/// Appends in the order given, per partition.
pub async fn append(tx: &mut Tx<'_>, mut records: Vec<Placed>, now: i64) -> Result<(), Fault> {
    if records.is_empty() {
        return Ok(());
    }
    // Neighbours in the file are written one after another.
    records.sort_by_key(|r| r.log);
    let mut heads = heads(tx, &records).await?;
    let count = records.len();
    let mut values = Vec::with_capacity(count * RECORDS.columns);
    for Placed { log, record } in records {
        let head = heads.get_mut(&log).filter(|h| h.next < OFFSETS - 1);
        let head = head.ok_or_else(|| Fault::Corrupt(format!("log {log} is gone or full")))?;
        head.newest = head.newest.max(now);
        let part = Part { log, number: 0 };
        values.push(part.place(head.next).into());
        values.push(head.newest.into());
        values.push(codec::headers(&record.headers)?.into());
        values.push(record.key.into());
        values.push(record.value.into());
        head.next += 1;
    }
    expect(tx.insert(&RECORDS, values).await?, count)?;
    let moved: Vec<_> = heads.iter().map(|(id, h)| (id, h.next, h.newest)).collect();
    expect(tx.exec(MOVE_HEADS, vec![json(&moved)?]).await?, moved.len())
}

async fn heads(tx: &mut Tx<'_>, records: &[Placed]) -> Result<FxHashMap<i64, Head>, Fault> {
    let mut logs: Vec<i64> = records.iter().map(|r| r.log).collect();
    logs.dedup();
    let rows = tx.all(HEADS, vec![json(&logs)?]).await?;
    let head = |row: &SqliteRow| {
        let (next, newest) = (row.try_get(1)?, row.try_get(2)?);
        Ok((row.try_get(0)?, Head { next, newest }))
    };
    rows.iter().map(head).collect()
}

/// Reads a stretch of a partition, in order.
pub async fn read(file: &File, part: Part, stretch: Stretch) -> Result<Vec<Stored>, Fault> {
    if stretch.to <= stretch.from {
        return Ok(Vec::new());
    }
    let args = vec![
        part.place(stretch.from).into(),
        part.place(stretch.to).into(),
        whole(stretch.records),
        whole(stretch.bytes),
    ];
    let rows = file.all(READ, args).await?;
    rows.iter().map(|row| stored(part, row)).collect()
}

fn stored(part: Part, row: &SqliteRow) -> Result<Stored, Fault> {
    Ok(Stored {
        partition: part.number,
        offset: offset(row.try_get(0)?),
        timestamp: row.try_get(1)?,
        headers: codec::read_headers(row.try_get(2)?)?,
        key: row.try_get(3)?,
        value: row.try_get(4)?,
    })
}

/// The first offset held and the next to be written, of each partition of `topic`.
pub async fn bounds(file: &File, topic: &str) -> Result<Vec<(i64, i64)>, Fault> {
    let rows = file.all(BOUNDS, vec![topic.into()]).await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

/// The names of all topics.
pub async fn names(file: &File) -> Result<Vec<std::sync::Arc<str>>, Fault> {
    let sql = "SELECT DISTINCT topic FROM log_partitions ORDER BY topic";
    let rows = file.all(sql, Vec::new()).await?;
    let name = |row: &SqliteRow| Ok(row.try_get::<String, _>(0)?.into());
    rows.iter().map(name).collect()
}

/// The ids of the partitions of `topic`, in order.
pub async fn logs(file: &File, topic: &str) -> Result<Vec<i64>, Fault> {
    ids(&file.all(LOGS, vec![topic.into()]).await?)
}

/// [`logs`], inside a transaction.
pub async fn logs_in(tx: &mut Tx<'_>, topic: &str) -> Result<Vec<i64>, Fault> {
    ids(&tx.all(LOGS, vec![topic.into()]).await?)
}

fn ids(rows: &[SqliteRow]) -> Result<Vec<i64>, Fault> {
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// A list for `json_each`.
pub fn json<T: serde::Serialize>(list: &[T]) -> Result<Val, Fault> {
    let text = serde_json::to_string(list).map_err(|e| Fault::Corrupt(e.to_string()))?;
    Ok(Val::Text(text))
}

/// A count as SQLite wants it.
pub fn whole(count: usize) -> Val {
    Val::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

/// A statement has to touch as many rows as it was meant to.
pub fn expect(touched: u64, meant: usize) -> Result<(), Fault> {
    if u64::try_from(meant) == Ok(touched) {
        return Ok(());
    }
    Err(Fault::Corrupt(format!(
        "the log: {touched} rows written instead of {meant}"
    )))
}
