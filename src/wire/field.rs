//! Reading JSON from strangers: what is wrong is said by naming the field, never by repeating what
//! stands in it.

use crate::model::DeadReason;
use serde::Deserialize;
use std::fmt;

/// A longer name of an unknown field is not repeated: an openid has 28 characters, a session key 24.
const MAX_SHOWN_NAME: usize = 20;

/// How a value is wrong, so that the caller can choose a status or a dead letter's reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Not UTF-8, not JSON, or not an object (400).
    Malformed,
    /// A field is missing, unknown, given twice, of the wrong type or out of bounds (422).
    Invalid,
    /// Fields contradict each other (422).
    Contradictory,
}

/// What is wrong with a value. Its text holds no value that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's path; empty if the whole is wrong.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
    /// How it is wrong.
    pub kind: FieldKind,
}

impl FieldError {
    pub(super) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(FieldKind::Invalid, field, problem)
    }

    pub(super) fn contradictory(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::new(FieldKind::Contradictory, field, problem)
    }

    fn malformed(problem: impl Into<String>) -> Self {
        Self::new(FieldKind::Malformed, "", problem)
    }

    fn new(kind: FieldKind, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            kind,
        }
    }

    /// The reason of the dead letter that such a record becomes.
    #[must_use]
    pub fn dead_reason(&self) -> DeadReason {
        match self.kind {
            FieldKind::Malformed => DeadReason::Malformed,
            FieldKind::Invalid => DeadReason::InvalidField,
            FieldKind::Contradictory => DeadReason::Contradictory,
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "`{}` {}", self.field, self.problem)
        }
    }
}

impl std::error::Error for FieldError {}

/// Reads one JSON object.
pub(super) fn read<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, FieldError> {
    // Keeping track of paths costs half as much again, so it is done only once something is wrong.
    // Serde takes an array for a struct, field by field; nobody else who reads the schema does.
    match serde_json::from_slice(bytes) {
        Ok(value) if is_object(bytes) => Ok(value),
        _ => Err(explain::<T>(bytes)),
    }
}

fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

fn explain<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> FieldError {
    if std::str::from_utf8(bytes).is_err() {
        return FieldError::malformed("is not UTF-8");
    }
    let no_object = || FieldError::malformed("must be one JSON object and nothing after it");
    if !is_object(bytes) && serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() {
        return no_object();
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Ok(_) => no_object(),
        Err(error) => {
            let path = error.path().to_string();
            translate(&path, error.inner())
        }
    }
}

/// Only texts that are known to hold no value pass: serde's own quote what they found.
fn translate(path: &str, error: &serde_json::Error) -> FieldError {
    if !error.is_data() {
        let (line, column) = (error.line(), error.column());
        return FieldError::malformed(format!("is not JSON (line {line}, column {column})"));
    }
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(t, _)| t);
    let quoted = |prefix: &str| {
        let rest = text.strip_prefix(prefix)?;
        Some(rest.split_once('`')?.0)
    };
    let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
    if let Some(name) = quoted("duplicate field `") {
        return FieldError::invalid(join(path, parent, name), "stands twice: send it once");
    }
    if let Some(name) = quoted("missing field `") {
        return FieldError::invalid(join(path, parent, name), "is missing");
    }
    if let Some(name) = quoted("unknown field `") {
        return unknown(name, text);
    }
    if let Some((_, wanted)) = text.rsplit_once(", expected ") {
        if path == "." {
            return FieldError::malformed("must be one JSON object");
        }
        return FieldError::invalid(path, format!("must be {wanted}"));
    }
    if text.starts_with("must ") {
        return FieldError::invalid(path, text);
    }
    FieldError::invalid(path, "is not as the schema says")
}

/// serde reports a key as missing or double either at its parent's path or at its own.
fn join(path: &str, parent: &str, name: &str) -> String {
    let at = if path.ends_with(name) { parent } else { path };
    if at.is_empty() || at == "." {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

fn unknown(name: &str, text: &str) -> FieldError {
    let bare = |s: &str| s.replace(['_', '-'], "").to_ascii_lowercase();
    let known = text
        .rsplit_once(", expected ")
        .map_or("", |(_, known)| known);
    let meant = known
        .split('`')
        .skip(1)
        .step_by(2)
        .find(|k| bare(k) == bare(name));
    if let Some(meant) = meant {
        let problem = format!("is not a field of this event: it is written `{meant}`");
        return FieldError::invalid(name, problem);
    }
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let shown = if plain && name.len() <= MAX_SHOWN_NAME {
        name.to_owned()
    } else {
        format!("(a name of {} bytes)", name.len())
    };
    let problem = "is not a field of this event: put what is your own into `attributes`";
    FieldError::invalid(shown, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "one")]
        _one: String,
        #[serde(rename = "encryptedData")]
        _two: Option<u8>,
    }

    #[test]
    fn errors_name_the_field_and_the_remedy() {
        use FieldKind::{Invalid, Malformed};
        for (json, kind, field, part) in [
            (r#"{"one":"#, Malformed, "", "line 1, column 7"),
            (r#"[]"#, Malformed, "", "must be one JSON object"),
            (r#""x""#, Malformed, "", "must be one JSON object"),
            (r#"{"one":"x"} {}"#, Malformed, "", "nothing after"),
            (r#"{}"#, Invalid, "one", "missing"),
            (r#"{"one":5}"#, Invalid, "one", "must be a string"),
            (
                r#"{"one":", expected hidden","encryptedData":"hidden"}"#,
                Invalid,
                "encryptedData",
                "must be u8",
            ),
            (r#"{"one":"x","one":"y"}"#, Invalid, "one", "twice"),
            (r#"{"one":"x","three":"y"}"#, Invalid, "three", "attributes"),
            (
                r#"{"one":"x","encrypted_data":1}"#,
                Invalid,
                "encrypted_data",
                "`encryptedData`",
            ),
            (
                r#"{"one":"x","oGZUI0egBJY1zhBYw2KhdUfwVJJE":1}"#,
                Invalid,
                "(a name of 28 bytes)",
                "",
            ),
        ] {
            let error = read::<Sample>(json.as_bytes()).expect_err(json);
            assert_eq!(
                (error.kind, error.field.as_str()),
                (kind, field),
                "{json}: {error}"
            );
            assert!(error.problem.contains(part), "{json}: {error}");
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
        assert_eq!(
            read::<Sample>(b"\"\xff\"").expect_err("bytes").problem,
            "is not UTF-8"
        );
    }
}
