//! What became of the codes that were sent: each is remembered while it lives (or for good, for
//! tests that kill the client), then its age alone refuses it.

use super::code::CodeKey;
use super::stats::{CodeStats, MAX_RESENDS, Resend};
use crate::model::Millis;
use rustc_hash::FxHashMap;

/// Most codes in memory (24 bytes each, some 1.5 GB with the tables' slack). Beyond it the
/// simulator answers -1 rather than forget a spent code.
const MAX_CODES: usize = 30_000_000;
/// Most kills remembered: a kill test makes tens.
const MAX_KILLS: usize = 10_000;

/// How the last request that carried the code ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Last {
    /// It is under way, or the client left.
    Unanswered,
    /// An injected fault spoilt it.
    Fault,
    /// It was refused.
    Refused,
}

#[derive(Clone, Copy)]
struct Entry {
    /// When a success answer was first written; 0 for never.
    answered_at: i64,
    attempts: u16,
    spent: bool,
    last: Last,
}

impl Entry {
    fn new(attempts: u16) -> Self {
        Self {
            answered_at: 0,
            attempts,
            spent: false,
            last: Last::Unanswered,
        }
    }
}

/// Two generations: what is in the older one has outlived every code's life when it is dropped.
pub(super) struct Codes {
    young: FxHashMap<CodeKey, Entry>,
    old: FxHashMap<CodeKey, Entry>,
    /// Length of a generation; `None` remembers for good.
    generation_ms: Option<i64>,
    turned_at: Millis,
    kills: Vec<Millis>,
    kill_grace_ms: i64,
    pub(super) stats: CodeStats,
}

/// A request's place in its code's life.
pub(super) enum Arrival {
    /// The how-manieth time the code comes, from 0.
    Attempt(u16),
    /// The memory is full.
    Full,
}

impl Codes {
    pub(super) fn new(generation_ms: Option<i64>, kill_grace_ms: i64, now: Millis) -> Self {
        Self {
            young: FxHashMap::default(),
            old: FxHashMap::default(),
            generation_ms,
            turned_at: now,
            kills: Vec::new(),
            kill_grace_ms,
            stats: CodeStats::default(),
        }
    }

    /// How many codes are in memory.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// The client died at `at`: answers written shortly before may not have been seen.
    pub(super) fn note_kill(&mut self, at: Millis) {
        if self.kills.len() < MAX_KILLS {
            self.kills.push(at);
        }
    }

    /// A request carries the code.
    pub(super) fn arrive(&mut self, key: CodeKey, now: Millis) -> Arrival {
        self.turn(now);
        self.stats.sent += 1;
        if self.entry(key).is_none() {
            if self.len() >= MAX_CODES {
                return Arrival::Full;
            }
            self.young.insert(key, Entry::new(1));
            return Arrival::Attempt(0);
        }
        if self.entry(key).is_some_and(|e| e.attempts > 0) {
            self.count_resend(key, now);
        }
        let Some(entry) = self.entry(key) else {
            return Arrival::Full;
        };
        entry.last = Last::Unanswered;
        let attempt = entry.attempts;
        entry.attempts = attempt.saturating_add(1);
        Arrival::Attempt(attempt)
    }

    fn count_resend(&mut self, key: CodeKey, now: Millis) {
        let Some(&mut Entry {
            answered_at, last, ..
        }) = self.entry(key)
        else {
            return;
        };
        if answered_at == 0 {
            match last {
                Last::Unanswered => self.stats.resent_unanswered += 1,
                Last::Fault => self.stats.resent_after_fault += 1,
                Last::Refused => self.stats.resent_after_refusal += 1,
            }
            return;
        }
        let answered_at = Millis(answered_at);
        let until = answered_at.plus(self.kill_grace_ms);
        let killed = self.kills.iter().any(|k| (answered_at..=until).contains(k));
        if killed {
            self.stats.resent_after_kill += 1;
        } else {
            self.stats.resent_after_answer += 1;
        }
        if self.stats.resends.len() < MAX_RESENDS {
            let resent_at = now;
            self.stats.resends.push(Resend {
                answered_at,
                resent_at,
                killed,
            });
        }
    }

