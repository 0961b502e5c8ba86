//! `unilink dlq show`: one letter.

use super::{failed, place};
use crate::cli::Failure;
use crate::cli::shown::say_line;
use crate::dlq::{Desk, Letter, Opened, Place, help, redacted};
use crate::seal::Keys;
use clap::Args;
use serde_json::{Value, json};

/// Options of `dlq show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// PARTITION/OFFSET of the dead letter topic, as `dlq list` shows it
    #[arg(value_name = "PLACE", value_parser = place)]
    place: Place,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Shows.
///
/// # Errors
/// There is no letter at that place.
pub async fn run(desk: &Desk, args: &ShowArgs) -> Result<(), Failure> {
    let letter = desk.letter(args.place).await.map_err(failed)?;
    let letter = letter.ok_or_else(|| {
        let place = args.place;
        Failure::Failed(format!(
            "there is no dead letter at {place}: `unilink dlq list` shows the places"
        ))
    })?;
    let fields = fields(&letter, &desk.keys);
    if args.json {
        say_line!("{}", Value::Object(fields.into_iter().collect()));
        return Ok(());
    }
    for (name, value) in fields {
        match value {
            Value::Null => say_line!("{name:14} -"),
            Value::String(text) => say_line!("{name:14} {text}"),
            Value::Object(inner) => {
                say_line!("{name}");
                for (name, value) in inner {
                    say_line!("  {name}: {value}");
                }
            }
            other => say_line!("{name:14} {other}"),
        }
    }
    Ok(())
}

/// What is told of a letter, in order.
fn fields(letter: &Letter, keys: &Keys) -> Vec<(String, Value)> {
    let grave = &letter.grave;
    let origin = &grave.origin;
    let advice = grave.reason.and_then(help::of);
    let known = letter.redriven.as_ref();
    let went = known.filter(|one| one.times > 0);
    let value = value(letter, keys);
    let fields = [
        ("place", json!(letter.place.to_string())),
        ("died_at", json!(letter.at.to_string())),
        ("reason", json!(letter.reason())),
        ("meaning", json!(advice.map(|a| a.meaning))),
        ("what_to_do", json!(advice.map(|a| a.remedy))),
        ("detail", json!(grave.detail)),
        ("app", json!(letter.app.as_ref().map(|app| app.as_str()))),
        ("event", json!(letter.event.as_ref().map(|id| id.as_str()))),
        ("first_at", json!(grave.timestamp.to_string())),
        (
            "origin",
            json!(format!(
                "{} {}/{}",
                origin.topic, origin.partition, origin.offset
            )),
        ),
        ("attempts", json!(grave.attempts)),
        ("redrives", json!(letter.redrives())),
        ("redriven_at", json!(went.map(|one| one.at.to_string()))),
        ("key", bytes(&letter.record.key)),
        ("headers", headers(letter)),
        ("sealed", json!(sealing(letter))),
        ("value", value),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

fn sealing(letter: &Letter) -> &'static str {
    match letter.grave.sealed {
        true => "whole: it came with secrets in plain, or could not be read",
        false => "as it came",
    }
}

fn headers(letter: &Letter) -> Value {
    let all = letter.grave.headers.iter();
    Value::Object(
        all.map(|(name, value)| (name.clone(), bytes(value)))
            .collect(),
    )
}

/// Bytes that are a text, or how many they are.
fn bytes(value: &[u8]) -> Value {
    match std::str::from_utf8(value) {
        Ok(text) if !text.chars().any(char::is_control) => text.into(),
        _ => format!("({} bytes)", value.len()).into(),
    }
}

/// The original value, without its secrets.
fn value(letter: &Letter, keys: &Keys) -> Value {
    match letter.opened(keys) {
        Opened::Null => Value::Null,
        Opened::Shut(error) => format!("({error})").into(),
        Opened::Bytes(bytes) => redacted(&bytes).unwrap_or_else(|| {
            let size = bytes.len();
            format!("({size} bytes that are no JSON object: what is secret in them cannot be told)")
                .into()
        }),
    }
}
