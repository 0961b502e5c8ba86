//! Redrives whose end nobody noted: the login topic tells which letters went.

use super::{Desk, DlqError, Place};
use crate::bus::Range;
use crate::store::Redriven;
use crate::wire::redriven_from;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A batch that has begun is left alone for so long: its redrive may still be at it.
pub const HELD_MS: i64 = 15_000;
/// A letter that went stands on the login topic at most so long after it began to.
const WITHIN_MS: i64 = 60 * 60_000;
/// Records read at once.
const READ: usize = 2_000;

/// Letters that one partition of the login topic may hold: from which offset on, until when.
struct Sought {
    from: i64,
    until: i64,
    places: BTreeSet<Place>,
}

impl Desk {
    /// Letters that went back though nobody noted it, and how many milliseconds to wait until a redrive
    /// that may be under way is over (0: none is).
    ///
    /// # Errors
    /// Bus or store do not answer.
    pub async fn unnoted(&self) -> Result<(BTreeSet<Place>, i64), DlqError> {
        let now = (self.clock)();
        let begun = self.store.redrives_under_way().await?;
        let youngest = begun.iter().map(|one| one.at).max();
        let wait = youngest.map_or(0, |at| (HELD_MS - now.since(at)).clamp(0, HELD_MS));
        let mut gone = BTreeSet::new();
        for (partition, sought) in sought(&begun) {
            self.look(partition, &sought, &mut gone).await?;
        }
        Ok((gone, wait))
    }

    async fn look(
        &self,
        partition: u32,
        sought: &Sought,
        gone: &mut BTreeSet<Place>,
    ) -> Result<(), DlqError> {
        let bounds = self.bounds(&self.logins).await?;
        let Some((_, end)) = bounds.get(partition as usize) else {
            return Ok(());
        };
        let mut range = Range {
            topic: Arc::clone(&self.logins),
            partition,
            from: sought.from,
            to: *end,
        };
        loop {
            let records = self.bus.read(&range, READ).await?;
            let Some(last) = records.last() else {
                return Ok(());
            };
            range.from = last.offset + 1;
            for record in &records {
                let place = redriven_from(&record.headers).map(|(p, o)| Place(p, o));
                gone.extend(place.filter(|place| sought.places.contains(place)));
            }
            if last.timestamp > sought.until {
                return Ok(());
            }
        }
    }

    /// Forgets the redrives of letters that the topic has dropped.
    ///
    /// # Errors
    /// Bus or store do not answer.
    pub async fn forget(&self) -> Result<(), DlqError> {
        for range in self.held().await? {
            let (partition, first) = (range.partition, range.from);
            self.store.forget_redrives(partition, first).await?;
        }
        Ok(())
    }
}

fn sought(begun: &[Redriven]) -> BTreeMap<u32, Sought> {
    let mut all: BTreeMap<u32, Sought> = BTreeMap::new();
    for one in begun {
        let ((partition, offset), (to, from)) = (one.letter.place, one.letter.to);
        let until = one.at.plus(WITHIN_MS).0;
        let sought = all.entry(to).or_insert_with(|| Sought {
            from,
            until,
            places: BTreeSet::new(),
        });
        sought.from = sought.from.min(from);
        sought.until = sought.until.max(until);
        sought.places.insert(Place(partition, offset));
    }
    all
}
