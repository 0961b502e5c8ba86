//! The product as its users have it: the real binary on a directory of its own, a simulated WeChat
//! beside it, HTTP in front, and, behind, the log and the store opened through the library.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests; each uses a part of it"
)]

use serde_json::Value;
use std::fs::OpenOptions;
use std::net::TcpListener as Probe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use unilink::bus::{Range, Stored};
use unilink::cli::assemble::Parts;
use unilink::clock;
use unilink::config::{Config, Environment};
use unilink::model::{Account, AppId, Millis, OpenId};
use unilink::simulate::{Settings, Simulator, World, server};

/// The app of WeChat's documented sample (`docs/wechat.md` §9).
pub const SAMPLE_APP: &str = "wx4f4bc4dec97d474b";
/// The AppSecret configured for it.
pub const SAMPLE_SECRET: &str = "5ecre7a99f0f4c0db2b8a1d3b6f0c77e";
pub const LOGINS: &str = "wechat.logins";
pub const LINKS: &str = "wechat.account-links";
pub const MERGES: &str = "wechat.user-merges";
pub const REGISTERS: &str = "wechat.registers";
pub const CONFLICTS: &str = "wechat.link-conflicts";
pub const LINKED: &str = "wechat.linked-logins";
pub const DEAD: &str = "wechat.logins.dlq";
pub const ALL: [&str; 7] = [LOGINS, LINKS, MERGES, REGISTERS, CONFLICTS, LINKED, DEAD];

/// A slow machine that builds at the same time may take this long for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// An installation.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub sim: Arc<Simulator>,
    pub http: reqwest::Client,
    intake: u16,
    api: u16,
    config: PathBuf,
    child: Option<Child>,
    end: CancellationToken,
    starts: u32,
    log: &'static str,
}

/// What a test may want otherwise.
pub struct Wish {
    pub seed: u64,
    /// TOML to add, whole sections.
    pub more: String,
    /// The value of `wechat.timeout`.
    pub timeout: &'static str,
    /// The simulated company, if not that of the seed without followers and blocked people.
    pub world: Option<World>,
    /// How WeChat behaves.
    pub settings: Settings,
    /// What `serve` logs.
    pub log: &'static str,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            seed: 1,
            more: String::new(),
            timeout: "5s",
            world: None,
            settings: Settings {
                remember_codes: true,
                ..Settings::default()
            },
            log: "trace",
        }
    }
}

