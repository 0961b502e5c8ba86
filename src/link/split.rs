//! Parting accounts from the rest of their user: which of their claims have to be rejected, and no
//! others.

use super::{Outlook, Rules, plan};
use crate::model::{
    Account, Changes, ClaimKey, ClaimRow, ClaimStatus, ClaimVerdict, Decision, EventId, Fact, Keys,
    Millis, Outcome, Ruling, UnionKey, View,
};
use std::collections::{BTreeMap, BTreeSet};

/// Later than any word that stands.
const LATEST: Millis = Millis(i64::MAX);

/// What a call of [`split`] comes to.
#[derive(Debug, Clone)]
pub enum Split {
    /// It has to see more of the store before it can tell.
    Read(Keys),
    /// These claims, and what users would be once they are rejected.
    Reject(BTreeSet<ClaimKey>, Box<Outlook>),
}

/// Finds the claims of `apart` whose rejection parts them from `rest`. Rejecting one claim may let
/// another of theirs link, which is then rejected too. It is told what a word later than all that stand
/// would do, caused by this event. Ask again from the start with the fuller view.
#[must_use]
pub fn split(
    view: &View,
    (apart, rest): (&BTreeSet<Account>, &BTreeSet<Account>),
    cause: &EventId,
    rules: &Rules,
) -> Split {
    let after = |rejected: &BTreeSet<ClaimKey>| {
        let facts: Vec<Fact> = rejected.iter().map(|key| reject(key, cause)).collect();
        match plan(view, &facts, rules, LATEST) {
            Outcome::Read(keys) => Err(keys),
            Outcome::Done(done) => Ok(*done),
        }
    };
    let parted = parted(view, (apart, rest), &after).and_then(|(rejected, changes)| {
        let (rejected, changes) = spared(view, (apart, rest), (rejected, changes), &after)?;
        Ok((rejected, Box::new(Outlook::of(view, &changes))))
    });
    match parted {
        Ok((rejected, outlook)) => Split::Reject(rejected, outlook),
        Err(keys) => Split::Read(keys),
    }
}

/// Rejected claims, and what changes by that.
type Parted = (BTreeSet<ClaimKey>, Changes);
/// What changes once these claims are rejected; or what has to be read to tell.
type After<'a> = dyn Fn(&BTreeSet<ClaimKey>) -> Result<Changes, Keys> + 'a;

/// Rejects until the two are apart.
fn parted(
    view: &View,
    (apart, rest): (&BTreeSet<Account>, &BTreeSet<Account>),
    after: &After<'_>,
) -> Result<Parted, Keys> {
    let mut rejected: BTreeSet<ClaimKey> = BTreeSet::new();
    let mut changes = Changes::default();
    // Ends: each round rejects more of the claims that there are.
    loop {
        let links = links(view, &changes);
        let more = parting(&links, apart, rest);
        let before = rejected.len();
        rejected.extend(more.into_iter().cloned());
        if rejected.len() == before {
            return Ok((rejected, changes));
        }
        changes = after(&rejected)?;
    }
}

/// Leaves out those that need not be rejected: what was rejected later may have made them harmless.
fn spared(
    view: &View,
    (apart, rest): (&BTreeSet<Account>, &BTreeSet<Account>),
    (mut rejected, mut changes): Parted,
    after: &After<'_>,
) -> Result<Parted, Keys> {
    // Ends: each round leaves out one.
    'all: loop {
        for key in &rejected {
            let mut less = rejected.clone();
            less.remove(key);
            let without = after(&less)?;
            if parting(&links(view, &without), apart, rest).is_empty() {
                (rejected, changes) = (less, without);
                continue 'all;
            }
        }
        return Ok((rejected, changes));
    }
}

fn reject(key: &ClaimKey, cause: &EventId) -> Fact {
    Fact::Decision(Decision {
        ruling: Ruling::Claim {
            account: key.account.clone(),
            union: key.union.clone(),
            verdict: Some(ClaimVerdict::Reject),
        },
        at: LATEST,
        author: String::new(),
        note: String::new(),
        cause: cause.clone(),
    })
}

/// The claims that link, of all accounts that were read, once the changes are made.
fn links<'v>(view: &'v View, changes: &'v Changes) -> Vec<&'v ClaimKey> {
    let stored = view.claims.values().flatten();
    let mut claims: BTreeMap<&ClaimKey, &ClaimRow> = stored.map(|c| (&c.key, c)).collect();
    claims.extend(changes.claims.iter().map(|c| (&c.key, c)));
    let links = claims.into_values();
    let links = links.filter(|c| c.status == ClaimStatus::Active);
    links.map(|c| &c.key).collect()
}

/// Of the claims that link, those of `apart` on unionids that `rest` reaches without them. All of them
/// have to go: each one joins the two by itself.
fn parting<'c>(
    links: &[&'c ClaimKey],
    apart: &BTreeSet<Account>,
    rest: &BTreeSet<Account>,
) -> Vec<&'c ClaimKey> {
    let (theirs, others): (Vec<&ClaimKey>, Vec<&ClaimKey>) =
        (links.iter().copied()).partition(|claim| apart.contains(&claim.account));
    let mut accounts: BTreeSet<&Account> = rest.iter().collect();
    let mut unionids: BTreeSet<&UnionKey> = BTreeSet::new();
    // Ends: each round reaches more of what there is.
    loop {
        let reached = accounts.len() + unionids.len();
        for claim in &others {
            if accounts.contains(&claim.account) {
                unionids.insert(&claim.union);
            } else if unionids.contains(&claim.union) {
                accounts.insert(&claim.account);
            }
        }
        if accounts.len() + unionids.len() == reached {
            break;
        }
    }
    let parting = theirs.into_iter();
    parting
        .filter(|claim| unionids.contains(&claim.union))
        .collect()
}
