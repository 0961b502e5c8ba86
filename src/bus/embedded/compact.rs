//! Compaction: of each key the newest record stays, a tombstone for a given time.
//!
//! A partition has a clean part, where every key occurs once, and a dirty part that begins at
//! `compacted_to`. A step takes the next piece of the dirty part, deletes what it supersedes there
//! and in the clean part, and moves the mark. `log_newest` finds a key's record in the clean part;
//! only compaction writes it, so appending pays nothing, and no step ever scans the partition.

use super::log::{self, Part, expect, json, whole};
use super::retention::{STEP_RECORDS, Step, before, bounds, move_start};
use crate::model::Millis;
use crate::sqlite::{Fault, Insert, Tx};
use rustc_hash::{FxHashMap, FxHashSet};
use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::time::Duration;

/// A follower that is less than this behind sees every record, not only the newest ones.
const LAG: Duration = Duration::from_secs(3600);
/// Records of one step: each may supersede one on a page of its own, 8 KiB to be written.
const PIECE: usize = STEP_RECORDS / 2;
/// Keys of one step are held in memory.
const PIECE_KEY_BYTES: usize = 4 << 20;

const MARK: &str = "SELECT compacted_to FROM log_partitions WHERE id = ?";
const MOVE_MARK: &str = "UPDATE log_partitions SET compacted_to = ? WHERE id = ?";
const DIRTY: &str = "SELECT place, key FROM (
        SELECT place, key, sum(length(key)) OVER (ORDER BY place ROWS UNBOUNDED PRECEDING)
            - length(key) AS before FROM (
            SELECT place, key FROM log_records
            WHERE place >= ?1 AND place < ?2 AND timestamp < ?3 ORDER BY place LIMIT ?4))
    WHERE before < ?5 ORDER BY place";
const CLEAN: &str = "SELECT n.hash, n.place, r.key FROM json_each(?2) AS j
    CROSS JOIN log_newest AS n ON n.log = ?1 AND n.hash = j.value
    LEFT JOIN log_records AS r ON r.place = n.place";
const FORGET: &str = "DELETE FROM log_newest WHERE log = ?1
    AND (hash, place) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?2))";
const NEWEST: Insert = Insert {
    head: "INSERT INTO log_newest (log, hash, place) VALUES",
    columns: 3,
    tail: "",
};
const DELETE: &str = "DELETE FROM log_records WHERE place IN (SELECT value FROM json_each(?))";
const TOMBSTONES: &str = "SELECT place, timestamp, key FROM log_records INDEXED BY log_tombstones
    WHERE value IS NULL AND place >= ? AND place < ? ORDER BY place LIMIT ?";
const FIRST: &str = "SELECT min(place) FROM log_records WHERE place >= ? AND place < ?";

/// One step on one partition; records at `below` and above stay.
pub async fn step(
    tx: &mut Tx<'_>,
    part: Part,
    below: i64,
    now: Millis,
    tombstones: Duration,
) -> Result<Step, Fault> {
    let mark = mark(tx, part).await?;
    let (_, next) = bounds(tx, part).await?;
    let to = part.place(next.min(below));
    let mut done = supersede(tx, part, part.place(mark), to, before(now, LAG)).await?;
    if !done.more {
        let gone = before(now, tombstones.max(LAG));
        done = merge(done, expire(tx, part, gone).await?);
    }
    if done.deleted > 0 {
        first(tx, part).await?;
    }
    Ok(done)
}

/// Takes a piece of the dirty part: records from `from`, before `to`, older than `old`.
async fn supersede(
    tx: &mut Tx<'_>,
    part: Part,
    from: i64,
    to: i64,
    old: i64,
) -> Result<Step, Fault> {
    let args = vec![
        from.into(),
        to.into(),
        old.into(),
        whole(PIECE),
        whole(PIECE_KEY_BYTES),
    ];
    let rows = tx.all(DIRTY, args).await?;
    let piece: Vec<(i64, Vec<u8>)> = rows.iter().map(place_and_key).collect::<Result<_, _>>()?;
    let Some((last, _)) = piece.last() else {
        return Ok(Step::default());
    };
    let mark = log::offset(*last) + 1;
    let (newest, mut superseded) = newest(&piece);
    let stale = clean(tx, part, &newest, &mut superseded).await?;
    forget(tx, part, &stale).await?;
    let rows = newest.iter().flat_map(|(key, place)| {
        let row: [i64; 3] = [part.log, hash(key), *place];
        row.map(Into::into)
    });
    expect(tx.insert(&NEWEST, rows.collect()).await?, newest.len())?;
    delete(tx, &superseded).await?;
    expect(
        tx.exec(MOVE_MARK, vec![mark.into(), part.log.into()])
            .await?,
        1,
    )?;
    Ok(Step {
        deleted: superseded.len(),
        more: true,
    })
}

