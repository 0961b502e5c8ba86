//! Variables of the process: overrides (`UNILINK_SECTION__KEY`) and the values of `env:NAME`.
//!
//! Which overrides exist, and of which type they are, is read off the defaults, so that a new key
//! can be overridden without another list to keep.

use super::problem::Problems;
use figment::value::{Dict, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// What overrides begin with.
const PREFIX: &str = "UNILINK_";
/// Variables of ours that are no keys: the path of the file, the logs, and knobs of the tests.
const NO_KEYS: [&str; 5] = [
    "UNILINK_CONFIG",
    "UNILINK_LOG",
    "UNILINK_CASES",
    "UNILINK_FUZZ",
    "UNILINK_BLESS",
];

/// What the variables begin with that tell the tests where Kafka and PostgreSQL are.
const TESTS: &str = "UNILINK_TEST_";

/// Variables that look like overrides and are none, each with what to do.
pub(super) type Strays = Vec<(String, &'static str)>;

/// The variables, taken once.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Those of the process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// The value of `name`, if it is set to valid UTF-8.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(&OsString::from(name))?.to_str()
    }

    /// The overrides, by section, shaped like `defaults`; and the variables of ours that are none,
    /// with what to do about each.
    pub(super) fn overrides(
        &self,
        defaults: &serde_json::Value,
        problems: &mut Problems,
    ) -> (BTreeMap<String, Dict>, Strays) {
        let mut found: BTreeMap<String, Dict> = BTreeMap::new();
        let mut strays = Strays::new();
        let ours = self
            .0
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value)));
        for (name, value) in ours {
            let Some(rest) = name
                .strip_prefix(PREFIX)
                .filter(|_| !NO_KEYS.contains(&name) && !name.starts_with(TESTS))
            else {
                continue;
            };
            let lower = rest.to_ascii_lowercase();
            let (section, key) = lower.split_once("__").unwrap_or((&lower, ""));
            if let Some((table, key)) = key.split_once("__")
                && let Some(true) = defaults.get(section).map(|s| s[table].is_object())
            {
                let section = found.entry(section.to_owned()).or_default();
                put(section, table, key, value.to_str(), name, problems);
                continue;
            }
            let Some(shape) = defaults.get(section).and_then(|s| s.get(key)) else {
                strays.push((name.to_owned(), unknown(section)));
                continue;
            };
            match value
                .to_str()
                .ok_or("is not UTF-8")
                .and_then(|v| shaped(shape, v))
            {
                Ok(value) => {
                    let section = found.entry(section.to_owned()).or_default();
                    section.insert(key.to_owned(), value);
                }
                Err(problem) => problems.add(name, problem),
            }
        }
        (found, strays)
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(vars: T) -> Self {
        Self(
            vars.into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
        )
    }
}

/// Sets a key of a free table. Its dots cannot stand in a variable's name: underscores do.
fn put(
    section: &mut Dict,
    table: &str,
    key: &str,
    value: Option<&str>,
    variable: &str,
    problems: &mut Problems,
) {
    let Some(value) = value else {
        problems.add(variable, "is not UTF-8");
        return;
    };
    let table = section
        .entry(table.to_owned())
        .or_insert_with(|| Value::from(Dict::new()));
    if let Value::Dict(_, table) = table {
        table.insert(key.replace('_', "."), Value::from(value));
    }
}

fn unknown(section: &str) -> &'static str {
    match section {
        "apps" | "platforms" | "operators" => {
            "stands in the file only; a secret in it can be written as env:NAME"
        }
        _ => "is no key of the configuration (they are written UNILINK_SECTION__KEY); unset it",
    }
}

/// Reads a variable as the type its key has by default; lists are separated by commas.
fn shaped(shape: &serde_json::Value, text: &str) -> Result<Value, &'static str> {
    use serde_json::Value as Json;
    match shape {
        Json::Number(n) if n.is_i64() && !n.is_u64() => text
            .trim()
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| "must be a whole number"),
        Json::Number(_) => text
            .trim()
            .parse::<u64>()
            .map(Value::from)
            .map_err(|_| "must be a whole number, not negative"),
        Json::Bool(_) => match text.trim() {
            "true" => Ok(Value::from(true)),
            "false" => Ok(Value::from(false)),
            _ => Err("must be true or false"),
        },
        Json::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|i| !i.is_empty());
            Ok(Value::from(items.map(Value::from).collect::<Vec<_>>()))
        }
        Json::Object(_) => Err(
            "is a table: name the key in it too (UNILINK_BUS__KAFKA__NAME, with _ for each dot)",
        ),
        _ => Ok(Value::from(text)),
    }
}
