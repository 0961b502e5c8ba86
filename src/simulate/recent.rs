//! What is remembered for a while and in bounded memory: two generations, the older one dropped
//! when the younger is old or full.

use crate::model::Millis;
use rustc_hash::FxHashMap;

/// Most entries of a generation (24 bytes each, some 100 MB for both with the tables' slack).
const MAX: usize = 1_000_000;

/// Values by a number that is a hash; kept for at least `generation_ms` unless there are too many.
pub(super) struct Recent<V> {
    young: FxHashMap<u64, V>,
    old: FxHashMap<u64, V>,
    generation_ms: i64,
    turned_at: Millis,
}

impl<V: Copy> Recent<V> {
    pub(super) fn new(generation_ms: i64, now: Millis) -> Self {
        Self {
            young: FxHashMap::default(),
            old: FxHashMap::default(),
            generation_ms,
            turned_at: now,
        }
    }

    pub(super) fn get(&self, key: u64) -> Option<V> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    pub(super) fn set(&mut self, key: u64, value: V, now: Millis) {
        let age = now.since(self.turned_at);
        if age >= self.generation_ms || self.young.len() >= MAX {
            self.old = std::mem::take(&mut self.young);
            if age >= self.generation_ms.saturating_mul(2) {
                self.old.clear();
            }
            self.turned_at = now;
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_for_a_generation_and_gone_after_two() {
        let mut recent = Recent::new(100, Millis(0));
        recent.set(1, 'a', Millis(50));
        recent.set(2, 'b', Millis(120));
        assert_eq!(recent.get(1), Some('a'));
        recent.set(3, 'c', Millis(230));
        assert_eq!((recent.get(1), recent.get(2)), (None, Some('b')));
        recent.set(4, 'd', Millis(900));
        assert_eq!((recent.get(2), recent.get(3)), (None, None));
    }
}
