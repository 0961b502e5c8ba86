//! The first moments of a file, when two processes may create it at once.

use super::Fault;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Row, SqlSafeStr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// The switch to WAL takes milliseconds: this is a second.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Every file of `migrations/sqlite`, in order: number, name, text.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "log",
        include_str!("../../migrations/sqlite/0001_log.sql"),
    ),
    (
        2,
        "store",
        include_str!("../../migrations/sqlite/0002_store.sql"),
    ),
    (
        3,
        "rebuild",
        include_str!("../../migrations/sqlite/0003_rebuild.sql"),
    ),
    (
        4,
        "tokens",
        include_str!("../../migrations/sqlite/0004_tokens.sql"),
    ),
    (
        5,
        "sends",
        include_str!("../../migrations/sqlite/0005_sends.sql"),
    ),
    (
        6,
        "operate",
        include_str!("../../migrations/sqlite/0006_operate.sql"),
    ),
];

fn migrations() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        let (name, sql) = ((*name).into(), (*sql).into_sql_str());
        Migration::new(*version, name, MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

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
    let migrations = migrations();
    if migrations.run_direct(None, conn, false).await.is_ok() {
        return Ok(());
    }
    let mut tx = conn.begin_with("BEGIN IMMEDIATE").await?;
    migrations.run_direct(None, &mut *tx, false).await?;
    Ok(tx.commit().await?)
}

/// Refuses a file that is not exactly of this program's schema.
pub(super) async fn check(conn: &mut SqliteConnection) -> Result<(), Fault> {
    let newest = MIGRATIONS.iter().map(|(version, ..)| *version).max();
    let sql = "SELECT coalesce(max(version), 0), count(*) FROM _sqlx_migrations WHERE success";
    let applied = sqlx::query(sql).fetch_one(&mut *conn).await;
    let applied =
        applied.and_then(|row| Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?)));
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    match applied {
        Ok((last, count)) if Some(last) == newest && count == known => Ok(()),
        Ok((last, _)) if Some(last) > newest => Err(Fault::Unavailable(
            "the store was brought up to date by a newer version of unilink: use that one"
                .to_owned(),
        )),
        Err(error) if !is_none(&error) => Err(error.into()),
        _ => Err(Fault::Unavailable(
            "the store is of an older version: start `unilink serve` of this version once, which \
             brings it up to date"
                .to_owned(),
        )),
    }
}

/// Whether there is no such table.
fn is_none(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.message().contains("no such table"))
}
