//! What the log forgets, a bounded piece at a time: each step is one short transaction, so that
//! those who publish and commit take their turns between.

use super::log::{self, Part, expect, whole};
use super::{Core, EmbeddedBus, compact, group};
use crate::bus::{BusError, Keep};
use crate::model::Millis;
use crate::sqlite::{Fault, Tx};
use sqlx::Row;
use std::collections::VecDeque;
use std::time::Duration;

/// Steps of one call, over all partitions in turn: some seconds of work at most.
const STEPS: usize = 100;
/// Records of one step.
pub(super) const STEP_RECORDS: usize = 4_000;
/// Bytes of one step: deleting a large value means walking through all its pages.
pub(super) const STEP_BYTES: usize = 16 << 20;

const BOUNDS: &str = "SELECT start, next FROM log_partitions WHERE id = ?";
/// The first records, up to the byte limit (?4), that are older than ?5.
const OLD: &str = "SELECT max(place), count(*) FROM (
        SELECT place, timestamp,
            sum(size) OVER (ORDER BY place ROWS UNBOUNDED PRECEDING) - size AS before FROM (
            SELECT place, timestamp, length(key) + ifnull(length(value), 0) AS size
            FROM log_records WHERE place >= ?1 AND place < ?2 ORDER BY place LIMIT ?3))
    WHERE before < ?4 AND timestamp < ?5";
const DELETE: &str = "DELETE FROM log_records WHERE place >= ? AND place <= ?";
const START: &str = "UPDATE log_partitions SET start = ? WHERE id = ?";

/// What a call did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retained {
    /// Records deleted.
    pub deleted: u64,
    /// The limit of one call was reached: there is more to do.
    pub more: bool,
}

/// What a step did.
#[derive(Clone, Copy, Default)]
pub(super) struct Step {
    pub deleted: usize,
    pub more: bool,
}

impl EmbeddedBus {
    /// Deletes and compacts what the topics need not keep any longer at `now`. To be called about
    /// every minute, and again at once while `more` is true; one call does a bounded amount of work.
    ///
    /// # Errors
    /// `Unavailable` if the file cannot be written; what was done until then stays done.
    pub async fn retain(&self, now: Millis) -> Result<Retained, BusError> {
        let mut work = VecDeque::new();
        for (name, keep) in self.core.catalog.kept() {
            let topic = self.core.catalog.need(&name).await?;
            let read = name == self.core.input;
            work.extend(topic.parts().map(|part| (part, keep, read)));
        }
        let mut done = Retained::default();
        for _ in 0..STEPS + work.len() {
            let Some((part, keep, read)) = work.pop_front() else {
                break;
            };
            let step = step(&self.core, part, keep, read, now).await?;
            done.deleted += u64::try_from(step.deleted).unwrap_or(0);
            if step.more {
                work.push_back((part, keep, read));
            }
        }
        done.more = !work.is_empty();
        Ok(done)
    }
}

/// One transaction's worth on one partition; `read` if the group reads it.
async fn step(core: &Core, part: Part, keep: Keep, read: bool, now: Millis) -> Result<Step, Fault> {
    let mut tx = core.file.begin().await?;
    let mut below = i64::MAX;
    if read {
        // What was accepted and is not committed stays, however old.
        let committed = group::committed(&mut tx, &core.group, part.number).await?;
        below = committed.unwrap_or(0);
    }
    let step = match keep {
        Keep::For(time) => delete_old(&mut tx, part, below, before(now, time)).await?,
        Keep::Newest(tombstones) => compact::step(&mut tx, part, below, now, tombstones).await?,
    };
    tx.commit().await?;
    Ok(step)
}

async fn delete_old(tx: &mut Tx<'_>, part: Part, below: i64, before: i64) -> Result<Step, Fault> {
    let (start, next) = bounds(tx, part).await?;
    let args = vec![
        part.place(start).into(),
        part.place(next.min(below)).into(),
        whole(STEP_RECORDS),
        whole(STEP_BYTES),
        before.into(),
    ];
    let rows = tx.all(OLD, args).await?;
    let row = rows.first();
    let last: Option<i64> = row.map_or(Ok(None), |r| r.try_get(0))?;
    let Some(last) = last else {
        return Ok(Step::default());
    };
    let args = vec![part.place(start).into(), last.into()];
    let deleted = usize::try_from(tx.exec(DELETE, args).await?).unwrap_or(usize::MAX);
    move_start(tx, part, log::offset(last) + 1).await?;
    Ok(Step {
        deleted,
        more: true,
    })
}

/// The first offset held and the next to be written.
pub(super) async fn bounds(tx: &mut Tx<'_>, part: Part) -> Result<(i64, i64), Fault> {
    let rows = tx.all(BOUNDS, vec![part.log.into()]).await?;
    let gone = || Fault::Corrupt("the log has lost a partition".to_owned());
    let row = rows.first().ok_or_else(gone)?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

pub(super) async fn move_start(tx: &mut Tx<'_>, part: Part, start: i64) -> Result<(), Fault> {
    expect(
        tx.exec(START, vec![start.into(), part.log.into()]).await?,
        1,
    )
}

/// The time `ago` before `now`.
pub(super) fn before(now: Millis, ago: Duration) -> i64 {
    now.0
        .saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX))
}
