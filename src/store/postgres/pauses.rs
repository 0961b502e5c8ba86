//! Apps that operators have paused.

use super::PostgresStore;
use super::rows::{corrupt, get, millis};
use super::session::query;
use crate::model::AppId;
use crate::store::{Pause, Pauses, StoreError};
use async_trait::async_trait;
use sqlx::postgres::PgRow;

const READ: &str = "SELECT app, at, author, note FROM pauses ORDER BY app";
const PUT: &str = "INSERT INTO pauses (app, at, author, note) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (app) DO NOTHING RETURNING true";
const DROP: &str = "DELETE FROM pauses WHERE app = $1 RETURNING true";

#[async_trait]
impl Pauses for PostgresStore {
    async fn paused(&self) -> Result<Vec<Pause>, StoreError> {
        let rows = self.read(query(READ)).await?;
        rows.iter().map(pause).collect()
    }

    async fn pause(&self, pause: &Pause) -> Result<bool, StoreError> {
        let put = query(PUT)
            .bind(pause.app.as_str())
            .bind(pause.at.0)
            .bind(&pause.author)
            .bind(&pause.note);
        Ok(!self.read(put).await?.is_empty())
    }

    async fn resume(&self, app: &AppId) -> Result<bool, StoreError> {
        let gone = self.read(query(DROP).bind(app.as_str())).await?;
        Ok(!gone.is_empty())
    }
}

fn pause(row: &PgRow) -> Result<Pause, StoreError> {
    Ok(Pause {
        app: AppId::parse(get(row, 0)?).map_err(|_| corrupt(row, 0))?,
        at: millis(row, 1)?,
        author: get(row, 2)?,
        note: get(row, 3)?,
    })
}
