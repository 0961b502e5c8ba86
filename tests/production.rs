//! The story of an installation on a real Kafka and a real PostgreSQL, with the real binary: prepared
//! by its commands, worked by roles that run apart, taken down in order while people log in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

mod fleet;
mod harness;
mod services;

use fleet::{Fleet, PATIENCE, Process};
use harness::{ago, free_port};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use unilink::clock;
use unilink::seal::Keys;
use unilink::simulate::{Manner, Settings, Simulator, World, server};
use uuid::Uuid;

/// An installation with names of its own.
struct Site {
    fleet: Fleet,
    sim: Arc<Simulator>,
    intake: String,
    api: String,
    workers: [String; 2],
    prefix: String,
}

impl Site {
    async fn new(kafka: &str, postgres: &str) -> Self {
        let world = World::new(1).unwrap();
        let sim = Arc::new(Simulator::new(world, Settings::default(), clock::system()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let wechat = listener.local_addr().unwrap();
        tokio::spawn(server::serve(
            listener,
            Arc::clone(&sim),
            std::future::pending(),
        ));
        let prefix = format!("t{}", Uuid::new_v4().simple());
        let mut fleet = Fleet::new(&configuration(kafka, &wechat.to_string(), &prefix, &sim));
        fleet.set("UNILINK_STORE__URL", &database(postgres, &prefix).await);
        let address = || format!("127.0.0.1:{}", free_port());
        Self {
            fleet,
            sim,
            intake: address(),
            api: address(),
            workers: [address(), address()],
            prefix,
        }
    }

    fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    async fn ready(&self, address: &str, of: &Process) {
        let url = format!("http://{address}/readyz");
        self.fleet.until(&url, 200, of).await;
    }

    /// The front door knows neither the database nor the private key.
    async fn intake(&self) -> Process {
        let keys = Keys::load(&self.fleet.dir.path().join("unilink.keys")).unwrap();
        let seal_to = keys.hpke.current().to_string();
        let vars = [
            ("UNILINK_STORE__URL", "postgres://nobody@127.0.0.1:1/none"),
            ("UNILINK_SEAL__KEY_FILE", "none.keys"),
            ("UNILINK_SEAL__SEAL_TO", seal_to.as_str()),
            ("UNILINK_INTAKE__LISTEN", self.intake.as_str()),
        ];
        let process = self.fleet.start("intake", &["intake"], &vars);
        self.ready(&self.intake, &process).await;
        process
    }

    async fn worker(&self, n: usize) -> Process {
        let name = format!("worker-{n}");
        let vars = [
            ("UNILINK_WORKER__NAME", name.as_str()),
            ("UNILINK_WORKER__LISTEN", self.workers[n].as_str()),
        ];
        let process = self.fleet.start(&name, &["worker"], &vars);
        self.ready(&self.workers[n], &process).await;
        process
    }

    async fn api(&self) -> Process {
        let vars = [("UNILINK_API__LISTEN", self.api.as_str())];
        let process = self.fleet.start("api", &["api"], &vars);
        self.ready(&self.api, &process).await;
        process
    }

    async fn accepted(&self, events: &[Value]) {
        let base = format!("http://{}", self.intake);
        let (status, _, answer) = self.fleet.post(&base, events).await.expect("answered");
        assert_eq!(status, 202, "{answer}");
    }

    /// Looks an account up until it is linked.
    async fn linked(&self, app: &str, openid: &str, told: impl Fn() -> String) -> Value {
        let url = format!("http://{}/v1/accounts/{app}/{openid}", self.api);
        let begun = Instant::now();
        loop {
            if let Some((200, text)) = self.fleet.get(&url).await {
                let found: Value = serde_json::from_str(&text).unwrap();
                if !found["unionid"].is_null() {
                    return found;
                }
            }
            assert!(begun.elapsed() < PATIENCE, "{openid}: {}", told());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Two of the simulator's apps with the same platform.
    fn apps(&self) -> [String; 2] {
        let apps = self.sim.world().sim_apps();
        [apps[0].id.to_string(), apps[1].id.to_string()]
    }
}

fn configuration(kafka: &str, wechat: &str, prefix: &str, sim: &Simulator) -> String {
    let topics = [
        ("logins", "logins"),
        ("account_links", "links"),
        ("user_merges", "merges"),
        ("registers", "registers"),
        ("link_conflicts", "conflicts"),
        ("dlq", "dlq"),
    ];
    let topics: Vec<String> = topics
        .iter()
        .map(|(key, name)| format!("{key} = \"{prefix}.{name}\"\n"))
        .collect();
    format!(
        "[bus]\nurl = \"kafka://{kafka}\"\ngroup = \"{prefix}\"\nreplication = 1\n[topics]\n{}\
         [wechat]\nbase_url = \"http://{wechat}\"\n{}",
        topics.concat(),
        sim.world().toml()
    )
}

/// A database of its own.
async fn database(postgres: &str, name: &str) -> String {
    let mut server = sqlx::PgConnection::connect(postgres).await.unwrap();
    let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    server.execute(create).await.unwrap();
    let (base, _) = postgres.rsplit_once('/').expect("a URL with a database");
    format!("{base}/{name}")
}

fn login(id: &str, app: &str, openid: &str, unionid: &str) -> Value {
    json!({"id": id, "occurred_at": ago(0), "appid": app, "openid": openid, "unionid": unionid})
}

async fn prepared(site: &Site) {
    let fleet = &site.fleet;
    fleet.done(&["keys", "new", "unilink.keys"]).await;
    let said = fleet.refused(&["check"], 1).await;
    assert!(said.contains("not in order: store, bus"), "{said}");
    for role in ["worker", "api"] {
        let said = fleet.refused(&[role], 1).await;
        assert!(said.contains("`unilink migrate`"), "{role}: {said}");
    }
    let said = fleet.done(&["migrate"]).await;
    assert!(said.starts_with("applied "), "{said}");
    assert_eq!(fleet.done(&["migrate"]).await, "up to date\n");
    let said = fleet.refused(&["worker"], 1).await;
    assert!(said.contains("`unilink topics` creates it"), "{said}");
    let said = fleet.refused(&["topics", "--check"], 1).await;
    assert!(said.contains(&site.topic("dlq")), "{said}");
    let table = fleet.done(&["topics"]).await;
    assert_eq!(table.lines().count(), 7, "{table}");
    fleet.done(&["topics", "--check"]).await;
    let said = fleet.done(&["check"]).await;
    assert!(said.lines().all(|l| l.starts_with("ok  ")), "{said}");
    // Pinned at birth, and in the topics themselves.
    let more = [("UNILINK_TOPICS__LOGINS_PARTITIONS", "5")];
    let output = fleet.run_with(&["check"], &more).await;
    let (out, err) = fleet::texts(&output);
    assert!(err.contains("not in order: store, bus"), "{out}{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_run_apart_and_stop_in_order() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    let site = Site::new(kafka, postgres).await;
    prepared(&site).await;
    let mut intake = site.intake().await;
    let mut first = site.worker(0).await;
    let mut second = site.worker(1).await;
    let mut api = site.api().await;
    let [one, two] = site.apps();

    // People who use two apps become one user each, whichever worker had which of their logins.
    let logs = || harness::tail_of(&format!("{}\n{}", first.logs(), second.logs()));
    let people = 0..60;
    let events = people.clone().flat_map(|n| {
        let (union, one, two) = (format!("u{n}"), &one, &two);
        [
            login(&format!("a{n}"), one, &format!("oa{n}"), &union),
            login(&format!("b{n}"), two, &format!("ob{n}"), &union),
        ]
    });
    site.accepted(&events.collect::<Vec<_>>()).await;
    for n in people {
        let begun = Instant::now();
        loop {
            let here = site.linked(&one, &format!("oa{n}"), logs).await;
            let there = site.linked(&two, &format!("ob{n}"), logs).await;
            if here["user_id"] == there["user_id"] {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{n}: {}", logs());
        }
    }
    // A code is exchanged by whoever has it.
    let app = site.sim.world().numbers().next().unwrap();
    let (unionid, snapshot) = (true, false);
    let session = site.sim.login(app, 5, Manner { unionid, snapshot });
    let code = site.sim.code(&session.unwrap());
    site.accepted(&[json!({"id": "c", "occurred_at": ago(0), "appid": one, "code": code})])
        .await;
    let openid = site.sim.world().openid_text(5, app);
    let found = site.linked(&one, &openid, logs).await;
    assert_eq!(found["method"], "code2session", "{found}");

    // One worker goes; the other has its partitions without waiting for a timeout.
    let begun = Instant::now();
    first.stopped().await;
    let events: Vec<Value> = (0..40)
        .map(|n| login(&format!("d{n}"), &one, &format!("od{n}"), &format!("ud{n}")))
        .collect();
    site.accepted(&events).await;
    for n in 0..40 {
        let logs = || second.logs();
        site.linked(&one, &format!("od{n}"), logs).await;
    }
    eprintln!("handed over and caught up in {:?}", begun.elapsed());
    let mut first = site.worker(0).await;

    // The front door closes while people come in: who got a 202 is linked, nobody is cut off.
    let accepted = under_fire(&site, &one, &mut intake).await;
    for openid in &accepted {
        let logs = || harness::tail_of(&second.logs());
        site.linked(&one, openid, logs).await;
    }
    let links = site.topic("links");
    let told = site.fleet.done(&["tail", &links, "--json"]).await;
    let records: Vec<Value> = told
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let mut seen = BTreeSet::new();
    for record in &records {
        let place = (
            record["key"].to_string(),
            record["value"]["revision"].to_string(),
        );
        assert!(seen.insert(place), "published twice: {record}");
    }
    assert!(records.len() >= 60 * 2 + 1 + 40 + accepted.len());
    for process in [&mut first, &mut second, &mut api] {
        process.stopped().await;
    }
    let everything = [&first, &second, &api, &intake].map(|p| p.logs()).concat();
    for secret in ["oa1\"", "ud1\"", code.as_str()] {
        assert!(!everything.contains(secret), "{secret} in the logs");
    }
}

/// Posts from some gateways while the intake stops; the openids that got a 202. Once the intake has
/// said that it is stopping, a gateway goes away when it is told to: a refused connection is then no
/// failure, a cut request is.
async fn under_fire(site: &Site, app: &str, intake: &mut Process) -> Vec<String> {
    let base = format!("http://{}", site.intake);
    let gone = AtomicBool::new(false);
    let gateways = (0..4).map(|gateway| {
        let (base, gone, fleet) = (&base, &gone, &site.fleet);
        async move {
            let mut accepted = Vec::new();
            for n in 0.. {
                let openid = format!("of{gateway}-{n}");
                let event = login(
                    &format!("f{gateway}-{n}"),
                    app,
                    &openid,
                    &format!("u{openid}"),
                );
                match fleet.post(base, &[event]).await {
                    Some((202, ..)) => accepted.push(openid),
                    Some((status, _, answer)) => panic!("{status}: {answer}"),
                    None if gone.load(Ordering::SeqCst) => break,
                    None => panic!("cut off after {n}"),
                }
            }
            accepted
        }
    });
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        intake.signal("TERM");
        let ready = format!("{base}/readyz");
        site.fleet.until(&ready, 503, intake).await;
        gone.store(true, Ordering::SeqCst);
        assert!(intake.ended().await.success(), "{}", intake.logs());
    };
    let (accepted, ()) = tokio::join!(futures::future::join_all(gateways), stopping);
    let accepted: Vec<String> = accepted.into_iter().flatten().collect();
    assert!(accepted.len() > 8, "only {} came in", accepted.len());
    accepted
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_in_one_process_too() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    let site = Site::new(kafka, postgres).await;
    for command in [
        &["keys", "new", "unilink.keys"][..],
        &["migrate"],
        &["topics"],
    ] {
        site.fleet.done(command).await;
    }
    let vars = [
        ("UNILINK_INTAKE__LISTEN", site.intake.as_str()),
        ("UNILINK_API__LISTEN", site.api.as_str()),
    ];
    let mut serve = site.fleet.start("serve", &["serve"], &vars);
    site.ready(&site.intake, &serve).await;
    site.ready(&site.api, &serve).await;
    let [one, _] = site.apps();
    site.accepted(&[login("s1", &one, "os1", "us1")]).await;
    site.linked(&one, "os1", || serve.logs()).await;
    serve.stopped().await;
}

/// How long a service is away here: some of everybody's timeouts.
const AWAY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn services_that_are_away_are_waited_for_and_nothing_is_lost() {
    let Some(cluster) = services::Cluster::start() else {
        return;
    };
    let site = Site::new(cluster.kafka(), cluster.postgres()).await;
    for command in [
        &["keys", "new", "unilink.keys"][..],
        &["migrate"],
        &["topics"],
    ] {
        site.fleet.done(command).await;
    }
    // A worker that starts before its database is there waits for it.
    cluster.stop_database();
    let starting = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        cluster.start_database();
    };
    let (mut worker, ()) = tokio::join!(site.worker(0), starting);
    let mut intake = site.intake().await;
    let mut api = site.api().await;
    let [one, _] = site.apps();
    let post = async |id: &str| {
        site.accepted(&[login(id, &one, &format!("o{id}"), &format!("u{id}"))])
            .await;
    };
    post("before").await;
    site.linked(&one, "obefore", || worker.logs()).await;

    // Without the database logins are taken, and linked later.
    cluster.stop_database();
    for address in [&site.workers[0], &site.api] {
        let why = site
            .fleet
            .until(&format!("http://{address}/readyz"), 503, &worker)
            .await;
        assert!(why.contains("the store does not answer"), "{why}");
    }
    let begun = Instant::now();
    for n in 0.. {
        post(&format!("db{n}")).await;
        if begun.elapsed() > AWAY {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    cluster.start_database();
    let begun = Instant::now();
    site.linked(&one, "odb0", || worker.logs()).await;
    eprintln!("linked {:?} after the database was back", begun.elapsed());

    // Without the brokers they are refused, in time, and taken again.
    cluster.stop_broker();
    let begun = Instant::now();
    while begun.elapsed() < AWAY {
        let asked = Instant::now();
        let event = login("kafka", &one, "okafka", "ukafka");
        let answer = site
            .fleet
            .post(&format!("http://{}", site.intake), &[event])
            .await;
        let (status, retry, answer) = answer.expect("answered");
        assert_eq!((status, retry.as_deref()), (503, Some("5")), "{answer}");
        assert!(
            asked.elapsed() < Duration::from_secs(6),
            "{:?}",
            asked.elapsed()
        );
    }
    cluster.start_broker();
    let begun = Instant::now();
    site.ready(&site.intake, &intake).await;
    post("after").await;
    site.linked(&one, "oafter", || worker.logs()).await;
    eprintln!("linked {:?} after the broker was back", begun.elapsed());
    for process in [&mut intake, &mut worker, &mut api] {
        process.stopped().await;
    }
}
