//! Several workers and one token: each time that it ends, on time or early, one of them refreshes it and
//! all take what that brought (`docs/wechat.md` §4). The simulator counts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop, in its helpers too"
)]

mod fleet;
mod harness;
mod services;

use fleet::{Fleet, PATIENCE, Process};
use harness::{Rig, Wish, ago, free_port};
use serde_json::json;
use sqlx::{Connection, Executor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use unilink::cli::assemble::Parts;
use unilink::clock;
use unilink::model::{Api, App, AppKind, Millis, OpenId};
use unilink::resolve::caller::{Caller, Missed};
use unilink::resolve::gate::{Gates, Limits};
use unilink::resolve::ports::Shelf;
use unilink::resolve::tokens::Tokens;
use unilink::resolve::wechat::{Client, Timeouts};
use unilink::simulate::{
    Api as SimApi, AppSpec, Family, Faults, Scope, Settings, Simulator, World, server,
};
use unilink::worker::memory::StoreMemory;
use uuid::Uuid;

/// Renewed in its last third, when WeChat gives out the next one.
const LIFE: Duration = Duration::from_secs(6);
const EVERY: Duration = Duration::from_secs(4);
const SHORT: Settings = Settings {
    token_life_ms: 6_000,
    token_overlap_ms: 2_000,
    code_life_ms: 300_000,
    web_code_life_ms: 600_000,
    used_as_invalid: 0.0,
    expired_as_invalid: 0.0,
    remember_codes: true,
    kill_grace_ms: 2_000,
    forced_voids_at_once: true,
    user_token_life_ms: 7_200_000,
    refresh_token_life_ms: 86_400_000,
    wrong_secret_as_credential: 0.0,
    bad_token_as_credential: 0.0,
    oauth_without_unionid: 0.0,
    odd_nicknames: 0.0,
    spaced_unionids: 0.0,
    people: 10_000,
    documented_limits: false,
};

/// Official accounts that everybody follows.
fn world() -> World {
    let official = AppSpec {
        kind: AppKind::OfficialAccount,
        platform: Some(0),
        bound_since: Millis(0),
    };
    let mut world = World::build(3, &["main"], &[official, official]).unwrap();
    (world.blocked_share, world.follower_share) = (0.0, 1.0);
    world
}

/// `cgi-bin/stable_token` and `cgi-bin/token`: requests, tokens given out, and how often a request was
/// refused for its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    asked: u64,
    issued: u64,
    refused: u64,
}

fn counted(sim: &Simulator, n: usize) -> Counted {
    let stats = sim.stats();
    let id = sim.world().sim_apps()[n].id.to_string();
    let tokens = stats.tokens.get(&id).copied().unwrap_or_default();
    assert_eq!(tokens.forced, 0, "nobody forces WeChat");
    let apis = stats.apps.get(&id).cloned().unwrap_or_default();
    let calls = |api: SimApi| apis.get(api.path()).map_or(0, |a| a.calls);
    let refused = [SimApi::Follower, SimApi::FollowerBatch].into_iter();
    let refused = refused.filter_map(|api| apis.get(api.path()));
    let refused = refused.flat_map(|api| [40001, 40014, 42001].map(|c| api.answers.get(&c)));
    Counted {
        asked: calls(SimApi::StableToken) + calls(SimApi::Token),
        issued: tokens.plain + tokens.stable,
        refused: refused.flatten().sum(),
    }
}

/// As many as ends passed in that time, each counted once.
fn once_per_end(counted: Counted, passed: Duration) {
    let ends = |share: u128| u64::try_from(passed.as_millis() * share / (10 * EVERY.as_millis()));
    assert_eq!(counted.asked, counted.issued, "{counted:?}");
    assert_eq!(counted.refused, 0, "renewed in time: {counted:?}");
    // A renewal comes with the next call after its time.
    let (least, most) = (ends(8).unwrap(), ends(10).unwrap() + 1);
    let range = least.max(2)..=most;
    assert!(range.contains(&counted.issued), "{counted:?}, {range:?}");
}

