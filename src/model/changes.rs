//! What `plan` decides: rows to write and news to publish.

use super::{
    Account, AccountRow, ClaimKey, ClaimRow, EventId, Keys, Millis, NeverPair, PlatformId, Ruled,
    SealedKey, Tombstone, UnionId, UserId, Why,
};

/// What a call of `plan` comes to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It has to see more of the store before it can decide.
    Read(Keys),
    /// It has decided.
    Done(Box<Changes>),
}

/// The difference between what is stored and what the facts make of it. Empty for a repeat.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Accounts to insert or replace.
    pub accounts: Vec<AccountRow>,
    /// Claims to insert or replace.
    pub claims: Vec<ClaimRow>,
    /// Accounts to delete with their claims, session keys and registers, before all else is written
    /// (one may be born again in the same batch, and registers that outlive it are written again).
    /// The ledger rows of their codes lose their answers too. There may be no row of an account.
    pub erased: Vec<Account>,
    /// Tombstones to insert or replace.
    pub tombstones: Vec<Tombstone>,
    /// Registers on claims to insert or replace.
    pub rulings: Vec<(ClaimKey, Ruled)>,
    /// Registers on pairs to insert or replace.
    pub pairs: Vec<(NeverPair, Ruled)>,
    /// Session keys to keep, of accounts that stay unresolved.
    pub session_keys: Vec<(Account, SealedKey)>,
    /// Accounts that are resolved now: their session keys are dropped.
    pub resolved: Vec<Account>,
    /// What to publish, in order per account.
    pub news: Vec<News>,
    /// One for each sighting, in the order of the facts.
    pub sightings: Vec<SightingResult>,
}

/// Where a sighting's account stands after the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SightingResult {
    /// The user; `None` if the event lies before an erasure and has no effect.
    pub user: Option<UserId>,
    /// The active unionid of the newest binding.
    pub unionid: Option<UnionId>,
}

/// Something the company is told.
#[derive(Debug, Clone)]
pub enum News {
    /// An account's new revision: `account.linked`.
    Linked(Box<Linked>),
    /// An account was erased: a null on `account-links`, with its revision in a header.
    Unlinked {
        /// Who.
        account: Account,
        /// The null's own revision.
        revision: u64,
    },
    /// An own id is not the current id of its user: `user.merged`.
    Merged {
        /// The account whose own id it is (it chooses the partition; it is not published).
        account: Account,
        /// The own id.
        from: UserId,
        /// The current id of its user.
        into: UserId,
        /// The event that caused it.
        cause: EventId,
        /// When.
        at: Millis,
    },
    /// An own id is current again, or gone: a null on `user-merges`.
    Unmerged {
        /// The account whose own id it is.
        account: Account,
        /// The own id.
        own: UserId,
    },
    /// A claim became contested for the first time: `link.conflict`.
    Conflict {
        /// The claim.
        claim: Box<ClaimRow>,
        /// Why.
        why: Why,
        /// The user of its account.
        user: UserId,
        /// The event that brought it out.
        cause: EventId,
        /// When.
        at: Millis,
    },
    /// A ruling on a claim, for `registers`.
    RulingKept(ClaimKey, Ruled),
    /// A ruling on a pair, for `registers`.
    PairKept(NeverPair, Ruled),
    /// A tombstone, for `registers`.
    TombstoneKept(Tombstone),
}

/// The content of `account.linked`.
#[derive(Debug, Clone)]
pub struct Linked {
    /// The account's row after the change.
    pub row: AccountRow,
    /// The user before it, if there was another.
    pub previous_user: Option<UserId>,
    /// Platform of the newest binding, if the app has one.
    pub platform: Option<PlatformId>,
    /// The active unionid in it.
    pub unionid: Option<UnionId>,
    /// How the unionid was learnt; `None` while unresolved, or linked by `merge` alone.
    pub method: LinkMethod,
    /// All claims of the account, in (platform, unionid) order.
    pub claims: Vec<ClaimRow>,
}

/// The `method` of `account.linked`: a function of the state, not of its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkMethod {
    /// The strongest method of the active claim in the newest binding.
    By(super::Method),
    /// An operator accepted that claim.
    Operator,
    /// No claim in the newest binding; an older binding's claim joins it to others.
    Merge,
    /// Unresolved.
    None,
}
