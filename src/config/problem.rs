//! What is wrong with a configuration: all of it at once, each with the key and what to do, and
//! never with a value, since any value may be a secret in the wrong place.

use figment::error::Kind;
use std::fmt;

/// Why a configuration is refused. `Display` lists every problem on a line of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// Where the configuration was read from.
    pub source_name: String,
    /// The problems, as (key, what is wrong and what to do).
    pub problems: Vec<(String, String)>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "configuration ({}): {count} {noun}", self.source_name)?;
        for (key, problem) in &self.problems {
            write!(f, "\n  {key}: {problem}")?;
        }
        Ok(())
    }
}

/// Collects problems.
#[derive(Default)]
pub(super) struct Problems(Vec<(String, String)>);

impl Problems {
    /// Notes a problem with a key.
    pub(super) fn add(&mut self, key: impl Into<String>, problem: impl Into<String>) {
        self.0.push((key.into(), problem.into()));
    }

    /// Notes what serde says of the table at `prefix`, without the values it quotes.
    pub(super) fn add_serde(&mut self, prefix: &str, error: figment::Error) {
        for error in error {
            let mut key = prefix.to_owned();
            for part in &error.path {
                key.push('.');
                key.push_str(part);
            }
            self.add(key, without_values(&error.kind));
        }
    }

    /// Nothing was wrong, or everything that was.
    pub(super) fn into_result<T>(self, source_name: &str, value: T) -> Result<T, Invalid> {
        if self.0.is_empty() {
            return Ok(value);
        }
        Err(Invalid {
            source_name: source_name.to_owned(),
            problems: self.0,
        })
    }
}

/// The keys of a table that an error is about.
pub(super) fn keys_of(error: &figment::Error) -> Vec<String> {
    let key = |error: figment::Error| match (error.path.first(), &error.kind) {
        (Some(key), _) => Some(key.clone()),
        (None, Kind::UnknownField(name, _)) => Some(name.clone()),
        (None, _) => None,
    };
    error.clone().into_iter().filter_map(key).collect()
}

fn without_values(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(_, wanted) | Kind::InvalidValue(_, wanted) => {
            format!("{wanted} is wanted")
        }
        Kind::UnknownField(name, known) => {
            format!("unknown key `{name}`; known are {}", known.join(", "))
        }
        Kind::UnknownVariant(_, known) => format!("must be one of {}", known.join(", ")),
        Kind::MissingField(name) => format!("`{name}` is missing"),
        Kind::DuplicateField(name) => format!("`{name}` stands twice"),
        // Only our own `raw::time` makes messages.
        Kind::Message(text) => text.clone(),
        _ => "has the wrong type or is out of range".to_owned(),
    }
}

/// A TOML syntax error without the line it quotes.
pub(super) fn toml_problem(text: &str) -> String {
    let quoted = |line: &&str| {
        let rest = line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit());
        !rest.starts_with('|')
    };
    let lines: Vec<&str> = text.lines().filter(quoted).collect();
    lines.join("; ")
}
