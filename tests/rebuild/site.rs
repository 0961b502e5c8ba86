//! An installation on either profile, with what may happen to it: databases are emptied or restored,
//! topics made anew, the group goes back to the beginning.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests; each uses a part of it"
)]

use crate::fleet::{self, Fleet, PATIENCE, Process};
use crate::harness::{self, account, ago, free_port, now};
use crate::services;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use unilink::bus::{Range, Stored, TopicSpec};
use unilink::cli::assemble::{self, Operating, Parts};
use unilink::clock::{self, Clock};
use unilink::config::{Config, Environment};
use unilink::model::{
    Account, AppKind, ClaimKey, ClaimVerdict, Decision, Erasure, EventId, PlatformId, Ruling,
    UnionId, UnionKey,
};
use unilink::simulate::{Manner, Settings, Simulator, World, server};
use unilink::store::{FoundAccount, FoundUser};
use unilink::wire::{DecisionWire, ErasureWire, Signer};
use uuid::Uuid;

/// An installation on either profile.
pub struct Site {
    pub fleet: Fleet,
    pub sim: Arc<Simulator>,
    pub config: String,
    pub intake: String,
    pub api: String,
    pub kind: Kind,
    pub serves: u32,
    /// How long anything may take.
    pub patience: Duration,
}

pub enum Kind {
    Embedded,
    Production {
        kafka: String,
        postgres: String,
        name: String,
        database: String,
    },
}

/// What everybody can see of all accounts, and what the store counts.
#[derive(Debug, PartialEq)]
pub struct State {
    pub accounts: BTreeMap<String, String>,
    pub users: u64,
    pub contested: BTreeMap<String, u64>,
    pub tombstones: u64,
}

impl Site {
    pub async fn new(services: Option<(&str, &str)>) -> Self {
        let mut world = World::new(1).unwrap();
        world.blocked_share = 0.0;
        let settings = Settings {
            remember_codes: true,
            ..Settings::default()
        };
        Self::of(services, world, settings, clock::system(), "").await
    }

    /// The same, of another company, at WeChat's own time, with more said of the topics.
    pub async fn of(
        services: Option<(&str, &str)>,
        world: World,
        settings: Settings,
        clock: Clock,
        topics: &str,
    ) -> Self {
        let sim = Arc::new(Simulator::new(world, settings, clock));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let wechat = listener.local_addr().unwrap();
        let forever = std::future::pending();
        tokio::spawn(server::serve(listener, Arc::clone(&sim), forever));
        let name = format!("r{}", Uuid::new_v4().simple());
        let (intake, api) = (free_port(), free_port());
        let fleet = Fleet::new("");
        let path = |file: &str| fleet.dir.path().join(file).display().to_string();
        let kind = match services {
            None => Kind::Embedded,
            Some((kafka, postgres)) => Kind::Production {
                kafka: kafka.to_owned(),
                postgres: postgres.to_owned(),
                database: name.clone(),
                name: name.clone(),
            },
        };
        let profile = match &kind {
            Kind::Embedded => format!("[topics]\n{topics}linked_logins = \"{name}.linked\"\n"),
            Kind::Production { kafka, .. } => format!(
                "[bus]\nurl = \"kafka://{kafka}\"\ngroup = \"{name}\"\nreplication = 1\n\
                 [topics]\n{topics}linked_logins = \"{name}.linked\"\nlogins = \"{name}.logins\"\n\
                 account_links = \"{name}.links\"\nuser_merges = \"{name}.merges\"\n\
                 registers = \"{name}.registers\"\nlink_conflicts = \"{name}.conflicts\"\n\
                 dlq = \"{name}.dlq\"\n"
            ),
        };
        let config = format!(
            "{profile}[seal]\nkey_file = {:?}\n[wechat]\nbase_url = \"http://{wechat}\"\n\
             [intake]\nlisten = \"127.0.0.1:{intake}\"\n[api]\nlisten = \"127.0.0.1:{api}\"\n{}",
            path("unilink.keys"),
            sim.world().toml()
        );
        let site = Self {
            intake: format!("http://127.0.0.1:{intake}"),
            api: format!("http://127.0.0.1:{api}"),
            fleet,
            sim,
            config,
            kind,
            serves: 0,
            patience: PATIENCE,
        };
        if let Kind::Production { name, .. } = &site.kind {
            site.sql(&format!("CREATE DATABASE {name}")).await;
        }
        site.configure();
        if site.on_services() {
            for command in [
                &["keys", "new", "unilink.keys"][..],
                &["migrate"],
                &["topics"],
            ] {
                site.fleet.done(command).await;
            }
        }
        site
    }

