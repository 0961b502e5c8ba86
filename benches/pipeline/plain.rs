//! The plain consumer: what one would write first. One event at a time: read it, open what is
//! sealed, one transaction that links the account to the user of its unionid, one record that waits
//! for its delivery, one commit of the offset.
//!
//! It has no outbox (a crash between the two commits loses a record), merges without looking for
//! contradictions, and remembers nothing of its causes: less than the product promises, at the
//! price of its round-trips. Nothing slows it down on purpose: statements are prepared once, and
//! the client library waits for nothing (`linger.ms` 0).

use crate::measure::{Measured, Server, cpu, load};
use crate::services::{Services, connect};
use crate::site::partitions;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Message};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, Row};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use unilink::bus::Stored;
use unilink::model::{Account, Apps, Evidence, Login};
use unilink::resolve::decrypt::decrypt;
use unilink::seal::Keys;
use unilink::wire::OperatorKeys;
use unilink::worker::{Decoded, Decoder};
use uuid::Uuid;

/// Its tables, with what is stored already.
const TABLES: &str = "CREATE TABLE plain_users (unionid text PRIMARY KEY, user_id uuid NOT NULL); \
     CREATE TABLE plain_accounts (account text PRIMARY KEY, unionid text, user_id uuid NOT NULL); \
     INSERT INTO plain_users SELECT DISTINCT ON (c.union_id) c.union_id, a.user_id \
     FROM claims c JOIN accounts a ON a.id = c.account; \
     INSERT INTO plain_accounts SELECT a.key, c.union_id, a.user_id \
     FROM accounts a JOIN claims c ON a.id = c.account; \
     CREATE INDEX plain_accounts_user ON plain_accounts (user_id); \
     ANALYZE plain_users; ANALYZE plain_accounts";
const FIND: &str = "SELECT unionid, user_id FROM plain_accounts WHERE account = $1 FOR UPDATE";
/// The user of a unionid, whose row is locked then.
const USER: &str = "INSERT INTO plain_users VALUES ($1, $2) ON CONFLICT (unionid) \
     DO UPDATE SET unionid = excluded.unionid RETURNING user_id";
const ADD: &str = "INSERT INTO plain_accounts VALUES ($1, $2, $3)";
const LINK: &str = "UPDATE plain_accounts SET unionid = $2, user_id = $3 WHERE account = $1";
const MERGE: &str = "UPDATE plain_accounts SET user_id = $2 WHERE user_id = $1";

/// Where it works.
pub struct Place {
    /// Its database.
    pub database: PgConnectOptions,
    /// What it reads.
    pub logins: String,
    /// Where it tells links.
    pub links: String,
}

/// Fills its tables.
pub async fn prepare(place: &Place) {
    let mut db = connect(&place.database).await;
    db.execute(TABLES).await.expect("tables");
}

/// Consumes the logins for some time, `workers` at once, each its partitions.
pub async fn consume(
    services: &Services,
    place: &Place,
    keys: &Path,
    workers: usize,
    time: Duration,
) -> Measured {
    let keys = Arc::new(Keys::load(keys).expect("keys"));
    let mut consumers = Vec::new();
    for n in 0..workers {
        consumers.push(Plain::new(services, place, &keys, (n, workers)).await);
    }
    let used = |server: Server| server.cpu();
    let me = std::process::id();
    let before = (
        cpu(me),
        used(services.postgres_server),
        used(services.kafka_server),
    );
    let begun = Instant::now();
    let work = consumers.into_iter().map(|mut consumer| {
        tokio::spawn(async move {
            let mut events = 0;
            while begun.elapsed() < time && consumer.one().await {
                events += 1;
            }
            events
        })
    });
    let mut events = 0;
    for done in work.collect::<Vec<_>>() {
        events += done.await.expect("consumed");
    }
    let seconds = begun.elapsed().as_secs_f64();
    let per_million = |cpu: f64| cpu / events as f64 * 1e6;
    let between = |after: Option<f64>, before: Option<f64>| Some(per_million(after? - before?));
    Measured {
        events,
        seconds,
        rate: events as f64 / seconds,
        cpu_per_million: per_million(cpu(me) - before.0),
        postgres_cpu_per_million: between(used(services.postgres_server), before.1),
        kafka_cpu_per_million: between(used(services.kafka_server), before.2),
        peak_mib: 0.0,
        load: load(),
    }
}

struct Plain {
    consumer: StreamConsumer,
    producer: FutureProducer,
    db: PgConnection,
    decoder: Decoder,
    links: String,
}

