//! The topics: names, partitions, what each keeps.

use super::check::Checker;
use super::raw;
use crate::bus::{Keep, TopicSpec};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Longest name Kafka takes.
const MAX_NAME: usize = 249;
/// More partitions than this serve no worker and cost every topic.
const MAX_PARTITIONS: u32 = 1_000;

/// Names and retention of the topics.
#[derive(Debug, Clone)]
pub struct Topics {
    /// Login events, decisions, erasures.
    pub logins: Arc<str>,
    /// Account → user.
    pub account_links: Arc<str>,
    /// Own id → current user id.
    pub user_merges: Arc<str>,
    /// Decisions and tombstones.
    pub registers: Arc<str>,
    /// Contested claims.
    pub link_conflicts: Arc<str>,
    /// One record per login; off unless named.
    pub linked_logins: Option<Arc<str>>,
    /// Dead letters.
    pub dlq: Arc<str>,
    /// Partitions of the login topic, and of all others.
    pub logins_partitions: u32,
    /// How long `logins` is kept.
    pub logins_kept: Duration,
    /// How long `link_conflicts` is kept.
    pub link_conflicts_kept: Duration,
    /// How long `linked_logins` is kept.
    pub linked_logins_kept: Duration,
    /// How long `dlq` is kept.
    pub dlq_kept: Duration,
    /// How long nulls stay on compacted topics.
    pub tombstones_kept: Duration,
}

impl Topics {
    /// What the bus is asked to hold, the login topic first.
    #[must_use]
    pub fn specs(&self) -> Vec<TopicSpec> {
        let newest = Keep::Newest(self.tombstones_kept);
        let mut topics = vec![
            (&self.logins, Keep::For(self.logins_kept)),
            (&self.account_links, newest),
            (&self.user_merges, newest),
            (&self.registers, newest),
            (&self.link_conflicts, Keep::For(self.link_conflicts_kept)),
            (&self.dlq, Keep::For(self.dlq_kept)),
        ];
        if let Some(name) = &self.linked_logins {
            topics.push((name, Keep::For(self.linked_logins_kept)));
        }
        let spec = |(name, keep): (&Arc<str>, Keep)| TopicSpec {
            name: Arc::clone(name),
            partitions: self.logins_partitions,
            keep,
        };
        topics.into_iter().map(spec).collect()
    }
}

pub(super) fn topics(c: &mut Checker<'_>, raw: &raw::Topics) -> Topics {
    let named = (!raw.linked_logins.is_empty()).then_some(("linked_logins", &raw.linked_logins));
    let names = [
        ("logins", &raw.logins),
        ("account_links", &raw.account_links),
        ("user_merges", &raw.user_merges),
        ("registers", &raw.registers),
        ("link_conflicts", &raw.link_conflicts),
        ("dlq", &raw.dlq),
    ];
    let mut seen = BTreeSet::new();
    for (key, name) in names.into_iter().chain(named) {
        check_name(c, key, name, &mut seen);
    }
    if raw.tombstone_days < raw.logins_days {
        let problem = "must be at least topics.logins_days: a rebuild must still find the nulls of \
                       every login it reads again";
        c.problems.add("topics.tombstone_days", problem);
    }
    Topics {
        logins: raw.logins.as_str().into(),
        account_links: raw.account_links.as_str().into(),
        user_merges: raw.user_merges.as_str().into(),
        registers: raw.registers.as_str().into(),
        link_conflicts: raw.link_conflicts.as_str().into(),
        linked_logins: named.map(|(_, name)| name.as_str().into()),
        dlq: raw.dlq.as_str().into(),
        logins_partitions: c.small(
            "topics.logins_partitions",
            raw.logins_partitions,
            1..=MAX_PARTITIONS,
        ),
        logins_kept: c.days("topics.logins_days", raw.logins_days),
        link_conflicts_kept: c.days("topics.link_conflicts_days", raw.link_conflicts_days),
        linked_logins_kept: c.days("topics.linked_logins_days", raw.linked_logins_days),
        dlq_kept: c.days("topics.dlq_days", raw.dlq_days),
        tombstones_kept: c.days("topics.tombstone_days", raw.tombstone_days),
    }
}

fn check_name<'a>(c: &mut Checker<'_>, key: &str, name: &'a str, seen: &mut BTreeSet<&'a str>) {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let sized = (1..=MAX_NAME).contains(&name.len());
    if !sized || !name.bytes().all(legal) || name == "." || name == ".." {
        let problem =
            "must be 1 to 249 letters, digits, dots, dashes or underscores, as Kafka wants";
        c.problems.add(format!("topics.{key}"), problem);
    }
    if !seen.insert(name) {
        let problem = "is the name of another topic too; each needs its own";
        c.problems.add(format!("topics.{key}"), problem);
    }
}
