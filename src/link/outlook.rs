//! What facts would make of users: a plan, read as sets of accounts before and after. For whoever has
//! to agree to a decision before it is taken.

use crate::model::{Account, Changes, UserId, View};
use std::collections::{BTreeMap, BTreeSet};

/// A set of accounts with its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user's id.
    pub user: UserId,
    /// Its accounts, in their order.
    pub accounts: BTreeSet<Account>,
}

/// The users that a plan changes, by id: as they are, and as they would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// As they are.
    pub before: Vec<Person>,
    /// As they would be.
    pub after: Vec<Person>,
}

type Sets = BTreeMap<UserId, BTreeSet<Account>>;

impl Outlook {
    /// Reads a plan that was made on this view. Users that stay as they are stand on neither side.
    #[must_use]
    pub fn of(view: &View, changes: &Changes) -> Self {
        Self::between(view, &Changes::default(), changes)
    }

    /// The step from one plan to another, both made on this view: what the later one does to users as
    /// the earlier would leave them.
    #[must_use]
    pub fn between(view: &View, earlier: &Changes, later: &Changes) -> Self {
        let (before, after) = (sets(view, earlier), sets(view, later));
        Self {
            before: differing(&before, &after),
            after: differing(&after, &before),
        }
    }

    /// Users that would be made of several: each with the ids that its accounts have now.
    #[must_use]
    pub fn joined(&self) -> Vec<(&Person, BTreeSet<UserId>)> {
        sources(&self.after, &self.before)
    }

    /// Users that would come apart: each with the ids that its accounts would have.
    #[must_use]
    pub fn parted(&self) -> Vec<(&Person, BTreeSet<UserId>)> {
        sources(&self.before, &self.after)
    }

    /// Whether some account of the first would be one user with some of the second.
    #[must_use]
    pub fn together(&self, one: &BTreeSet<Account>, other: &BTreeSet<Account>) -> bool {
        let meets = |p: &Person, set: &BTreeSet<Account>| !p.accounts.is_disjoint(set);
        self.after.iter().any(|p| meets(p, one) && meets(p, other))
    }
}

/// The users that a view has once something is changed.
fn sets(view: &View, changes: &Changes) -> Sets {
    let moved: BTreeMap<&Account, UserId> = (changes.accounts.iter())
        .map(|row| (&row.account, row.user))
        .collect();
    let erased: BTreeSet<&Account> = changes.erased.iter().collect();
    let mut sets = Sets::new();
    for row in view.accounts.values() {
        let account = &row.account;
        if !moved.contains_key(account) && !erased.contains(account) {
            sets.entry(row.user).or_default().insert(account.clone());
        }
    }
    for (account, user) in moved {
        sets.entry(user).or_default().insert(account.clone());
    }
    sets
}

fn differing(these: &Sets, those: &Sets) -> Vec<Person> {
    let differ = these
        .iter()
        .filter(|(user, set)| those.get(*user) != Some(*set));
    differ
        .map(|(user, accounts)| Person {
            user: *user,
            accounts: accounts.clone(),
        })
        .collect()
}

/// Those of `these` whose accounts stand in several of `those`.
fn sources<'p>(these: &'p [Person], those: &[Person]) -> Vec<(&'p Person, BTreeSet<UserId>)> {
    let with_sources = these.iter().map(|person| {
        let meet = those
            .iter()
            .filter(|p| !p.accounts.is_disjoint(&person.accounts));
        (person, meet.map(|p| p.user).collect::<BTreeSet<UserId>>())
    });
    with_sources.filter(|(_, ids)| ids.len() > 1).collect()
}
