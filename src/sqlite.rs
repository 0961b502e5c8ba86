//! One SQLite file, shared by the embedded log and the embedded store: one writer connection that
//! takes turns fairly, a few readers, and set-based statements.
//!
//! Durable: WAL with `synchronous=FULL`. A transaction whose future is dropped is rolled back before
//! the next one begins. Statements can be traced, so that the benchmark can replay them.

use serde::{Deserialize, Serialize};
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex as StdMutex};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, Notify};

/// Other processes (`tail`, a second command) may hold the write lock for a moment.
const BUSY: Duration = Duration::from_secs(20);
/// The switch to WAL takes milliseconds: this is a second.
const CREATE_TRIES: u32 = 50;
const CREATE_PAUSE: Duration = Duration::from_millis(20);
/// Page cache of the writer, in KiB; the readers' is a quarter of it.
const CACHE_KIB: i64 = 48 * 1024;
/// Pages of WAL before a checkpoint: long enough that hot pages are written back once, not often.
const CHECKPOINT_PAGES: i64 = 4_000;
/// Rows of one multi-row insert; what remains goes in steps of 32 and 1, so that three statements
/// per table stay prepared.
const INSERT_STEPS: [usize; 3] = [256, 32, 1];
/// Reader connections: the applier's view, the relay, the log reader and a look-up.
const READERS: u32 = 4;

/// Why SQLite did not do it. Messages never contain bound values.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file is locked, full, or not reachable.
    #[error("{0}")]
    Unavailable(String),
    /// A row is not what it must be.
    #[error("{0}")]
    Corrupt(String),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
                Self::Corrupt(error.to_string())
            }
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// A bound value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Val {
    /// NULL.
    Null,
    /// INTEGER.
    Int(i64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

impl From<i64> for Val {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<u32> for Val {
    fn from(v: u32) -> Self {
        Self::Int(i64::from(v))
    }
}
impl From<bool> for Val {
    fn from(v: bool) -> Self {
        Self::Int(i64::from(v))
    }
}
impl From<&str> for Val {
    fn from(v: &str) -> Self {
        Self::Text(v.to_owned())
    }
}
impl From<String> for Val {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}
impl From<&[u8]> for Val {
    fn from(v: &[u8]) -> Self {
        Self::Blob(v.to_vec())
    }
}
impl From<Vec<u8>> for Val {
    fn from(v: Vec<u8>) -> Self {
        Self::Blob(v)
    }
}
impl<T: Into<Val>> From<Option<T>> for Val {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Null, Into::into)
    }
}

/// A multi-row insert: `head` up to and with `VALUES`, one row's `(?, …)`, and what follows.
#[derive(Debug)]
pub struct Insert {
    /// `INSERT INTO t (a, b) VALUES`.
    pub head: &'static str,
    /// How many columns.
    pub columns: usize,
    /// `ON CONFLICT …`, or empty.
    pub tail: &'static str,
}

/// Sees every statement before it runs. `reader` tells reads outside transactions apart.
pub trait Trace: Send + Sync {
    /// A statement with its values.
    fn statement(&self, sql: &str, args: &[Val], reader: bool);
}

/// How to open the file.
#[derive(Clone, Default)]
pub struct Options {
    /// Sees every statement.
    pub trace: Option<Arc<dyn Trace>>,
}

/// The open file.
pub struct File {
    path: PathBuf,
    writer: Arc<Mutex<Writer>>,
    readers: SqlitePool,
    trace: Option<Arc<dyn Trace>>,
    changed: Notify,
}

struct Writer {
    conn: SqliteConnection,
    /// A transaction was begun and not ended: its future was dropped.
    open: bool,
}

impl Writer {
    async fn roll_back(&mut self) {
        if self.open {
            // It fails if the transaction has ended by itself (disk full, or a COMMIT whose future
            // was dropped): just as well.
            self.conn.execute("ROLLBACK").await.ok();
            self.open = false;
        }
    }
}

