//! Which records of each partition are read, applied and published: pure bookkeeping.
//!
//! Records finish in any order; positions move over the longest finished prefix only, so that one
//! slow call holds nobody up and a crash repeats work but never skips any.

use crate::bus::{Record, Stored};
use crate::store::Position;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The books of all partitions of one term.
#[derive(Debug, Default)]
pub struct Tracker {
    parts: BTreeMap<u32, Part>,
    open: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Part {
    slots: VecDeque<Slot>,
    /// How many slots from the front are staged.
    staged: usize,
    /// Offsets up to this one had their inline records published in an earlier life.
    inline_out: i64,
}

#[derive(Debug)]
struct Slot {
    offset: i64,
    /// Held until it is taken: the position after it is told with its digest.
    record: Arc<Stored>,
    bytes: usize,
    staged: bool,
    done: bool,
    inline: Option<Record>,
}

/// What may be published of a partition.
#[derive(Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The next input offset.
    pub input: i64,
    /// Inline records of the offsets below it.
    pub records: Vec<Record>,
}

impl Tracker {
    /// Takes a partition on. Offsets up to `inline_out` stay silent.
    pub fn begin(&mut self, partition: u32, inline_out: i64) {
        let part = Part {
            inline_out,
            ..Part::default()
        };
        self.parts.insert(partition, part);
    }

    /// Notes a record as read; `false` if its partition is not held.
    pub fn read(&mut self, record: &Arc<Stored>) -> bool {
        let Some(part) = self.parts.get_mut(&record.partition) else {
            return false;
        };
        let bytes = weight(record);
        part.slots.push_back(Slot {
            offset: record.offset,
            record: Arc::clone(record),
            bytes,
            staged: false,
            done: false,
            inline: None,
        });
        self.open += 1;
        self.bytes += bytes;
        true
    }

    /// Whether the record's inline records went out in an earlier life.
    #[must_use]
    pub fn silent(&self, partition: u32, offset: i64) -> bool {
        self.parts
            .get(&partition)
            .is_none_or(|p| offset <= p.inline_out)
    }

    /// Notes records as part of the batch that is about to be applied, and tells the input
    /// positions that hold once it is.
    pub fn stage(&mut self, records: impl Iterator<Item = (u32, i64)>) -> Vec<Position> {
        let mut touched = BTreeMap::new();
        for (partition, offset) in records {
            if let Some(slot) = self.parts.get_mut(&partition).and_then(|p| p.slot(offset)) {
                slot.staged = true;
                touched.insert(partition, ());
            }
        }
        let parts = &mut self.parts;
        touched
            .keys()
            .filter_map(|p| {
                parts
                    .get_mut(p)?
                    .advance()
                    .map(|(offset, digest)| (*p, offset, digest))
            })
            .map(|(partition, offset, digest)| Position {
                partition,
                offset,
                digest,
            })
            .collect()
    }

    /// Notes a record as applied, with what is to be published beside its offset.
    pub fn done(&mut self, partition: u32, offset: i64, inline: Option<Record>) {
        let Some(part) = self.parts.get_mut(&partition) else {
            return;
        };
        let silent = offset <= part.inline_out;
        if let Some(slot) = part.slot(offset) {
            slot.done = true;
            slot.inline = inline.filter(|_| !silent);
        }
    }

    /// Takes the finished prefix of a partition out, at most about `limit` inline records.
    pub fn take(&mut self, partition: u32, limit: usize) -> Option<Prefix> {
        let part = self.parts.get_mut(&partition)?;
        let mut prefix: Option<Prefix> = None;
        while part.slots.front().is_some_and(|s| s.done) {
            if prefix.as_ref().is_some_and(|p| p.records.len() >= limit) {
                break;
            }
            let Some(slot) = part.slots.pop_front() else {
                break;
            };
            part.staged = part.staged.saturating_sub(1);
            self.open -= 1;
            self.bytes -= slot.bytes;
            let prefix = prefix.get_or_insert(Prefix {
                input: 0,
                records: Vec::new(),
            });
            prefix.input = slot.offset + 1;
            prefix.records.extend(slot.inline);
        }
        prefix
    }

    /// Records read and not yet taken out.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Their size in memory, in bytes, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Part {
    fn slot(&mut self, offset: i64) -> Option<&mut Slot> {
        let at = self.slots.partition_point(|s| s.offset < offset);
        self.slots.get_mut(at).filter(|s| s.offset == offset)
    }

    /// Moves over the staged prefix; the position after it, if it moved.
    fn advance(&mut self) -> Option<(i64, Vec<u8>)> {
        let from = self.staged;
        while self.slots.get(self.staged).is_some_and(|s| s.staged) {
            self.staged += 1;
        }
        if self.staged == from {
            return None;
        }
        let last = self.slots.get(self.staged - 1)?;
        Some((last.offset + 1, digest(&last.record)))
    }
}

fn weight(record: &Stored) -> usize {
    let headers: usize = record.headers.iter().map(|(k, v)| k.len() + v.len()).sum();
    record.key.len() + record.value.as_ref().map_or(0, Vec::len) + headers + size_of::<Slot>()
}

/// SHA-256 of a record, to recognise its topic by.
#[must_use]
pub fn digest(record: &Stored) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(record.timestamp.to_be_bytes());
    for part in [
        record.key.as_slice(),
        record.value.as_deref().unwrap_or_default(),
    ] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(offset: i64) -> Arc<Stored> {
        Arc::new(Stored {
            partition: 0,
            offset,
            timestamp: offset,
            key: vec![],
            value: Some(vec![1]),
            headers: vec![],
        })
    }

    fn inline(offset: i64) -> Record {
        Record {
            topic: "t".into(),
            key: offset.to_be_bytes().to_vec(),
            value: None,
            headers: vec![],
            partition: None,
        }
    }

    proptest! {
        /// Whatever the order of finishing, every inline record comes out once and in order, and a
        /// position never passes an unfinished record.
        #[test]
        fn positions_follow_the_lowest_unfinished(order in Just((0..40i64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut tracker = Tracker::default();
            tracker.begin(0, 9);
            for offset in 0..40 {
                prop_assert!(tracker.read(&stored(offset)));
            }
            let mut finished = vec![];
            let mut out = vec![];
            let mut next = 0;
            let mut staged = 0;
            for offset in order {
                let positions = tracker.stage([(0, offset)].into_iter());
                finished.push(offset);
                let before = staged;
                staged = (0..41).find(|o| !finished.contains(o)).unwrap_or(40);
                let lowest = staged;
                let want = (staged > before).then(|| (staged, digest(&stored(staged - 1))));
                let told = positions.first().map(|p| (p.offset, p.digest.clone()));
                prop_assert_eq!(told, want, "a position is told whenever it moves");
                tracker.done(0, offset, Some(inline(offset)));
                while let Some(prefix) = tracker.take(0, 3) {
                    prop_assert!(prefix.input > next && prefix.input <= lowest);
                    next = prefix.input;
                    out.extend(prefix.records);
                }
                prop_assert_eq!(next, lowest);
            }
            let want: Vec<_> = (10..40).map(inline).collect();
            prop_assert_eq!(out, want);
            prop_assert_eq!((tracker.open(), tracker.bytes()), (0, 0));
        }
    }
}