/// The newest place of each key of the piece, and the other places.
fn newest(piece: &[(i64, Vec<u8>)]) -> (FxHashMap<&[u8], i64>, Vec<i64>) {
    let mut newest = FxHashMap::default();
    let older = piece
        .iter()
        .filter_map(|(place, key)| newest.insert(key.as_slice(), *place))
        .collect();
    (newest, older)
}

/// Adds to `superseded` what the clean part holds of these keys; returns the rows of `log_newest`
/// that are true no longer.
async fn clean(
    tx: &mut Tx<'_>,
    part: Part,
    newest: &FxHashMap<&[u8], i64>,
    superseded: &mut Vec<i64>,
) -> Result<FxHashSet<(i64, i64)>, Fault> {
    let hashes: FxHashSet<i64> = newest.keys().map(|key| hash(key)).collect();
    let hashes: Vec<i64> = hashes.into_iter().collect();
    let rows = tx.all(CLEAN, vec![part.log.into(), json(&hashes)?]).await?;
    let mut stale = FxHashSet::default();
    for row in &rows {
        let (hash, place): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let key: Option<&[u8]> = row.try_get(2)?;
        match key {
            Some(key) if newest.contains_key(key) => superseded.push(place),
            // Another key with the same hash.
            Some(_) => continue,
            // Deleted while the topic was kept by time.
            None => {}
        }
        stale.insert((hash, place));
    }
    Ok(stale)
}

/// Deletes tombstones of the clean part that are older than `old`.
async fn expire(tx: &mut Tx<'_>, part: Part, old: i64) -> Result<Step, Fault> {
    let mark = mark(tx, part).await?;
    let args = vec![part.place(0).into(), part.place(mark).into(), whole(PIECE)];
    let rows = tx.all(TOMBSTONES, args).await?;
    let (mut places, mut stale) = (Vec::new(), FxHashSet::default());
    for row in &rows {
        let timestamp: i64 = row.try_get(1)?;
        if timestamp >= old {
            break;
        }
        let place = row.try_get(0)?;
        places.push(place);
        stale.insert((hash(row.try_get(2)?), place));
    }
    delete(tx, &places).await?;
    forget(tx, part, &stale).await?;
    Ok(Step {
        deleted: places.len(),
        more: places.len() == PIECE,
    })
}

async fn delete(tx: &mut Tx<'_>, places: &[i64]) -> Result<(), Fault> {
    if places.is_empty() {
        return Ok(());
    }
    expect(tx.exec(DELETE, vec![json(places)?]).await?, places.len())
}

async fn forget(tx: &mut Tx<'_>, part: Part, stale: &FxHashSet<(i64, i64)>) -> Result<(), Fault> {
    if stale.is_empty() {
        return Ok(());
    }
    let stale: Vec<_> = stale.iter().collect();
    tx.exec(FORGET, vec![part.log.into(), json(&stale)?])
        .await?;
    Ok(())
}

/// The bounds' start follows the first record that is left.
async fn first(tx: &mut Tx<'_>, part: Part) -> Result<(), Fault> {
    let (start, next) = bounds(tx, part).await?;
    let args = vec![part.place(start).into(), part.place(next).into()];
    let rows = tx.all(FIRST, args).await?;
    let first: Option<i64> = rows.first().map_or(Ok(None), |row| row.try_get(0))?;
    move_start(tx, part, first.map_or(next, log::offset)).await
}

async fn mark(tx: &mut Tx<'_>, part: Part) -> Result<i64, Fault> {
    let rows = tx.all(MARK, vec![part.log.into()]).await?;
    Ok(rows.first().map_or(Ok(0), |row| row.try_get(0))?)
}

fn place_and_key(row: &SqliteRow) -> Result<(i64, Vec<u8>), Fault> {
    Ok((row.try_get(0)?, row.try_get(1)?))
}

fn merge(a: Step, b: Step) -> Step {
    Step {
        deleted: a.deleted + b.deleted,
        more: a.more || b.more,
    }
}

/// The first 64 bits of SHA-256: the same for ever, unlike the hashers of the standard library.
fn hash(key: &[u8]) -> i64 {
    let digest = Sha256::digest(key);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(first)
}