/// One worker's token centre, on a connection of its own to the store.
struct Centre {
    tokens: Tokens,
    _parts: Parts,
}

fn centre(parts: Parts, base: &str) -> Centre {
    let client = Client::new(base, Timeouts::default()).unwrap();
    let limits = Limits {
        per_app: 32,
        total: 64,
        ..Limits::default()
    };
    let memory = StoreMemory::new(&parts.store, &parts.clock);
    let shelf: Arc<dyn Shelf> = Arc::new(memory);
    let gates = Arc::new(Gates::new(limits));
    let caller = Caller::new(client, gates, shelf, Arc::clone(&parts.clock));
    let keys = Arc::clone(&parts.keys);
    Centre {
        tokens: Tokens::new(Arc::new(caller), keys, Duration::from_secs(5)),
        _parts: parts,
    }
}

async fn ask(centre: &Centre, app: &App, openid: &OpenId) -> Result<(), Missed> {
    let request = |client: Client, token| async move { client.follower(openid, &token).await };
    let told = centre.tokens.ask(app, Api::UserInfo, request).await?;
    assert!(told.subscribed);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_token_centres_on_one_store_refresh_once() {
    let rig = Rig::new(Wish {
        world: Some(world()),
        settings: SHORT,
        ..Wish::default()
    })
    .await;
    let path = rig.dir.path().join("unilink.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let base = text.lines().find(|l| l.starts_with("base_url")).unwrap();
    let base = base.split('"').nth(1).unwrap().to_owned();
    // One account has stable tokens, the other the plain ones, of which each call gives a new one.
    let secret = format!("secret = \"{}\"", rig.sim.world().sim_apps()[1].secret);
    let plain = text.replace(&secret, &format!("{secret}\ntoken = \"plain\""));
    std::fs::write(&path, plain).unwrap();
    let centres = [rig.parts().await, rig.parts().await].map(|parts| centre(parts, &base));
    let centres = Arc::new(centres);
    let apps = Arc::clone(&centres[0]._parts.apps);
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for n in 0..24u64 {
        let (centres, apps, stop) = (Arc::clone(&centres), Arc::clone(&apps), Arc::clone(&stop));
        let (asked, sim) = (Arc::clone(&asked), Arc::clone(&rig.sim));
        tasks.push(tokio::spawn(async move {
            let number = sim.world().numbers().nth(usize::from(n % 4 > 1)).unwrap();
            let app = apps.get(&sim.world().app(number).unwrap().id).unwrap();
            let openid = OpenId::parse(&sim.world().openid_text(n, number)).unwrap();
            let centre = &centres[usize::from(n % 2 == 1)];
            while !stop.load(Ordering::Relaxed) {
                ask(centre, app, &openid).await.unwrap();
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }));
    }
    let begun = Instant::now();
    tokio::time::sleep(3 * EVERY + EVERY / 2).await;
    let passed = begun.elapsed();
    for n in 0..2 {
        once_per_end(counted(&rig.sim, n), passed);
    }
    // Now they die early, again and again, under everybody's hands.
    for family in [Family::Stable, Family::Plain, Family::Stable, Family::Plain] {
        let n = usize::from(family == Family::Plain);
        // Not close to a renewal, which would count too.
        let before = counted(&rig.sim, n).issued;
        while counted(&rig.sim, n).issued == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let number = rig.sim.world().numbers().nth(n).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let before = counted(&rig.sim, n);
        rig.sim.revoke_tokens(number, family).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = counted(&rig.sim, n);
        assert_eq!(
            after.issued,
            before.issued + 1,
            "{family:?}: {before:?} {after:?}"
        );
        assert_eq!(
            after.asked,
            before.asked + 1,
            "{family:?}: {before:?} {after:?}"
        );
        assert!(after.refused > before.refused, "nobody noticed");
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 1_000, "{asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_fails_leaves_the_old_token_in_use_while_it_lives() {
    let rig = Rig::new(Wish {
        world: Some(world()),
        settings: SHORT,
        ..Wish::default()
    })
    .await;
    let text = std::fs::read_to_string(rig.dir.path().join("unilink.toml")).unwrap();
    let base = text.lines().find(|l| l.starts_with("base_url")).unwrap();
    let centre = centre(rig.parts().await, base.split('"').nth(1).unwrap());
    let number = rig.sim.world().numbers().next().unwrap();
    let apps = Arc::clone(&centre._parts.apps);
    let app = apps.get(&rig.sim.world().app(number).unwrap().id).unwrap();
    let openid = OpenId::parse(&rig.sim.world().openid_text(1, number)).unwrap();
    ask(&centre, app, &openid).await.unwrap();
    let begun = Instant::now();
    let scope = Scope {
        api: Some(SimApi::StableToken),
        ..Scope::default()
    };
    let busy = Faults {
        busy: 1.0,
        ..Faults::default()
    };
    rig.sim.set_faults_in(scope, Some(busy)).unwrap();
    tokio::time::sleep_until((begun + EVERY + Duration::from_millis(300)).into()).await;
    let asked = counted(&rig.sim, 0).asked;
    for _ in 0..20 {
        ask(&centre, app, &openid).await.unwrap();
    }
    let again = counted(&rig.sim, 0).asked;
    assert_eq!(again, asked + 1, "not with each request");
    tokio::time::sleep_until((begun + LIFE + Duration::from_millis(300)).into()).await;
    let over = ask(&centre, app, &openid).await.unwrap_err();
    assert!(matches!(over, Missed::Later(None)), "{over:?}");
    rig.sim.set_faults_in(scope, None).unwrap();
    ask(&centre, app, &openid).await.unwrap();
}

/// Two workers, an intake and an API on a Kafka and a PostgreSQL.
struct Site {
    fleet: Fleet,
    sim: Arc<Simulator>,
    intake: String,
    workers: [String; 2],
}

impl Site {
    async fn new(kafka: &str, postgres: &str) -> Self {
        let sim = Arc::new(Simulator::new(world(), SHORT, clock::system()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let wechat = listener.local_addr().unwrap();
        let end = std::future::pending();
        tokio::spawn(server::serve(listener, Arc::clone(&sim), end));
        let prefix = format!("t{}", Uuid::new_v4().simple());
        let topics = [
            ("logins", "logins"),
            ("account_links", "links"),
            ("user_merges", "merges"),
            ("registers", "registers"),
            ("link_conflicts", "conflicts"),
            ("dlq", "dlq"),
        ];
        let topics = topics.map(|(key, name)| format!("{key} = \"{prefix}.{name}\"\n"));
        let secret = format!("secret = \"{}\"", sim.world().sim_apps()[1].secret);
        let apps = sim.world().toml();
        let apps = apps.replace(&secret, &format!("{secret}\ntoken = \"plain\""));
        let mut fleet = Fleet::new(&format!(
            "[bus]\nurl = \"kafka://{kafka}\"\ngroup = \"{prefix}\"\nreplication = 1\n[topics]\n{}\
             [wechat]\nbase_url = \"http://{wechat}\"\n{apps}",
            topics.concat(),
        ));
        let mut server = sqlx::PgConnection::connect(postgres).await.unwrap();
        let create = sqlx::AssertSqlSafe(format!("CREATE DATABASE {prefix}"));
        server.execute(create).await.unwrap();
        let (base, _) = postgres.rsplit_once('/').expect("a URL with a database");
        fleet.set("UNILINK_STORE__URL", &format!("{base}/{prefix}"));
        let commands = [
            &["keys", "new", "unilink.keys"][..],
            &["migrate"],
            &["topics"],
        ];
        for command in commands {
            fleet.done(command).await;
        }
        let address = || format!("127.0.0.1:{}", free_port());
        Self {
            fleet,
            sim,
            intake: address(),
            workers: [address(), address()],
        }
    }

    async fn start(&self, name: &str, role: &str, listen: (&str, &str)) -> Process {
        let vars = [listen, ("UNILINK_WORKER__NAME", name)];
        let process = self.fleet.start(name, &[role], &vars);
        let url = format!("http://{}/readyz", listen.1);
        self.fleet.until(&url, 200, &process).await;
        process
    }

    /// Followers of both accounts are seen, so many at once.
    async fn seen(&self, from: u64, many: u64) {
        let mut events = Vec::new();
        for person in from..from + many {
            for number in self.sim.world().numbers() {
                let app = &self.sim.world().app(number).unwrap().id;
                let openid = self.sim.world().openid_text(person, number);
                events.push(
                    json!({"id": format!("{person}-{app}"), "occurred_at": ago(0),
                    "appid": app.as_str(), "openid": openid}),
                );
            }
        }
        let base = format!("http://{}", self.intake);
        let (status, _, answer) = self.fleet.post(&base, &events).await.expect("answered");
        assert_eq!(status, 202, "{answer}");
    }

    /// How often a worker asked about followers.
    async fn questions(&self, n: usize) -> f64 {
        let url = format!("http://{}/metrics", self.workers[n]);
        let (_, text) = self.fleet.get(&url).await.expect("metrics");
        let lines = text.lines().filter(|l| {
            l.starts_with("unilink_wechat_calls_total") && l.contains("api=\"user_info\"")
        });
        let numbers = lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
        numbers.sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_and_a_token_that_ends_refresh_once() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    let site = Site::new(kafka, postgres).await;
    let mut intake = {
        let listen = ("UNILINK_INTAKE__LISTEN", site.intake.as_str());
        site.start("intake", "intake", listen).await
    };
    let mut workers = Vec::new();
    for n in 0..2 {
        let listen = ("UNILINK_WORKER__LISTEN", site.workers[n].as_str());
        let name = format!("worker-{n}");
        workers.push(site.start(&name, "worker", listen).await);
    }
    let mut next = 0;
    let begun = Instant::now();
    while begun.elapsed() < 3 * EVERY + EVERY / 2 {
        site.seen(next, 5).await;
        next += 5;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let passed = begun.elapsed();
    for n in 0..2 {
        once_per_end(counted(&site.sim, n), passed);
        assert!(site.questions(n).await > 10.0, "worker {n} asked nothing");
    }
    // Both tokens die early, twice.
    for _ in 0..2 {
        let before = counted(&site.sim, 0).issued;
        while counted(&site.sim, 0).issued == before {
            site.seen(next, 5).await;
            next += 5;
        }
        for (n, family) in [(0, Family::Stable), (1, Family::Plain)] {
            let before = counted(&site.sim, n);
            let number = site.sim.world().numbers().nth(n).unwrap();
            site.sim.revoke_tokens(number, family).unwrap();
            let died = Instant::now();
            while counted(&site.sim, n).issued == before.issued {
                assert!(died.elapsed() < PATIENCE, "no token");
                site.seen(next, 5).await;
                next += 5;
            }
            for _ in 0..5 {
                site.seen(next, 5).await;
                next += 5;
            }
            let after = counted(&site.sim, n);
            let issued = after.issued - before.issued;
            assert!(died.elapsed() < LIFE, "too slow a machine to tell");
            assert_eq!(after.asked - before.asked, issued, "{before:?} {after:?}");
            assert_eq!(issued, 1, "{family:?}: {before:?} {after:?}");
        }
    }
    let logs = workers.iter().map(Process::logs).collect::<String>();
    let alarms: Vec<&str> = logs.lines().filter(|l| l.contains(" ERROR ")).collect();
    assert!(alarms.is_empty(), "{alarms:#?}");
    for process in workers.iter_mut().chain([&mut intake]) {
        process.stopped().await;
    }
}
