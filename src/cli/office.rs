//! Where operators look and decide: what the store holds, read as far as it is needed, and what a
//! decision would make of it. Nothing is changed here.

use super::Failure;
use super::assemble::{Operating, Parts};
use super::name::Who;
use super::word::{Agreed, event_id, latest};
use crate::config::Config;
use crate::link::{self, InTurn, Outlook, Person, Rules, Split};
use crate::model::{
    Account, Changes, ClaimKey, ClaimRow, ClaimStatus, Fact, Keys, Millis, Outcome, Ruling, UserId,
    View,
};
use crate::store::{FoundAccount, FoundUser, Operate, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rounds of reading. A component has far fewer layers; it may grow while it is read.
const ROUNDS: usize = 1_000;
/// Accounts, and unionids of theirs, that are read for the sake of contested claims. Those that link
/// are all read.
const NEARBY: usize = 500;

/// Decisions about one person whose order is sought beforehand: it takes a plan for each, of all that
/// go before. Of more, [`super::deed::Judge::decide`] tells on the way.
pub const FORESEEN: usize = 100;

/// An installation as an operator sees it.
pub struct Office {
    /// Its parts.
    pub parts: Parts,
    /// Its store.
    pub store: Arc<dyn Operate>,
    /// What plans are made by.
    pub rules: Rules,
}

/// Whom a name leads to.
pub enum Found {
    /// A user, by the id it has now.
    User(UserId, Vec<FoundAccount>),
    /// Somebody who was erased, and when, where the account was named.
    Erased(Option<Millis>),
    /// Nobody.
    Unknown,
}

/// What split came to: the claims to reject, and what users would be.
pub type Parting = (BTreeSet<ClaimKey>, Outlook);

impl Office {
    /// Opens it beside whoever runs.
    ///
    /// # Errors
    /// Keys, bus or store are not there or of another version.
    pub async fn open(config: Config) -> Result<Self, Failure> {
        let Operating { parts, store } = Operating::open(config).await?;
        let rules = Rules {
            namespace: parts.namespace,
            apps: Arc::clone(&parts.apps),
        };
        Ok(Self {
            parts,
            store,
            rules,
        })
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Millis {
        (self.parts.clock)()
    }

    /// Reads what keys name, from one snapshot.
    ///
    /// # Errors
    /// The store fails.
    pub async fn view(&self, keys: &Keys) -> Result<View, Failure> {
        self.store.view(keys).await.map_err(Failure::failed)
    }

    /// What facts would change, and the view that they were planned on.
    ///
    /// # Errors
    /// The store fails, or does not come to rest.
    pub async fn plan(&self, facts: &[Fact]) -> Result<(View, Changes), Failure> {
        let now = self.now();
        self.asked(link::keys(facts), |view| {
            match link::plan(view, facts, &self.rules, now) {
                Outcome::Read(keys) => Err(keys),
                Outcome::Done(changes) => Ok(*changes),
            }
        })
        .await
    }

    /// Whether decisions that are given one after the other can all be given, as far as that is seen
    /// beforehand; `keys` is what their plan has read.
    ///
    /// # Errors
    /// As [`Office::plan`].
    pub async fn in_turn(
        &self,
        keys: Keys,
        rulings: impl Iterator<Item = Ruling>,
        agreed: &Agreed,
    ) -> Result<bool, Failure> {
        let facts = rulings.map(|ruling| latest(ruling).map(Fact::Decision));
        let facts: Vec<Fact> = facts.collect::<Result<_, _>>()?;
        if facts.len() > FORESEEN {
            return Ok(true);
        }
        let now = self.now();
        let covered = |step: &Outlook| agreed.covers(step);
        let answer = self.asked(keys, |view| {
            match link::in_turn(view, &facts, covered, &self.rules, now) {
                InTurn::Read(more) => Err(more),
                InTurn::All => Ok(true),
                InTurn::Only(_) => Ok(false),
            }
        });
        Ok(answer.await?.1)
    }

    /// What would part `apart` from `rest`.
    ///
    /// # Errors
    /// As [`Office::plan`].
    pub async fn split(
        &self,
        (apart, rest): (&BTreeSet<Account>, &BTreeSet<Account>),
    ) -> Result<(View, Parting), Failure> {
        let keys = Keys {
            accounts: apart.union(rest).cloned().collect(),
            unionids: BTreeSet::new(),
        };
        let cause = event_id()?;
        self.asked(keys, |view| {
            match link::split(view, (apart, rest), &cause, &self.rules) {
                Split::Read(keys) => Err(keys),
                Split::Reject(rejected, outlook) => Ok((rejected, *outlook)),
            }
        })
        .await
    }

    /// Asks until the answer is no wish to see more. Every answer is given on one snapshot.
    async fn asked<T>(
        &self,
        mut keys: Keys,
        ask: impl Fn(&View) -> Result<T, Keys>,
    ) -> Result<(View, T), Failure> {
        for _ in 0..ROUNDS {
            let view = self.view(&keys).await?;
            match ask(&view) {
                Ok(answer) => return Ok((view, answer)),
                Err(more) => {
                    keys.accounts.extend(more.accounts);
                    keys.unionids.extend(more.unionids);
                }
            }
        }
        let why = StoreError::Unavailable("what belongs together goes on growing".to_owned());
        Err(Failure::failed(why))
    }

    /// Accounts with all that they reach: along claims that link as far as these go, along contested
    /// ones in the neighbourhood.
    ///
    /// # Errors
    /// As [`Office::plan`].
    pub async fn around(&self, accounts: &[Account]) -> Result<View, Failure> {
        let keys = Keys {
            accounts: accounts.iter().cloned().collect(),
            unionids: BTreeSet::new(),
        };
        let near = |view: &View| match unread(view) {
            keys if keys.is_empty() => Ok(()),
            keys => Err(keys),
        };
        Ok(self.asked(keys, near).await?.0)
    }

    /// Whom a name leads to.
    ///
    /// # Errors
    /// The store fails.
    pub async fn find(&self, who: &Who) -> Result<Found, Failure> {
        let user = match who {
            Who::User(user) => *user,
            Who::Account(account) => {
                let one = std::slice::from_ref(account);
                let found = self.store.find_accounts(one).await;
                match found.map_err(Failure::failed)?.into_iter().flatten().next() {
                    Some(found) => found.row.user,
                    None => return self.buried(account).await,
                }
            }
        };
        let found = self.store.find_user(user).await.map_err(Failure::failed)?;
        Ok(match found {
            FoundUser::Is(user, accounts) => Found::User(user, accounts),
            FoundUser::Gone => Found::Erased(None),
            FoundUser::Unknown => Found::Unknown,
        })
    }

    async fn buried(&self, account: &Account) -> Result<Found, Failure> {
        let keys = Keys {
            accounts: [account.clone()].into(),
            unionids: BTreeSet::new(),
        };
        let view = self.view(&keys).await?;
        let stone = view.tombstones.get(account).map(|stone| stone.erased_at);
        Ok(stone.map_or(Found::Unknown, |at| Found::Erased(Some(at))))
    }
}

/// What a view does not hold yet and should. One account may claim thousands of unionids, one unionid be
/// claimed by thousands: of claims that do not link only so many are followed.
fn unread(view: &View) -> Keys {
    let links = |claim: &&ClaimRow| claim.status == ClaimStatus::Active;
    let own = view.claims.values().flatten();
    let on = view.unionids.values().flat_map(|read| &read.claims);
    let mut more = Keys {
        accounts: (on.clone().filter(links))
            .map(|claim| claim.key.account.clone())
            .collect(),
        unionids: (own.clone().filter(links))
            .map(|claim| claim.key.union.clone())
            .collect(),
    };
    if view.asked.accounts.len() < NEARBY {
        let near = on.take(NEARBY).map(|claim| claim.key.account.clone());
        more.accounts.extend(near);
    }
    if view.asked.unionids.len() < NEARBY {
        let near = own.take(NEARBY).map(|claim| claim.key.union.clone());
        more.unionids.extend(near);
    }
    let asked = &view.asked;
    more.accounts.retain(|a| !asked.accounts.contains(a));
    more.unionids.retain(|u| !asked.unionids.contains(u));
    more
}

/// The users of these accounts, as the view has them.
#[must_use]
pub fn people(view: &View, accounts: &BTreeSet<Account>) -> Vec<Person> {
    let rows = view.accounts.values();
    let mut sets: BTreeMap<UserId, BTreeSet<Account>> = BTreeMap::new();
    for row in rows {
        let set = sets.entry(row.user).or_default();
        set.insert(row.account.clone());
    }
    let people = sets.into_iter();
    people
        .map(|(user, accounts)| Person { user, accounts })
        .filter(|person| !person.accounts.is_disjoint(accounts))
        .collect()
}
