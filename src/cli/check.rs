//! `unilink check`: the doctor. It looks at what the roles need, once, and says what is wrong with the
//! remedy. It changes nothing, but that a store that nobody has opened before is born, as with any role.

use super::Failure;
use super::assemble::{self, open_bus, open_store};
use super::patience::Trouble;
use super::reach::present;
use crate::cli::shown::say_line;
use crate::config::{Config, Profile};
use crate::seal::Keys;
use crate::worker::{RecoverError, recover};
use clap::Args;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Longest wait for a service.
const WAIT: Duration = Duration::from_secs(15);

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// One JSON array instead of lines
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Serialize)]
struct Found {
    check: &'static str,
    ok: bool,
    detail: String,
}

type Answer = Result<String, Trouble>;

/// Looks, and tells.
///
/// # Errors
/// Something is not as it should be.
pub async fn run(config: Config, args: CheckArgs) -> Result<(), Failure> {
    let (answer, keys) = keys(&config);
    let mut found = vec![
        found("configuration", Ok(configuration(&config))),
        found("keys", answer),
        found("store", in_time(store(&config, keys.as_ref())).await),
        found("bus", in_time(bus(&config)).await),
    ];
    if found.iter().all(|f| f.ok)
        && let Some(keys) = keys.as_ref().filter(|_| both(&config))
    {
        found.push(self::found(
            "together",
            in_time(together(&config, keys)).await,
        ));
    }
    if !config.pushes.is_empty() {
        found.push(self::found("pushes", pushes(&config, keys.as_deref())));
    }
    if args.json {
        let text = serde_json::to_string_pretty(&found).map_err(Failure::failed)?;
        say_line!("{text}");
    } else {
        for one in &found {
            let word = if one.ok { "ok  " } else { "FAIL" };
            say_line!("{word}  {}: {}", one.check, one.detail);
        }
    }
    let bad: Vec<&str> = found.iter().filter(|f| !f.ok).map(|f| f.check).collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!("not in order: {}", bad.join(", "))))
}

fn found(check: &'static str, answer: Answer) -> Found {
    let ok = answer.is_ok();
    let detail = answer.unwrap_or_else(|trouble| trouble.to_string());
    Found { check, ok, detail }
}

async fn in_time(asking: impl Future<Output = Answer>) -> Answer {
    let late = |_| Trouble::Later(format!("no answer in {} seconds", WAIT.as_secs()));
    timeout(WAIT, asking).await.map_err(late)?
}

/// Whoever came here has a configuration without mistakes.
fn configuration(config: &Config) -> String {
    let profile = match &config.profile {
        Profile::Embedded { path } => format!("embedded, in {}", path.display()),
        Profile::Production { kafka, postgres } => {
            let said = |known: bool, name: &str| {
                let not = if known { "" } else { "no " };
                format!("{not}{name}")
            };
            let (kafka, postgres) = (kafka.is_some(), postgres.is_some());
            format!("{}, {}", said(kafka, "Kafka"), said(postgres, "PostgreSQL"))
        }
    };
    let apps = config.apps().iter().count();
    format!(
        "{profile}; {apps} apps, {} platforms",
        config.platforms.len()
    )
}

/// The keys, and what can be said of them.
fn keys(config: &Config) -> (Answer, Option<Arc<Keys>>) {
    let path = &config.seal.key_file;
    if !path.exists() {
        let answer = match (&config.profile, &config.seal.seal_to) {
            (Profile::Embedded { .. }, _) => {
                Ok(format!("{} is made at the first start", path.display()))
            }
            (Profile::Production { .. }, Some(_)) => assemble::seal_to(config, None)
                .map(|key| format!("seals to {key}; no key file, enough for an intake only"))
                .map_err(Trouble::from),
            (Profile::Production { .. }, None) => assemble::keys(config)
                .map(|_| String::new())
                .map_err(Trouble::from),
        };
        return (answer, None);
    }
    match Keys::load(path).map(Arc::new).map_err(Failure::failed) {
        Err(failure) => (Err(failure.into()), None),
        Ok(keys) => {
            let answer = assemble::seal_to(config, Some(&keys))
                .map(|key| format!("{} seals to {key}", path.display()))
                .map_err(Trouble::from);
            (answer, Some(keys))
        }
    }
}

/// Whether an intake here could sign the erasures that pushes ask for. The first start of the
/// embedded profile makes the key.
fn pushes(config: &Config, keys: Option<&Keys>) -> Answer {
    if keys.is_some() || matches!(config.profile, Profile::Production { .. }) {
        super::intake::pushes(config, keys)?;
    }
    Ok(format!("{} apps push", config.pushes.len()))
}

/// Reach, schema and birth.
async fn store(config: &Config, keys: Option<&Arc<Keys>>) -> Answer {
    match &config.profile {
        Profile::Embedded { path } if !path.exists() => {
            return Ok(format!("{} is made at the first start", path.display()));
        }
        Profile::Production { postgres: None, .. } => {
            return Ok("not configured: enough for an intake only".to_owned());
        }
        _ => {}
    }
    let Some(keys) = keys else {
        let why = "not looked at: it is recognised by what the key file holds".to_owned();
        return Err(Failure::Failed(why).into());
    };
    let store = open_store(config, keys).await?;
    let identity = store.identity();
    let (id, epoch) = (identity.store, identity.epoch);
    let waiting: u64 = store.deferred_by_app().await?.values().sum();
    Ok(format!("{id}, epoch {epoch}; {waiting} resolutions wait"))
}

/// Whether there are a store and a bus to compare.
fn both(config: &Config) -> bool {
    match &config.profile {
        Profile::Embedded { path } => path.exists(),
        Profile::Production { kafka, postgres } => kafka.is_some() && postgres.is_some(),
    }
}

/// What a worker would find on its assignment: whether the store holds what the topics say of it.
async fn together(config: &Config, keys: &Arc<Keys>) -> Answer {
    let (bus, store) = (open_bus(config).await?, open_store(config, keys).await?);
    let (logins, links) = (&config.topics.logins, &config.topics.account_links);
    let group = bus.group().await?;
    match recover(&bus, &store, logins, links, &group).await {
        // Workers are at it.
        Ok(_) | Err(RecoverError::Overtaken(_)) => {
            Ok("the store holds what was published from it".to_owned())
        }
        Err(RecoverError::Bus(error)) => Err(error.into()),
        Err(RecoverError::Store(error)) => Err(error.into()),
    }
}

/// Reach, topics and their partitions.
async fn bus(config: &Config) -> Answer {
    match &config.profile {
        Profile::Embedded { path } if !path.exists() => {
            return Ok("in the store's file".to_owned());
        }
        Profile::Production { kafka: None, .. } => {
            return Ok("not configured: enough for look-ups only".to_owned());
        }
        _ => {}
    }
    let bus = open_bus(config).await?;
    let wanted = config.topics.specs();
    present(&*bus, &wanted).await?;
    let (topics, partitions) = (wanted.len(), config.topics.logins_partitions);
    Ok(format!("{topics} topics with {partitions} partitions"))
}
