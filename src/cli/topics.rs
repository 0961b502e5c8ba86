//! `unilink topics`: creates the topics that are missing, and shows all of them.

use super::Failure;
use super::assemble::{open_bus, open_file};
use super::reach::{asked, difference};
use crate::bus::{Keep, TopicSpec, TopicState};
use crate::cli::shown::say_line;
use crate::config::{Config, Profile};
use clap::Args;
use serde::Serialize;
use std::time::Duration;

/// Options of `topics`.
#[derive(Debug, Args)]
pub struct TopicsArgs {
    /// Create nothing; exit with status 1 if a topic is missing or has another number of partitions
    #[arg(long)]
    check: bool,
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
}

/// One topic, as it is shown.
#[derive(Serialize)]
struct Row {
    topic: String,
    partitions: usize,
    /// What the configuration wants kept.
    kept: String,
    /// At most: on Kafka the ends of transactions take offsets too.
    records: i64,
    /// What is wrong with it, with the remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Creates and shows.
///
/// # Errors
/// The bus cannot be reached, or topics are not as they should be.
pub async fn run(config: Config, args: TopicsArgs) -> Result<(), Failure> {
    let wanted = config.topics.specs();
    if let (Profile::Embedded { path }, false) = (&config.profile, args.check) {
        open_file(path, None).await?;
    }
    let bus = open_bus(&config).await?;
    let mut states = bus.topics(&asked(&wanted)).await.map_err(Failure::failed)?;
    if !args.check {
        let missing: Vec<TopicSpec> = wanted
            .iter()
            .zip(&states)
            .filter(|(_, state)| state.bounds.is_empty())
            .map(|(spec, _)| spec.clone())
            .collect();
        if !missing.is_empty() {
            bus.topics(&missing).await.map_err(Failure::failed)?;
            states = bus.topics(&asked(&wanted)).await.map_err(Failure::failed)?;
        }
    }
    let rows: Vec<Row> = wanted.iter().zip(&states).map(row).collect();
    print(&rows, args.json)?;
    let problems: Vec<&str> = rows.iter().filter_map(|r| r.problem.as_deref()).collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(problems.join("\n         ")))
}

fn row((spec, state): (&TopicSpec, &TopicState)) -> Row {
    Row {
        topic: spec.name.to_string(),
        partitions: state.bounds.len(),
        kept: kept(spec.keep),
        records: state.bounds.iter().map(|(first, next)| next - first).sum(),
        problem: difference(spec, state.bounds.len()),
    }
}

/// What a topic keeps, in words.
fn kept(keep: Keep) -> String {
    let days = |time: Duration| time.as_secs() / 86_400;
    match keep {
        Keep::For(time) => format!("{} days", days(time)),
        Keep::Newest(nulls) => format!("newest of each key, nulls {} days", days(nulls)),
    }
}

fn print(rows: &[Row], json: bool) -> Result<(), Failure> {
    if json {
        let text = serde_json::to_string_pretty(rows).map_err(Failure::failed)?;
        say_line!("{text}");
        return Ok(());
    }
    let cells = |row: &Row| {
        let partitions = match row.partitions {
            0 => "missing".to_owned(),
            n => n.to_string(),
        };
        let records = row.records.to_string();
        [row.topic.clone(), partitions, records, row.kept.clone()]
    };
    let head = ["topic", "partitions", "records", "kept"].map(str::to_owned);
    let lines: Vec<[String; 4]> = std::iter::once(head)
        .chain(rows.iter().map(cells))
        .collect();
    let width = |column: usize| lines.iter().map(|l| l[column].len()).max().unwrap_or(0);
    let (first, second, third) = (width(0), width(1), width(2));
    for [topic, partitions, records, kept] in &lines {
        say_line!("{topic:first$}  {partitions:>second$}  {records:>third$}  {kept}");
    }
    Ok(())
}
