//! Jobs: begun, held, and noted in the transactions of their changes.

use super::SqliteStore;
use super::rows::{blob16, get, len, millis, small};
use crate::model::Millis;
use crate::sqlite::{Tx, Val};
use crate::store::jobs::{same_life, taken_over};
use crate::store::rules::expect_rows;
use crate::store::{Hold, Identity, Job, JobNote, NewJob, StoreError};
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

const LIFE: &str = "SELECT store, epoch, rebuilding IS NOT NULL FROM store";
const NOTE: &str = "UPDATE jobs SET progress = ?3, counts = ?4, noted_at = ?5, done = ?6, \
     held_until = ?7, holder = CASE WHEN ?6 THEN NULL ELSE holder END \
     WHERE id = ?1 AND holder = ?2 AND NOT done";
const BEGIN: &str = "INSERT INTO jobs (id, kind, spec, progress, counts, author, note, begun_at, \
     noted_at, store, epoch, holder, held_until) \
     VALUES (?1, ?2, ?3, '', '', ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10)";
const TAKE: &str = "UPDATE jobs SET holder = ?2, held_until = ?3 WHERE id = ?1 \
     AND NOT done AND (holder IS NULL OR holder = ?2 OR held_until <= ?4)";
const LET_GO: &str = "UPDATE jobs SET holder = NULL WHERE id = ?1 AND holder = ?2 AND NOT done";
macro_rules! jobs {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, spec, author, note, begun_at, progress, counts, done, noted_at, \
             store, epoch, CASE WHEN holder IS NULL THEN NULL ELSE held_until END FROM jobs ",
            $rest
        )
    };
}
const ONE: &str = jobs!("WHERE id = ?");
const NEWEST: &str = jobs!("ORDER BY begun_at DESC, id LIMIT ?");

/// Notes progress in a transaction that is about to be committed.
pub(super) async fn note(
    tx: &mut Tx<'_>,
    identity: &Identity,
    note: &JobNote,
) -> Result<(), StoreError> {
    live(tx, identity).await?;
    let values = vec![
        id(note.hold.job),
        id(note.hold.holder),
        note.progress.as_str().into(),
        note.counts.as_str().into(),
        note.at.0.into(),
        note.done.into(),
        note.hold.until.0.into(),
    ];
    match tx.exec(NOTE, values).await? {
        1 => Ok(()),
        _ => Err(taken_over()),
    }
}

async fn live(tx: &mut Tx<'_>, identity: &Identity) -> Result<(), StoreError> {
    let rows = tx.all(LIFE, vec![]).await?;
    let gone = || StoreError::Corrupt("the store's own row is gone".into());
    let row = rows.first().ok_or_else(gone)?;
    let life = (Uuid::from_bytes(blob16(row, 0)?), small(row, 1)?);
    same_life(identity, life, get(row, 2)?)
}

fn id(id: Uuid) -> Val {
    Val::Blob(id.as_bytes().to_vec())
}

impl SqliteStore {
    pub(super) async fn same_as_opened(&self) -> Result<(), StoreError> {
        live(&mut self.file.begin().await?, &self.identity).await
    }

    pub(super) async fn insert_job(&self, job: &NewJob, hold: Hold) -> Result<(), StoreError> {
        let values = vec![
            id(job.id),
            job.kind.as_str().into(),
            job.spec.as_str().into(),
            job.author.as_str().into(),
            job.note.as_str().into(),
            job.at.0.into(),
            id(self.identity.store),
            self.identity.epoch.into(),
            id(hold.holder),
            hold.until.0.into(),
        ];
        let mut tx = self.file.begin().await?;
        live(&mut tx, &self.identity).await?;
        expect_rows("jobs", 1, tx.exec(BEGIN, values).await?)?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn take_job(&self, hold: Hold, now: Millis) -> Result<bool, StoreError> {
        let values = vec![
            id(hold.job),
            id(hold.holder),
            hold.until.0.into(),
            now.0.into(),
        ];
        let mut tx = self.file.begin().await?;
        let taken = tx.exec(TAKE, values).await?;
        tx.commit().await?;
        Ok(taken == 1)
    }

    pub(super) async fn drop_job(&self, job: Uuid, holder: Uuid) -> Result<(), StoreError> {
        let mut tx = self.file.begin().await?;
        tx.exec(LET_GO, vec![id(job), id(holder)]).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn read_job(&self, job_id: Uuid) -> Result<Option<Job>, StoreError> {
        let rows = self.file.all(ONE, vec![id(job_id)]).await?;
        rows.first().map(job).transpose()
    }

    pub(super) async fn read_jobs(&self, limit: usize) -> Result<Vec<Job>, StoreError> {
        let rows = self.file.all(NEWEST, vec![len(limit)]).await?;
        rows.iter().map(job).collect()
    }
}

fn job(row: &SqliteRow) -> Result<Job, StoreError> {
    Ok(Job {
        new: NewJob {
            id: Uuid::from_bytes(blob16(row, 0)?),
            kind: get(row, 1)?,
            spec: get(row, 2)?,
            author: get(row, 3)?,
            note: get(row, 4)?,
            at: millis(row, 5)?,
        },
        progress: get(row, 6)?,
        counts: get(row, 7)?,
        done: get(row, 8)?,
        noted_at: millis(row, 9)?,
        life: (Uuid::from_bytes(blob16(row, 10)?), small(row, 11)?),
        held_until: get::<Option<i64>>(row, 12)?.map(Millis),
    })
}
