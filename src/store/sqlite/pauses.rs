//! Apps that operators have paused.

use super::SqliteStore;
use super::rows::{corrupt, get, millis};
use crate::model::AppId;
use crate::sqlite::Val;
use crate::store::{Pause, Pauses, StoreError};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

const READ: &str = "SELECT app, at, author, note FROM pauses ORDER BY app";
const PUT: &str = "INSERT INTO pauses (app, at, author, note) VALUES (?, ?, ?, ?) \
     ON CONFLICT (app) DO NOTHING";
const DROP: &str = "DELETE FROM pauses WHERE app = ?";

#[async_trait]
impl Pauses for SqliteStore {
    async fn paused(&self) -> Result<Vec<Pause>, StoreError> {
        let rows = self.file.all(READ, Vec::new()).await?;
        rows.iter().map(pause).collect()
    }

    async fn pause(&self, pause: &Pause) -> Result<bool, StoreError> {
        let args: Vec<Val> = vec![
            pause.app.as_str().into(),
            pause.at.0.into(),
            pause.author.as_str().into(),
            pause.note.as_str().into(),
        ];
        let mut tx = self.file.begin().await?;
        let put = tx.exec(PUT, args).await? > 0;
        tx.commit().await?;
        Ok(put)
    }

    async fn resume(&self, app: &AppId) -> Result<bool, StoreError> {
        let mut tx = self.file.begin().await?;
        let gone = tx.exec(DROP, vec![app.as_str().into()]).await? > 0;
        tx.commit().await?;
        Ok(gone)
    }
}

fn pause(row: &SqliteRow) -> Result<Pause, StoreError> {
    Ok(Pause {
        app: AppId::parse(get(row, 0)?).map_err(|_| corrupt(row, 0))?,
        at: millis(row, 1)?,
        author: get(row, 2)?,
        note: get(row, 3)?,
    })
}