    pub fn on_services(&self) -> bool {
        matches!(self.kind, Kind::Production { .. })
    }

    pub fn url(&self) -> String {
        match &self.kind {
            Kind::Embedded => format!("sqlite:{}", self.file().display()),
            Kind::Production {
                postgres, database, ..
            } => {
                let (base, _) = postgres.rsplit_once('/').unwrap();
                format!("{base}/{database}")
            }
        }
    }

    pub fn file(&self) -> PathBuf {
        self.fleet.dir.path().join("unilink.db")
    }

    pub fn text(&self) -> String {
        format!("[store]\nurl = {:?}\n{}", self.url(), self.config)
    }

    /// Writes the configuration as it is by now.
    pub fn configure(&self) {
        std::fs::write(self.fleet.dir.path().join("unilink.toml"), self.text()).unwrap();
    }

    /// On the database server.
    pub async fn sql(&self, sql: &str) {
        let Kind::Production { postgres, .. } = &self.kind else {
            panic!("no server");
        };
        let mut server = sqlx::PgConnection::connect(postgres).await.unwrap();
        server.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    pub async fn operating(&self) -> Operating {
        let config = Config::read(&self.text(), "the test's", &Environment::default()).unwrap();
        Operating::open(config).await.unwrap()
    }

    pub async fn parts(&self) -> Parts {
        let config = Config::read(&self.text(), "the test's", &Environment::default()).unwrap();
        Parts::open(config, None).await.unwrap()
    }

    pub async fn serve(&mut self) -> Process {
        self.serves += 1;
        let name = format!("serve-{}", self.serves);
        let process = self.fleet.start(&name, &["serve"], &[]);
        for base in [&self.intake, &self.api] {
            let url = format!("{base}/readyz");
            self.fleet.until(&url, 200, &process).await;
        }
        process
    }

    /// Starts what must not run, and reads what it says.
    pub async fn refuses(&mut self) -> String {
        self.serves += 1;
        let name = format!("refused-{}", self.serves);
        let mut process = self.fleet.start(&name, &["serve"], &[]);
        let status = process.ended().await;
        assert_eq!(status.code(), Some(1), "{}", process.logs());
        process.logs()
    }

    pub async fn accepted(&self, events: &[Value]) {
        for events in events.chunks(100) {
            let (status, _, answer) = self.fleet.post(&self.intake, events).await.unwrap();
            assert_eq!(status, 202, "{answer}");
        }
    }

    /// Waits until everything is applied and published, and stops.
    pub async fn settled(&self, mut process: Process) {
        let parts = self.parts().await;
        let begun = Instant::now();
        let mut quiet = 0;
        while quiet < 5 {
            let told = || harness::tail_of(&process.logs());
            assert!(begun.elapsed() < self.patience, "{}", told());
            let soon = parts.store.next_due().await.unwrap();
            let soon = soon.is_some_and(|at| at.since(now()) < 600_000);
            let done = !soon && !behind(&parts).await;
            quiet = if done { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        process.stopped().await;
        assert!(!behind(&parts).await);
    }

    /// Two of the simulator's apps with the same platform.
    pub fn apps(&self) -> [String; 2] {
        let apps = self.sim.world().sim_apps();
        [apps[0].id.to_string(), apps[1].id.to_string()]
    }

    /// Logins of people `from` to `to`, in two apps; some contradict what they said before.
    pub fn logins(&self, wave: &str, people: std::ops::Range<u32>) -> Vec<Value> {
        let [one, two] = self.apps();
        let event = |n: u32, app: &str, kind: &str, unionid: &str| {
            json!({"id": format!("{wave}-{kind}{n}"), "occurred_at": ago(i64::from(n % 50)),
                "appid": app, "openid": format!("o{kind}{n}"), "unionid": unionid})
        };
        let mut events = Vec::new();
        for n in people {
            events.push(event(n, &one, "a", &format!("u{n}")));
            if n % 3 != 0 {
                events.push(event(n, &two, "b", &format!("u{n}")));
            }
            if n % 7 == 0 {
                events.push(event(n, &one, "c", &format!("u{n}")));
            }
        }
        events
    }

    /// Code logins; also some that only an earlier key could resolve.
    pub fn codes(&self, wave: &str, people: std::ops::Range<u64>) -> Vec<Value> {
        let app = self.sim.world().numbers().next().unwrap();
        let [one, _] = self.apps();
        let manner = Manner {
            unionid: true,
            snapshot: false,
        };
        let people = people.map(|person| {
            let session = self.sim.login(app, person, manner).unwrap();
            json!({"id": format!("{wave}-code{person}"), "occurred_at": ago(0), "appid": one,
                "code": self.sim.code(&session)})
        });
        people.collect()
    }

    /// Somebody else exchanges a code at WeChat.
    pub async fn spend(&self, code: &str) {
        let app = &self.sim.world().sim_apps()[0];
        let base = self.config.split("base_url = \"").nth(1).unwrap();
        let base = base.split('"').next().unwrap();
        let (path, name) = match app.kind {
            AppKind::MiniProgram => ("jscode2session", "js_code"),
            _ => ("oauth2/access_token", "code"),
        };
        let url = format!(
            "{base}/sns/{path}?appid={}&secret={}&{name}={code}&grant_type=authorization_code",
            app.id, app.secret
        );
        let answer = reqwest::get(url).await.unwrap().text().await.unwrap();
        assert!(answer.contains("openid"), "{answer}");
    }

    /// An operator erases one account and rejects the claim of another.
    pub async fn decided(&self, wave: &str, n: u32) {
        let parts = self.parts().await;
        let [one, _] = self.apps();
        let operator = parts.keys.operators.last().unwrap();
        let signer = Signer::new(&operator.id, &operator.key);
        let cause = |what: &str| EventId::parse(&format!("{wave}-{what}{n}")).unwrap();
        let erasure = Erasure {
            account: account(&one, &format!("oa{n}")),
            erased_at: now(),
            cause: cause("erase"),
        };
        let other = account(&one, &format!("oa{}", n + 1));
        let decision = Decision {
            ruling: Ruling::Claim {
                account: other,
                union: UnionKey {
                    platform: PlatformId::parse(&self.platform()).unwrap(),
                    unionid: UnionId::parse(&format!("u{}", n + 1)).unwrap(),
                },
                verdict: Some(ClaimVerdict::Reject),
            },
            at: now(),
            author: "ops".into(),
            note: "a test".into(),
            cause: cause("reject"),
        };
        let topics = parts.topics();
        let erasure = ErasureWire::to_record(&erasure, &topics, "test", &signer);
        let decision = DecisionWire::to_record(&decision, &topics, "test", &signer);
        parts.bus.publish(vec![erasure, decision]).await.unwrap();
    }

    pub fn platform(&self) -> String {
        let parts = self.sim.world().sim_apps();
        let config = Config::read(&self.text(), "the test's", &Environment::default()).unwrap();
        let apps = config.apps();
        apps.newest_platform(&parts[0].id)
            .unwrap()
            .as_str()
            .to_owned()
    }

    /// As look-ups have it.
    pub async fn state(&self) -> State {
        let parts = self.parts().await;
        let known: Vec<Account> = accounts(&parts).await;
        let mut accounts = BTreeMap::new();
        for (who, found) in known
            .iter()
            .zip(parts.store.find_accounts(&known).await.unwrap())
        {
            let own = who.own_id(parts.namespace, unilink::model::Millis(0));
            let told = match (found, parts.store.find_user(own).await.unwrap()) {
                (Some(found), user) => format!("{} {}", shown(found), of(user)),
                (None, user) => format!("none {}", of(user)),
            };
            accounts.insert(who.key(), told);
        }
        let totals = parts.store.totals().await.unwrap();
        State {
            accounts,
            users: totals.users,
            contested: totals.contested_by_why,
            tombstones: totals.tombstones,
        }
    }

    /// Keeps a copy of the store as it is: a dump.
    pub async fn dump(&self, to: &str) {
        match &self.kind {
            Kind::Embedded => {
                let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
                let mut file = self.raw().await;
                file.execute(checkpoint).await.unwrap();
                file.close().await.unwrap();
                std::fs::copy(self.file(), self.fleet.dir.path().join(to)).unwrap();
            }
            Kind::Production { database, name, .. } => {
                self.sql(&format!("CREATE DATABASE {name}_{to} TEMPLATE {database}"))
                    .await;
            }
        }
    }

    /// The tables of the store become those of the dump; the log stays as it is.
    pub async fn restore(&mut self, from: &str) {
        match &mut self.kind {
            Kind::Embedded => {
                let from = self.fleet.dir.path().join(from);
                let mut file = self.raw().await;
                let attach = format!("ATTACH '{}' AS old", from.display());
                file.execute(AssertSqlSafe(attach)).await.unwrap();
                for table in tables(&mut file, "NOT LIKE 'log_%'").await {
                    let copy = format!(
                        "DELETE FROM {table}; INSERT INTO {table} SELECT * FROM old.{table}"
                    );
                    file.execute(AssertSqlSafe(copy)).await.unwrap();
                }
                file.close().await.unwrap();
            }
            Kind::Production { database, name, .. } => *database = format!("{name}_{from}"),
        }
        self.configure();
    }

    /// A database without anything in it.
    pub async fn emptied(&mut self) {
        match &mut self.kind {
            Kind::Embedded => {
                let mut file = self.raw().await;
                for table in tables(&mut file, "NOT LIKE 'log_%'").await {
                    let delete = format!("DELETE FROM {table}");
                    file.execute(AssertSqlSafe(delete)).await.unwrap();
                }
                file.close().await.unwrap();
            }
            Kind::Production { database, name, .. } => {
                *database = format!("{name}_empty");
                let create = format!("CREATE DATABASE {database}");
                self.sql(&create).await;
                self.configure();
                self.fleet.done(&["migrate"]).await;
            }
        }
    }

    /// A transaction with a record in each partition of the topic that nobody ends, as a killed worker
    /// leaves it. The brokers end it about twenty seconds later.
    pub async fn left_open(&self, topic: &Arc<str>) -> BaseProducer {
        let Kind::Production { kafka, name, .. } = &self.kind else {
            panic!("no Kafka");
        };
        let partitions = bounds(&self.parts().await, topic).await.len();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka)
            .set("transactional.id", format!("{name}.dead"))
            .set("transaction.timeout.ms", "15000")
            .set("message.timeout.ms", "15000")
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        for partition in 0..i32::try_from(partitions).unwrap() {
            let record = BaseRecord::to(topic).partition(partition);
            let sent = producer.send(record.key("dead").payload("open"));
            sent.map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        producer
    }

    /// Every topic is gone, and made anew with eight partitions.
    pub async fn lose_topics(&mut self) {
        let topics = self.parts().await.config.topics.specs();
        if let Kind::Production { kafka, .. } = &self.kind {
            let mut config = ClientConfig::new();
            let admin: AdminClient<DefaultClientContext> =
                config.set("bootstrap.servers", kafka).create().unwrap();
            let names: Vec<&str> = topics.iter().map(|spec| &*spec.name).collect();
            let deleted = admin.delete_topics(&names, &AdminOptions::new()).await;
            assert!(deleted.unwrap().iter().all(Result::is_ok));
            tokio::time::sleep(Duration::from_secs(2)).await;
        } else {
            let mut file = self.raw().await;
            for table in tables(&mut file, "LIKE 'log_%'").await {
                let delete = format!("DELETE FROM {table}");
                file.execute(AssertSqlSafe(delete)).await.unwrap();
            }
            file.close().await.unwrap();
        }
        self.config = self
            .config
            .replace("[topics]\n", "[topics]\nlogins_partitions = 8\n");
        self.configure();
        self.fleet.done(&["topics"]).await;
    }

    /// The group back at the beginning, as Kafka's own tool sets it. Nobody may be at work.
    pub async fn replayed(&self) {
        match &self.kind {
            Kind::Embedded => {
                let config =
                    Config::read(&self.text(), "the test's", &Environment::default()).unwrap();
                let file = assemble::open_file(&self.file(), None).await.unwrap();
                let bus = assemble::embedded_bus(&config, file).await.unwrap();
                bus.reset_group(0).await.unwrap();
            }
            Kind::Production { kafka, name, .. } => {
                let (kafka, group) = (kafka.clone(), name.clone());
                let reset =
                    move || services::reset_group(&kafka, &group, &format!("{group}.logins"));
                tokio::task::spawn_blocking(reset).await.unwrap();
            }
        }
    }

    /// Waits until the group is at the end of the logins again, after [`Site::replayed`].
    pub async fn caught_up(&self, process: &Process) {
        let parts = self.parts().await;
        let begun = Instant::now();
        loop {
            let bounds = bounds(&parts, &parts.config.topics.logins).await;
            let group = parts.bus.group().await.unwrap();
            let mut ends = group.iter().zip(&bounds);
            let at_the_end = |input: Option<i64>, (first, next): &(i64, i64)| {
                first == next || input.is_some_and(|input| input >= *next)
            };
            if ends.all(|(one, bounds)| at_the_end(one.input, bounds)) {
                return;
            }
            let told = || harness::tail_of(&process.logs());
            assert!(begun.elapsed() < self.patience, "{}", told());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until everything is applied and published, beside whoever works.
    pub async fn quiet(&self, process: &Process) {
        let parts = self.parts().await;
        let begun = Instant::now();
        while behind(&parts).await {
            let told = || harness::tail_of(&process.logs());
            assert!(begun.elapsed() < self.patience, "{}", told());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn raw(&self) -> sqlx::SqliteConnection {
        let url = format!("sqlite:{}", self.file().display());
        sqlx::SqliteConnection::connect(&url).await.unwrap()
    }

    pub async fn rebuilt(&self, from: &str) -> String {
        let output = self.fleet.run(&["rebuild", "--from", from]).await;
        let (out, err) = fleet::texts(&output);
        assert_eq!(output.status.code(), Some(2), "asked nobody: {out}{err}");
        assert!(err.contains("--yes"), "{err}");
        let nobody = [("LOGNAME", "")];
        let args = ["rebuild", "--from", from, "--yes"];
        let output = self.fleet.run_with(&args, &nobody).await;
        let (out, err) = fleet::texts(&output);
        assert_eq!(output.status.code(), Some(2), "by nobody: {out}{err}");
        assert!(err.contains("--author"), "{err}");
        let told = self
            .fleet
            .done(&["rebuild", "--from", from, "--dry-run"])
            .await;
        assert!(told.contains("the store has"), "{told}");
        let told = self.fleet.done(&["rebuild", "--from", from, "--yes"]).await;
        assert!(told.contains(&format!("rebuilt from the {from}")), "{told}");
        let audit = self.operating().await.store.audits(1).await.unwrap();
        let who = audit
            .iter()
            .map(|a| (&*a.author, &*a.action, &*a.detail["from"]));
        assert_eq!(who.collect::<Vec<_>>(), [("tester", "rebuild", from)]);
        told
    }
}

pub async fn tables(file: &mut sqlx::SqliteConnection, which: &str) -> Vec<String> {
    let sql = format!(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name {which} \
         AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_sqlx_%'"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .fetch_all(file)
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What can be seen of an account. The cause of a claim stands in no topic.
pub fn shown(found: FoundAccount) -> String {
    let row = found.row;
    let claims = found.claims.iter().map(|c| {
        let ClaimKey { union, .. } = &c.key;
        let unionid = union.unionid.as_str();
        format!(
            "{unionid} {} {:?} {:?} {:?}",
            c.at, c.method, c.status, c.verdict
        )
    });
    format!(
        "{} {} {} {} {:?} {:?}",
        row.user,
        row.generation,
        row.first_seen_at,
        row.revision,
        row.reason.map(|(_, reason)| reason),
        claims.collect::<Vec<_>>()
    )
}

pub fn of(user: FoundUser) -> String {
    match user {
        FoundUser::Is(user, accounts) => format!("{user} of {}", accounts.len()),
        FoundUser::Gone => "gone".into(),
        FoundUser::Unknown => "unknown".into(),
    }
}

/// All accounts that were ever told of.
pub async fn accounts(parts: &Parts) -> Vec<Account> {
    let mut keys: Vec<String> = links(parts).await.iter().map(key).collect();
    keys.sort();
    keys.dedup();
    keys.iter().map(|k| Account::from_key(k).unwrap()).collect()
}

pub fn key(record: &Stored) -> String {
    String::from_utf8(record.key.clone()).unwrap()
}

pub async fn records(parts: &Parts, topic: &Arc<str>) -> Vec<Stored> {
    let bounds = &bounds(parts, topic).await;
    parts.bus.settled(topic).await.unwrap();
    let mut all = Vec::new();
    for (partition, (from, to)) in (0u32..).zip(bounds) {
        let mut range = Range {
            topic: Arc::clone(topic),
            partition,
            from: *from,
            to: *to,
        };
        loop {
            let records = parts.bus.read(&range, 5_000).await.unwrap();
            let Some(last) = records.last() else { break };
            range.from = last.offset + 1;
            all.extend(records);
        }
    }
    all
}

/// A topic that was just made anew is not known to all brokers at once.
pub async fn bounds(parts: &Parts, topic: &Arc<str>) -> Vec<(i64, i64)> {
    let begun = Instant::now();
    loop {
        match parts.bus.topics(&[TopicSpec::asked(topic)]).await {
            Ok(mut states) => return states.remove(0).bounds,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub async fn links(parts: &Parts) -> Vec<Stored> {
    records(parts, &parts.config.topics.account_links).await
}

/// Whether anything is left to apply or to publish.
pub async fn behind(parts: &Parts) -> bool {
    let logins = &parts.config.topics.logins;
    let bounds = &bounds(parts, logins).await;
    let positions = parts.store.positions().await.unwrap();
    let group = parts.bus.group().await.unwrap();
    for (one, (first, next)) in group.iter().zip(bounds) {
        let applied = positions.iter().find(|p| p.partition == one.partition);
        if first < next && applied.is_none_or(|p| p.offset < *next) {
            return true;
        }
        let head = parts.store.outbox_head(one.partition).await.unwrap();
        if one.relay.is_none_or(|relay| relay.seq < head) && head > 0 {
            return true;
        }
    }
    false
}
