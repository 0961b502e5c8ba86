//! `unilink audit`: what operators did.

use super::Failure;
use super::assemble::Operating;
use crate::cli::shown::say_line;
use crate::config::Config;
use crate::store::Audit;
use clap::Args;
use serde_json::{Value, json};

/// Options of `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Show the newest N
    #[arg(short = 'n', long = "newest", value_name = "N", default_value_t = 50)]
    newest: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// Prints what was noted, the oldest of them first, so that the newest stands last.
///
/// # Errors
/// The store cannot be used.
pub async fn run(config: Config, args: AuditArgs) -> Result<(), Failure> {
    let store = Operating::open(config).await?.store;
    let mut entries = store.audits(args.newest).await.map_err(Failure::failed)?;
    entries.reverse();
    for entry in &entries {
        match args.json {
            true => say_line!("{}", as_json(entry)),
            false => say_line!("{}", as_text(entry)),
        }
    }
    Ok(())
}

fn as_json(entry: &Audit) -> Value {
    json!({"at": entry.at.to_string(), "author": entry.author, "action": entry.action,
        "note": entry.note, "detail": entry.detail, "counts": entry.counts})
}

fn as_text(entry: &Audit) -> String {
    let Audit {
        at, author, action, ..
    } = entry;
    let mut line = format!("{at} {author}: {action}");
    for (name, word) in &entry.detail {
        line.push_str(&format!(" {name}={word}"));
    }
    let counts = entry.counts.iter().map(|(name, n)| format!("{name} {n}"));
    let counts = counts.collect::<Vec<_>>().join(", ");
    if !counts.is_empty() {
        line.push_str(&format!(": {counts}"));
    }
    if !entry.note.is_empty() {
        // One line each, whatever was typed.
        line.push_str(&format!(" ({})", entry.note.replace(char::is_control, " ")));
    }
    line
}
