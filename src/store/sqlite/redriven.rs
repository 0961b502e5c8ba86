//! The memory of redrives.

use super::SqliteStore;
use super::rows::{get, millis, small};
use crate::model::Millis;
use crate::sqlite::{Select, Val};
use crate::store::redriven::as_asked;
use crate::store::{LetterPlace, Redrive, Redriven, Redrives, StoreError};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

macro_rules! columns {
    () => {
        "r.partition, r.offset, r.stamp, r.at, r.times, r.under_way, r.to_partition, r.to_offset"
    };
}
pub(super) const READ: Select = Select {
    head: "WITH k(p, o) AS (VALUES",
    columns: 2,
    tail: concat!(
        ") SELECT ",
        columns!(),
        " FROM k CROSS JOIN redriven r ON r.partition = k.p AND r.offset = k.o"
    ),
};
const BEGIN: &str = "INSERT INTO redriven AS r \
     (partition, offset, stamp, at, times, under_way, to_partition, to_offset) \
     VALUES (?1, ?2, ?3, ?4, 0, 1, ?5, ?6) \
     ON CONFLICT (partition, offset) DO UPDATE SET stamp = excluded.stamp, at = excluded.at, \
     times = CASE WHEN r.stamp = excluded.stamp THEN r.times ELSE 0 END, under_way = 1, \
     to_partition = excluded.to_partition, to_offset = excluded.to_offset \
     WHERE r.stamp <> excluded.stamp OR (r.under_way = 1 AND r.at <= ?7) \
     OR (r.under_way = 0 AND (r.times = 0 OR ?8))";
pub(super) const END: &str = "UPDATE redriven SET under_way = 0, times = times + ?3 \
     WHERE partition = ?1 AND offset = ?2 AND under_way = 1";
pub(super) const UNDER_WAY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM redriven r WHERE r.under_way = 1 ORDER BY r.partition, r.offset"
);
pub(super) const FORGET: &str = "DELETE FROM redriven WHERE partition = ?1 AND offset < ?2";

#[async_trait]
impl Redrives for SqliteStore {
    async fn redriven(
        &self,
        letters: &[(LetterPlace, Millis)],
    ) -> Result<Vec<Option<Redriven>>, StoreError> {
        let keys = letters
            .iter()
            .flat_map(|((p, o), _)| [(*p).into(), (*o).into()]);
        let mut snapshot = self.file.snapshot().await?;
        let known = snapshot.many(&READ, keys.collect()).await?;
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
        let mut begun = Vec::with_capacity(letters.len());
        let mut tx = self.file.begin().await?;
        for letter in letters {
            let ((partition, offset), (to, from)) = (letter.place, letter.to);
            let args: Vec<Val> = vec![
                partition.into(),
                offset.into(),
                letter.stamp.0.into(),
                now.0.into(),
                to.into(),
                from.into(),
                stale.0.into(),
                i64::from(again).into(),
            ];
            if tx.exec(BEGIN, args).await? > 0 {
                begun.push(letter.place);
            }
        }
        tx.commit().await?;
        Ok(begun)
    }

    async fn end_redrive(&self, places: &[LetterPlace], went: bool) -> Result<(), StoreError> {
        let mut tx = self.file.begin().await?;
        for (partition, offset) in places {
            let args = vec![
                (*partition).into(),
                (*offset).into(),
                i64::from(went).into(),
            ];
            tx.exec(END, args).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn redrives_under_way(&self) -> Result<Vec<Redriven>, StoreError> {
        let rows = self.file.all(UNDER_WAY, Vec::new()).await?;
        rows.iter().map(redriven).collect()
    }

    async fn forget_redrives(&self, partition: u32, first: i64) -> Result<(), StoreError> {
        let mut tx = self.file.begin().await?;
        tx.exec(FORGET, vec![partition.into(), first.into()])
            .await?;
        Ok(tx.commit().await?)
    }
}

fn redriven(row: &SqliteRow) -> Result<Redriven, StoreError> {
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
