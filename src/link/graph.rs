//! The part of the state that a batch touches, as a graph: accounts, unionids, and claims as edges
//! between them, each with what is stored ("before") and what the facts make of it ("now").
//!
//! Everything is borrowed from the view and the facts and addressed by index; nothing is cloned
//! before a row is written. Lists run in the order of insertion, never in that of a hash.

use crate::model::{
    Account, AccountRow, ClaimRow, ClaimStatus, ClaimVerdict, EventId, ExternalId, Method, Millis,
    Reason, UnionKey, View,
};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;

/// An account's life: what lies between its birth and its erasure.
pub(super) struct Life<'a> {
    pub generation: Millis,
    pub first_seen_at: Millis,
    pub external: Option<(Millis, &'a ExternalId)>,
    /// The joined reason of the sightings, before a claim in the newest binding hides it.
    pub reason: Option<(Millis, Reason)>,
}

pub(super) struct AccountNode<'a> {
    pub account: &'a Account,
    /// The row before the batch.
    pub stored: Option<&'a AccountRow>,
    /// The life now; `None` if it was never seen, or is erased.
    pub life: Option<Life<'a>>,
    /// The tombstone's time now.
    pub erased_at: Option<Millis>,
    /// The stored life ends in this batch (another may begin in it).
    pub ended: bool,
    /// Its row, claims and tombstone have been taken from the view.
    pub loaded: bool,
    /// Facts changed something about it.
    pub touched: bool,
    /// The smallest event that did.
    pub cause: Option<&'a EventId>,
    /// The component it was walked in: only then is its user decided anew.
    pub component: Option<usize>,
    first: Option<usize>,
}

pub(super) struct UnionNode<'a> {
    pub key: &'a UnionKey,
    /// Its claims have been taken from the view.
    pub loaded: bool,
    /// Too many openids of one app claim it, by [`Moment`].
    pub shared: [bool; 2],
    pub component: Option<usize>,
    first: Option<usize>,
}

/// A claim now.
pub(super) struct ClaimNow<'a> {
    pub at: Millis,
    pub method: Method,
    pub cause: &'a EventId,
    pub verdict: Option<ClaimVerdict>,
    pub reported: bool,
    /// As stored, until `activate` decides.
    pub status: ClaimStatus,
}

pub(super) struct Edge<'a> {
    pub account: usize,
    pub union: usize,
    /// The claim before the batch.
    pub stored: Option<&'a ClaimRow>,
    /// The claim now; `None` once erased.
    pub now: Option<ClaimNow<'a>>,
    pub next_of_account: Option<usize>,
    pub next_of_union: Option<usize>,
}

/// Before the batch, or with its facts applied.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Before = 0,
    Now = 1,
}

/// A node of either sort.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Account(usize),
    Union(usize),
}

pub(super) struct Graph<'a> {
    pub view: &'a View,
    pub accounts: Vec<AccountNode<'a>>,
    pub unions: Vec<UnionNode<'a>>,
    pub edges: Vec<Edge<'a>>,
    /// Where a change may alter who is linked with whom, and the event that brought it.
    pub seeds: Vec<(Place, &'a EventId)>,
    account_ix: FxHashMap<&'a Account, usize>,
    union_ix: FxHashMap<&'a UnionKey, usize>,
}

impl<'a> Graph<'a> {
    pub fn new(view: &'a View) -> Self {
        Self {
            view,
            accounts: Vec::new(),
            unions: Vec::new(),
            edges: Vec::new(),
            seeds: Vec::new(),
            account_ix: FxHashMap::default(),
            union_ix: FxHashMap::default(),
        }
    }

    /// The node of an account, if it has one.
    pub fn known(&self, account: &Account) -> Option<usize> {
        self.account_ix.get(account).copied()
    }