impl Plain {
    async fn new(
        services: &Services,
        place: &Place,
        keys: &Arc<Keys>,
        (n, of): (usize, usize),
    ) -> Self {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &services.kafka);
        let mut producer = config.clone();
        producer.set("acks", "all").set("linger.ms", "0");
        let consumer = config
            .set("group.id", format!("{}-plain-{n}", place.links))
            .set("enable.auto.commit", "false")
            .set("fetch.queue.backoff.ms", "10")
            .set("auto.offset.reset", "earliest");
        let consumer: StreamConsumer = consumer.create().expect("a consumer");
        let all = partitions(&place.logins, Offset::Beginning);
        let mut share = TopicPartitionList::new();
        for one in all.elements().iter().skip(n).step_by(of) {
            let added = share.add_partition_offset(one.topic(), one.partition(), one.offset());
            added.expect("a partition");
        }
        consumer.assign(&share).expect("assigned");
        Self {
            consumer,
            producer: producer.create().expect("a producer"),
            db: connect(&place.database).await,
            decoder: Decoder {
                apps: Arc::new(Apps::new(crate::loads::world().apps())),
                keys: Arc::clone(keys),
                operators: OperatorKeys::parse(std::iter::empty()).expect("none"),
                require_sealed: false,
            },
            links: place.links.clone(),
        }
    }

    /// The next event; whether there was one.
    async fn one(&mut self) -> bool {
        let wait = Duration::from_secs(2);
        let Ok(record) = tokio::time::timeout(wait, self.consumer.recv()).await else {
            return false;
        };
        let record = record.expect("a record");
        let stored = Stored {
            partition: u32::try_from(record.partition()).expect("a partition"),
            offset: record.offset(),
            timestamp: record.timestamp().to_millis().unwrap_or(0),
            key: record.key().unwrap_or_default().to_vec(),
            value: record.payload().map(<[u8]>::to_vec),
            headers: headers(&record),
        };
        let Decoded::Login(login) = self.decoder.decode(&stored) else {
            panic!("no login");
        };
        if let Some((key, told)) = link(&mut self.db, &login).await {
            let record = FutureRecord::to(&self.links).key(&key).payload(&told);
            let sent = self.producer.send(record, Timeout::Never).await;
            sent.expect("delivered");
        }
        let done = self.consumer.commit_message(&record, CommitMode::Sync);
        done.expect("committed");
        true
    }
}

fn headers(
    record: &impl Message<Headers = rdkafka::message::BorrowedHeaders>,
) -> Vec<(String, Vec<u8>)> {
    use rdkafka::message::Headers;
    let headers = record.headers().into_iter().flat_map(|h| h.iter());
    let owned = headers.map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec()));
    owned.collect()
}

/// Account and unionid of a login.
fn evidence(login: &Login) -> (String, String) {
    let Evidence::OpenId {
        openid,
        unionid,
        session_key,
        data,
        ..
    } = &login.evidence
    else {
        panic!("no openid");
    };
    let decrypted = session_key.as_ref().zip(data.as_ref()).map(|(key, data)| {
        let decrypted = decrypt(&login.app, openid, key, data).expect("decrypted");
        decrypted.unionid
    });
    let unionid = unionid.clone().or(decrypted.flatten());
    let unionid = unionid.expect("there is one").expect("sound");
    let account = Account {
        app: login.app.clone(),
        openid: openid.clone(),
    };
    (account.key(), unionid.as_str().to_owned())
}

/// Links an account to the user of its unionid; the record that tells it, unless it was known.
async fn link(db: &mut PgConnection, login: &Login) -> Option<(String, String)> {
    let (account, unionid) = evidence(login);
    let mut tx = db.begin().await.expect("begun");
    let known = sqlx::query(FIND).bind(&account).fetch_optional(&mut *tx);
    let known = known.await.expect("found");
    let known: Option<(Option<String>, Uuid)> = known.map(|row| (row.get(0), row.get(1)));
    if known
        .as_ref()
        .is_some_and(|(u, _)| u.as_ref() == Some(&unionid))
    {
        tx.commit().await.expect("committed");
        return None;
    }
    let before = known.map(|(_, user)| user);
    let user = sqlx::query(USER)
        .bind(&unionid)
        .bind(before.unwrap_or_else(Uuid::new_v4))
        .fetch_one(&mut *tx);
    let user: Uuid = user.await.expect("a user").get(0);
    let put = sqlx::query(if before.is_some() { LINK } else { ADD })
        .bind(&account)
        .bind(&unionid)
        .bind(user);
    put.execute(&mut *tx).await.expect("put");
    if let Some(before) = before.filter(|before| *before != user) {
        let merge = sqlx::query(MERGE).bind(before).bind(user);
        merge.execute(&mut *tx).await.expect("merged");
    }
    tx.commit().await.expect("committed");
    let told = serde_json::json!({
        "account": account, "user_id": user, "previous_user_id": before, "unionid": unionid,
        "cause": login.id.as_str(), "occurred_at": login.occurred_at.to_string(),
    });
    Some((account, told.to_string()))
}
