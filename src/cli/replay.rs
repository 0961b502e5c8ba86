//! `unilink replay`: a range of the login topic once more.

use super::Failure;
use super::assemble::{Operating, Tools};
use super::jobs::{job_named, list, relay, say};
use super::name;
use super::progress::grouped;
use super::work::{Made, Work};
use super::work_args::WorkArgs;
use crate::bus::TopicSpec;
use crate::clock::{Clock, parse_duration};
use crate::config::Config;
use crate::model::Millis;
use crate::replay::Source;
use crate::replay::logins::LoginSource;
use crate::replay::spec::{Logins, Spec, What};
use clap::Args;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

/// The word of its jobs.
const KIND: &str = "replay";

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Begin with the records of this time: RFC 3339, or so long ago (`36h`, `14d`) [default: the oldest]
    #[arg(long, value_name = "TIME", conflicts_with = "offsets")]
    from: Option<Time>,
    /// End before the records of this time [default: what the workers have finished]
    #[arg(long, value_name = "TIME", conflicts_with = "offsets")]
    to: Option<Time>,
    /// Only these offsets, TO not included
    #[arg(long, value_name = "PARTITION:FROM-TO", value_delimiter = ',')]
    offsets: Vec<Stretch>,
    /// Only logins of this app; may be given several times
    #[arg(long = "app", value_name = "APPID")]
    apps: Vec<String>,
    /// Only logins of accounts that have no unionid
    #[arg(long)]
    only_unresolved: bool,
    #[command(flatten)]
    work: WorkArgs,
}

/// A moment.
#[derive(Debug, Clone, Copy)]
enum Time {
    At(Millis),
    Ago(i64),
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(at) = Millis::parse_rfc3339(text) {
            return Ok(Self::At(at));
        }
        let ago = parse_duration(text).and_then(|ago| i64::try_from(ago.as_millis()).ok());
        ago.map(Self::Ago)
            .ok_or_else(|| "write 2026-01-31T08:00:00Z, or 36h or 14d for so long ago".to_owned())
    }
}

impl Time {
    fn millis(self, clock: &Clock) -> Millis {
        match self {
            Self::At(at) => at,
            Self::Ago(ms) => clock().plus(-ms),
        }
    }
}

/// Offsets of a partition.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    partition: u32,
    from: i64,
    to: i64,
}

impl FromStr for Stretch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (partition, rest) = text.split_once(':')?;
            let (from, to) = rest.split_once('-')?;
            Some(Self {
                partition: partition.parse().ok()?,
                from: from.parse().ok()?,
                to: to.parse().ok()?,
            })
        };
        parse()
            .filter(|stretch| 0 <= stretch.from && stretch.from < stretch.to)
            .ok_or_else(|| "write PARTITION:FROM-TO, as 0:100-250".to_owned())
    }
}

/// Replays.
///
/// # Errors
/// Wrong use, services that are away, or it was told to stop.
pub async fn run(config: Config, args: ReplayArgs) -> Result<(), Failure> {
    let work = &args.work;
    let chosen = args.from.is_some() || args.to.is_some() || !args.offsets.is_empty();
    let chosen = chosen || !args.apps.is_empty() || args.only_unresolved || work.fresh();
    if work.resume.is_some() && chosen {
        let why = "--resume goes on with what was begun: leave the range, --app, --only-unresolved, \
                   --dry-run, --no-ask and --again away";
        return Err(Failure::Usage(why.to_owned()));
    }
    let (asks, again) = work.asking()?;
    if !work.list {
        work.operator.operator()?;
    }
    let apps = config.apps();
    for named in &args.apps {
        name::app("--app", named, &apps)?;
    }
    let operating = Operating::open(config).await?;
    if work.list {
        return list(&operating, KIND, work.json).await;
    }
    let (job, spec) = match &work.resume {
        Some(id) => {
            let (job, spec) = job_named(&operating, KIND, id).await?;
            (Some(job), spec)
        }
        None => {
            let what = What::Logins(range(&operating, &args).await?);
            (None, Spec { what, asks, again })
        }
    };
    let What::Logins(logins) = &spec.what else {
        return Err(Failure::failed("the job is no replay"));
    };
    say(work, &plan(&operating, &spec, logins, work));
    say(work, relay(&operating, work).await);
    let logins = logins.clone();
    let parts = &operating.parts;
    let source = move |tools: &Tools, made: Made| {
        let reading = (
            Arc::clone(&tools.decoder),
            Arc::clone(&tools.resolver.ladder),
        );
        let topic = &parts.config.topics.logins;
        let bus = Arc::clone(&parts.bus);
        let source = LoginSource::new(
            bus,
            topic,
            reading,
            logins.clone(),
            made.progress,
            made.stop,
        );
        Ok(Box::new(source) as Box<dyn Source>)
    };
    let work = Work {
        kind: KIND,
        unit: "records",
        operating: &operating,
        args: work,
        spec,
        job,
        source: &source,
    };
    work.run().await
}

