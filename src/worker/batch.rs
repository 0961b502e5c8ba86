//! From finished items to one batch for the store: facts for `plan`, deferrals, fates, and, once it
//! is decided, the records of the outbox.

use super::item::{End, Head, Item, Source};
use super::records::Records;
use super::shift::Shift;
use crate::bus::Record;
use crate::link::{self, Rules};
use crate::model::{
    Changes, DeadReason, Fact, Millis, News, Outcome, Reason, SightingResult, View, Why,
};
use crate::resolve::ladder::Later;
use crate::store::{
    Batch, Deferred, Planner, Settled, Step, Tracked, TrackedState, WaitsFor, Write,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What planning and publishing need to know.
pub struct Desk {
    /// The rules of `plan`.
    pub rules: Rules,
    /// Makes records.
    pub records: Records,
    /// The term's books.
    pub shift: Arc<Shift>,
}

/// A batch under way: the items and their facts side by side.
pub struct Work<'a> {
    desk: &'a Desk,
    items: &'a [Item],
    facts: Vec<Fact>,
    /// For each item, the index of its sighting among the sightings of `facts`.
    sighting: Vec<Option<usize>>,
    now: Millis,
    /// What `plan` said of the sightings, once it has decided.
    results: Vec<SightingResult>,
    /// Claims that became contested, by why.
    contested: BTreeMap<Why, u64>,
    /// Places that an earlier life deferred, as `plan` saw them.
    deferred: BTreeSet<(u32, i64)>,
}

impl<'a> Work<'a> {
    /// Takes the facts out of the items.
    #[must_use]
    pub fn new(desk: &'a Desk, items: &'a [Item], now: Millis) -> Self {
        let mut facts = Vec::with_capacity(items.len());
        let mut sightings = 0;
        let mut sighting = Vec::with_capacity(items.len());
        for item in items {
            let fact = match &item.end {
                End::Facts(fact) => Some(fact.as_ref().clone()),
                End::Later(later) => later.interim.clone().map(Fact::Sighting),
                End::Dead(..) => None,
            };
            let index = matches!(fact, Some(Fact::Sighting(_))).then(|| {
                sightings += 1;
                sightings - 1
            });
            sighting.push(index);
            facts.extend(fact);
        }
        Self {
            desk,
            items,
            facts,
            sighting,
            now,
            results: Vec::new(),
            contested: BTreeMap::new(),
            deferred: BTreeSet::new(),
        }
    }

    /// The batch, but for what `plan` will decide and the input positions.
    #[must_use]
    pub fn batch(&self) -> Batch {
        let mut batch = Batch {
            keys: link::keys(&self.facts),
            ..Batch::default()
        };
        for item in self.items {
            self.add(&mut batch, item);
        }
        batch
    }

    fn add(&self, batch: &mut Batch, item: &Item) {
        let (partition, offset) = item.place();
        let head = item.head.as_ref();
        match (&item.end, item.source) {
            (End::Later(later), Source::Live { .. }) => {
                batch.defer.extend(self.deferred(item, head, later));
            }
            (End::Later(later), Source::Deferred { attempts, lease }) => {
                batch.settle.push(Settled::Again {
                    partition,
                    offset,
                    lease,
                    account: item.account().cloned(),
                    waits_for: waits_for(later),
                    next_at: later.next_at,
                    attempts,
                });
            }
            // Resolved or dead at last, or a redelivery of what an earlier life deferred.
            (_, Source::Deferred { .. } | Source::Live { asked: true }) => {
                batch.settle.push(Settled::Done { partition, offset });
            }
            (_, Source::Live { asked: false }) => {}
        }
        batch.tracked.extend(self.tracked(item));
    }

    fn deferred(&self, item: &Item, head: Option<&Head>, later: &Later) -> Option<Deferred> {
        let head = head?;
        let (partition, offset) = item.place();
        Some(Deferred {
            partition,
            offset,
            silent: self.desk.shift.silent(partition, offset),
            event: head.id.clone(),
            app: head.app.clone()?,
            account: item.account().cloned(),
            has_code: head.had_code,
            waits_for: waits_for(later),
            next_at: later.next_at,
            expires_at: later.expires_at,
            attempts: 1,
            record: self.desk.records.keep(&item.record),
            since: self.now,
        })
    }

