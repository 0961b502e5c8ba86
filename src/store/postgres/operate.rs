//! What operators' commands do to the tables.

use super::PostgresStore;
use super::find::load;
use super::rows::{get, millis};
use super::session::{Fault, Session, query};
use crate::model::Millis;
use crate::store::operate::{LOOKED_AT, map_of, text_of};
use crate::store::{
    Answer, Audit, Hold, Job, NewJob, Operate, Page, Question, State, StoreError, Which,
};
use async_trait::async_trait;
use sqlx::postgres::PgRow;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A page: the last of the rows looked at, how many they were, and the ids of those that match.
macro_rules! page {
    ($looked:literal, $matches:literal) => {
        concat!(
            "WITH looked AS MATERIALIZED (",
            $looked,
            "), hit AS MATERIALIZED (SELECT a.id FROM looked a \
             WHERE a.user_id IS NOT NULL AND ($3::text IS NULL OR starts_with(a.key, $3)) AND ",
            $matches,
            " ORDER BY a.id LIMIT $4) \
             SELECT (SELECT max(id) FROM looked), (SELECT count(*) FROM looked), \
             ARRAY(SELECT id FROM hit ORDER BY id)"
        )
    };
}

pub(super) const ANY: &str = page!(
    "SELECT x.id, x.key, x.user_id FROM accounts x WHERE x.id > $1 ORDER BY x.id LIMIT $2",
    "true"
);
pub(super) const UNRESOLVED: &str = page!(
    "SELECT x.id, x.key, x.user_id, x.reason FROM accounts x WHERE x.id > $1 ORDER BY x.id LIMIT $2",
    "a.reason IS NOT NULL"
);
pub(super) const CONTESTED: &str = page!(
    "SELECT a.id, a.key, a.user_id FROM (SELECT DISTINCT x.account FROM claims x \
     WHERE x.account > $1 AND x.why IS NOT NULL ORDER BY x.account LIMIT $2) k \
     CROSS JOIN LATERAL (SELECT * FROM accounts x WHERE x.id = k.account LIMIT 1) a",
    "true"
);
const PUT_AUDIT: &str = "INSERT INTO audits (at, author, action, note, detail, counts) \
     VALUES ($1, $2, $3, $4, $5, $6)";
const AUDITS: &str = "SELECT at, author, action, note, detail, counts FROM audits \
     ORDER BY id DESC LIMIT $1";

#[async_trait]
impl Operate for PostgresStore {
    async fn browse(&self, which: &Which, after: i64, limit: usize) -> Result<Page, StoreError> {
        let mut session = self.session().await?;
        session.snapshot().await?;
        let page = browse(&mut session, which, after, limit).await?;
        session.commit().await?;
        session.give_back();
        Ok(page)
    }

    async fn audit(&self, entry: &Audit) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let put = query(PUT_AUDIT)
            .bind(entry.at.0)
            .bind(&entry.author)
            .bind(&entry.action)
            .bind(&entry.note)
            .bind(text_of(&entry.detail))
            .bind(text_of(&entry.counts));
        session.exec(put).await?;
        session.give_back();
        Ok(())
    }

    async fn begin_job(&self, job: &NewJob, hold: Hold) -> Result<(), StoreError> {
        Ok(self.insert_job(job, hold).await?)
    }

    async fn hold_job(&self, hold: Hold, now: Millis) -> Result<bool, StoreError> {
        Ok(self.take_job(hold, now).await?)
    }

    async fn let_go(&self, job: Uuid, holder: Uuid) -> Result<(), StoreError> {
        Ok(self.drop_job(job, holder).await?)
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>, StoreError> {
        Ok(self.read_job(id).await?)
    }

    async fn jobs(&self, limit: usize) -> Result<Vec<Job>, StoreError> {
        Ok(self.read_jobs(limit).await?)
    }

    async fn answers(
        &self,
        asked: &[Question],
        since: Millis,
    ) -> Result<Vec<Option<Answer>>, StoreError> {
        Ok(self.read_answers(asked, since).await?)
    }

    async fn keep_answers(&self, answers: &[Answer]) -> Result<(), StoreError> {
        Ok(self.write_answers(answers).await?)
    }

    async fn audits(&self, limit: usize) -> Result<Vec<Audit>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(query(AUDITS).bind(limit)).await?;
        rows.iter().map(audit).collect()
    }
}

async fn browse(
    session: &mut Session,
    which: &Which,
    after: i64,
    limit: usize,
) -> Result<Page, Fault> {
    let sql = match which.state {
        State::Any => ANY,
        State::Unresolved => UNRESOLVED,
        State::Contested => CONTESTED,
    };
    let limit = i64::try_from(limit.max(1)).unwrap_or(i64::MAX);
    let app = which.app.as_ref().map(|app| format!("{app}:"));
    let look = query(sql).bind(after).bind(LOOKED_AT).bind(app).bind(limit);
    let rows = session.all(look).await?;
    let gone = || StoreError::Corrupt("a page without a row".to_owned());
    let row = rows.first().ok_or_else(gone)?;
    let (last, looked) = (get::<Option<i64>>(row, 0)?, get::<i64>(row, 1)?);
    let ids: Vec<i64> = get(row, 2)?;
    let full = i64::try_from(ids.len()).is_ok_and(|found| found >= limit);
    let next = match ids.last() {
        Some(last) if full => Some(*last),
        _ => last.filter(|_| looked >= LOOKED_AT),
    };
    let ids: BTreeSet<i64> = ids.into_iter().collect();
    let found = load(session, &ids).await?.into_iter().collect();
    Ok(Page { found, next })
}

fn audit(row: &PgRow) -> Result<Audit, StoreError> {
    Ok(Audit {
        at: millis(row, 0)?,
        author: get(row, 1)?,
        action: get(row, 2)?,
        note: get(row, 3)?,
        detail: map_of(get(row, 4)?)?,
        counts: map_of(get(row, 5)?)?,
    })
}
