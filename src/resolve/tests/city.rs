//! One simulated WeChat, one store, and workers that share them as processes do: each with a memory, a
//! clock and gates of its own. A worker's way to the store may be cut, its claims may be held up, and
//! its clock runs ahead while it "stands still".

use crate::clock::{self, Clock};
use crate::model::{Api, App, AppKind, Millis, Secret};
use crate::resolve::caller::Caller;
use crate::resolve::exchange::{Exchange, Exchanged, Sender};
use crate::resolve::gate::{Gates, Limits, Pass};
use crate::resolve::ledger::lost_code;
use crate::resolve::ports::{
    Claim, Claimed, Found, HeldKeys, Mark, Memory, MemoryFault, Note, Release, Sending,
};
use crate::resolve::wechat::{Client, Timeouts};
use crate::seal::Keys;
use crate::simulate::{
    AppNo, AppSpec, CodeStats, Faults, Manner, Session, Settings, Simulator, World, server,
};
use crate::sqlite::{File, Options};
use crate::store::sqlite::SqliteStore;
use crate::store::{self, Birth, CodeKey, Store};
use crate::worker::memory::StoreMemory;
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use uuid::Uuid;

/// Of a call to WeChat.
pub const TIMEOUT: Duration = Duration::from_millis(1_000);
/// A slow machine may take this long for anything.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct City {
    _dir: tempfile::TempDir,
    pub sim: Arc<Simulator>,
    pub store: Arc<dyn Store>,
    keys: Arc<Keys>,
    base: String,
}