    /// Events that carried a code, are deferred or dead can be asked about.
    fn tracked(&self, item: &Item) -> Option<Tracked> {
        let head = item.head.as_ref()?;
        let (state, reason) = match &item.end {
            End::Dead(reason, _) => (TrackedState::Dead, Some(reason.word().to_owned())),
            End::Later(_) => (TrackedState::Deferred, None),
            End::Facts(fact) if head.had_code || !item.live() => {
                let reason = match fact.as_ref() {
                    Fact::Sighting(s) => s.reason.map(|r| r.word().to_owned()),
                    _ => None,
                };
                (TrackedState::Linked, reason)
            }
            End::Facts(_) => return None,
        };
        Some(Tracked {
            event: head.id.clone(),
            state,
            account: item.account().cloned(),
            reason,
            at: self.now,
        })
    }

    /// Claims that became contested, by why. Only after `plan`.
    #[must_use]
    pub fn contested(&self) -> &BTreeMap<Why, u64> {
        &self.contested
    }

    /// The record that goes out beside a live item's offset, if it has one. Only after `plan`. What
    /// an earlier life deferred has none: its last word went, or goes, through the outbox.
    #[must_use]
    pub fn inline(&self, index: usize) -> Option<Record> {
        let item = self.items.get(index)?;
        if !item.live() || self.deferred.contains(&item.place()) {
            return None;
        }
        self.last_word(index, 1)
    }

    /// A dead letter, or the `linked-logins` record.
    fn last_word(&self, index: usize, attempts: u32) -> Option<Record> {
        let item = self.items.get(index)?;
        match &item.end {
            End::Dead(reason, detail) => {
                let records = &self.desk.records;
                Some(records.dead(&item.record, *reason, detail, attempts, self.now))
            }
            End::Facts(_) => {
                let head = item.head.as_ref().filter(|h| h.login)?;
                let result = self.sighting.get(index).copied().flatten();
                let result = result.and_then(|i| self.results.get(i))?;
                self.desk.records.linked_login(head, item, result)
            }
            End::Later(_) => None,
        }
    }

    /// Records for the outbox: the news, and the last words of deferred items.
    fn outbox(&self, changes: &Changes, view: &View) -> BTreeMap<u32, Vec<Record>> {
        let mut outbox: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        for news in &changes.news {
            let (partition, record) = self.desk.records.news(news);
            outbox.entry(partition).or_default().push(record);
        }
        let mut told = BTreeSet::new();
        for (index, item) in self.items.iter().enumerate() {
            // A redelivery may stand in one batch with the resumption of what it deferred before.
            let place = item.place();
            let attempts = match (item.source, view.deferred.get(&place)) {
                (Source::Deferred { attempts, .. }, Some(false)) => attempts,
                (Source::Live { asked: true }, Some(false)) => 1,
                _ => continue,
            };
            if view.finished.contains(&place) || told.contains(&place) {
                continue;
            }
            if let Some(record) = self.last_word(index, attempts) {
                told.insert(place);
                outbox.entry(place.0).or_default().push(record);
            }
        }
        outbox
    }
}

impl Planner for Work<'_> {
    fn step(&mut self, view: &View) -> Step {
        match link::plan(view, &self.facts, &self.desk.rules, self.now) {
            Outcome::Read(keys) => Step::Read(keys),
            Outcome::Done(mut changes) => {
                self.results = std::mem::take(&mut changes.sightings);
                self.deferred = view.deferred.keys().copied().collect();
                self.contested = contested(&changes);
                let outbox = self.outbox(&changes, view);
                Step::Write(Box::new(Write {
                    changes: *changes,
                    outbox,
                    job: None,
                }))
            }
        }
    }
}

/// Claims that became contested, by why.
fn contested(changes: &Changes) -> BTreeMap<Why, u64> {
    let mut counts = BTreeMap::new();
    for news in &changes.news {
        if let News::Conflict { why, .. } = news {
            *counts.entry(*why).or_default() += 1;
        }
    }
    counts
}

fn waits_for(later: &Later) -> WaitsFor {
    if later.for_key {
        WaitsFor::SessionKey
    } else {
        WaitsFor::Time
    }
}

/// The word a finished item counts under.
#[must_use]
pub fn result_word(item: &Item) -> (&'static str, Option<Reason>, Option<DeadReason>) {
    match &item.end {
        End::Later(_) => ("deferred", None, None),
        End::Dead(reason, _) => ("dead", None, Some(*reason)),
        End::Facts(fact) => match fact.as_ref() {
            Fact::Sighting(s) if s.claims.is_empty() => ("unresolved", s.reason, None),
            _ => ("linked", None, None),
        },
    }
}
