//! Accounts as the store would have written them, copied straight into its tables: two of each
//! person, on one unionid.

use crate::loads::Loads;
use crate::services::connect;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Executor, PgConnection, Row};
use std::fmt::Write as _;
use unilink::model::{Method, Millis, UnionKey, UserId};
use uuid::Uuid;

/// Bytes sent at once.
const SEND: usize = 1 << 20;
/// When the first of them was seen; each further one is a millisecond later.
const SEEN: i64 = 1_700_000_000_000;
/// Indexes on random keys are as full as ever growing ones are, not packed.
const RANDOM_FILL: u32 = 70;
const TABLES: &str = "('accounts', 'unionids', 'claims')";

/// Fills a new database with `loads.stored` accounts.
pub async fn fill(database: &PgConnectOptions, loads: &Loads, namespace: Uuid) {
    if loads.stored == 0 {
        return;
    }
    let mut db = connect(database).await;
    let indexes = drop_indexes(&mut db).await;
    let people = loads.stored / 2;
    let sql = "COPY unionids (tag) FROM STDIN";
    copy(&mut db, sql, people, |out, n| {
        unionid(out, loads, namespace, n);
    })
    .await;
    let sql = "COPY accounts (own, user_id, generation, first_seen_at, revision, linked_at, key, \
               cause) FROM STDIN";
    copy(&mut db, sql, people, |out, n| {
        accounts(out, loads, namespace, n);
    })
    .await;
    let sql = "COPY claims (account, unionid, at, verdict, reported, platform, union_id, method, \
               cause, why) FROM STDIN";
    copy(&mut db, sql, people, |out, n| claims(out, loads, n)).await;
    for sql in indexes {
        run(&mut db, sql).await;
    }
    run(&mut db, "VACUUM (FREEZE, ANALYZE)".to_owned()).await;
    run(&mut db, "CHECKPOINT".to_owned()).await;
}

/// Reads what was copied in, so that it lies where it would lie after some hours of work: in PostgreSQL's own memory, as
/// far as there is room.
pub async fn warm(database: &PgConnectOptions) {
    let mut db = connect(database).await;
    run(
        &mut db,
        "CREATE EXTENSION IF NOT EXISTS pg_prewarm".to_owned(),
    )
    .await;
    let sql = format!(
        "SELECT pg_prewarm(c.oid::regclass) FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid \
         WHERE c.relkind IN ('r', 'i') AND coalesce(i.indrelid, c.oid)::regclass::text IN {TABLES} \
         ORDER BY c.relkind DESC"
    );
    run(&mut db, sql).await;
}

async fn run(db: &mut PgConnection, sql: String) {
    let shown = sql.clone();
    db.execute(AssertSqlSafe(sql)).await.expect(&shown);
}

/// Drops them for the time of copying; how each is made again.
async fn drop_indexes(db: &mut PgConnection) -> Vec<String> {
    let keys = format!(
        "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) \
         FROM pg_constraint WHERE contype = 'p' AND conrelid::regclass::text IN {TABLES}"
    );
    let mut again = Vec::new();
    for row in db.fetch_all(AssertSqlSafe(keys)).await.expect("reads") {
        let (table, name, made): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        run(db, format!("ALTER TABLE {table} DROP CONSTRAINT {name}")).await;
        again.push(format!("ALTER TABLE {table} ADD CONSTRAINT {name} {made}"));
    }
    let others = format!(
        "SELECT indexname::text, indexdef, indexdef LIKE '% UNIQUE %' FROM pg_indexes \
         WHERE tablename IN {TABLES}"
    );
    for row in db.fetch_all(AssertSqlSafe(others)).await.expect("reads") {
        let (name, made, random): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        run(db, format!("DROP INDEX {name}")).await;
        if random {
            again.push(format!("{made} WITH (fillfactor = {RANDOM_FILL})"));
            again.push(format!("ALTER INDEX {name} RESET (fillfactor)"));
        } else {
            again.push(made);
        }
    }
    again
}

async fn copy(
    db: &mut PgConnection,
    sql: &str,
    people: u64,
    line: impl Fn(&mut String, u64) + Sync,
) {
    let mut to = db.copy_in_raw(sql).await.expect(sql);
    let mut out = String::with_capacity(SEND + 4_096);
    for person in 0..people {
        line(&mut out, person);
        if out.len() >= SEND {
            to.send(out.as_bytes()).await.expect("sent");
            out.clear();
        }
    }
    to.send(out.as_bytes()).await.expect("sent");
    to.finish().await.expect("copied");
}

/// The unionid of a person, as `PostgresStore` finds it.
fn union(loads: &Loads, person: u64) -> UnionKey {
    let union = loads.world.unionid(person, loads.apps[0]);
    union.expect("valid").expect("of a platform")
}

fn unionid(out: &mut String, loads: &Loads, namespace: Uuid, person: u64) {
    let union = union(loads, person);
    let name = format!("{}\0{}", union.platform.as_str(), union.unionid.as_str());
    let tag = Uuid::new_v5(&namespace, name.as_bytes());
    writeln!(out, "{tag}").expect("written");
}

/// The first account was there first, and names the user.
fn accounts(out: &mut String, loads: &Loads, namespace: Uuid, person: u64) {
    let mut user = None;
    for (account, app) in (person * 2..).zip(&loads.apps[..2]) {
        let at = SEEN + i64::try_from(account).expect("a number");
        let account = loads.world.account(person, *app).expect("valid");
        let own = account.own_id(namespace, Millis(0));
        let UserId(user) = *user.get_or_insert(own);
        let (own, key) = (own.0, account.key());
        writeln!(out, "{own}\t{user}\t0\t{at}\t1\t{at}\t{key}\t{}", cause(at)).expect("written");
    }
}

/// Rows are numbered from 1, in the order in which they were copied.
fn claims(out: &mut String, loads: &Loads, person: u64) {
    let union = union(loads, person);
    let (platform, unionid) = (union.platform.as_str(), union.unionid.as_str());
    let method = Method::Provided.word();
    for account in [person * 2, person * 2 + 1] {
        let at = SEEN + i64::try_from(account).expect("a number");
        let (account, row, cause) = (account + 1, person + 1, cause(at));
        writeln!(
            out,
            "{account}\t{row}\t{at}\t1\tf\t{platform}\t{unionid}\t{method}\t{cause}\t\\N"
        )
        .expect("written");
    }
}

/// An event's id as gateways give them: a UUID.
fn cause(at: i64) -> Uuid {
    Uuid::from_u128(at.unsigned_abs().into())
}
