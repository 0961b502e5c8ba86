//! What the simulator counted. Exact: every call ends in one answer, or in one fault that answers
//! nothing; every time a code is sent again has one cause.

use super::tokens::TokenStats;
use crate::model::Millis;
use serde::Serialize;
use std::collections::BTreeMap;

/// Most resends told one by one; beyond that they are only counted.
pub(super) const MAX_RESENDS: usize = 1_000;

/// All counters.
#[derive(Clone, Default, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Per appid (`unknown` for those that do not exist) and API.
    pub apps: BTreeMap<String, BTreeMap<&'static str, ApiStats>>,
    /// What happened to codes.
    pub codes: CodeStats,
    /// Faults that were injected, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Sessions begun (`wx.login`).
    pub logins: u64,
    /// App tokens, per appid.
    pub tokens: BTreeMap<String, TokenStats>,
    /// Messages pushed, by whether their receiver took them.
    pub pushed: PushStats,
    /// Requests of all apps and APIs under way now.
    pub in_flight: u64,
    /// The most that were under way at once.
    pub most_in_flight: u64,
    /// How long each was under way, in milliseconds, all of them added up: divided by a time, how many
    /// were under way on average.
    pub in_flight_ms: u64,
    /// Until when `in_flight_ms` counts.
    #[serde(skip)]
    pub(super) counted_until: Millis,
}

impl Stats {
    /// Counts the time until now of those that are under way.
    pub(super) fn count_until(&mut self, now: Millis) {
        let passed = u64::try_from(now.since(self.counted_until)).unwrap_or(0);
        self.in_flight_ms =
            (self.in_flight_ms).saturating_add(self.in_flight.saturating_mul(passed));
        self.counted_until = self.counted_until.max(now);
    }
}

/// One API of one app.
#[derive(Clone, Default, Debug, PartialEq, Eq, Serialize)]
pub struct ApiStats {
    /// Requests that reached it.
    pub calls: u64,
    /// JSON answers by `errcode`, 0 for success, whether or not the client took them.
    pub answers: BTreeMap<i32, u64>,
    /// Requests that got no answer in JSON: faults such as hangs, cuts, 500s and broken bodies.
    pub unanswered: u64,
    /// Requests under way now.
    pub in_flight: u64,
    /// The most that were under way at once.
    pub most_in_flight: u64,
    /// Calls of this minute that count towards the limit: those with good credentials.
    pub used_this_minute: u64,
    /// The same of this day (in China).
    pub used_today: u64,
}

/// Messages pushed.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize)]
pub struct PushStats {
    /// Messages that were taken.
    pub taken: u64,
    /// Messages that nobody took in three tries.
    pub lost: u64,
    /// Tries in all.
    pub tries: u64,
}

/// What happened to codes. The `resent_*` are disjoint: a code sent n times counts n - 1 of them.
#[derive(Clone, Default, Debug, PartialEq, Eq, Serialize)]
pub struct CodeStats {
    /// Requests that carried a code.
    pub sent: u64,
    /// Codes spent: their answer was computed.
    pub spent: u64,
    /// Codes whose success answer was wholly written to a connection.
    pub answered_ok: u64,
    /// Sent again although a success answer had been written: must be 0.
    pub resent_after_answer: u64,
    /// The same, but the client was killed (`note_kill`) shortly after the answer was written, so
    /// that it may never have seen it.
    pub resent_after_kill: u64,
    /// Sent again after an injected -1, 45011, hang, 500, broken body or cut.
    pub resent_after_fault: u64,
    /// Sent again after WeChat had refused it (40029, 40163, …).
    pub resent_after_refusal: u64,
    /// Sent again while or after a request for it ended without an answer, with no fault injected:
    /// the client gave up, or asked twice at once.
    pub resent_unanswered: u64,
    /// Codes whose fate is in memory now.
    pub remembered: u64,
    /// The first of the resends after an answer, for tests to look at.
    pub resends: Vec<Resend>,
}

/// A code that was sent again after its answer had been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Resend {
    /// When the answer was written, in milliseconds since the epoch.
    #[serde(serialize_with = "number")]
    pub answered_at: Millis,
    /// When the code came again.
    #[serde(serialize_with = "number")]
    pub resent_at: Millis,
    /// Whether the client was killed in between.
    pub killed: bool,
}

fn number<S: serde::Serializer>(at: &Millis, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_i64(at.0)
}
