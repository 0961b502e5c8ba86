//! The memory of redrives.

use super::PostgresStore;
use super::rows::{get, int32, millis, small};
use super::session::query;
use crate::model::Millis;
use crate::store::redriven::as_asked;
use crate::store::{LetterPlace, Redrive, Redriven, Redrives, StoreError};
use async_trait::async_trait;
use sqlx::postgres::PgRow;
use std::collections::BTreeMap;

macro_rules! columns {
    () => {
        "r.partition, r.\"offset\", r.stamp, r.at, r.times, r.under_way, r.to_partition, r.to_offset"
    };
}
pub(super) const READ: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::integer[], $2::bigint[]) AS k(p, o) CROSS JOIN LATERAL \
     (SELECT * FROM redriven x WHERE x.partition = k.p AND x.\"offset\" = k.o LIMIT 1) r"
);
pub(super) const BEGIN: &str = "INSERT INTO redriven AS r \
     (partition, \"offset\", stamp, at, times, under_way, to_partition, to_offset) \
     SELECT k.p, k.o, k.stamp, $6::bigint, 0, true, k.tp, k.tf FROM unnest($1::integer[], \
     $2::bigint[], $3::bigint[], $4::integer[], $5::bigint[]) AS k(p, o, stamp, tp, tf) \
     ON CONFLICT (partition, \"offset\") DO UPDATE SET stamp = excluded.stamp, at = excluded.at, \
     times = CASE WHEN r.stamp = excluded.stamp THEN r.times ELSE 0 END, under_way = true, \
     to_partition = excluded.to_partition, to_offset = excluded.to_offset \
     WHERE r.stamp <> excluded.stamp OR (r.under_way AND r.at <= $7::bigint) \
     OR (NOT r.under_way AND (r.times = 0 OR $8::boolean)) RETURNING r.partition, r.\"offset\"";
/// (Not by the index of what is under way, which has no condition to probe with.)
pub(super) const END: &str = "UPDATE redriven r SET under_way = false, times = r.times + $3::integer \
     FROM unnest($1::integer[], $2::bigint[]) AS k(p, o) \
     WHERE r.partition = ANY(ARRAY[k.p]) AND r.\"offset\" = ANY(ARRAY[k.o]) AND r.under_way IS NOT FALSE";
pub(super) const UNDER_WAY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM redriven r WHERE r.under_way ORDER BY r.partition, r.\"offset\""
);
pub(super) const FORGET: &str = "DELETE FROM redriven WHERE partition = $1 AND \"offset\" < $2";

#[async_trait]
impl Redrives for PostgresStore {
    async fn redriven(
        &self,
        letters: &[(LetterPlace, Millis)],
    ) -> Result<Vec<Option<Redriven>>, StoreError> {
        let (partitions, offsets) = columns(letters.iter().map(|(place, _)| *place));
        let read = query(READ).bind(partitions).bind(offsets);
        let known = self.read(read).await?;
        let known: Result<Vec<Redriven>, StoreError> = known.iter().map(redriven).collect();
        Ok(as_asked(letters, known?))
    }

    async fn begin_redrive(
        &self,
        letters: &[Redrive],
        now: Millis,
        stale: Millis,
        again: bool,
    ) -> Result<Vec<LetterPlace>, StoreError> {
        // In order: two that begin at the same moment do not wait for each other.
        let sorted: BTreeMap<LetterPlace, &Redrive> = letters
            .iter()
            .map(|letter| (letter.place, letter))
            .collect();
        let (partitions, offsets) = columns(sorted.keys().copied());
        let (to, from) = columns(sorted.values().map(|letter| letter.to));
        let stamps: Vec<i64> = sorted.values().map(|letter| letter.stamp.0).collect();
        let begin = query(BEGIN)
            .bind(partitions)
            .bind(offsets)
            .bind(stamps)
            .bind(to)
            .bind(from)
            .bind(now.0)
            .bind(stale.0)
            .bind(again);
        let rows = self.read(begin).await?;
        let place = |row: &PgRow| Ok((small(row, 0)?, get(row, 1)?));
        rows.iter().map(place).collect()
    }

    async fn end_redrive(&self, places: &[LetterPlace], went: bool) -> Result<(), StoreError> {
        let (partitions, offsets) = columns(places.iter().copied());
        let end = query(END).bind(partitions).bind(offsets);
        Ok(self.read(end.bind(i32::from(went))).await.map(drop)?)
    }

    async fn redrives_under_way(&self) -> Result<Vec<Redriven>, StoreError> {
        let rows = self.read(query(UNDER_WAY)).await?;
        rows.iter().map(redriven).collect()
    }

    async fn forget_redrives(&self, partition: u32, first: i64) -> Result<(), StoreError> {
        let forget = query(FORGET).bind(int32(partition)).bind(first);
        Ok(self.read(forget).await.map(drop)?)
    }
}

fn columns(places: impl Iterator<Item = LetterPlace>) -> (Vec<i32>, Vec<i64>) {
    places
        .map(|(partition, offset)| (int32(partition), offset))
        .unzip()
}

fn redriven(row: &PgRow) -> Result<Redriven, StoreError> {
    Ok(Redriven {
        letter: Redrive {
            place: (small(row, 0)?, get(row, 1)?),
            stamp: millis(row, 2)?,
            to: (small(row, 6)?, get(row, 7)?),
        },
        at: millis(row, 3)?,
        times: small(row, 4)?,
        under_way: get(row, 5)?,
    })
}