/// What is read: what was asked for, as far as it is there and the workers have finished it.
async fn range(operating: &Operating, args: &ReplayArgs) -> Result<Logins, Failure> {
    let parts = &operating.parts;
    let topic = &parts.config.topics.logins;
    let states = parts.bus.topics(&[TopicSpec::asked(topic)]).await;
    let mut states = states.map_err(Failure::failed)?;
    let bounds = states.pop().map(|state| state.bounds).unwrap_or_default();
    if bounds.is_empty() {
        let why = format!("there is no topic {topic}: `unilink topics` creates it");
        return Err(Failure::Failed(why));
    }
    let wanted = wanted(operating, args, bounds.len()).await?;
    let finished = finished(operating).await?;
    let mut ranges = BTreeMap::new();
    for (partition, (first, next)) in (0u32..).zip(&bounds) {
        let Some((from, to)) = wanted.get(&partition) else {
            continue;
        };
        let end = finished.get(&partition).copied().unwrap_or(*first);
        let (from, to) = ((*from).max(*first), (*to).min(*next));
        if end < to {
            let ahead = u64::try_from(to - end.max(from)).unwrap_or(0);
            let left = format!(
                "partition {partition}: the last {} records are left to the workers, who have not \
                 finished them",
                grouped(ahead)
            );
            say(&args.work, &left);
        }
        ranges.insert(partition, (from, to.min(end).max(from)));
    }
    Ok(Logins {
        ranges,
        apps: args.apps.clone(),
        only_unresolved: args.only_unresolved,
    })
}

/// What was asked for, by partition.
async fn wanted(
    operating: &Operating,
    args: &ReplayArgs,
    partitions: usize,
) -> Result<BTreeMap<u32, (i64, i64)>, Failure> {
    let parts = &operating.parts;
    if !args.offsets.is_empty() {
        let mut wanted = BTreeMap::new();
        for stretch in &args.offsets {
            let there = usize::try_from(stretch.partition).is_ok_and(|p| p < partitions);
            let twice = wanted.insert(stretch.partition, (stretch.from, stretch.to));
            if !there || twice.is_some() {
                return Err(Failure::Usage(format!(
                    "--offsets: there are {partitions} partitions, from 0, and each is named once"
                )));
            }
        }
        return Ok(wanted);
    }
    let at = |time: Time| time.millis(&parts.clock);
    let (from, to) = (args.from.map(at), args.to.map(at));
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        let why = format!("--from {from} does not lie before --to {to}");
        return Err(Failure::Usage(why));
    }
    let topic = &parts.config.topics.logins;
    let offsets = |at: Millis| parts.bus.offsets_at(topic, at);
    let from = match from {
        Some(at) => offsets(at).await.map_err(Failure::failed)?,
        None => vec![0; partitions],
    };
    let to = match to {
        Some(at) => offsets(at).await.map_err(Failure::failed)?,
        None => vec![i64::MAX; partitions],
    };
    Ok((0u32..).zip(from.into_iter().zip(to)).collect())
}

/// Up to where the workers have finished: what the store has applied and the group has published.
async fn finished(operating: &Operating) -> Result<BTreeMap<u32, i64>, Failure> {
    let parts = &operating.parts;
    let positions = parts.store.positions().await.map_err(Failure::failed)?;
    let group = parts.bus.group().await.map_err(Failure::failed)?;
    let finished = positions.into_iter().map(|position| {
        let published = group.iter().find(|a| a.partition == position.partition);
        let published = published.and_then(|a| a.input);
        let offset = published.map_or(position.offset, |p| p.min(position.offset));
        (position.partition, offset)
    });
    Ok(finished.collect())
}

/// What will be done, beforehand.
fn plan(operating: &Operating, spec: &Spec, logins: &Logins, work: &WorkArgs) -> String {
    let ranges = logins.ranges.iter().filter(|(_, (from, to))| from < to);
    let ranges: Vec<String> = ranges
        .map(|(partition, (from, to))| format!("{partition}:{from}-{to}"))
        .collect();
    let apps = match logins.apps.as_slice() {
        [] => "all apps".to_owned(),
        apps => apps.join(", "),
    };
    let aside = if logins.only_unresolved {
        ", only accounts without a unionid"
    } else {
        ""
    };
    let asks = match (spec.asks, work.dry_run && !work.ask, work.calls) {
        (false, ..) => "WeChat is asked nothing".to_owned(),
        (true, true, _) => "WeChat is asked nothing, calls are counted".to_owned(),
        (true, false, None) => "WeChat is asked, within wechat.per_minute".to_owned(),
        (true, false, Some(calls)) => {
            format!("WeChat is asked, at most {calls} times a minute for each app and API")
        }
    };
    format!(
        "{}: {} records of {} ({}), of {apps}{aside}; {asks}; codes are never sent again",
        if work.dry_run { "dry run" } else { KIND },
        grouped(logins.total()),
        operating.parts.config.topics.logins,
        if ranges.is_empty() {
            "none".to_owned()
        } else {
            ranges.join(", ")
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_offsets_are_read_or_refused_with_an_example() {
        let at = "2026-01-31T08:00:00Z".parse::<Time>();
        assert!(matches!(at, Ok(Time::At(_))));
        assert!(matches!(
            "14d".parse::<Time>(),
            Ok(Time::Ago(1_209_600_000))
        ));
        assert!("yesterday".parse::<Time>().unwrap_err().contains("36h"));
        let stretch: Stretch = "3:10-20".parse().unwrap();
        assert_eq!((stretch.partition, stretch.from, stretch.to), (3, 10, 20));
        for wrong in ["", "3", "3:10", "3:20-10", "3:10-10", "3:-1-5", "x:1-2"] {
            assert!(
                wrong.parse::<Stretch>().unwrap_err().contains("0:100-250"),
                "{wrong}"
            );
        }
    }
}
