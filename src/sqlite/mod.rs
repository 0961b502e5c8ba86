//! One SQLite file, shared by the embedded log and the embedded store: one writer connection that
//! takes turns fairly, a few readers, and set-based statements.
//!
//! Durable: WAL with `synchronous=FULL`. A transaction whose future is dropped is rolled back before
//! the next one begins. Statements can be traced, so that the benchmark can replay them.

mod connect;
mod rows;
mod value;

pub use rows::{Insert, Select};
pub use value::{Fault, Val, bind};

use connect::{check, connect, create, migrate};
use rows::{INSERT_STEPS, rows_sql, steps};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, Notify};

/// Other processes (`tail`, a second command) may hold the write lock for a moment.
const BUSY: Duration = Duration::from_secs(20);
/// Page cache of the writer, in KiB; the readers' is a quarter of it.
const CACHE_KIB: i64 = 48 * 1024;
/// Pages of WAL before a checkpoint: long enough that hot pages are written back once, not often.
const CHECKPOINT_PAGES: i64 = 4_000;
/// Reader connections: the applier's view, the relay, the log reader and a look-up.
const READERS: u32 = 4;

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
    /// Neither made nor migrated: a process of another version may be at work in it.
    pub as_it_is: bool,
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
            .create_if_missing(!options.as_it_is)
            .page_size(8192)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .statement_cache_capacity(256)
            .row_buffer_size(2_000)
            // What is erased is overwritten, not only unlinked, where that costs no further page.
            .pragma("secure_delete", "fast")
            .pragma("temp_store", "memory")
            .pragma("journal_size_limit", "134217728")
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES.to_string())
            .disable_statement_logging();
        let writer = base.clone().pragma("cache_size", (-CACHE_KIB).to_string());
        let conn = if options.as_it_is {
            let mut conn = connect(&writer).await?;
            check(&mut conn).await?;
            conn
        } else {
            create(path).map_err(|e| Fault::Unavailable(e.to_string()))?;
            let mut conn = connect(&writer).await?;
            let migrated = migrate(&mut conn).await;
            let failed = |e| Fault::Corrupt(format!("migrations of {}: {e}", path.display()));
            migrated.map_err(failed)?;
            conn
        };
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            // A ping per snapshot would tell nothing: the file does not hang up.
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
        self.begin_with("BEGIN IMMEDIATE").await
    }

    /// Begins a transaction that only reads, on the writer's connection: its page cache is kept
    /// from one transaction to the next, while a reader's is void after every commit. For reads
    /// that the next write transaction follows up, on pages that it will touch too. Other writers
    /// of this process wait until [`Tx::end`].
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn look(&self) -> Result<Tx<'_>, Fault> {
        self.begin_with("BEGIN").await
    }

    async fn begin_with(&self, sql: &'static str) -> Result<Tx<'_>, Fault> {
        let mut writer = self.writer.lock().await;
        writer.roll_back().await;
        if let Some(trace) = &self.trace {
            trace.statement(sql, &[], false);
        }
        writer.open = true;
        let mut tx = Tx { writer, file: self };
        if let Err(error) = tx.writer.conn.execute(sql).await {
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
            let sql = rows_sql(what.head, what.columns, what.tail, step);
            self.trace(&sql, &args);
            let query = sqlx::query_with(AssertSqlSafe(sql), bind(args));
            touched += self.writer.conn.execute(query).await?.rows_affected();
            left -= step;
        }
        Ok(touched)
    }

    /// Reads what many keys, given as one flat list of values, name.
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn many(&mut self, what: &Select, keys: Vec<Val>) -> Result<Vec<SqliteRow>, Fault> {
        let mut rows = Vec::new();
        for (sql, args) in steps(what, keys) {
            self.trace(&sql, &args);
            let query = sqlx::query_with(AssertSqlSafe(sql), bind(args));
            rows.append(&mut self.writer.conn.fetch_all(query).await?);
        }
        Ok(rows)
    }

    /// Ends a transaction that only read. Nobody is notified.
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn end(mut self) -> Result<(), Fault> {
        self.trace("COMMIT", &[]);
        self.writer.conn.execute("COMMIT").await?;
        self.writer.open = false;
        Ok(())
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

    /// Reads what many keys, given as one flat list of values, name.
    ///
    /// # Errors
    /// As SQLite says.
    pub async fn many(&mut self, what: &Select, keys: Vec<Val>) -> Result<Vec<SqliteRow>, Fault> {
        let mut rows = Vec::new();
        for (sql, args) in steps(what, keys) {
            if let Some(trace) = &self.file.trace {
                trace.statement(&sql, &args, true);
            }
            let query = sqlx::query_with(AssertSqlSafe(sql), bind(args));
            rows.append(&mut query.fetch_all(&mut *self.tx).await?);
        }
        Ok(rows)
    }
}
