//! Records in the file: appending, reading, bounds. Everything about `log_records` that is not
//! retention.

use super::catalog::Placed;
use super::codec;
use crate::bus::Stored;
use crate::sqlite::{Fault, File, Insert, Snapshot, Tx, Val};
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
const READ: &str = "SELECT place, timestamp, headers, key, value FROM log_records
    WHERE place >= ? AND place < ? ORDER BY place LIMIT ?";
/// Sizes come from the row header; values on overflow pages are not touched.
const SIZE: &str = "SELECT count(*), sum(size) FROM (
    SELECT length(key) + ifnull(length(value), 0) + ifnull(length(headers), 0) AS size
    FROM log_records WHERE place >= ? AND place < ? ORDER BY place LIMIT ?)";

const ENDS: &str = "SELECT start, next FROM log_partitions WHERE id = ?";
const NEXT_TIME: &str = "SELECT place, timestamp FROM log_records
    WHERE place >= ? AND place < ? ORDER BY place LIMIT 1";

/// A record's size before any was seen.
pub const TYPICAL_BYTES: usize = 512;

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
    /// No more than that, but one record at least.
    pub bytes: usize,
    /// What a record is thought to take: the first guess of how many they will be.
    pub typical: usize,
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

/// Reads a stretch of a partition, in order. None means that there is none in this snapshot.
pub async fn read(
    snapshot: &mut Snapshot<'_>,
    part: Part,
    stretch: Stretch,
) -> Result<Vec<Stored>, Fault> {
    if stretch.to <= stretch.from {
        return Ok(Vec::new());
    }
    let args = |records: usize| {
        let (from, to) = (part.place(stretch.from), part.place(stretch.to));
        vec![from.into(), to.into(), whole(records)]
    };
    let guess = stretch.bytes / stretch.typical.max(1);
    let mut records = stretch.records.min(guess.max(1));
    loop {
        let rows = snapshot.all(SIZE, args(records)).await?;
        let Some((count, bytes)) = rows.first().map(size).transpose()? else {
            break;
        };
        if count <= 1 || bytes <= stretch.bytes {
            break;
        }
        // Scaled, with a little room for unequal sizes; by a quarter at least, so that it ends.
        records = (count * stretch.bytes / bytes * 15 / 16).clamp(1, (count * 3 / 4).max(1));
    }
    let rows = snapshot.all(READ, args(records)).await?;
    rows.iter().map(|row| stored(part, row)).collect()
}

fn size(row: &SqliteRow) -> Result<(usize, usize), Fault> {
    let (count, bytes): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let unsigned = |n| usize::try_from(n).unwrap_or(0);
    Ok((unsigned(count), unsigned(bytes.unwrap_or(0))))
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

/// The first offset whose record has this time or a later one; the next to be written if there is
/// none. Times never go back in a partition, so that it is found by halving.
pub async fn offset_at(snapshot: &mut Snapshot<'_>, part: Part, at: i64) -> Result<i64, Fault> {
    let ends = snapshot.all(ENDS, vec![part.log.into()]).await?;
    let ends = ends
        .first()
        .map(|row| Ok::<_, Fault>((row.try_get(0)?, row.try_get(1)?)));
    let (mut from, mut to): (i64, i64) = ends.transpose()?.unwrap_or((0, 0));
    while from < to {
        let middle = from + (to - from) / 2;
        let args = vec![part.place(middle).into(), part.place(to).into()];
        let rows = snapshot.all(NEXT_TIME, args).await?;
        let next = rows
            .first()
            .map(|row| Ok::<(i64, i64), Fault>((offset(row.try_get(0)?), row.try_get(1)?)));
        match next.transpose()? {
            Some((found, time)) if time < at => from = found + 1,
            _ => to = middle,
        }
    }
    Ok(from)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::Record;
    use crate::sqlite::Options;

    fn record(value: &[u8]) -> Placed {
        Placed {
            log: 1,
            record: Record {
                topic: "t".into(),
                key: vec![],
                value: Some(value.to_vec()),
                headers: vec![],
                partition: None,
            },
        }
    }

    async fn file(dir: &tempfile::TempDir) -> std::sync::Arc<File> {
        let path = dir.path().join("log");
        let file = File::open(&path, Options::default()).await.unwrap();
        let mut tx = file.begin().await.unwrap();
        let sql = "INSERT INTO log_partitions (topic, partition) VALUES ('t', 0)";
        tx.exec(sql, vec![]).await.unwrap();
        tx.commit().await.unwrap();
        file
    }

    #[tokio::test]
    async fn time_does_not_go_back_with_the_clock() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir).await;
        for now in [1_000, 400, 1_001] {
            let mut tx = file.begin().await.unwrap();
            append(&mut tx, vec![record(b"v")], now).await.unwrap();
            tx.commit().await.unwrap();
        }
        let part = Part { log: 1, number: 0 };
        let mut snapshot = file.snapshot().await.unwrap();
        let stretch = Stretch {
            from: 0,
            to: 9,
            records: 9,
            bytes: 9,
            typical: 1,
        };
        let all = read(&mut snapshot, part, stretch).await.unwrap();
        let times: Vec<i64> = all.iter().map(|r| r.timestamp).collect();
        assert_eq!(times, [1_000, 1_000, 1_001]);
    }

    /// Whatever the sizes and the guess: a prefix, not empty, within the bytes unless it is one.
    #[tokio::test]
    async fn a_read_keeps_within_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(&dir).await;
        let sizes = [1, 2_000, 1, 1, 1, 900, 20_000, 1, 1, 300, 300, 300, 300, 1];
        let records = sizes.iter().map(|size| record(&vec![0; *size])).collect();
        let mut tx = file.begin().await.unwrap();
        append(&mut tx, records, 1).await.unwrap();
        tx.commit().await.unwrap();
        let mut snapshot = file.snapshot().await.unwrap();
        for (from, bytes) in (0..14).flat_map(|f| [1, 10, 700, 3_000, 50_000].map(|b| (f, b))) {
            for typical in [1, 100, 100_000] {
                let stretch = Stretch {
                    from,
                    to: 14,
                    records: 9,
                    bytes,
                    typical,
                };
                let part = Part { log: 1, number: 0 };
                let read = read(&mut snapshot, part, stretch).await.unwrap();
                let offsets: Vec<i64> = read.iter().map(|r| r.offset).collect();
                let count = i64::try_from(read.len()).unwrap();
                assert!((1..=9).contains(&count));
                assert_eq!(offsets, (from..from + count).collect::<Vec<_>>());
                let sum: usize = read
                    .iter()
                    .filter_map(|r| r.value.as_ref())
                    .map(Vec::len)
                    .sum();
                assert!(count == 1 || sum <= bytes, "{sum} of {bytes}");
            }
        }
    }
}
