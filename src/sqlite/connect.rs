//! The first moments of a file, when two processes may create it at once.

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// The switch to WAL takes milliseconds: this is a second.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Makes the file, for its owner only: it holds identifiers. SQLite's side files take its mode.
pub(super) fn create(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Two processes that create the file at the same moment are in each other's way when they switch it
/// to WAL, and SQLite does not wait there.
pub(super) async fn connect(
    options: &SqliteConnectOptions,
) -> Result<SqliteConnection, sqlx::Error> {
    for _ in 0..TRIES {
        match options.connect().await {
            Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("5") => {
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
    options.connect().await
}

/// Runs what is missing. It rarely is, so the first try takes no lock; if it fails, another process
/// may have created the file at the same moment, and the second try waits for that one.
pub(super) async fn migrate(conn: &mut SqliteConnection) -> Result<(), MigrateError> {
    let migrations = sqlx::migrate!("migrations/sqlite");
    if migrations.run_direct(None, conn, false).await.is_ok() {
        return Ok(());
    }
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    migrations.run_direct(None, &mut *tx, false).await?;
    Ok(tx.commit().await?)
}
