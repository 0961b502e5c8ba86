//! Every account decided anew: topics may hold their partitions as of different moments, and what
//! was read from one need not fit what was read from another. What differs is published.

use super::{Done, PAGE, RebuildError, Site};
use crate::link;
use crate::model::{EventId, Fact, Millis, Outcome, Review, View};
use crate::store::{Batch, Planner, Step, StoreError, Write};
use crate::worker::Records;

/// Decides all accounts anew, page by page.
pub(super) async fn all(site: &Site, epoch: u32, done: &mut Done) -> Result<(), RebuildError> {
    let cause = EventId::parse(&format!("rebuild-{epoch}"));
    let cause = cause.map_err(|why| StoreError::Corrupt(why.to_string()))?;
    let total = site.store.totals().await?.accounts;
    site.watch.stage("accounts decided anew", total);
    let records = site.records(epoch);
    let mut after = 0;
    loop {
        let page = site.store.walk(after, PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = *last;
        let facts = page.into_iter().map(|(_, account)| {
            let cause = cause.clone();
            Fact::Review(Review { account, cause })
        });
        let facts: Vec<Fact> = facts.collect();
        let batch = Batch {
            keys: link::keys(&facts),
            ..Batch::default()
        };
        let mut reviewing = Reviewing {
            site,
            records: &records,
            facts: &facts,
            now: (site.clock)(),
            told: 0,
        };
        site.store.apply(&batch, &mut reviewing).await?;
        done.told += reviewing.told;
        done.accounts += facts.len() as u64;
        site.at(done.accounts)?;
    }
}

struct Reviewing<'a> {
    site: &'a Site,
    records: &'a Records,
    facts: &'a [Fact],
    now: Millis,
    told: u64,
}

impl Planner for Reviewing<'_> {
    fn step(&mut self, view: &View) -> Step {
        match link::plan(view, self.facts, &self.site.rules, self.now) {
            Outcome::Read(keys) => Step::Read(keys),
            Outcome::Done(changes) => {
                let mut write = Write {
                    changes: *changes,
                    ..Write::default()
                };
                self.told = write.changes.news.len() as u64;
                for news in &write.changes.news {
                    let (partition, record) = self.records.news(news);
                    write.outbox.entry(partition).or_default().push(record);
                }
                Step::Write(Box::new(write))
            }
        }
    }
}