impl Rig {
    /// Prepares everything; nothing runs but the simulator.
    pub async fn new(wish: Wish) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = wish.world.unwrap_or_else(|| {
            let mut world = World::new(wish.seed).unwrap();
            world.blocked_share = 0.0;
            // Whether a follower is asked about depends on what is known of them by then, which the
            // verdict on a history does not follow.
            world.follower_share = 0.0;
            world
        });
        let sim = Arc::new(Simulator::new(world, wish.settings, clock::system()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let wechat = listener.local_addr().unwrap();
        let end = CancellationToken::new();
        let until = end.clone().cancelled_owned();
        tokio::spawn(server::serve(listener, Arc::clone(&sim), until));
        let (intake, api) = (free_port(), free_port());
        let config = dir.path().join("unilink.toml");
        let quoted = |name: &str| format!("{:?}", dir.path().join(name).display().to_string());
        let text = format!(
            "[store]\nurl = {:?}\n[seal]\nkey_file = {}\n[topics]\nlinked_logins = \"{LINKED}\"\n\
             [wechat]\nbase_url = \"http://{wechat}\"\ntimeout = \"{}\"\nconnect_timeout = \"500ms\"\n\
             [intake]\nlisten = \"127.0.0.1:{intake}\"\n[api]\nlisten = \"127.0.0.1:{api}\"\n{}\n{}\n\
             [[apps]]\nappid = \"{SAMPLE_APP}\"\nkind = \"mini_program\"\nsecret = \"{SAMPLE_SECRET}\"\n\
             [[apps.platforms]]\nid = \"main\"\n",
            format!("sqlite:{}", dir.path().join("unilink.db").display()),
            quoted("unilink.keys"),
            wish.timeout,
            wish.more,
            sim.world().toml(),
        );
        std::fs::write(&config, text).unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap();
        Self {
            dir,
            sim,
            http,
            intake,
            api,
            config,
            child: None,
            end,
            starts: 0,
            log: wish.log,
        }
    }

    /// The same, and `serve` is ready.
    pub async fn serving(wish: Wish) -> Self {
        let mut rig = Self::new(wish).await;
        rig.start().await;
        rig
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unilink"));
        // Nothing of the developer's own configuration.
        command.env_clear().env("UNILINK_CONFIG", &self.config);
        command.env("LOGNAME", "tester");
        command.args(args).current_dir(self.dir.path());
        command
    }

    /// Starts `serve` and waits until both listeners are ready.
    pub async fn start(&mut self) {
        assert!(self.child.is_none(), "serves already");
        self.starts += 1;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let child = self
            .command(&["serve"])
            .env("UNILINK_LOG", self.log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let begun = Instant::now();
        for base in [self.intake_url("/readyz"), self.api_url("/readyz")] {
            while !self.ready(&base).await {
                let ended = self.child.as_mut().unwrap().try_wait().unwrap();
                assert!(ended.is_none(), "serve ended: {}", self.logs());
                assert!(begun.elapsed() < PATIENCE, "not ready: {}", self.logs());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    async fn ready(&self, url: &str) -> bool {
        let answer = self.http.get(url).send().await;
        answer.is_ok_and(|a| a.status().is_success())
    }

    /// The most memory that the process ever had, in MiB; `None` where the system does not say.
    pub fn peak_mib(&self) -> Option<u64> {
        let pid = self.child.as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib / 1_024)
    }

    /// SIGKILL, which the simulator is told of.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("serves");
        child.kill().unwrap();
        child.wait().unwrap();
        self.sim.note_kill();
    }

    /// SIGTERM; how it ended.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("serves");
        let pid = child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > PATIENCE {
                child.kill().ok();
                panic!("does not stop: {}", self.logs());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops and expects success.
    pub async fn stopped(&mut self) {
        let status = self.stop().await;
        assert!(status.success(), "{status}: {}", self.logs());
    }

    /// Another command on the same configuration, to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    pub fn intake_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.intake)
    }

    pub fn api_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.api)
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("stderr.log")
    }

    /// All that `serve` ever wrote to stderr.
    pub fn logs(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Posts a body; status and answer.
    pub async fn post_as(&self, kind: &str, body: Vec<u8>) -> (u16, Value) {
        let request = self.http.post(self.intake_url("/v1/logins"));
        let request = request.header("content-type", kind.to_owned()).body(body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub async fn post(&self, event: &Value) -> (u16, Value) {
        let body = serde_json::to_vec(event).unwrap();
        self.post_as("application/json", body).await
    }

    /// Posts what must be taken.
    pub async fn accept(&self, event: &Value) {
        let (status, answer) = self.post(event).await;
        assert_eq!(status, 202, "{answer}");
    }

    /// A look-up: status and answer.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http.get(self.api_url(path)).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Looks an account up until `enough`.
    pub async fn account(&self, app: &str, openid: &str, enough: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/accounts/{app}/{openid}");
        let begun = Instant::now();
        loop {
            let (status, found) = self.get(&path).await;
            if status == 200 && enough(&found) {
                return found;
            }
            let told = format!("{status} {found}: {}", tail_of(&self.logs()));
            assert!(begun.elapsed() < PATIENCE, "{told}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Log and store through the library: beside the process, or after it.
    pub async fn parts(&self) -> Parts {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let config = Config::read(&text, "the rig's", &Environment::default()).unwrap();
        Parts::open(config, None).await.unwrap()
    }

    /// Waits until everything published so far is applied and nothing is due within minutes.
    pub async fn settle(&self, parts: &Parts, patience: Duration) {
        /// What is due later waits for a session key that will not come.
        const SOON_MS: i64 = 10 * 60_000;
        let begun = Instant::now();
        loop {
            let next = parts.store.next_due().await.unwrap();
            let now = (parts.clock)();
            let waiting = next.is_some_and(|at| at.since(now) < SOON_MS);
            let behind = lag(parts).await;
            if !waiting && behind == 0 {
                return;
            }
            let told = format!("{behind} behind, next due {next:?}");
            assert!(
                begun.elapsed() < patience,
                "{told}: {}",
                tail_of(&self.logs())
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn settled(&self) {
        let parts = self.parts().await;
        self.settle(&parts, PATIENCE).await;
    }

    /// The process has gone and left nothing behind that a next start would trip over.
    pub async fn leftovers(&mut self) {
        assert!(self.child.is_none(), "still serves");
        for port in [self.intake, self.api] {
            Probe::bind(("127.0.0.1", port)).expect("the port is free again");
        }
        let known = ["unilink.db", "unilink.keys", "unilink.toml", "stderr.log"];
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let ours = known.contains(&name.as_str()) || name.starts_with("unilink.db");
            assert!(ours, "{name} was left behind");
        }
    }

    /// Bytes of every file of the installation but the key file, the configuration and the logs.
    pub fn data(&self) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let paths = entries.map(|e| e.unwrap().path());
        let data = paths.filter(|p| file_name(p).starts_with("unilink.db"));
        data.map(|p| (file_name(&p), std::fs::read(&p).unwrap()))
            .collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
        self.end.cancel();
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// The end of a long text.
pub fn tail_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// A port that nobody listens on, below the range that systems give out for outgoing connections,
/// so that it is still free when `serve` comes to take it, after kills too.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let base = std::process::id().wrapping_mul(61);
    for _ in 0..2_000 {
        let n = base.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + u16::try_from(n % 18_000).unwrap();
        if Probe::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// Events in the login topic that are not applied.
pub async fn lag(parts: &Parts) -> i64 {
    let bounds = bounds(parts, LOGINS).await;
    let written: i64 = bounds.iter().map(|(_, next)| next).sum();
    let positions = parts.store.positions().await.unwrap();
    written - positions.iter().map(|p| p.offset).sum::<i64>()
}

async fn bounds(parts: &Parts, topic: &str) -> Vec<(i64, i64)> {
    let topics = parts.bus.topics(&[]).await.unwrap();
    let found = topics.into_iter().find(|t| *t.name == *topic);
    found.unwrap_or_else(|| panic!("no topic {topic}")).bounds
}

/// All records of a topic, partition by partition, in order.
pub async fn topic(parts: &Parts, name: &str) -> Vec<Stored> {
    let mut all = Vec::new();
    for (partition, (from, to)) in (0u32..).zip(bounds(parts, name).await) {
        let mut range = Range {
            topic: name.into(),
            partition,
            from,
            to,
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

pub fn json(record: &Stored) -> Value {
    serde_json::from_slice(record.value.as_deref().expect("a value")).expect("JSON")
}

pub fn header(record: &Stored, name: &str) -> Option<String> {
    let found = record.headers.iter().find(|(n, _)| n == name)?;
    Some(String::from_utf8(found.1.clone()).unwrap())
}

/// `now` and `minutes` around it, as events tell times.
pub fn ago(minutes: i64) -> String {
    (clock::system())().plus(-minutes * 60_000).to_string()
}

pub fn account(app: &str, openid: &str) -> Account {
    Account {
        app: AppId::parse(app).unwrap(),
        openid: OpenId::parse(openid).unwrap(),
    }
}

pub fn now() -> Millis {
    (clock::system())()
}
