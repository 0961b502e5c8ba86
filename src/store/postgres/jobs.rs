//! Jobs: begun, held, and noted in the transactions of their changes.

use super::PostgresStore;
use super::apply::SHARED;
use super::rows::{get, int32, millis, small};
use super::session::{Fault, Session, query};
use crate::model::Millis;
use crate::store::jobs::{same_life, taken_over};
use crate::store::rules::expect_rows;
use crate::store::{Hold, Identity, Job, JobNote, NewJob, StoreError};
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// Shared: a rebuild, which writes this row, waits until the transaction is over.
const LIFE: &str = "SELECT store, epoch, rebuilding IS NOT NULL FROM store FOR SHARE";
pub(super) const NOTE: &str = "UPDATE jobs SET progress = $3, counts = $4, noted_at = $5, done = $6, \
     held_until = $7, holder = CASE WHEN $6 THEN NULL ELSE holder END \
     WHERE id = $1 AND holder = $2 AND NOT done";
const BEGIN: &str = "INSERT INTO jobs (id, kind, spec, progress, counts, author, note, begun_at, \
     noted_at, store, epoch, holder, held_until) \
     VALUES ($1, $2, $3, '', '', $4, $5, $6, $6, $7, $8, $9, $10)";
pub(super) const TAKE: &str = "UPDATE jobs SET holder = $2, held_until = $3 WHERE id = $1 \
     AND NOT done AND (holder IS NULL OR holder = $2 OR held_until <= $4)";
pub(super) const LET_GO: &str =
    "UPDATE jobs SET holder = NULL WHERE id = $1 AND holder = $2 AND NOT done";
macro_rules! jobs {
    ($rest:literal) => {
        concat!(
            "SELECT id, kind, spec, author, note, begun_at, progress, counts, done, noted_at, \
             store, epoch, CASE WHEN holder IS NULL THEN NULL ELSE held_until END FROM jobs ",
            $rest
        )
    };
}
pub(super) const ONE: &str = jobs!("WHERE id = $1");
const NEWEST: &str = jobs!("ORDER BY begun_at DESC, id LIMIT $1");

/// Notes progress in a transaction that is about to be committed.
pub(super) async fn note(
    session: &mut Session,
    identity: &Identity,
    note: &JobNote,
) -> Result<(), Fault> {
    live(session, identity).await?;
    let put = query(NOTE)
        .bind(note.hold.job)
        .bind(note.hold.holder)
        .bind(&note.progress)
        .bind(&note.counts)
        .bind(note.at.0)
        .bind(note.done)
        .bind(note.hold.until.0);
    match session.exec(put).await? {
        1 => Ok(()),
        _ => Err(taken_over().into()),
    }
}

async fn live(session: &mut Session, identity: &Identity) -> Result<(), Fault> {
    let rows = session.all(query(LIFE)).await?;
    let gone = || StoreError::Corrupt("the store's own row is gone".into());
    let row = rows.first().ok_or_else(gone)?;
    let life = (get(row, 0)?, small(row, 1)?);
    Ok(same_life(identity, life, get(row, 2)?)?)
}

impl PostgresStore {
    pub(super) async fn same_as_opened(&self) -> Result<(), Fault> {
        live(&mut self.session().await?, &self.identity).await
    }

    pub(super) async fn insert_job(&self, job: &NewJob, hold: Hold) -> Result<(), Fault> {
        let mut session = self.session().await?;
        session.run(SHARED).await?;
        live(&mut session, &self.identity).await?;
        let put = query(BEGIN)
            .bind(job.id)
            .bind(&job.kind)
            .bind(&job.spec)
            .bind(&job.author)
            .bind(&job.note)
            .bind(job.at.0)
            .bind(self.identity.store)
            .bind(int32(self.identity.epoch))
            .bind(hold.holder)
            .bind(hold.until.0);
        expect_rows("jobs", 1, session.exec(put).await?)?;
        session.commit().await?;
        session.give_back();
        Ok(())
    }

    pub(super) async fn take_job(&self, hold: Hold, now: Millis) -> Result<bool, Fault> {
        let mut session = self.session().await?;
        let take = query(TAKE)
            .bind(hold.job)
            .bind(hold.holder)
            .bind(hold.until.0)
            .bind(now.0);
        let taken = session.exec(take).await?;
        session.give_back();
        Ok(taken == 1)
    }

    pub(super) async fn drop_job(&self, job: Uuid, holder: Uuid) -> Result<(), Fault> {
        let mut session = self.session().await?;
        session.exec(query(LET_GO).bind(job).bind(holder)).await?;
        session.give_back();
        Ok(())
    }

    pub(super) async fn read_job(&self, id: Uuid) -> Result<Option<Job>, Fault> {
        let rows = self.read(query(ONE).bind(id)).await?;
        Ok(rows.first().map(job).transpose()?)
    }

    pub(super) async fn read_jobs(&self, limit: usize) -> Result<Vec<Job>, Fault> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(query(NEWEST).bind(limit)).await?;
        Ok(rows.iter().map(job).collect::<Result<_, _>>()?)
    }
}

fn job(row: &PgRow) -> Result<Job, StoreError> {
    Ok(Job {
        new: NewJob {
            id: get(row, 0)?,
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
        life: (get(row, 10)?, small(row, 11)?),
        held_until: get::<Option<i64>>(row, 12)?.map(Millis),
    })
}