    /// The node of an account, made if need be.
    pub fn account(&mut self, account: &'a Account) -> usize {
        match self.account_ix.entry(account) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                self.accounts.push(AccountNode {
                    account,
                    stored: None,
                    life: None,
                    erased_at: None,
                    ended: false,
                    loaded: false,
                    touched: false,
                    cause: None,
                    component: None,
                    first: None,
                });
                *entry.insert(self.accounts.len() - 1)
            }
        }
    }

    /// The node of a unionid, made if need be.
    pub fn union(&mut self, key: &'a UnionKey) -> usize {
        match self.union_ix.entry(key) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                self.unions.push(UnionNode {
                    key,
                    loaded: false,
                    shared: [false; 2],
                    component: None,
                    first: None,
                });
                *entry.insert(self.unions.len() - 1)
            }
        }
    }

    /// The account's claims.
    pub fn claims_of(&self, account: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.accounts[account].first, |e| {
            self.edges[*e].next_of_account
        })
    }

    /// The claims on the unionid.
    pub fn claims_on(&self, union: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.unions[union].first, |e| self.edges[*e].next_of_union)
    }

    /// The first of [`Graph::claims_of`], for loops that change the graph as they go.
    pub fn first_of(&self, place: Place) -> Option<usize> {
        match place {
            Place::Account(a) => self.accounts[a].first,
            Place::Union(u) => self.unions[u].first,
        }
    }

    /// The edge between the two, if there is one.
    pub fn edge(&self, account: usize, union: usize) -> Option<usize> {
        self.claims_of(account)
            .find(|e| self.edges[*e].union == union)
    }

    /// Adds an edge; there must be none between the two.
    pub fn add_edge(&mut self, account: usize, union: usize) -> usize {
        let edge = self.edges.len();
        let next_of_account = self.accounts[account].first.replace(edge);
        let next_of_union = self.unions[union].first.replace(edge);
        self.edges.push(Edge {
            account,
            union,
            stored: None,
            now: None,
            next_of_account,
            next_of_union,
        });
        edge
    }

    fn add_stored(&mut self, account: usize, union: usize, row: &'a ClaimRow) {
        let edge = self.add_edge(account, union);
        self.edges[edge].stored = Some(row);
        self.edges[edge].now = Some(ClaimNow {
            at: row.at,
            method: row.method,
            cause: &row.cause,
            verdict: row.verdict,
            reported: row.reported,
            status: row.status,
        });
    }

    /// Takes the account from the view. `false` if it has not been read.
    pub fn load_account(&mut self, a: usize) -> bool {
        if self.accounts[a].loaded {
            return true;
        }
        let account = self.accounts[a].account;
        if !account_is_read(self.view, account) {
            return false;
        }
        let stored = self.view.accounts.get(account);
        let node = &mut self.accounts[a];
        node.loaded = true;
        node.stored = stored;
        node.life = stored.map(Life::of);
        node.erased_at = self.view.tombstones.get(account).map(|t| t.erased_at);
        // Edges that a unionid brought before. They are few; comparing with these alone keeps an
        // account with thousands of claims linear.
        let earlier: Vec<usize> = self.claims_of(a).map(|e| self.edges[e].union).collect();
        for row in self.view.claims.get(account).map_or(&[][..], Vec::as_slice) {
            let union = self.union(&row.key.union);
            if !earlier.contains(&union) {
                self.add_stored(a, union, row);
            }
        }
        true
    }

    /// Takes the unionid's claims from the view, all facts being absorbed. `false` if it has not
    /// been read.
    pub fn load_union(&mut self, u: usize) -> bool {
        if self.unions[u].loaded {
            return true;
        }
        let key = self.unions[u].key;
        let read = self.view.unionids.get(key);
        if read.is_none() && !self.view.asked.unionids.contains(key) {
            return false;
        }
        self.unions[u].loaded = true;
        let Some(read) = read else {
            self.unions[u].shared[Moment::Now as usize] = self.is_shared(u, Moment::Now);
            return true;
        };
        for row in &read.claims {
            let account = self.account(&row.key.account);
            if self.edge(account, u).is_none() {
                self.add_stored(account, u, row);
            }
        }
        self.unions[u].shared =
            [Moment::Before, Moment::Now].map(|moment| read.truncated || self.is_shared(u, moment));
        true
    }

    /// Notes that an event changed something about the account.
    pub fn touch(&mut self, a: usize, cause: &'a EventId) {
        let node = &mut self.accounts[a];
        node.touched = true;
        node.cause = Some(node.cause.map_or(cause, |earlier| earlier.min(cause)));
    }

    /// Notes that an event may alter who is linked with whom, from this account on.
    pub fn seed_account(&mut self, a: usize, cause: &'a EventId) {
        self.touch(a, cause);
        self.seeds.push((Place::Account(a), cause));
    }

    /// Notes that an event changed a claim in a way that links can depend on.
    pub fn seed_claim(&mut self, edge: usize, cause: &'a EventId) {
        let Edge { account, union, .. } = self.edges[edge];
        self.seed_account(account, cause);
        self.seeds.push((Place::Union(union), cause));
    }
}

impl<'a> Life<'a> {
    fn of(row: &'a AccountRow) -> Self {
        Self {
            generation: row.generation,
            first_seen_at: row.first_seen_at,
            external: row.external.as_ref().map(|(at, id)| (*at, id)),
            // `Contested` is concluded from the claims, not told by a sighting.
            reason: row.reason.filter(|(_, r)| *r != Reason::Contested),
        }
    }
}

/// Whether the view has read the account. A row is found by hash, sooner than in the ordered set.
pub(super) fn account_is_read(view: &View, account: &Account) -> bool {
    view.accounts.contains_key(account) || view.asked.accounts.contains(account)
}
