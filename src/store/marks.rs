//! How far outboxes were relayed, in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How far the partitions were relayed, as told by the relay since this process began. It decides
/// only what may be deleted, so losing it costs nothing.
#[derive(Default)]
pub(super) struct Marks(Mutex<BTreeMap<u32, Mark>>);

/// How far one partition was relayed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    /// Rows up to this one are published.
    pub seq: u64,
    /// Rows below this one are deleted.
    pub pruned: u64,
    /// Input records below this one will not be handled again.
    pub inline_below: i64,
}

impl Marks {
    /// Notes what the relay tells. Marks only go forward.
    pub(super) fn note(&self, partition: u32, seq: u64, inline_below: i64) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = marks.entry(partition).or_default();
        mark.seq = mark.seq.max(seq);
        mark.inline_below = mark.inline_below.max(inline_below);
    }

    /// All marks.
    pub(super) fn all(&self) -> BTreeMap<u32, Mark> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes that rows below are deleted.
    pub(super) fn pruned(&self, partition: u32, below: u64) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = marks.get_mut(&partition) {
            mark.pruned = mark.pruned.max(below);
        }
    }
}
