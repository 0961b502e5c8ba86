//! Which bus and which store: the embedded profile, or the production one. They do not mix, since
//! what is durable in one place and lost in the other helps nobody.

use super::check::Checker;
use super::raw;
use crate::model::Secret;
use figment::value::{Dict, Num, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The store's file when nothing is said.
const FILE: &str = "unilink.db";

/// Where log and store are.
#[derive(Debug, Clone)]
pub enum Profile {
    /// Both in one SQLite file.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// Kafka and PostgreSQL. A role that needs only one of them does without the other.
    Production {
        /// `None`: `bus.url` is not set.
        kafka: Option<Kafka>,
        /// `None`: `store.url` is not set.
        postgres: Option<Postgres>,
    },
}

/// A Kafka cluster.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `host:port,…`
    pub brokers: String,
    /// Settings for librdkafka; passwords may be among them.
    pub client: BTreeMap<String, Secret>,
    /// Copies of each record in topics that are created; -1: as the cluster does by default.
    pub replication: i32,
}

/// A PostgreSQL database.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// `postgres://…`, with the password.
    pub url: Secret,
    /// Most connections of this process.
    pub connections: u32,
}

/// What both buses want to know.
#[derive(Debug, Clone)]
pub struct Bus {
    /// The consumer group, pinned in the store at birth.
    pub group: String,
}

/// What a URL says.
enum Written<T> {
    Nothing,
    Embedded(PathBuf),
    Production(T),
    /// A problem is noted.
    Wrong,
}

pub(super) fn bus(c: &mut Checker<'_>, raw: &raw::Bus) -> Bus {
    if raw.group.is_empty()
        || raw.group.len() > 200
        || !raw.group.bytes().all(|b| b.is_ascii_graphic())
    {
        c.problems
            .add("bus.group", "must be 1 to 200 visible ASCII characters");
    }
    Bus {
        group: raw.group.clone(),
    }
}

pub(super) fn profile(c: &mut Checker<'_>, store: &raw::Store, bus: &raw::Bus) -> Profile {
    let connections = c.small("store.connections", store.connections, 2..=1_000);
    let replication = replication(c, bus.replication);
    let client = client(c, &bus.kafka);
    let kafka = |brokers| Kafka {
        brokers,
        client,
        replication,
    };
    let postgres = |url| Postgres { url, connections };
    match (store_url(c, store), bus_url(c, bus)) {
        (Written::Production(url), Written::Production(brokers)) => Profile::Production {
            kafka: Some(kafka(brokers)),
            postgres: Some(postgres(url)),
        },
        (Written::Production(url), Written::Nothing) => Profile::Production {
            kafka: None,
            postgres: Some(postgres(url)),
        },
        (Written::Nothing, Written::Production(brokers)) => Profile::Production {
            kafka: Some(kafka(brokers)),
            postgres: None,
        },
        (Written::Embedded(_), Written::Production(_)) => mixed(c),
        (Written::Production(_), Written::Embedded(_)) => mixed(c),
        (Written::Wrong, _) | (_, Written::Wrong) => embedded(),
        (store, _) => {
            if !bus.kafka.is_empty() {
                let problem = "is for bus.url = kafka://host:port,…; set that, or remove this";
                c.problems.add("bus.kafka", problem);
            }
            match store {
                Written::Embedded(path) => Profile::Embedded { path },
                _ => embedded(),
            }
        }
    }
}

fn embedded() -> Profile {
    Profile::Embedded { path: FILE.into() }
}

fn mixed(c: &mut Checker<'_>) -> Profile {
    let problem = "do not go together: a sqlite: store wants the embedded bus, and PostgreSQL wants \
                   Kafka. Set both: sqlite:PATH with embedded, or postgres://… with kafka://…";
    c.problems.add("store.url and bus.url", problem);
    embedded()
}

fn store_url(c: &mut Checker<'_>, raw: &raw::Store) -> Written<Secret> {
    const KEY: &str = "store.url";
    let Some(written) = raw.url.as_deref() else {
        return Written::Nothing;
    };
    let Some(url) = c.secret(KEY, written) else {
        return Written::Wrong;
    };
    let text = url.expose();
    if let Some(rest) = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
    {
        if rest.is_empty() {
            c.problems.add(KEY, "names no host");
            return Written::Wrong;
        }
        return Written::Production(url);
    }
    let path = text.strip_prefix("sqlite:").unwrap_or_default();
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path == ":memory:" || path.contains('?') {
        // In memory nothing would survive a crash, and that is the whole promise.
        let problem = "must be sqlite:PATH, the path of a file, without options; or \
                       postgres://USER:PASSWORD@HOST/DATABASE, which env:NAME or file:PATH may hold";
        c.problems.add(KEY, problem);
        return Written::Wrong;
    }
    Written::Embedded(path.into())
}

fn bus_url(c: &mut Checker<'_>, raw: &raw::Bus) -> Written<String> {
    match raw.url.as_deref() {
        None => Written::Nothing,
        Some("embedded") => Written::Embedded(PathBuf::new()),
        Some(url) => {
            let brokers = url.strip_prefix("kafka://").unwrap_or_default();
            if brokers.split(',').all(is_broker) {
                return Written::Production(brokers.to_owned());
            }
            let problem = "must be embedded, or kafka://HOST:PORT,HOST:PORT,…";
            c.problems.add("bus.url", problem);
            Written::Wrong
        }
    }
}

fn is_broker(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'@');
        !host.is_empty() && host.bytes().all(plain) && port.parse::<u16>().is_ok_and(|p| p > 0)
    })
}

fn replication(c: &mut Checker<'_>, written: i64) -> i32 {
    match i32::try_from(written) {
        Ok(n) if n == -1 || (1..=100).contains(&n) => n,
        _ => {
            let problem = "must be from 1 to 100, or -1 for what the cluster does by default";
            c.problems.add("bus.replication", problem);
            -1
        }
    }
}

/// librdkafka's names have dots, which TOML reads as tables unless they are quoted: both are taken.
fn client(c: &mut Checker<'_>, written: &Dict) -> BTreeMap<String, Secret> {
    let mut client = BTreeMap::new();
    flatten(c, "", written, &mut client);
    client
}

fn flatten(c: &mut Checker<'_>, above: &str, dict: &Dict, into: &mut BTreeMap<String, Secret>) {
    for (key, value) in dict {
        let name = format!("{above}{key}");
        let place = format!("bus.kafka.{name}");
        let text = match value {
            Value::Dict(_, inner) => {
                flatten(c, &format!("{name}."), inner, into);
                continue;
            }
            Value::String(_, text) => c.secret(&place, text),
            Value::Bool(_, yes) => Some(Secret::new(yes.to_string())),
            Value::Num(_, number) => Some(Secret::new(plain_number(number))),
            _ => {
                let problem = "must be a text, a number, true or false, as librdkafka takes them";
                c.problems.add(place, problem);
                None
            }
        };
        if let Some(text) = text {
            into.insert(name, text);
        }
    }
}

fn plain_number(number: &Num) -> String {
    match (number.to_i128(), number.to_u128(), number.to_f64()) {
        (Some(n), _, _) => n.to_string(),
        (_, Some(n), _) => n.to_string(),
        (_, _, f) => f.unwrap_or_default().to_string(),
    }
}