impl File {
    /// Opens or creates the file and runs its migrations.
    ///
    /// # Errors
    /// The directory is not writable, the file is no database, or it was written by a newer version.
    pub async fn open(path: &Path, options: Options) -> Result<Arc<Self>, Fault> {
        let base = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .page_size(8192)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .statement_cache_capacity(256)
            .row_buffer_size(2_000)
            .pragma("temp_store", "memory")
            .pragma("journal_size_limit", "134217728")
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
            .disable_statement_logging();
        let writer = base.clone().pragma("cache_size", (-CACHE_KIB).to_string());
        let mut conn = connect(&writer).await?;
        migrate(&mut conn)
            .await
            .map_err(|e| Fault::Corrupt(format!("migrations of {}: {e}", path.display())))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            // A file does not hang up.
            .test_before_acquire(false)
            .connect_lazy_with(
                base.pragma("cache_size", (-CACHE_KIB / 4).to_string())
                    .pragma("query_only", "1"),
            );
        Ok(Arc::new(Self {
            path: path.to_owned(),
            writer: Arc::new(Mutex::new(Writer { conn, open: false })),
            readers,
            trace: options.trace,
            changed: Notify::new(),
        }))
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins a write transaction, after those that asked before.
    ///
    /// # Errors
    /// Another process holds the lock for longer than 20 s.
    pub async fn begin(&self) -> Result<Tx<'_>, Fault> {
        let mut writer = self.writer.lock().await;
        writer.roll_back().await;
        if let Some(trace) = &self.trace {
            trace.statement("BEGIN IMMEDIATE", &[], false);
        }
        writer.open = true;
        let mut tx = Tx { writer, file: self };
        if let Err(error) = tx.writer.conn.execute("BEGIN IMMEDIATE").await {
            tx.writer.open = false;
            return Err(error.into());
        }
        Ok(tx)
    }

    /// Runs one reading statement on a snapshot of its own.
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn all(&self, sql: &'static str, args: Vec<Val>) -> Result<Vec<SqliteRow>, Fault> {
        if let Some(trace) = &self.trace {
            trace.statement(sql, &args, true);
        }
        Ok(sqlx::query_with(sql, bind(args))
            .fetch_all(&self.readers)
            .await?)
    }

    /// Begins a reading transaction: all its statements see one snapshot.
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn snapshot(&self) -> Result<Snapshot<'_>, Fault> {
        let tx = self.readers.begin().await?;
        Ok(Snapshot { tx, file: self })
    }

    /// Resolves after the next write transaction of this process.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// A write transaction. Dropped without [`Tx::commit`], it has no effect.
pub struct Tx<'a> {
    writer: MutexGuard<'a, Writer>,
    file: &'a File,
}

impl Tx<'_> {
    /// Runs a statement; returns the number of rows it touched.
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn exec(&mut self, sql: &'static str, args: Vec<Val>) -> Result<u64, Fault> {
        self.trace(sql, &args);
        let query = sqlx::query_with(sql, bind(args));
        Ok(self.writer.conn.execute(query).await?.rows_affected())
    }

    /// Runs a reading statement inside the transaction.
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn all(
        &mut self,
        sql: &'static str,
        args: Vec<Val>,
    ) -> Result<Vec<SqliteRow>, Fault> {
        self.trace(sql, &args);
        let query = sqlx::query_with(sql, bind(args));
        Ok(self.writer.conn.fetch_all(query).await?)
    }

    /// Inserts rows, given as one flat list of values; returns the number of rows touched.
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn insert(&mut self, what: &Insert, values: Vec<Val>) -> Result<u64, Fault> {
        let mut left = values.len() / what.columns.max(1);
        let mut values = values.into_iter();
        let mut touched = 0;
        while left > 0 {
            let step = INSERT_STEPS.into_iter().find(|s| *s <= left).unwrap_or(1);
            let args: Vec<Val> = values.by_ref().take(step * what.columns).collect();
            let sql = insert_sql(what, step);
            self.trace(&sql, &args);
            let query = sqlx::query_with(AssertSqlSafe(sql), bind(args));
            touched += self.writer.conn.execute(query).await?.rows_affected();
            left -= step;
        }
        Ok(touched)
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// Disk full or not writable: nothing has happened then.
    pub async fn commit(mut self) -> Result<(), Fault> {
        self.trace("COMMIT", &[]);
        self.writer.conn.execute("COMMIT").await?;
        self.writer.open = false;
        self.file.changed.notify_waiters();
        Ok(())
    }

    fn trace(&self, sql: &str, args: &[Val]) {
        if let Some(trace) = &self.file.trace {
            trace.statement(sql, args, false);
        }
    }
}