impl City {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let app = AppSpec {
            kind: AppKind::MiniProgram,
            platform: Some(0),
            bound_since: Millis(0),
        };
        let mut world = World::build(3, &["main"], &[app]).expect("a world");
        world.blocked_share = 0.0;
        let settings = Settings {
            remember_codes: true,
            ..Settings::default()
        };
        let sim = Arc::new(Simulator::new(world, settings, clock::system()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("binds");
        let base = format!("http://{}", listener.local_addr().expect("address"));
        let end = std::future::pending();
        tokio::spawn(server::serve(listener, Arc::clone(&sim), end));
        let file = File::open(&dir.path().join("u.db"), Options::default()).await;
        let birth = Birth {
            partitions: 1,
            group: "g".into(),
            secrets_hash: [0; 32],
        };
        let mac: store::Mac = Arc::new(|_| [0; 32]);
        let store = SqliteStore::open(file.expect("opens"), birth, Uuid::nil(), mac).await;
        Self {
            store: Arc::new(store.expect("opens")),
            keys: Arc::new(Keys::create(&dir.path().join("keys")).expect("keys")),
            _dir: dir,
            sim,
            base,
        }
    }

    /// A worker like any other.
    pub fn worker(&self) -> Worker {
        self.worker_at(&self.base, false)
    }

    /// The only one there can be.
    pub fn lone_worker(&self) -> Worker {
        self.worker_at(&self.base, true)
    }

    /// One that nobody answers, since nobody listens there.
    pub async fn lost_worker(&self) -> Worker {
        let port = TcpListener::bind(("127.0.0.1", 0)).await.expect("binds");
        let base = format!("http://{}", port.local_addr().expect("address"));
        drop(port);
        self.worker_at(&base, false)
    }

    fn worker_at(&self, base: &str, alone: bool) -> Worker {
        let ahead = Arc::new(AtomicI64::new(0));
        let clock: Clock = {
            let ahead = Arc::clone(&ahead);
            Arc::new(move || clock::now().plus(ahead.load(Ordering::Relaxed)))
        };
        let inner = Arc::new(StoreMemory::new(&self.store, &clock));
        let memory = Arc::new(Fickle {
            inner: Arc::clone(&inner),
            away: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            claims: watch::Sender::new(true),
            at_the_gate: AtomicU64::new(0),
        });
        let timeouts = Timeouts {
            connect: TIMEOUT / 2,
            total: TIMEOUT,
            ..Timeouts::default()
        };
        let client = Client::new(base, timeouts).expect("a client");
        let gates = Arc::new(Gates::new(Limits {
            per_app: 1,
            total: 1,
            ..Limits::default()
        }));
        let caller = Caller::new(client, Arc::clone(&gates), inner, clock);
        let sender = Sender {
            request_timeout: TIMEOUT,
            me: Uuid::new_v4(),
            alone,
        };
        let shared: Arc<dyn Memory> = Arc::clone(&memory) as Arc<dyn Memory>;
        let keys = Arc::clone(&self.keys);
        Worker {
            exchange: Arc::new(Exchange::new(Arc::new(caller), shared, keys, sender)),
            app: self.sim.world().apps().remove(0),
            memory,
            gates,
            ahead,
        }
    }

    fn number(&self) -> AppNo {
        self.sim.world().numbers().next().expect("an app")
    }

    /// A person begins a session; its code.
    pub fn code(&self, person: u64) -> Login {
        let session = self.sim.login(self.number(), person, Manner::default());
        let session = session.expect("logs in");
        Login {
            code: Secret::new(self.sim.code(&session)),
            session,
        }
    }

    pub fn fault(&self, flags: &[&str]) {
        let mut faults = Faults::default();
        for flag in flags {
            faults.set(flag).expect("a fault");
        }
        self.sim.set_faults(faults).expect("set");
    }

    pub fn codes(&self) -> CodeStats {
        self.sim.stats().codes
    }

    fn key(&self, login: &Login) -> CodeKey {
        let app = self.sim.world().apps().remove(0);
        let marked = lost_code(&self.keys, &app, &login.code, clock::now());
        CodeKey(marked.expect("seals").0.0)
    }

    /// The row that tells of a code's sending.
    pub async fn sending(&self, login: &Login) -> Option<store::Sending> {
        let rows = self.store.sendings(&[self.key(login)]).await;
        rows.expect("reads").remove(0)
    }

    /// Waits until somebody claimed the code.
    pub async fn until_claimed(&self, login: &Login) {
        let begun = Instant::now();
        while self.sending(login).await.is_none() {
            assert!(begun.elapsed() < PATIENCE, "nobody claims it");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Another process takes the code's lease, for so long from now.
    pub async fn claim(&self, login: &Login, now: Millis, ms: i64) -> store::Claimed {
        let claim = store::Claim {
            code: self.key(login),
            holder: Uuid::new_v4(),
            until: now.plus(ms),
        };
        self.store
            .claim(&[claim], now)
            .await
            .expect("claims")
            .remove(0)
    }
}

pub struct Login {
    pub code: Secret,
    session: Session,
}

pub struct Worker {
    pub exchange: Arc<Exchange>,
    pub app: App,
    pub memory: Arc<Fickle>,
    pub gates: Arc<Gates>,
    ahead: Arc<AtomicI64>,
}

impl Worker {
    /// Exchanges the code on a task of its own, as the ladder does.
    pub fn begin(&self, login: &Login) -> tokio::task::JoinHandle<Result<Exchanged, MemoryFault>> {
        let (exchange, app) = (Arc::clone(&self.exchange), self.app.clone());
        let (code, at) = (login.code.clone(), login.session.at);
        tokio::spawn(async move { exchange.exchange(&app, &code, at).await })
    }

    pub async fn try_it(&self, login: &Login) -> Result<Exchanged, MemoryFault> {
        self.begin(login).await.expect("ends well")
    }

    pub async fn exchange(&self, login: &Login) -> Exchanged {
        self.try_it(login).await.expect("the memory is there")
    }

    /// Takes its only slot.
    pub async fn slot(&self) -> Pass {
        let pass = self
            .gates
            .admit(&self.app.id, Api::Code2Session, || self.now());
        pass.await.expect("open")
    }

    /// It stood still for so long.
    pub fn sleeps(&self, ms: i64) {
        self.ahead.fetch_add(ms, Ordering::Relaxed);
    }

    pub fn now(&self) -> Millis {
        clock::now().plus(self.ahead.load(Ordering::Relaxed))
    }
}

/// A memory whose way to the store may be cut.
pub struct Fickle {
    inner: Arc<StoreMemory>,
    away: AtomicBool,
    mute: AtomicBool,
    refused: AtomicU64,
    claims: watch::Sender<bool>,
    at_the_gate: AtomicU64,
}

impl Fickle {
    pub fn away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Whether what is told it is refused, while it answers questions.
    pub fn mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    /// How often it refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether claims come through.
    pub fn claims(&self, through: bool) {
        self.claims.send_replace(through);
    }

    /// Waits until so many claims came to the gate.
    pub async fn until_at_the_gate(&self, count: u64) {
        until(|| self.at_the_gate.load(Ordering::Relaxed) >= count).await;
    }

    fn pass(&self, cut: &AtomicBool) -> Result<&StoreMemory, MemoryFault> {
        if self.away.load(Ordering::Relaxed) || cut.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(MemoryFault("it is away".into()));
        }
        Ok(&self.inner)
    }
}

#[async_trait]
impl Memory for Fickle {
    async fn recall(&self, marks: Vec<Mark>) -> Result<Vec<Option<Found>>, MemoryFault> {
        self.pass(&self.away)?.recall(marks).await
    }
    async fn remember(&self, note: Note) -> Result<(), MemoryFault> {
        self.pass(&self.mute)?.remember(note).await
    }
    async fn claim(&self, claim: Claim) -> Result<Claimed, MemoryFault> {
        self.at_the_gate.fetch_add(1, Ordering::Relaxed);
        let mut through = self.claims.subscribe();
        through.wait_for(|through| *through).await.expect("stands");
        self.pass(&self.away)?.claim(claim).await
    }
    async fn release(&self, release: Release) -> Result<(), MemoryFault> {
        self.pass(&self.mute)?.release(release).await
    }
    async fn sending(&self, mark: Mark) -> Result<Option<Sending>, MemoryFault> {
        self.pass(&self.away)?.sending(mark).await
    }
    async fn held(&self, account: crate::model::Account) -> Result<HeldKeys, MemoryFault> {
        self.pass(&self.away)?.held(account).await
    }
}

pub async fn until(done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
