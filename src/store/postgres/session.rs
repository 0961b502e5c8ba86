//! One connection at work, and what may go wrong on it.
//!
//! A connection goes back to the pool only from between two transactions; whatever else becomes of
//! its session (an error, a future that is dropped in the middle of a statement) closes it, and the
//! server rolls back. `Pool::begin` is not used: it is not safe to drop in sqlx 0.9.0.

use crate::store::StoreError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgPool, PgRow};
use sqlx::query::Query;
use sqlx::{Executor, Postgres};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::error::Elapsed;

/// What a statement may take, waiting for locks included, before the server counts as lost: longer
/// than `lock_timeout`, so that the server speaks first if it is there.
const PATIENCE: Duration = Duration::from_secs(40);
/// The same where whole tables are counted.
const LONG_PATIENCE: Duration = Duration::from_secs(600);

/// Why a transaction did not happen.
#[derive(Debug)]
pub(super) enum Fault {
    /// Others were in the way: the same again may work at once.
    Again(&'static str),
    /// Anything else.
    Store(StoreError),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Again(why) => Self::Unavailable(format!("other writers were in the way: {why}")),
            Fault::Store(error) => error,
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(match error {
            sqlx::Error::Database(e) => match e.code().as_deref().unwrap_or_default() {
                "40P01" => return Self::Again("deadlock"),
                "40001" => return Self::Again("serialization failure"),
                code => database(code, e.message(), e.constraint().or_else(|| e.table())),
            },
            sqlx::Error::Io(e) => StoreError::Unavailable(e.to_string()),
            sqlx::Error::PoolTimedOut => StoreError::Unavailable("no connection in time".into()),
            // Its text may repeat parts of the URL.
            sqlx::Error::Configuration(_) => {
                StoreError::Unavailable("store.url is no URL of a PostgreSQL database".into())
            }
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::Encode(_) => StoreError::Corrupt("a column of another type".into()),
            other => StoreError::Unavailable(other.to_string()),
        })
    }
}

/// Messages are repeated for classes whose messages name no value of a row; the detail never is.
fn database(code: &str, message: &str, place: Option<&str>) -> StoreError {
    match code.get(..2).unwrap_or_default() {
        // Connection, authorization, catalog, state, roles, resources, intervention, system.
        "08" | "25" | "28" | "3D" | "42" | "53" | "55" | "57" | "58" => {
            // 42: the schema changed under us, or the role may not; the operator can mend both.
            StoreError::Unavailable(format!("{message} ({code})"))
        }
        _ => StoreError::Corrupt(format!("{} ({code})", place.unwrap_or("a statement"))),
    }
}

/// A prepared statement with its values.
pub(super) type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// A statement without values yet.
pub(super) fn query<'q>(sql: &'static str) -> Statement<'q> {
    sqlx::query(sql)
}

/// When a connection was last lost: those that lie idle since before then are tried before use.
#[derive(Clone, Default)]
pub(super) struct Losses(Arc<Mutex<Option<Instant>>>);

impl Losses {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection that was idle for so long may have been lost too.
    pub(super) fn may_concern(&self, idle_for: Duration) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|at| at.elapsed() <= idle_for)
    }
}

/// One connection at work.
pub(super) struct Session {
    conn: PoolConnection<Postgres>,
    /// Between two transactions, and no statement under way.
    idle: bool,
    patience: Duration,
    losses: Losses,
}

impl Session {
    /// Takes a connection.
    pub(super) async fn new(pool: &PgPool, losses: &Losses) -> Result<Self, Fault> {
        Ok(Self {
            conn: pool.acquire().await?,
            idle: false,
            patience: PATIENCE,
            losses: losses.clone(),
        })
    }

    /// Waits longer from now on.
    pub(super) fn be_patient(&mut self) {
        self.patience = LONG_PATIENCE;
    }

    /// All rows of a statement.
    pub(super) async fn all(&mut self, what: Statement<'_>) -> Result<Vec<PgRow>, Fault> {
        let rows = tokio::time::timeout(self.patience, what.fetch_all(&mut *self.conn)).await;
        self.told(rows)
    }

    /// How many rows a statement touched.
    pub(super) async fn exec(&mut self, what: Statement<'_>) -> Result<u64, Fault> {
        let done = tokio::time::timeout(self.patience, what.execute(&mut *self.conn)).await;
        Ok(self.told(done)?.rows_affected())
    }

    /// Runs statements without values, in one round-trip.
    pub(super) async fn run(&mut self, sql: &'static str) -> Result<(), Fault> {
        let done = self.conn.execute(sqlx::raw_sql(sql));
        let done = tokio::time::timeout(self.patience, done).await;
        self.told(done).map(drop)
    }

    fn told<T>(&self, what: Result<Result<T, sqlx::Error>, Elapsed>) -> Result<T, Fault> {
        let silent = || StoreError::Unavailable("the database does not answer".into());
        let what = what.map_err(|_| Fault::Store(silent()));
        let what = what.and_then(|done| done.map_err(Fault::from));
        if let Err(Fault::Store(StoreError::Unavailable(_))) = &what {
            self.losses.note();
        }
        what
    }

    /// Ends the transaction for good.
    pub(super) async fn commit(&mut self) -> Result<(), Fault> {
        self.run("COMMIT").await
    }

    /// Gives the connection back, between two transactions.
    pub(super) fn give_back(mut self) {
        self.idle = true;
    }

    /// Begins to read from one snapshot.
    pub(super) async fn snapshot(&mut self) -> Result<(), Fault> {
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            .await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.idle {
            self.conn.close_on_drop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_rows_stay_out_of_errors() {
        let told = |code, place| database(code, "invalid input: \"oSecret\"", place).to_string();
        assert_eq!(
            told("23505", Some("accounts_own")),
            "the store holds what cannot be: accounts_own (23505)"
        );
        assert!(!told("22P02", None).contains("oSecret"));
        let gone = database("57P01", "terminating connection", None);
        assert!(matches!(gone, StoreError::Unavailable(_)), "{gone:?}");
    }
}