impl Drop for Tx<'_> {
    /// Rolls back soon, not only before this process's next transaction: until then the file is
    /// locked for other processes.
    fn drop(&mut self) {
        if !self.writer.open {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let writer = Arc::clone(&self.file.writer);
            runtime.spawn(async move { writer.lock().await.roll_back().await });
        }
    }
}

/// A reading transaction.
pub struct Snapshot<'a> {
    tx: sqlx::Transaction<'static, sqlx::Sqlite>,
    file: &'a File,
}

impl Snapshot<'_> {
    /// Runs a reading statement.
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn all(
        &mut self,
        sql: &'static str,
        args: Vec<Val>,
    ) -> Result<Vec<SqliteRow>, Fault> {
        if let Some(trace) = &self.file.trace {
            trace.statement(sql, &args, true);
        }
        Ok(sqlx::query_with(sql, bind(args))
            .fetch_all(&mut *self.tx)
            .await?)
    }
}

/// Two processes that create the file at the same moment are in each other's way when they switch it
/// to WAL, and SQLite does not wait there.
async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    for _ in 0..CREATE_TRIES {
        match SqliteConnection::connect_with(options).await {
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("5") => {
                tokio::time::sleep(CREATE_PAUSE).await;
            }
            other => return other,
        }
    }
    SqliteConnection::connect_with(options).await
}

/// Runs what is missing. It rarely is, so the first try takes no lock; if it fails, another process
/// may have created the file at the same moment, and the second try waits for that one.
async fn migrate(conn: &mut SqliteConnection) -> Result<(), MigrateError> {
    let migrations = sqlx::migrate!("migrations/sqlite");
    if migrations.run_direct(None, conn, false).await.is_ok() {
        return Ok(());
    }
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    migrations.run_direct(None, &mut *tx, false).await?;
    Ok(tx.commit().await?)
}

/// Values as sqlx wants them.
#[must_use]
pub fn bind(args: Vec<Val>) -> SqliteArguments {
    use sqlx::Arguments;
    let mut bound = SqliteArguments::default();
    bound.reserve(args.len(), 0);
    for arg in args {
        // Adding an owned value of these four types cannot fail.
        let _ = match arg {
            Val::Null => bound.add(None::<i64>),
            Val::Int(v) => bound.add(v),
            Val::Text(v) => bound.add(v),
            Val::Blob(v) => bound.add(v),
        };
    }
    bound
}

/// The texts of multi-row inserts, made once each: sqlx caches prepared statements by text.
static INSERTS: LazyLock<StdMutex<InsertTexts>> = LazyLock::new(StdMutex::default);

/// By head, tail and number of rows.
type InsertTexts = HashMap<(&'static str, &'static str, usize), Arc<str>>;

fn insert_sql(what: &Insert, rows: usize) -> Arc<str> {
    let mut known = INSERTS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let text = known
        .entry((what.head, what.tail, rows))
        .or_insert_with(|| {
            let row = format!("({})", vec!["?"; what.columns].join(","));
            format!("{} {} {}", what.head, vec![row; rows].join(","), what.tail).into()
        });
    Arc::clone(text)
}
