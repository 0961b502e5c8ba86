//! The schema: brought up to date by `unilink migrate` alone, so that workers never race on it.

use super::PostgresOptions;
use super::session::{Fault, Session, query};
use crate::store::StoreError;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, Connection, SqlSafeStr};

const TABLE: &str = "_sqlx_migrations";

/// Every file of `migrations/postgres`, in order: number, name, text.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "store",
        include_str!("../../../migrations/postgres/0001_store.sql"),
    ),
    (
        2,
        "rebuild",
        include_str!("../../../migrations/postgres/0002_rebuild.sql"),
    ),
    (
        3,
        "tokens",
        include_str!("../../../migrations/postgres/0003_tokens.sql"),
    ),
    (
        4,
        "sends",
        include_str!("../../../migrations/postgres/0004_sends.sql"),
    ),
    (
        5,
        "operate",
        include_str!("../../../migrations/postgres/0005_operate.sql"),
    ),
];

fn migrations() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|(version, name, sql)| {
        let (name, sql) = ((*name).into(), (*sql).into_sql_str());
        Migration::new(*version, name, MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

/// Runs the migrations that are missing, one process at a time, and tells their names.
///
/// # Errors
/// The database cannot be reached, a migration fails, or the schema is newer than this program.
pub async fn migrate(options: &PostgresOptions) -> Result<Vec<String>, StoreError> {
    let options = options.connect()?;
    let mut conn = options.connect().await.map_err(Fault::from)?;
    conn.lock().await.map_err(failed)?;
    let applied = run(&mut conn).await;
    // The lock is the connection's: it goes with it, whatever happened.
    conn.close().await.map_err(Fault::from)?;
    applied.map_err(failed)
}

async fn run(conn: &mut PgConnection) -> Result<Vec<String>, MigrateError> {
    conn.ensure_migrations_table(TABLE).await?;
    let before = conn.list_applied_migrations(TABLE).await?;
    let mut migrations = migrations();
    migrations.set_locking(false);
    migrations.run_direct(None, conn, false).await?;
    let new = migrations
        .iter()
        .filter(|m| !before.iter().any(|b| b.version == m.version));
    Ok(new
        .map(|m| format!("{:04} {}", m.version, m.description))
        .collect())
}

fn failed(error: MigrateError) -> StoreError {
    match error {
        MigrateError::VersionMissing(version) => newer(version),
        MigrateError::VersionMismatch(version) => other(version),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            Fault::from(error).into()
        }
        other => StoreError::Corrupt(other.to_string()),
    }
}

fn newer(version: i64) -> StoreError {
    StoreError::Mismatch(format!(
        "the database's schema is newer than this program (it has migration {version}): run the \
         version of unilink that made it, or a later one"
    ))
}

fn other(version: i64) -> StoreError {
    StoreError::Mismatch(format!(
        "the database's migration {version} is not the one of this program: the schema was made by \
         another build of unilink; run that one, or begin with an empty store"
    ))
}

fn missing(what: &str) -> Fault {
    Fault::Store(StoreError::Mismatch(format!(
        "the database's schema is {what}: run `unilink migrate`"
    )))
}

/// Refuses a schema that is not exactly the one of this program.
pub(super) async fn check(session: &mut Session) -> Result<(), Fault> {
    let sql = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
    let there = session.all(query(sql)).await?;
    let there = there
        .first()
        .map(|row| super::rows::get::<bool>(row, 0))
        .transpose()?;
    if there != Some(true) {
        return Err(missing("missing"));
    }
    let sql = "SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version";
    let mut applied = std::collections::BTreeMap::new();
    for row in session.all(query(sql)).await? {
        let version: i64 = super::rows::get(&row, 0)?;
        if super::rows::get(&row, 2)? {
            applied.insert(version, super::rows::get::<Vec<u8>>(&row, 1)?);
        }
    }
    for known in migrations().iter() {
        match applied.remove(&known.version) {
            None => return Err(missing("older than this program")),
            Some(sum) if *sum != *known.checksum => return Err(other(known.version).into()),
            Some(_) => {}
        }
    }
    match applied.into_keys().next_back() {
        Some(version) => Err(newer(version).into()),
        None => Ok(()),
    }
}
