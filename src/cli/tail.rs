//! `unilink tail`: the records of a topic, as they are.

use super::Failure;
use super::assemble::open_bus;
use crate::bus::{Bus, Range, Stored, TopicState};
use crate::config::Config;
use crate::model::Millis;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// Records read at once.
const CHUNK: usize = 1_000;
/// How often a followed topic is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Options of `tail`.
#[derive(Debug, Args)]
pub struct TailArgs {
    /// The topic's name; a wrong one is answered with the names there are
    #[arg(default_value = "wechat.account-links")]
    topic: String,
    /// Go on as records come, until interrupted
    #[arg(short, long)]
    follow: bool,
    /// Begin with the last N records of each partition
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<u32>,
    /// Print only this partition
    #[arg(short, long, value_name = "P")]
    partition: Option<u32>,
    /// One JSON object per record, with headers; a value that is no text stands in `value_base64`
    #[arg(long)]
    json: bool,
}

/// Prints.
///
/// # Errors
/// There is no such store or topic.
pub async fn run(config: Config, args: TailArgs) -> Result<(), Failure> {
    let bus = open_bus(&config).await?;
    let mut ranges = ranges(&*bus, &args).await?;
    loop {
        let mut quiet = true;
        for range in &mut ranges {
            let records = bus.read(range, CHUNK).await.map_err(Failure::failed)?;
            if let Some(last) = records.last() {
                range.from = last.offset + 1;
                quiet = false;
            }
            if print(&records, args.json).is_err() {
                // Whoever read our output has left (`tail | head`): that is no failure.
                return Ok(());
            }
        }
        if quiet && !args.follow {
            return Ok(());
        }
        if quiet {
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn ranges(bus: &dyn Bus, args: &TailArgs) -> Result<Vec<Range>, Failure> {
    let states = bus.topics(&[]).await.map_err(Failure::failed)?;
    let known = |states: &[TopicState]| {
        let names: Vec<&str> = states.iter().map(|t| &*t.name).collect();
        names.join(", ")
    };
    let Some(topic) = states.iter().find(|t| *t.name == *args.topic) else {
        if states.is_empty() {
            let why = "there is no topic yet: `unilink topics` creates them";
            return Err(Failure::Usage(why.to_owned()));
        }
        let topics = known(&states);
        return Err(Failure::Usage(format!(
            "there is no topic {}; there are: {topics}",
            args.topic
        )));
    };
    let partitions = topic.bounds.len();
    if let Some(p) = args.partition.filter(|p| *p as usize >= partitions) {
        return Err(Failure::Usage(format!(
            "there is no partition {p}; there are {partitions}"
        )));
    }
    let mut ranges = Vec::new();
    for (partition, (start, next)) in (0u32..).zip(&topic.bounds) {
        if args.partition.is_some_and(|p| p != partition) {
            continue;
        }
        let from = args
            .last
            .map_or(*start, |n| (next - i64::from(n)).max(*start));
        ranges.push(Range {
            topic: Arc::clone(&topic.name),
            partition,
            from,
            to: if args.follow { i64::MAX } else { *next },
        });
    }
    Ok(ranges)
}

fn print(records: &[Stored], json: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for record in records {
        if json {
            serde_json::to_writer(&mut out, &as_json(record))?;
            writeln!(out)?;
        } else {
            let value = record.value.as_deref().map(String::from_utf8_lossy);
            writeln!(
                out,
                "{}/{} {} {} {}",
                record.partition,
                record.offset,
                Millis(record.timestamp),
                String::from_utf8_lossy(&record.key),
                value.as_deref().unwrap_or("null"),
            )?;
        }
    }
    out.flush()
}

fn as_json(record: &Stored) -> serde_json::Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let value = record
        .value
        .as_deref()
        .map(|v| serde_json::from_slice(v).unwrap_or_else(|_| serde_json::Value::String(text(v))));
    let headers: serde_json::Map<_, _> = record
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), serde_json::Value::String(text(value))))
        .collect();
    let mut json = serde_json::json!({
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": text(&record.key),
        "headers": headers,
        "value": value,
    });
    // What is no text (a dead letter sealed whole) could not be had back from a text.
    if let Some(bytes) = record.value.as_deref()
        && std::str::from_utf8(bytes).is_err()
    {
        json["value"] = serde_json::Value::Null;
        json["value_base64"] = STANDARD.encode(bytes).into();
    }
    json
}
