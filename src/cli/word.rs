//! Operators' words about claims and pairs: what they are about, what stands already, and what was
//! agreed to.

use super::Failure;
use crate::link::Outlook;
use crate::model::{
    Account, ClaimKey, ClaimVerdict, Decision, EventId, Keys, Millis, NeverPair, Ruled, Ruling,
    UserId, View,
};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What was agreed to.
pub struct Agreed {
    /// The user that each account would have in the end, of those whose user changes.
    ends: BTreeMap<Account, UserId>,
    /// Whether accounts may come together at all.
    links: bool,
}

impl Agreed {
    /// To what an outlook tells; `links`: also that it joins users.
    #[must_use]
    pub fn to(outlook: &Outlook, links: bool) -> Self {
        let ends = outlook.after.iter().flat_map(|person| {
            let accounts = person.accounts.iter();
            accounts.map(|account| (account.clone(), person.user))
        });
        Self {
            ends: ends.collect(),
            links,
        }
    }

    /// Whether a step joins nobody but whom the whole was to join.
    #[must_use]
    pub fn covers(&self, step: &Outlook) -> bool {
        let as_agreed = |accounts: &BTreeSet<Account>| {
            let ends: BTreeSet<_> = accounts.iter().map(|a| self.ends.get(a)).collect();
            ends.len() == 1 && !ends.contains(&None)
        };
        let mut joined = step.joined().into_iter();
        joined.all(|(person, _)| self.links && as_agreed(&person.accounts))
    }
}

/// A new id for an event of an operator's.
///
/// # Errors
/// None: it is a valid one.
pub fn event_id() -> Result<EventId, Failure> {
    EventId::parse(&format!("operator-{}", Uuid::now_v7())).map_err(Failure::failed)
}

/// A word later than any that stands, to see what it would do.
///
/// # Errors
/// As [`event_id`].
pub fn latest(ruling: Ruling) -> Result<Decision, Failure> {
    Ok(Decision {
        ruling,
        at: Millis(i64::MAX),
        author: String::new(),
        note: String::new(),
        cause: event_id()?,
    })
}

/// The word about a claim.
#[must_use]
pub fn ruling_of(key: &ClaimKey, verdict: Option<ClaimVerdict>) -> Ruling {
    Ruling::Claim {
        account: key.account.clone(),
        union: key.union.clone(),
        verdict,
    }
}

/// What stands about the same thing.
#[must_use]
pub fn standing<'v>(view: &'v View, ruling: &Ruling) -> Option<&'v Ruled> {
    match ruling {
        Ruling::Claim { account, union, .. } => view.rulings.get(&ClaimKey {
            account: account.clone(),
            union: union.clone(),
        }),
        Ruling::Pair { a, b, .. } => view.pairs.get(&NeverPair {
            a: a.clone(),
            b: b.clone(),
        }),
    }
}

/// Whether the ruling stands already.
#[must_use]
pub fn stands(view: &View, ruling: &Ruling) -> bool {
    let wanted = match ruling {
        Ruling::Claim { verdict, .. } => *verdict,
        Ruling::Pair { never, .. } => never.then_some(ClaimVerdict::Reject),
    };
    standing(view, ruling).and_then(|ruled| ruled.verdict) == wanted
}

/// The accounts that a ruling is about.
#[must_use]
pub fn keys_of(ruling: &Ruling) -> Keys {
    let accounts = match ruling {
        Ruling::Claim { account, .. } => [account.clone()].into(),
        Ruling::Pair { a, b, .. } => [a.clone(), b.clone()].into(),
    };
    Keys {
        accounts,
        unionids: BTreeSet::new(),
    }
}
