//! The checked form of each section that is one table.

use super::check::Checker;
use super::profile::Profile;
use super::push::{self, SignerKey};
use super::{Operator, raw};
use crate::model::{Api as WeChatApi, Secret};
use axum::http::Uri;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use uuid::Uuid;

/// The intake.
#[derive(Debug, Clone)]
pub struct Intake {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Keys that callers must show one of; none: everybody on this machine may call.
    pub keys: Vec<Secret>,
    /// Longest body, in bytes.
    pub max_body: usize,
    /// Most events of one request.
    pub max_events: usize,
    /// Most requests at once.
    pub max_in_flight: usize,
    /// Events per second and key; `None`: no limit.
    pub rate: Option<u32>,
    /// Whether secrets that come in plain are refused.
    pub require_sealed: bool,
    /// Whether `POST /wechat/cloud` believes WeChat cloud run's headers.
    pub cloud_run: bool,
    /// What erasures that pushes ask for are signed with.
    pub signer: Option<SignerKey>,
}

/// The worker.
#[derive(Debug, Clone)]
pub struct Worker {
    /// A name that stays the same over restarts: whoever comes back under it has its partitions back
    /// at once. Two that run at the same time must not share it.
    pub name: Option<String>,
    /// Where a worker that runs alone answers `/livez`, `/readyz` and `/metrics`.
    pub listen: SocketAddr,
    /// Most records of one transaction.
    pub batch: usize,
    /// How long an event waits for WeChat before it is deferred.
    pub inline_budget: Duration,
    /// Most records being resolved at once.
    pub in_flight: usize,
    /// Most deferred resolutions of one app; what overflows is a dead letter.
    pub deferred_per_app: u64,
    /// Most calls to WeChat at once, of one app.
    pub http_per_app: usize,
    /// Most calls to WeChat at once.
    pub http_total: usize,
    /// How often the outbox is looked at.
    pub poll: Duration,
    /// A worker that gets nowhere for this long ends, to be started anew. Far above the timeouts of
    /// bus and store, so that what fails is tried again; below the five minutes after which Kafka
    /// takes a silent reader's partitions.
    pub stuck_after: Duration,
}

/// The look-ups.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where they listen.
    pub listen: SocketAddr,
    /// Keys that callers must show one of; none: everybody on this machine may call.
    pub keys: Vec<Secret>,
    /// Most requests at once, waiting ones included.
    pub max_in_flight: usize,
}

/// WeChat's API.
#[derive(Debug, Clone)]
pub struct WeChat {
    /// Where it is, without a slash at the end.
    pub base_url: String,
    /// Longest call.
    pub timeout: Duration,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Most calls a minute, of each worker for each app, by API.
    pub per_minute: FxHashMap<WeChatApi, u32>,
}

/// Whoever has this and an openid can compute a user id.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Namespace(pub Uuid);

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Namespace(…)")
    }
}

/// How user ids are made.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `None`: the one in the key file, made on first use.
    pub namespace: Option<Namespace>,
}

/// The keys.
#[derive(Debug, Clone)]
pub struct Seal {
    /// The key file. The embedded profile makes it on first use; production wants it to be there.
    pub key_file: PathBuf,
    /// The public key that the intake seals to, as text. With it an intake that runs alone needs no
    /// key file, and cannot read what it takes in.
    pub seal_to: Option<String>,
}

/// The key file of the production profile, unless another is named.
const KEY_FILE: &str = "unilink.keys";

pub(super) fn intake(c: &mut Checker<'_>, raw: &raw::Intake, operators: &[Operator]) -> Intake {
    let rate = c.small("intake.rate", raw.rate, 0..=1_000_000);
    Intake {
        listen: c.listen("intake", &raw.listen, !raw.keys.is_empty()),
        keys: c.keys("intake.keys", &raw.keys),
        max_body: c.size("intake.max_body", raw.max_body, 1_024..=64 << 20),
        max_events: c.size("intake.max_events", raw.max_events, 1..=100_000),
        max_in_flight: c.size("intake.max_in_flight", raw.max_in_flight, 1..=100_000),
        rate: (rate > 0).then_some(rate),
        require_sealed: raw.require_sealed,
        cloud_run: raw.cloud_run,
        signer: push::signer(c, &raw.signer, operators),
    }
}

pub(super) fn worker(c: &mut Checker<'_>, raw: &raw::Worker) -> Worker {
    let (http_per_app, http_total) = (raw.http_per_app, raw.http_total);
    if http_per_app > http_total {
        let problem = "is more than worker.http_total; raise that or lower this";
        c.problems.add("worker.http_per_app", problem);
    }
    let name = raw.name.clone();
    if name.as_deref().is_some_and(|n| !plain_name(n)) {
        let problem = "must be 1 to 200 letters, digits, dots, dashes or underscores";
        c.problems.add("worker.name", problem);
    }
    Worker {
        name,
        // Nothing that it answers is anybody's secret, so it asks for no key.
        listen: c.listen("worker", &raw.listen, true),
        batch: c.size("worker.batch", raw.batch, 1..=100_000),
        inline_budget: c.duration("worker.inline_budget", &raw.inline_budget, ("0ms", "30s")),
        in_flight: c.size("worker.in_flight", raw.in_flight, 1..=1_000_000),
        deferred_per_app: c.number(
            "worker.deferred_per_app",
            raw.deferred_per_app,
            1..=100_000_000,
        ),
        http_per_app: c.size("worker.http_per_app", http_per_app, 1..=10_000),
        http_total: c.size("worker.http_total", http_total, 1..=10_000),
        poll: c.duration("worker.poll", &raw.poll, ("1ms", "10s")),
        stuck_after: c.duration("worker.stuck_after", &raw.stuck_after, ("10s", "4m")),
    }
}

