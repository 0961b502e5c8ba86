//! The configuration: `unilink.toml`, overridden by `UNILINK_SECTION__KEY`, checked whole at start.
//!
//! Promises: an unknown key is an error; every problem found is shown at once, with its key and
//! what to do; secrets are resolved here (`env:NAME`, `file:PATH`) and never printed, neither by
//! `Debug` nor in an error. Paths are relative to the working directory.

mod apps;
mod check;
mod environment;
mod problem;
mod profile;
mod push;
mod raw;
mod sections;
mod topics;

pub use environment::Environment;
pub use problem::Invalid;
pub use profile::{Bus, Kafka, Postgres, Profile};
pub use push::{AesKey, EraseOn, Push, PushBody, SignerKey};
pub use sections::{Api, Identity, Intake, Namespace, Seal, WeChat, Worker};
pub use topics::Topics;

use crate::model::{App, Apps, PlatformId};
use check::Checker;
use ed25519_dalek::VerifyingKey;
use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};
use problem::Problems;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::path::Path;

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "unilink.toml";

/// Somebody whose decisions are obeyed.
#[derive(Debug, Clone)]
pub struct Operator {
    /// Who, as decisions name them.
    pub id: String,
    /// What their signatures are checked with.
    pub key: VerifyingKey,
}

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[store] url` and `[bus] url`, which belong together.
    pub profile: Profile,
    /// The rest of `[bus]`
    pub bus: Bus,
    /// `[topics]`
    pub topics: Topics,
    /// `[intake]`
    pub intake: Intake,
    /// `[worker]`
    pub worker: Worker,
    /// `[api]`
    pub api: Api,
    /// `[wechat]`
    pub wechat: WeChat,
    /// `[identity]`
    pub identity: Identity,
    /// `[seal]`
    pub seal: Seal,
    /// `[[platforms]]`
    pub platforms: Vec<PlatformId>,
    /// `[[operators]]`
    pub operators: Vec<Operator>,
    /// `[apps.push]` of each app that has one
    pub pushes: Vec<Push>,
    apps: Vec<App>,
}

impl Config {
    /// Reads `file`, or `unilink.toml` if that exists, or nothing but defaults and variables.
    ///
    /// # Errors
    /// The file named cannot be read, or something in it or in the variables is wrong.
    pub fn load(file: Option<&Path>, env: &Environment) -> Result<Self, Invalid> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let name = path.display().to_string();
        if file.is_none() && !path.exists() {
            return Self::read("", &format!("no {DEFAULT_FILE} here, defaults"), env);
        }
        match std::fs::read_to_string(path) {
            Ok(text) => Self::read(&text, &name, env),
            Err(e) => {
                let problem = format!("cannot be read: {}; name another with --config", e.kind());
                let mut problems = Problems::default();
                problems.add(name.as_str(), problem);
                problems
                    .into_result(&name, ())
                    .and_then(|()| Self::read("", &name, env))
            }
        }
    }

    /// Reads the text of a file; `name` is for error messages.
    ///
    /// # Errors
    /// Everything that is wrong with it, at once.
    pub fn read(text: &str, name: &str, env: &Environment) -> Result<Self, Invalid> {
        let mut problems = Problems::default();
        let file: Dict = Figment::from(Toml::string(text))
            .extract()
            .unwrap_or_else(|e| {
                problems.add(name, problem::toml_problem(&e.kind.to_string()));
                Dict::new()
            });
        let defaults = serde_json::to_value(raw::Sections::default()).unwrap_or_default();
        let (overrides, strays) = env.overrides(&defaults, &mut problems);
        let mut tables = file;
        for (section, dict) in overrides {
            let merged = match tables.remove(&section) {
                Some(Value::Dict(tag, mut table)) => {
                    merge(&mut table, dict);
                    Value::Dict(tag, table)
                }
                Some(not_a_table) => not_a_table,
                None => Value::from(dict),
            };
            tables.insert(section, merged);
        }
        let used = BTreeSet::new();
        let mut c = Checker {
            problems,
            env,
            used,
        };
        let config = check_all(tables, &mut c);
        for (variable, problem) in strays {
            if !c.used.contains(&variable) {
                c.problems.add(variable, problem);
            }
        }
        c.problems.into_result(name, config)
    }

    /// The apps, as the rest of the program asks for them.
    #[must_use]
    pub fn apps(&self) -> Apps {
        Apps::new(self.apps.clone())
    }
}

/// Puts `over` over `table`, key by key; tables within too.
fn merge(table: &mut Dict, over: Dict) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Dict(_, table)), Value::Dict(_, over)) => merge(table, over),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

fn check_all(mut tables: Dict, c: &mut Checker<'_>) -> Config {
    let raw = raw::Sections {
        store: section(&mut tables, "store", c),
        bus: section(&mut tables, "bus", c),
        topics: section(&mut tables, "topics", c),
        intake: section(&mut tables, "intake", c),
        worker: section(&mut tables, "worker", c),
        api: section(&mut tables, "api", c),
        wechat: section(&mut tables, "wechat", c),
        identity: section(&mut tables, "identity", c),
        seal: section(&mut tables, "seal", c),
    };
    let platforms = list(&mut tables, "platforms", c);
    let apps = list(&mut tables, "apps", c);
    let components = list(&mut tables, "components", c);
    let operators = list(&mut tables, "operators", c);
    for unknown in tables.keys() {
        c.problems.add(
            unknown.as_str(),
            "is no section of this file; correct or remove it",
        );
    }
    let platforms = apps::platforms(c, &platforms);
    let components = apps::components(c, &components);
    let known = apps::Known {
        platforms: &platforms,
        components: &components,
    };
    let pushes = push::pushes(c, &apps);
    let apps = apps::apps(c, &apps, known);
    let profile = profile::profile(c, &raw.store, &raw.bus);
    let operators = apps::operators(c, &operators);
    Config {
        bus: profile::bus(c, &raw.bus),
        topics: topics::topics(c, &raw.topics),
        intake: sections::intake(c, &raw.intake, &operators),
        worker: sections::worker(c, &raw.worker),
        api: sections::api(c, &raw.api),
        wechat: sections::wechat(c, &raw.wechat),
        identity: sections::identity(c, &raw.identity),
        seal: sections::seal(c, &raw.seal, &profile),
        pushes,
        apps,
        operators,
        profile,
        platforms,
    }
}

/// One table, or its defaults. A key that is wrong is left out and the rest is read, so that one
/// mistake does not hide the next.
fn section<T: DeserializeOwned + Default>(tables: &mut Dict, name: &str, c: &mut Checker<'_>) -> T {
    let mut value = match tables.remove(name) {
        Some(value) => value,
        None => return T::default(),
    };
    loop {
        let error = match value.deserialize() {
            Ok(section) => return section,
            Err(error) => error,
        };
        let wrong = problem::keys_of(&error);
        c.problems.add_serde(name, error);
        let Value::Dict(_, table) = &mut value else {
            return T::default();
        };
        let before = table.len();
        table.retain(|key, _| !wrong.contains(key));
        if table.len() == before {
            return T::default();
        }
    }
}

/// A list of tables; each is read by itself, so that one mistake does not hide the next.
fn list<T: DeserializeOwned>(tables: &mut Dict, name: &str, c: &mut Checker<'_>) -> Vec<T> {
    let items = match tables.remove(name) {
        None => return Vec::new(),
        Some(Value::Array(_, items)) => items,
        Some(_) => {
            c.problems.add(name, format!("is a list: write [[{name}]]"));
            return Vec::new();
        }
    };
    let mut read = Vec::with_capacity(items.len());
    for (i, item) in items.iter().enumerate() {
        match item.deserialize() {
            Ok(item) => read.push(item),
            Err(error) => c.problems.add_serde(&format!("{name}[{i}]"), error),
        }
    }
    read
}