    /// Spends the code; `false` if it was spent before.
    pub(super) fn spend(&mut self, key: CodeKey) -> bool {
        let Some(entry) = self.entry(key) else {
            return false;
        };
        let fresh = !std::mem::replace(&mut entry.spent, true);
        self.stats.spent += u64::from(fresh);
        fresh
    }

    /// Whether the code was spent.
    pub(super) fn is_spent(&mut self, key: CodeKey) -> bool {
        self.entry(key).is_some_and(|entry| entry.spent)
    }

    /// Somebody else spends the code; that is counted neither as sent nor as spent here.
    pub(super) fn spend_elsewhere(&mut self, key: CodeKey, now: Millis) {
        self.turn(now);
        if self.len() < MAX_CODES {
            let entry = self.young.entry(key).or_insert(Entry::new(0));
            entry.spent = true;
        }
    }

    /// The request ended in this way.
    pub(super) fn ended(&mut self, key: CodeKey, last: Last) {
        if let Some(entry) = self.entry(key) {
            entry.last = last;
        }
    }

    /// The success answer was wholly written.
    pub(super) fn answered(&mut self, key: CodeKey, now: Millis) {
        let Some(entry) = self.entry(key) else {
            return;
        };
        if entry.answered_at == 0 {
            entry.answered_at = now.0.max(1);
            self.stats.answered_ok += 1;
        }
    }

    fn entry(&mut self, key: CodeKey) -> Option<&mut Entry> {
        match self.young.get_mut(&key) {
            Some(entry) => Some(entry),
            None => self.old.get_mut(&key),
        }
    }

    fn turn(&mut self, now: Millis) {
        let Some(generation) = self.generation_ms else {
            return;
        };
        let age = now.since(self.turned_at);
        if age < generation {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        if age >= generation.saturating_mul(2) {
            self.old = FxHashMap::default();
        }
        self.turned_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(generation: Option<i64>) -> Codes {
        Codes::new(generation, 1_000, Millis(0))
    }

    #[test]
    fn resends_are_told_apart_by_what_came_before() {
        let mut codes = codes(None);
        let ends: [fn(&mut Codes, CodeKey); 4] = [
            |c, k| c.ended(k, Last::Fault),
            |c, k| c.ended(k, Last::Refused),
            |_, _| (),
            |c, k| c.answered(k, Millis(5)),
        ];
        for (key, end) in (0u64..).zip(ends) {
            codes.arrive(CodeKey(key), Millis(1));
            end(&mut codes, CodeKey(key));
            codes.arrive(CodeKey(key), Millis(9));
        }
        let s = &codes.stats;
        assert_eq!((s.sent, s.resent_after_fault), (8, 1));
        assert_eq!((s.resent_after_refusal, s.resent_unanswered), (1, 1));
        assert_eq!((s.resent_after_answer, s.resent_after_kill), (1, 0));
    }

    #[test]
    fn a_kill_soon_after_the_answer_excuses_a_resend_and_a_later_one_does_not() {
        let mut codes = codes(None);
        for (key, at) in [(1, 10_000), (2, 8_000), (3, 10_500)] {
            codes.arrive(CodeKey(key), Millis(at));
            codes.answered(CodeKey(key), Millis(at));
        }
        codes.note_kill(Millis(10_400));
        for key in 1..=3 {
            codes.arrive(CodeKey(key), Millis(11_000));
        }
        assert_eq!(codes.stats.resent_after_kill, 1);
        assert_eq!(codes.stats.resent_after_answer, 2);
    }

    #[test]
    fn a_code_is_spent_once_and_forgotten_after_its_life() {
        let mut codes = codes(Some(100));
        codes.arrive(CodeKey(1), Millis(99));
        assert!(codes.spend(CodeKey(1)));
        assert!(!codes.spend(CodeKey(1)));
        codes.arrive(CodeKey(2), Millis(150));
        assert!(!codes.spend(CodeKey(1)), "remembered for a whole life");
        codes.arrive(CodeKey(3), Millis(260));
        assert_eq!(codes.len(), 2);
        codes.arrive(CodeKey(4), Millis(10_000));
        assert_eq!(codes.len(), 1);
    }
}
