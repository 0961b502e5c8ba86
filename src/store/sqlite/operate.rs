//! What operators' commands do to the tables.

use super::SqliteStore;
use super::find::load;
use super::rows::{get, len, millis};
use crate::model::Millis;
use crate::sqlite::Val;
use crate::store::operate::{LOOKED_AT, map_of, text_of};
use crate::store::rules::expect_rows;
use crate::store::{
    Answer, Audit, Hold, Job, NewJob, Operate, Page, Question, State, StoreError, Which,
};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

/// A page: the last of the rows looked at, how many they were, and the ids of those that match.
macro_rules! page {
    ($looked:literal, $matches:literal) => {
        concat!(
            "WITH looked AS MATERIALIZED (",
            $looked,
            "), hit AS MATERIALIZED (SELECT id FROM looked \
             WHERE (?3 IS NULL OR substr(key, 1, length(?3)) = ?3) AND ",
            $matches,
            " ORDER BY id LIMIT ?4) \
             SELECT (SELECT max(id) FROM looked), (SELECT count(*) FROM looked), \
             (SELECT json_group_array(id) FROM hit)"
        )
    };
}

pub(super) const ANY: &str = page!(
    "SELECT x.id, x.key FROM accounts x WHERE x.id > ?1 ORDER BY x.id LIMIT ?2",
    "true"
);
pub(super) const UNRESOLVED: &str = page!(
    "SELECT x.id, x.key, x.reason FROM accounts x WHERE x.id > ?1 ORDER BY x.id LIMIT ?2",
    "reason IS NOT NULL"
);
pub(super) const CONTESTED: &str = page!(
    "SELECT a.id, a.key FROM (SELECT DISTINCT x.account FROM claims x \
     WHERE x.account > ?1 AND x.why IS NOT NULL ORDER BY x.account LIMIT ?2) AS k \
     CROSS JOIN accounts a ON a.id = k.account",
    "true"
);
const PUT_AUDIT: &str = "INSERT INTO audits (at, author, action, note, detail, counts) \
     VALUES (?, ?, ?, ?, ?, ?)";
const AUDITS: &str = "SELECT at, author, action, note, detail, counts FROM audits \
     ORDER BY id DESC LIMIT ?";

#[async_trait]
impl Operate for SqliteStore {
    async fn browse(&self, which: &Which, after: i64, limit: usize) -> Result<Page, StoreError> {
        let sql = match which.state {
            State::Any => ANY,
            State::Unresolved => UNRESOLVED,
            State::Contested => CONTESTED,
        };
        let limit = limit.max(1);
        let app = which.app.as_ref().map(|app| format!("{app}:"));
        let args = vec![after.into(), LOOKED_AT.into(), app.into(), len(limit)];
        let mut snapshot = self.file.snapshot().await?;
        let rows = snapshot.all(sql, args).await?;
        let gone = || StoreError::Corrupt("a page without a row".to_owned());
        let row = rows.first().ok_or_else(gone)?;
        let (last, looked) = (get::<Option<i64>>(row, 0)?, get::<i64>(row, 1)?);
        let ids: Vec<i64> = serde_json::from_str(get(row, 2)?)
            .map_err(|_| StoreError::Corrupt("a list of ids".into()))?;
        let next = match ids.iter().max() {
            Some(last) if ids.len() >= limit => Some(*last),
            _ => last.filter(|_| looked >= LOOKED_AT),
        };
        let ids = ids.into_iter().collect();
        let found = load(&mut snapshot, &ids).await?.into_iter().collect();
        Ok(Page { found, next })
    }

    async fn audit(&self, entry: &Audit) -> Result<(), StoreError> {
        let values: Vec<Val> = vec![
            entry.at.0.into(),
            entry.author.as_str().into(),
            entry.action.as_str().into(),
            entry.note.as_str().into(),
            text_of(&entry.detail).into(),
            text_of(&entry.counts).into(),
        ];
        let mut tx = self.file.begin().await?;
        expect_rows("audits", 1, tx.exec(PUT_AUDIT, values).await?)?;
        Ok(tx.commit().await?)
    }

    async fn begin_job(&self, job: &NewJob, hold: Hold) -> Result<(), StoreError> {
        self.insert_job(job, hold).await
    }

    async fn hold_job(&self, hold: Hold, now: Millis) -> Result<bool, StoreError> {
        self.take_job(hold, now).await
    }

    async fn let_go(&self, job: Uuid, holder: Uuid) -> Result<(), StoreError> {
        self.drop_job(job, holder).await
    }

    async fn job(&self, id: Uuid) -> Result<Option<Job>, StoreError> {
        self.read_job(id).await
    }

    async fn jobs(&self, limit: usize) -> Result<Vec<Job>, StoreError> {
        self.read_jobs(limit).await
    }

    async fn answers(
        &self,
        asked: &[Question],
        since: Millis,
    ) -> Result<Vec<Option<Answer>>, StoreError> {
        self.read_answers(asked, since).await
    }

    async fn keep_answers(&self, answers: &[Answer]) -> Result<(), StoreError> {
        self.write_answers(answers).await
    }

    async fn audits(&self, limit: usize) -> Result<Vec<Audit>, StoreError> {
        let rows = self.file.all(AUDITS, vec![len(limit)]).await?;
        rows.iter().map(audit).collect()
    }
}

fn audit(row: &SqliteRow) -> Result<Audit, StoreError> {
    Ok(Audit {
        at: millis(row, 0)?,
        author: get(row, 1)?,
        action: get(row, 2)?,
        note: get(row, 3)?,
        detail: map_of(get(row, 4)?)?,
        counts: map_of(get(row, 5)?)?,
    })
}
