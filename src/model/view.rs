//! What the store holds, as `plan` reads it, and the keys by which it asks for more.

use super::{
    Account, ClaimVerdict, EventId, ExternalId, Method, Millis, Reason, UnionKey, UserId, Why,
};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// Accounts and unionids to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Accounts, with their claims, rulings and tombstones.
    pub accounts: BTreeSet<Account>,
    /// Unionids, with the accounts that claim them.
    pub unionids: BTreeSet<UnionKey>,
}

impl Keys {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty() && self.unionids.is_empty()
    }
}

/// What a store answered. A key that was asked for and is absent from a map is known to be absent
/// from the store: readers ask with [`View::asked`].
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The keys that were read so far.
    pub asked: Keys,
    /// Rows of the accounts asked for.
    pub accounts: FxHashMap<Account, AccountRow>,
    /// Claims of the accounts asked for.
    pub claims: FxHashMap<Account, Vec<ClaimRow>>,
    /// Claims on the unionids asked for (the same rows, reached from the other side).
    pub unionids: FxHashMap<UnionKey, UnionRead>,
    /// Rulings on claims of the accounts asked for, whether or not the claim exists yet.
    pub rulings: BTreeMap<ClaimKey, Ruled>,
    /// Pairs that touch an account asked for (withdrawn ones too: they are registers).
    pub pairs: BTreeMap<NeverPair, Ruled>,
    /// Tombstones of the accounts asked for.
    pub tombstones: FxHashMap<Account, Tombstone>,
    /// Deferred resolutions that the batch settles or adds and that were finished before, as
    /// (partition, offset): nothing may be published for them again.
    pub finished: BTreeSet<(u32, i64)>,
    /// Of those, the ones that the store has a row of, finished or not, and whether it is silent.
    /// Their last words go through the outbox, never beside an offset.
    pub deferred: BTreeMap<(u32, i64), bool>,
}

/// A stored account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// Who.
    pub account: Account,
    /// Latest erasure before this life, or 0.
    pub generation: Millis,
    /// Smallest event time of this life.
    pub first_seen_at: Millis,
    /// The user it belongs to.
    pub user: UserId,
    /// Counts visible changes from 1; goes on through erasures.
    pub revision: u64,
    /// The company's id with the time it was learnt at (latest wins, ties to the larger text).
    pub external: Option<(Millis, ExternalId)>,
    /// The latest reason for having no unionid (latest wins, ties to the larger).
    pub reason: Option<(Millis, Reason)>,
    /// The event that caused the last revision.
    pub cause: EventId,
    /// When the last revision was made.
    pub linked_at: Millis,
}

/// What identifies a claim.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimKey {
    /// Who claims.
    pub account: Account,
    /// What.
    pub union: UnionKey,
}

/// A stored claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRow {
    /// Who claims what.
    pub key: ClaimKey,
    /// Its smallest time.
    pub at: Millis,
    /// Its strongest method.
    pub method: Method,
    /// The event that brought it first.
    pub cause: EventId,
    /// Whether it links.
    pub status: ClaimStatus,
    /// The standing verdict on it.
    pub verdict: Option<ClaimVerdict>,
    /// Whether a `link.conflict` was published for it.
    pub reported: bool,
}

/// Whether a claim links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClaimStatus {
    /// It links.
    Active,
    /// It is kept and does not link.
    Contested(Why),
}

/// The claims on one unionid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnionRead {
    /// The claims: all of them, or, when `truncated`, the accepted ones and as many others as the
    /// store's limit allows.
    pub claims: Vec<ClaimRow>,
    /// More claims that are not rejected than the store reads: a shared unionid for certain, also
    /// once the batch is applied. The store's limit is therefore at least twice the number of apps
    /// plus the number of decisions and erasures that a batch may hold.
    pub truncated: bool,
}

/// Two accounts, `a < b`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeverPair {
    /// The smaller.
    pub a: Account,
    /// The larger.
    pub b: Account,
}

/// The standing value of an operator's register. For a pair, `Some(Reject)` means never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruled {
    /// The verdict; `None` once withdrawn.
    pub verdict: Option<ClaimVerdict>,
    /// When it was given.
    pub at: Millis,
    /// By whom.
    pub author: String,
    /// Why.
    pub note: String,
}

/// What stays of an erased account. Holds no openid on its own in tables: stores key it by HMAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Who was erased (known to whoever asks, since they ask by account).
    pub account: Account,
    /// Events up to this time are without effect.
    pub erased_at: Millis,
    /// Every own id the account ever had, oldest first: they answer "gone".
    pub own_ids: Vec<UserId>,
    /// The last revision published, the null's included.
    pub revision: u64,
}

/// A session key, sealed for rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// When it was obtained.
    pub at: Millis,
    /// The sealed bytes (`crate::seal::Ring`).
    pub sealed: Vec<u8>,
    /// Whether WeChat gave it to us (`false`: the event brought it).
    pub exchanged: bool,
}
