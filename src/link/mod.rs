//! Identity: what the store holds and what was learnt make the changes to write and the news to
//! publish. Pure: no async, no SQL, no clock, no I/O.
//!
//! Promises (P2, P4, P6): the state after any facts is a function of the set of facts, whatever
//! their order, repetition and division into batches; facts that change nothing give no change;
//! contradicting evidence is contested, never merged and never dropped in silence.
//!
//! How: `absorb` joins the facts with what is stored (`registers`: decisions and tombstones);
//! `close` walks everything that a change can reach, asking for what has not been read; `activate`
//! decides anew which claims link there; `settle` and `news` write down the difference.
//!
//! For people who look and decide, `explain` and `against` read off why claims stand as they do, and
//! `Outlook` what a plan would make of users; `split` finds what has to be rejected, `in_turn` whether
//! decisions can be given one by one.
//!
//! A known limit: an event later than an erasure that was absorbed before it, into a life that
//! began before it, is erased with that life.

mod absorb;
mod activate;
mod against;
mod close;
mod explain;
mod graph;
mod in_turn;
mod news;
mod outlook;
mod registers;
mod settle;
mod split;
mod standing;
#[cfg(test)]
mod tests;

pub use against::{Against, against};
pub use explain::{Explained, explain};
pub use in_turn::{InTurn, in_turn};
pub use outlook::{Outlook, Person};
pub use split::{Split, split};

use crate::model::{Account, Apps, Fact, Keys, Millis, Outcome, Ruling, View};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// What `plan` decides by, besides facts and store.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The company's secret namespace of own ids.
    pub namespace: Uuid,
    /// The apps and their platforms.
    pub apps: Arc<Apps>,
}

/// What to read first: the accounts that the facts are about. Unionids are asked for by [`plan`]
/// only where something changes, so that a login that changes nothing is one keyed read.
#[must_use]
pub fn keys(facts: &[Fact]) -> Keys {
    Keys {
        accounts: facts.iter().flat_map(accounts_of).cloned().collect(),
        unionids: BTreeSet::new(),
    }
}

/// Decides what the facts change, or says what it has to see first. Ask again from the start with
/// the fuller view; each call decides by its arguments alone.
#[must_use]
pub fn plan(view: &View, facts: &[Fact], rules: &Rules, now: Millis) -> Outcome {
    let unread = unread(view, facts);
    if !unread.is_empty() {
        return Outcome::Read(unread);
    }
    let mut graph = graph::Graph::new(view);
    let absorbed = absorb::absorb(&mut graph, facts, rules);
    let causes = match close::close(&mut graph) {
        Ok(causes) => causes,
        Err(keys) => return Outcome::Read(keys),
    };
    let never = absorbed.registers.never(&graph);
    let sets = activate::activate(&mut graph, &never);
    Outcome::Done(Box::new(settle::settle(
        &graph, absorbed, &sets, &causes, rules, now,
    )))
}

fn unread(view: &View, facts: &[Fact]) -> Keys {
    let accounts = facts.iter().flat_map(accounts_of);
    Keys {
        accounts: accounts
            .filter(|account| !graph::account_is_read(view, account))
            .cloned()
            .collect(),
        unionids: BTreeSet::new(),
    }
}

/// The accounts that a fact is about: two for a pair, else one.
fn accounts_of(fact: &Fact) -> impl Iterator<Item = &Account> {
    let (one, two) = match fact {
        Fact::Sighting(sighting) => (&sighting.account, None),
        Fact::Erasure(erasure) => (&erasure.account, None),
        Fact::Review(review) => (&review.account, None),
        Fact::Decision(decision) => match &decision.ruling {
            Ruling::Claim { account, .. } => (account, None),
            Ruling::Pair { a, b, .. } => (a, Some(b)),
        },
    };
    std::iter::once(one).chain(two)
}