fn plain_name(name: &str) -> bool {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=200).contains(&name.len()) && name.bytes().all(legal)
}

pub(super) fn api(c: &mut Checker<'_>, raw: &raw::Api) -> Api {
    Api {
        listen: c.listen("api", &raw.listen, !raw.keys.is_empty()),
        keys: c.keys("api.keys", &raw.keys),
        max_in_flight: c.size("api.max_in_flight", raw.max_in_flight, 1..=100_000),
    }
}

pub(super) fn wechat(c: &mut Checker<'_>, raw: &raw::WeChat) -> WeChat {
    if let Err(problem) = check_base_url(&raw.base_url) {
        c.problems.add("wechat.base_url", problem);
    }
    let timeout = c.duration("wechat.timeout", &raw.timeout, ("10ms", "60s"));
    let connect = c.duration(
        "wechat.connect_timeout",
        &raw.connect_timeout,
        ("10ms", "60s"),
    );
    // A timeout that was refused reads as zero; one mistake is told once.
    if connect > timeout && !timeout.is_zero() {
        let problem = "is longer than wechat.timeout; lower it";
        c.problems.add("wechat.connect_timeout", problem);
    }
    WeChat {
        base_url: raw.base_url.trim_end_matches('/').to_owned(),
        timeout,
        connect_timeout: connect,
        per_minute: per_minute(c, &raw.per_minute),
    }
}

fn per_minute(c: &mut Checker<'_>, raw: &BTreeMap<String, u64>) -> FxHashMap<WeChatApi, u32> {
    let mut limits = FxHashMap::default();
    for (name, limit) in raw {
        let key = format!("wechat.per_minute.{name}");
        let Some(api) = WeChatApi::from_word(name) else {
            let known: Vec<&str> = WeChatApi::ALL.iter().map(|api| api.word()).collect();
            let problem = format!("is no API; there are {}", known.join(", "));
            c.problems.add(key, problem);
            continue;
        };
        limits.insert(api, c.small(&key, *limit, 1..=10_000_000));
    }
    limits
}

/// AppSecrets travel in query strings, so plain HTTP is for the simulator on this machine only.
fn check_base_url(text: &str) -> Result<(), &'static str> {
    const WANTED: &str = "must be https://HOST, without a path or query";
    let uri: Uri = text.parse().map_err(|_| WANTED)?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(WANTED);
    };
    if uri.path() != "/" || uri.query().is_some() || authority.as_str().contains('@') {
        return Err(WANTED);
    }
    let host = authority.host().trim_matches(['[', ']']);
    let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match scheme {
        "https" => Ok(()),
        "http" if local => Ok(()),
        "http" => Err("must be https: AppSecrets travel in it (plain http only to this machine)"),
        _ => Err(WANTED),
    }
}

pub(super) fn identity(c: &mut Checker<'_>, raw: &raw::Identity) -> Identity {
    let key = "identity.namespace";
    let written = raw.namespace.as_deref();
    let secret = written.and_then(|text| c.secret(key, text));
    let namespace = secret.and_then(|secret| match Uuid::try_parse(secret.expose()) {
        Ok(id) if !id.is_nil() => Some(Namespace(id)),
        _ => {
            c.problems
                .add(key, "must be a random UUID (uuidgen makes one)");
            None
        }
    });
    Identity { namespace }
}

pub(super) fn seal(c: &mut Checker<'_>, raw: &raw::Seal, profile: &Profile) -> Seal {
    let (store, default) = match profile {
        Profile::Embedded { path } => (Some(path), path.with_extension("keys")),
        Profile::Production { .. } => (None, PathBuf::from(KEY_FILE)),
    };
    let key_file = raw.key_file.as_deref().map_or(default, PathBuf::from);
    if key_file.as_os_str().is_empty() && raw.key_file.is_some() {
        c.problems
            .add("seal.key_file", "is empty; leave it out or name a file");
    } else if Some(&key_file) == store && raw.key_file.is_some() {
        c.problems
            .add("seal.key_file", "is the store's own file; name another");
    }
    let seal_to = raw.seal_to.as_deref().map(str::trim).map(str::to_owned);
    if seal_to.as_deref() == Some("") {
        let problem = "is empty; leave it out, or write what `unilink keys show` prints";
        c.problems.add("seal.seal_to", problem);
    }
    Seal { key_file, seal_to }
}
