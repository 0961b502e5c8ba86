//! What was read and not taken yet, by partition, so that one that is far behind holds no other up.

use crate::bus::Stored;
use std::collections::{BTreeMap, VecDeque};

/// Records and bytes that are read ahead here; librdkafka holds more.
const RECORDS: usize = 8_192;
const BYTES: usize = 8 << 20;
/// Bytes given at once.
const GIVEN_BYTES: usize = 2 << 20;

#[derive(Default)]
pub struct Inbox {
    parts: BTreeMap<u32, VecDeque<Stored>>,
    records: usize,
    bytes: usize,
    /// The partition that is served first next time.
    turn: u32,
}

impl Inbox {
    /// Whether more should be read.
    pub fn has_room(&self) -> bool {
        self.records < RECORDS && self.bytes < BYTES
    }

    /// Whether so little is left that reading should go on after it was stopped.
    pub fn is_low(&self) -> bool {
        self.records < RECORDS / 2 && self.bytes < BYTES / 2
    }

    pub fn push(&mut self, record: Stored) {
        self.records += 1;
        self.bytes += record.size();
        let part = self.parts.entry(record.partition).or_default();
        part.push_back(record);
    }

    /// Forgets a partition, which is read from elsewhere or by somebody else.
    pub fn forget(&mut self, partition: u32) {
        if let Some(part) = self.parts.remove(&partition) {
            self.records -= part.len();
            self.bytes -= part.iter().map(Stored::size).sum::<usize>();
        }
    }

    pub fn clear(&mut self) {
        *self = Self {
            turn: self.turn,
            ..Self::default()
        };
    }

    /// Takes at most `limit` records, an equal share of each partition, what one leaves going to
    /// the others.
    pub fn take(&mut self, limit: usize) -> Vec<Stored> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < limit.max(1) && bytes < GIVEN_BYTES && !self.parts.is_empty() {
            self.round(limit.max(1), &mut taken, &mut bytes);
        }
        self.turn = self.turn.wrapping_add(1);
        if self.parts.range(self.turn..).next().is_none() {
            self.turn = 0;
        }
        self.records -= taken.len();
        self.bytes -= bytes;
        taken
    }

    /// Takes each partition's share of what may still be taken.
    fn round(&mut self, limit: usize, taken: &mut Vec<Stored>, bytes: &mut usize) {
        let mut order: Vec<u32> = self.parts.range(self.turn..).map(|(p, _)| *p).collect();
        order.extend(self.parts.range(..self.turn).map(|(p, _)| *p));
        let mut left = order.len();
        for partition in order {
            let Some(part) = self.parts.get_mut(&partition) else {
                continue;
            };
            let share = (limit - taken.len()).div_ceil(left);
            let share_bytes = GIVEN_BYTES.saturating_sub(*bytes).div_ceil(left);
            let (mut count, mut size) = (0, 0);
            while count < share && size < share_bytes {
                let Some(record) = part.pop_front() else {
                    break;
                };
                size += record.size();
                count += 1;
                taken.push(record);
            }
            if part.is_empty() {
                self.parts.remove(&partition);
            }
            *bytes += size;
            left -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: u32, offset: i64, bytes: usize) -> Stored {
        Stored {
            partition,
            offset,
            timestamp: 0,
            key: vec![],
            value: Some(vec![0; bytes]),
            headers: vec![],
        }
    }

    fn places(records: &[Stored]) -> Vec<(u32, i64)> {
        records.iter().map(|r| (r.partition, r.offset)).collect()
    }

    #[test]
    fn a_partition_far_behind_holds_no_other_up() {
        let mut inbox = Inbox::default();
        (0..1_000).for_each(|i| inbox.push(record(1, i, 9)));
        inbox.push(record(3, 0, 9));
        inbox.push(record(5, 0, 9));
        let first = inbox.take(9);
        assert_eq!(first.len(), 9);
        assert!(places(&first).contains(&(3, 0)) && places(&first).contains(&(5, 0)));
    }

    #[test]
    fn everything_comes_once_in_order_within_its_limits() {
        let mut inbox = Inbox::default();
        for i in 0..300 {
            (0..4).for_each(|p| inbox.push(record(p, i, 20_000)));
        }
        let mut seen = BTreeMap::<u32, i64>::new();
        loop {
            let some = inbox.take(200);
            if some.is_empty() {
                break;
            }
            let bytes: usize = some.iter().map(Stored::size).sum();
            assert!(some.len() <= 200 && bytes <= GIVEN_BYTES + 4 * 20_000);
            for (partition, offset) in places(&some) {
                let next = seen.entry(partition).or_default();
                assert_eq!(offset, *next);
                *next += 1;
            }
        }
        assert!(seen.len() == 4 && seen.values().all(|n| *n == 300));
        assert!(inbox.records == 0 && inbox.bytes == 0);
    }

    #[test]
    fn a_record_larger_than_all_limits_comes_alone() {
        let mut inbox = Inbox::default();
        inbox.push(record(0, 0, BYTES + 1));
        inbox.push(record(0, 1, 1));
        assert!(!inbox.has_room());
        assert_eq!(places(&inbox.take(5)), [(0, 0)]);
        assert_eq!(places(&inbox.take(5)), [(0, 1)]);
    }

    #[test]
    fn what_is_forgotten_takes_no_room() {
        let mut inbox = Inbox::default();
        (0..4_500).for_each(|i| (0..2).for_each(|p| inbox.push(record(p, i, 1))));
        assert!(!inbox.has_room());
        inbox.forget(0);
        assert!(inbox.has_room());
        assert!(inbox.take(9_000).iter().all(|r| r.partition == 1));
    }
}
