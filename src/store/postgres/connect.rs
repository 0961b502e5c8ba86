//! Connections: where the database is, and what every connection is set to.

use super::session::{Fault, Losses};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::fmt;
use std::time::Duration;

/// How long a call waits for a connection: a database that is away is told soon.
const ACQUIRE: Duration = Duration::from_secs(5);
/// A connection that lay idle for longer is tried before it is used: it may have died meanwhile.
const TRY_AFTER: Duration = Duration::from_secs(1);
/// Prepared statements of one connection: all that this directory has.
const STATEMENTS: usize = 200;
/// What every connection is set to.
///
/// A plan that was made while a table was empty goes on scanning it as it grows, and a plan for the
/// values at hand scans it where they are many: plans are made once, and neither scans nor joins
/// whole tables. JIT compilation costs more than these statements. `lock_timeout` and the next keep
/// a worker that was stopped in the middle of a transaction from stopping the others.
const SETTINGS: [(&str, &str); 8] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
    ("jit", "off"),
    ("lock_timeout", "20s"),
    ("idle_in_transaction_session_timeout", "10s"),
];

/// Keys come once each, so remembering what they found is in vain. PostgreSQL 13 does not do it.
const NO_MEMO: &str = "SELECT set_config(name, 'off', false) FROM pg_settings \
     WHERE name = 'enable_memoize'";

/// Where the database is. The URL may hold a password: it is never shown.
#[derive(Clone)]
pub struct PostgresOptions {
    url: zeroize::Zeroizing<String>,
    connections: u32,
}

impl PostgresOptions {
    /// Up to `connections` connections to the database of `url` (`postgres://…`).
    #[must_use]
    pub fn new(url: String, connections: u32) -> Self {
        Self {
            url: url.into(),
            connections,
        }
    }

    pub(super) fn connect(&self) -> Result<PgConnectOptions, Fault> {
        let options: PgConnectOptions = self.url.parse()?;
        Ok(options
            .application_name("unilink")
            .options(SETTINGS)
            .statement_cache_capacity(STATEMENTS)
            .disable_statement_logging())
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = &self.connections;
        write!(
            f,
            "PostgresOptions {{ url: …, connections: {connections} }}"
        )
    }
}

/// A pool that connects when it is first asked to.
pub(super) fn pool(options: &PostgresOptions, losses: &Losses) -> Result<PgPool, Fault> {
    let losses = losses.clone();
    let pool = PgPoolOptions::new()
        .max_connections(options.connections.max(1))
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .after_connect(|conn, _| {
            Box::pin(async move {
                sqlx::Executor::execute(conn, NO_MEMO).await?;
                Ok(())
            })
        })
        .before_acquire(move |conn, meta| {
            let doubtful = meta.idle_for > TRY_AFTER || losses.may_concern(meta.idle_for);
            Box::pin(async move {
                if doubtful {
                    sqlx::Connection::ping(conn).await?;
                }
                Ok(true)
            })
        });
    Ok(pool.connect_lazy_with(options.connect()?))
}
