//! A store in memory that answers `plan` honestly (only what was asked, with the store's own limit
//! on unionids), applies its changes, and asserts what a database would: no row twice, nothing
//! about accounts that are gone. `Published` is a consumer of the news, with its own rules.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)] // a helper of tests; each uses a part

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use unilink::link::{self, Rules};
use unilink::model::{
    Account, AccountRow, Changes, ClaimKey, ClaimRow, ClaimStatus, ClaimVerdict, Fact, Keys,
    Linked, Millis, NeverPair, News, Outcome, Ruled, Tombstone, UnionKey, UnionRead, UserId, View,
    Why,
};

#[derive(Default)]
pub struct Memory {
    pub accounts: BTreeMap<Account, AccountRow>,
    pub claims: BTreeMap<Account, BTreeMap<UnionKey, ClaimRow>>,
    claimants: BTreeMap<UnionKey, BTreeSet<Account>>,
    pub rulings: BTreeMap<ClaimKey, Ruled>,
    pub pairs: BTreeMap<NeverPair, Ruled>,
    pub tombstones: BTreeMap<Account, Tombstone>,
    /// Counts what was applied: a plan made on an older version must not be.
    pub version: u64,
    /// Claims that are not accepted read per unionid.
    pub limit: usize,
    /// How often it left claims on a unionid unread.
    pub truncated: Cell<u64>,
}

impl Memory {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    pub fn read(&self, view: &mut View, keys: &Keys) {
        for account in &keys.accounts {
            let fresh = view.asked.accounts.insert(account.clone());
            assert!(fresh, "an account was asked for twice");
            if let Some(row) = self.accounts.get(account) {
                view.accounts.insert(account.clone(), row.clone());
            }
            if let Some(claims) = self.claims.get(account) {
                let rows = claims.values().cloned().collect();
                view.claims.insert(account.clone(), rows);
            }
            if let Some(tombstone) = self.tombstones.get(account) {
                view.tombstones.insert(account.clone(), tombstone.clone());
            }
            let rulings = self.rulings.iter().filter(|(k, _)| k.account == *account);
            view.rulings
                .extend(rulings.map(|(k, r)| (k.clone(), r.clone())));
            let pairs = self.pairs.iter();
            let pairs = pairs.filter(|(k, _)| k.a == *account || k.b == *account);
            view.pairs
                .extend(pairs.map(|(k, r)| (k.clone(), r.clone())));
        }
        for union in &keys.unionids {
            let fresh = view.asked.unionids.insert(union.clone());
            assert!(fresh, "a unionid was asked for twice");
            if let Some(read) = self.read_union(union) {
                view.unionids.insert(union.clone(), read);
            }
        }
    }

    fn read_union(&self, union: &UnionKey) -> Option<UnionRead> {
        let claimants = self.claimants.get(union)?;
        let rows = claimants.iter().map(|account| &self.claims[account][union]);
        let counted = |row: &&ClaimRow| row.verdict != Some(ClaimVerdict::Reject);
        let truncated = rows.clone().filter(counted).count() > self.limit;
        let (accepted, others): (Vec<&ClaimRow>, Vec<&ClaimRow>) =
            rows.partition(|row| row.verdict == Some(ClaimVerdict::Accept));
        self.truncated
            .set(self.truncated.get() + u64::from(truncated));
        let keep = if truncated { self.limit } else { usize::MAX };
        let claims = accepted.into_iter().chain(others.into_iter().take(keep));
        Some(UnionRead {
            claims: claims.cloned().collect(),
            truncated,
        })
    }

    pub fn apply(&mut self, changes: &Changes) {
        self.version += 1;
        for account in &changes.erased {
            self.accounts.remove(account);
            for union in self.claims.remove(account).unwrap_or_default().keys() {
                self.claimants.get_mut(union).unwrap().remove(account);
            }
            self.rulings.retain(|key, _| key.account != *account);
            self.pairs
                .retain(|key, _| key.a != *account && key.b != *account);
        }
        for tombstone in &changes.tombstones {
            self.tombstones
                .insert(tombstone.account.clone(), tombstone.clone());
        }
        let mut seen = BTreeSet::new();
        for row in &changes.accounts {
            assert!(seen.insert(&row.account), "an account row twice");
            self.accounts.insert(row.account.clone(), row.clone());
        }
        let mut seen = BTreeSet::new();
        for row in &changes.claims {
            let (account, union) = (&row.key.account, &row.key.union);
            assert!(seen.insert(&row.key), "a claim twice");
            assert!(self.accounts.contains_key(account), "a claim of nobody");
            let claimants = self.claimants.entry(union.clone()).or_default();
            claimants.insert(account.clone());
            let claims = self.claims.entry(account.clone()).or_default();
            claims.insert(union.clone(), row.clone());
        }
        self.rulings.extend(changes.rulings.iter().cloned());
        self.pairs.extend(changes.pairs.iter().cloned());
        self.check_keys(changes);
    }

