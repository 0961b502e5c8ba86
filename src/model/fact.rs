//! Facts: what changes the state. Each is a join (commutative, associative, idempotent) on what is
//! stored, so that order and repetition cannot matter.

use super::{Account, EventId, ExternalId, Method, Millis, Reason, SealedKey, UnionKey};

/// One thing that was learnt or decided.
#[derive(Debug, Clone)]
pub enum Fact {
    /// An account was seen, perhaps with claims.
    Sighting(Sighting),
    /// An operator decided something.
    Decision(Decision),
    /// An account is erased.
    Erasure(Erasure),
    /// What is stored of an account is decided anew.
    Review(Review),
}

/// Says nothing new: everything that the account reaches is decided anew from what is stored. On a
/// sound state it changes nothing; a rebuild puts rows together that may be of different moments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// Whose.
    pub account: Account,
    /// What causes it, where it makes a difference.
    pub cause: EventId,
}

/// An account was seen at a time.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// Who was seen.
    pub account: Account,
    /// When.
    pub at: Millis,
    /// The event that says so.
    pub cause: EventId,
    /// The company's own id for the person; the one of the latest time wins.
    pub external_id: Option<ExternalId>,
    /// Why the event yielded no claim; `None` when it did.
    pub reason: Option<Reason>,
    /// What was learnt.
    pub claims: Vec<NewClaim>,
    /// A session key to keep while the account is unresolved.
    pub session_key: Option<SealedKey>,
}

/// "This account has this unionid in this platform."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewClaim {
    /// Platform and unionid.
    pub union: UnionKey,
    /// When it was true.
    pub at: Millis,
    /// How it was learnt.
    pub method: Method,
}

/// An operator's decision: a last-writer-wins register, ordered by (`at`, `author`, ruling).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided, about what.
    pub ruling: Ruling,
    /// When.
    pub at: Millis,
    /// By whom.
    pub author: String,
    /// Why, in the operator's words.
    pub note: String,
    /// The event that carries it.
    pub cause: EventId,
}

/// The content of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// About one claim.
    Claim {
        /// The account that claims.
        account: Account,
        /// What it claims.
        union: UnionKey,
        /// The verdict; `None` withdraws an earlier one.
        verdict: Option<ClaimVerdict>,
    },
    /// About a pair of accounts, kept with `a < b`.
    Pair {
        /// The smaller account.
        a: Account,
        /// The larger account.
        b: Account,
        /// Whether they must never be one user; `false` withdraws.
        never: bool,
    },
}

/// What an operator says of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimVerdict {
    /// It goes before all others. It still contradicts nothing that is active.
    Accept,
    /// It does not link.
    Reject,
}

/// An account is erased: events up to `erased_at` have no effect any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Who.
    pub account: Account,
    /// Events up to and including this time are without effect.
    pub erased_at: Millis,
    /// The event that carries it.
    pub cause: EventId,
}
