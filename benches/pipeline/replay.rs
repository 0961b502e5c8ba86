//! PostgreSQL's ceiling: the statements that a run's worker sent, with their values, on a fresh copy
//! of the database that it began with, without logic and without Kafka.
//!
//! The applier's transactions go one after the other on each of so many connections, in turn; the
//! relay's reads and prunings go beside them on one of their own, each not before as many of the
//! applier's were begun as when it was recorded.

use crate::measure::{Measured, load};
use crate::services::{Services, connect};
use crate::trace::{Recording, Statement};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnectOptions, PgTypeInfo, Postgres};
use sqlx::{Arguments, AssertSqlSafe, Encode, Executor, PgConnection, SqlSafeStr, Type};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::watch;

/// As the store sets its connections (`store/postgres/mod.rs`).
const SETTINGS: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
    ("jit", "off"),
];
/// As above.
const NO_MEMO: &str = "SELECT set_config(name, 'off', false) FROM pg_settings \
     WHERE name = 'enable_memoize'";

/// A value as it was sent.
struct Raw(u32, Option<Vec<u8>>);

impl Type<Postgres> for Raw {
    fn type_info() -> PgTypeInfo {
        <Vec<u8> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Raw {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(match &self.1 {
            None => IsNull::Yes,
            Some(bytes) => {
                buffer.extend_from_slice(bytes);
                IsNull::No
            }
        })
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.0)))
    }
}

type Texts = HashMap<Arc<str>, &'static str>;

/// Replays a recording of `events` events.
pub async fn ceiling(
    services: &Services,
    database: &PgConnectOptions,
    recording: &Arc<Recording>,
    lanes: usize,
    events: u64,
) -> Measured {
    let mut texts = Texts::new();
    for statement in recording.pieces.iter().flat_map(|p| &p.statements) {
        // Some dozens, which live as long as this process.
        let kept = texts.entry(Arc::clone(&statement.sql));
        kept.or_insert_with(|| String::from(&*statement.sql).leak());
    }
    let texts = Arc::new(texts);
    let database = database.clone().options(SETTINGS);
    let (begin, begun) = watch::channel(0);
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = Vec::new();
    for _ in 0..=lanes {
        let mut connection = connect(&database).await;
        connection.execute(NO_MEMO).await.expect("set");
        connections.push(connection);
    }
    let reader = connections.pop().expect("one more");
    let (me, used) = (std::process::id(), services.postgres_server.cpu());
    let (own, at) = (crate::measure::cpu(me), Instant::now());
    let relay = tokio::spawn(relay(
        reader,
        Arc::clone(recording),
        Arc::clone(&texts),
        begun,
    ));
    let applying = connections.into_iter().map(|connection| {
        let (recording, texts) = (Arc::clone(recording), Arc::clone(&texts));
        let (next, begin) = (Arc::clone(&next), begin.clone());
        tokio::spawn(apply(connection, recording, texts, next, begin))
    });
    for done in applying.collect::<Vec<_>>() {
        done.await.expect("applied");
    }
    drop(begin);
    relay.await.expect("relayed");
    let seconds = at.elapsed().as_secs_f64();
    let per_million = |cpu: f64| cpu / events as f64 * 1e6;
    let server = services.postgres_server.cpu().zip(used);
    Measured {
        events,
        seconds,
        rate: events as f64 / seconds,
        cpu_per_million: per_million(crate::measure::cpu(me) - own),
        postgres_cpu_per_million: server.map(|(after, before)| per_million(after - before)),
        kafka_cpu_per_million: None,
        peak_mib: 0.0,
        load: load(),
    }
}

async fn apply(
    mut connection: PgConnection,
    recording: Arc<Recording>,
    texts: Arc<Texts>,
    next: Arc<AtomicUsize>,
    begin: watch::Sender<usize>,
) {
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let Some(piece) = recording.pieces.iter().filter(|p| p.applies).nth(n) else {
            return;
        };
        begin.send_modify(|count| *count += 1);
        for statement in &piece.statements {
            if let Err(error) = run(&mut connection, statement, &texts).await {
                // Row ids are those of the recording: on several connections two may collide.
                let code = error.as_database_error().and_then(|e| e.code());
                assert_eq!(code.as_deref(), Some("40P01"), "{error}: {}", statement.sql);
                connection.execute("ROLLBACK").await.expect("rolled back");
                break;
            }
        }
    }
}

async fn relay(
    mut connection: PgConnection,
    recording: Arc<Recording>,
    texts: Arc<Texts>,
    mut begun: watch::Receiver<usize>,
) {
    for piece in recording.pieces.iter().filter(|p| !p.applies) {
        // An error: all have been, and the rest need not wait.
        begun.wait_for(|count| *count >= piece.after).await.ok();
        for statement in &piece.statements {
            let done = run(&mut connection, statement, &texts).await;
            done.expect(&statement.sql);
        }
    }
}

async fn run(
    connection: &mut PgConnection,
    statement: &Statement,
    texts: &Texts,
) -> Result<(), sqlx::Error> {
    let sql = AssertSqlSafe(texts[&statement.sql]).into_sql_str();
    let Some(args) = &statement.args else {
        return connection.execute(sqlx::raw_sql(sql)).await.map(drop);
    };
    let mut values = PgArguments::default();
    for (oid, bytes) in args {
        let added = values.add(Raw(*oid, bytes.clone()));
        added.expect("a value");
    }
    let rows = sqlx::query_with(sql, values).fetch_all(connection).await;
    rows.map(drop)
}