    fn check_keys(&self, changes: &Changes) {
        for (account, _) in &changes.session_keys {
            assert!(!self.is_linked(account), "a key kept for a linked account");
            assert!(self.accounts.contains_key(account), "a key of nobody");
        }
        for account in &changes.resolved {
            assert!(self.is_linked(account), "resolved without an active claim");
        }
    }

    fn is_linked(&self, account: &Account) -> bool {
        let claims = self.claims.get(account).into_iter().flatten();
        claims
            .into_iter()
            .any(|(_, row)| row.status == ClaimStatus::Active)
    }
}

/// A worker with a batch: it reads and plans step by step, while others may write.
pub struct Worker<'f> {
    pub facts: &'f [Fact],
    view: View,
    base: u64,
    /// How often it had to begin again.
    pub retries: u64,
}

impl<'f> Worker<'f> {
    pub fn start(facts: &'f [Fact], memory: &Memory) -> Self {
        let mut view = View::default();
        memory.read(&mut view, &link::keys(facts));
        Self {
            facts,
            view,
            base: memory.version,
            retries: 0,
        }
    }

    /// One call of `plan`. `Some` once it has decided on what the store still holds; if the store
    /// has moved on it starts again.
    pub fn step(&mut self, memory: &Memory, rules: &Rules, now: Millis) -> Option<Changes> {
        match link::plan(&self.view, self.facts, rules, now) {
            Outcome::Read(keys) => {
                assert!(!keys.is_empty(), "asked for nothing");
                memory.read(&mut self.view, &keys);
                None
            }
            Outcome::Done(changes) if self.base == memory.version => Some(*changes),
            Outcome::Done(_) => {
                let retries = self.retries + 1;
                *self = Self::start(self.facts, memory);
                self.retries = retries;
                None
            }
        }
    }
}

/// Plans and applies one batch with nobody in between.
pub fn deliver(memory: &mut Memory, facts: &[Fact], rules: &Rules, now: Millis) -> Changes {
    let mut worker = Worker::start(facts, memory);
    loop {
        if let Some(changes) = worker.step(memory, rules, now) {
            memory.apply(&changes);
            return changes;
        }
    }
}

/// What a consumer of the topics knows.
#[derive(Default)]
pub struct Published {
    pub linked: BTreeMap<Account, Linked>,
    pub revisions: BTreeMap<Account, u64>,
    pub merges: BTreeMap<UserId, UserId>,
    /// Every user id that was ever told.
    pub told: BTreeSet<UserId>,
    /// The claims of living accounts that were told to be contested.
    pub conflicts: BTreeSet<ClaimKey>,
    /// The registers topic.
    pub rulings: BTreeMap<ClaimKey, Ruled>,
    pub pairs: BTreeMap<NeverPair, Ruled>,
    pub tombstones: BTreeMap<Account, Tombstone>,
}

impl Published {
    pub fn take(&mut self, news: &[News]) {
        for one in news {
            match one {
                News::Linked(linked) => {
                    self.revise(&linked.row.account, linked.row.revision);
                    self.told.insert(linked.row.user);
                    let account = linked.row.account.clone();
                    let earlier = self.linked.insert(account, (**linked).clone());
                    let earlier = earlier.map(|e| e.row.user);
                    let previous = earlier.filter(|user| *user != linked.row.user);
                    assert_eq!(linked.previous_user, previous, "previous_user");
                }
                News::Unlinked { account, revision } => {
                    self.revise(account, *revision);
                    self.linked.remove(account).expect("a null for nothing");
                    self.conflicts.retain(|key| key.account != *account);
                }
                News::Merged { from, into, .. } => {
                    let earlier = self.merges.insert(*from, *into);
                    assert_ne!(earlier, Some(*into), "a merge told twice");
                }
                News::Unmerged { own, .. } => {
                    self.merges.remove(own).expect("a null for no merge");
                }
                News::Conflict { claim, why, .. } => {
                    assert_ne!(*why, Why::Rejected, "a decided claim is no conflict");
                    let fresh = self.conflicts.insert(claim.key.clone());
                    assert!(fresh, "a conflict told twice");
                }
                News::RulingKept(key, ruled) => {
                    self.rulings.insert(key.clone(), ruled.clone());
                }
                News::PairKept(key, ruled) => {
                    self.pairs.insert(key.clone(), ruled.clone());
                }
                News::TombstoneKept(t) => {
                    self.tombstones.insert(t.account.clone(), t.clone());
                }
            }
        }
    }

    fn revise(&mut self, account: &Account, revision: u64) {
        let last = self.revisions.entry(account.clone()).or_default();
        assert_eq!(revision, *last + 1, "a gap or a repeat in the revisions");
        *last = revision;
    }
}
