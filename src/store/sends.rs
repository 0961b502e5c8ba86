//! Who may send a code: a lease that one attempt at a time holds, so that of several workers with one
//! code one sends it, and what became of that, so that nobody takes a code that was sent for a fresh one.
//!
//! A lease that ran out is not taken over at once. Its holder may have WeChat's answer in hand and no
//! way to note it, since the store was away; the first who finds the lease run out gives notice, and
//! whoever comes after that has the code. By then the holder has had time, with a store that is there.

use super::CodeKey;
use crate::model::Millis;
use rustc_hash::FxHashMap;
use uuid::Uuid;

/// How long a holder whose lease ran out has from the notice on, in milliseconds. The statements of
/// both adapters hold the same number; the contract compares.
pub const NOTICE_MS: i64 = 5_000;

/// The wish of one attempt: to be the only one that sends the code, until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The code.
    pub code: CodeKey,
    /// The attempt: random, of no other attempt.
    pub holder: Uuid,
    /// The end of the lease.
    pub until: Millis,
}

/// What a claim came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody else may send it now.
    Mine {
        /// Nobody claimed it before: there can be no answer yet.
        first: bool,
        /// A request of an earlier attempt may have reached WeChat.
        sent: bool,
    },
    /// Not now.
    Held {
        /// The attempt that has it; `None`: its lease ran out, and notice is given.
        holder: Option<Uuid>,
        /// Until when, at the longest.
        until: Millis,
    },
}

/// The end of an attempt that brought no answer that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// The code.
    pub code: CodeKey,
    /// The attempt. If it has the lease no more, nothing changes.
    pub holder: Uuid,
    /// Whether its request may have reached WeChat.
    pub sent: bool,
}

/// What is known of a code that was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sending {
    /// The attempt that has the lease, or had it until it ran out.
    pub holder: Option<Uuid>,
    /// Until when nobody else may.
    pub until: Millis,
    /// A request of an attempt that is over may have reached WeChat.
    pub sent: bool,
}

/// A row as the adapters read it after a claim.
pub(super) struct Row {
    pub holder: Option<Uuid>,
    pub until: Millis,
    pub claims: i64,
    pub sent: bool,
}

impl From<Row> for Sending {
    fn from(row: Row) -> Self {
        Self {
            holder: row.holder,
            until: row.until,
            sent: row.sent,
        }
    }
}

/// The claims of a batch, of several for one code the first.
pub(super) fn first_each(claims: &[Claim]) -> Vec<Claim> {
    let mut first = claims.to_vec();
    // In order: two batches do not wait for each other in a circle. Stable: the first stays first.
    first.sort_by_key(|claim| claim.code);
    first.dedup_by_key(|claim| claim.code);
    first
}

/// What each claim came to, by the rows as they are afterwards.
pub(super) fn outcomes(
    claims: &[Claim],
    rows: &FxHashMap<CodeKey, Row>,
    now: Millis,
) -> Vec<Claimed> {
    let outcome = |claim: &Claim| match rows.get(&claim.code) {
        Some(row) if row.holder == Some(claim.holder) => Claimed::Mine {
            first: row.claims == 1,
            sent: row.sent,
        },
        Some(row) => Claimed::Held {
            holder: row.holder,
            until: row.until,
        },
        // Forgotten between two statements, as old rows are.
        None => Claimed::Held {
            holder: None,
            until: now,
        },
    };
    claims.iter().map(outcome).collect()
}
