//! What a perfect worker could know of a person from the events, and the judgement on what a real
//! one made of them.

use crate::model::{Account, DeadReason, Reason, UnionId, UnionKey, UserId};

/// What is true about one person.
#[derive(Clone, Debug)]
pub struct Truth {
    /// Whose truth it is.
    pub person: u64,
    /// What each event should come to; duplicates are named once.
    pub traces: Vec<Trace>,
}

/// What one event should come to.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The event's id.
    pub event: String,
    /// Another event without which this one shows no unionid (it brings the session key).
    pub needs: Option<String>,
    /// Whom it shows; `None` for a dead letter.
    pub account: Option<Account>,
    /// What comes of it.
    pub outcome: Outcome,
}

/// What comes of an event.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is evidence for this unionid.
    Links(UnionKey),
    /// It shows the account, with no unionid, for one of these reasons.
    Unresolved(&'static [Reason]),
    /// It claims a stranger's unionid for an account that has better evidence: contested.
    Contested(UnionKey),
    /// It is a dead letter, for one of these reasons.
    Dead(&'static [DeadReason]),
}

/// One account of the person, as it should end.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The account.
    pub account: Account,
    /// Its unionid, if there is evidence for it.
    pub union: Option<UnionKey>,
    /// Otherwise, why not: one of these.
    pub reasons: Vec<Reason>,
    /// Its claims that should be contested.
    pub contested: Vec<UnionKey>,
}

/// One account as the product shows it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The account.
    pub account: Account,
    /// Its user.
    pub user: UserId,
    /// All accounts of that user.
    pub members: Vec<Account>,
    /// Its unionid in the newest binding.
    pub unionid: Option<UnionId>,
    /// Otherwise, why not.
    pub reason: Option<Reason>,
}

/// The judgement on one person; add them up with [`Verdict::add`]. All zeros but `accounts` and
/// `users` is perfect.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// Accounts that should be there.
    pub accounts: u64,
    /// Users found. A user that two people share counts for both.
    pub users: u64,
    /// Users that hold an account of somebody else: wrong merges.
    pub wrong_merges: u64,
    /// Users too many: accounts with evidence in one platform that are not in one user.
    pub missed_merges: u64,
    /// Accounts that are not there at all.
    pub missing: u64,
    /// Accounts whose evidence was obtainable and that have no unionid.
    pub missed_links: u64,
    /// Accounts with a unionid that no evidence supports, or with a wrong one.
    pub wrong_links: u64,
    /// Unresolved accounts with a reason that fits none of their events.
    pub wrong_reasons: u64,
}

impl Verdict {
    /// Adds another person's verdict.
    pub fn add(&mut self, other: &Self) {
        self.accounts += other.accounts;
        self.users += other.users;
        self.wrong_merges += other.wrong_merges;
        self.missed_merges += other.missed_merges;
        self.missing += other.missing;
        self.missed_links += other.missed_links;
        self.wrong_links += other.wrong_links;
        self.wrong_reasons += other.wrong_reasons;
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn perfect(&self) -> bool {
        let Self {
            accounts, users, ..
        } = *self;
        let blank = Self {
            accounts,
            users,
            ..Self::default()
        };
        *self == blank
    }
}

impl Truth {
    /// The person's accounts as they should end. `lost` names events that did not take effect:
    /// refused at the intake, or dead letters because of injected faults.
    #[must_use]
    pub fn accounts(&self, lost: &dyn Fn(&str) -> bool) -> Vec<Expected> {
        let mut all: Vec<Expected> = Vec::new();
        for trace in self.traces.iter().filter(|t| !lost(&t.event)) {
            let Some(account) = &trace.account else {
                continue;
            };
            let at = match all.iter().position(|e| e.account == *account) {
                Some(at) => at,
                None => {
                    all.push(Expected {
                        account: account.clone(),
                        union: None,
                        reasons: Vec::new(),
                        contested: Vec::new(),
                    });
                    all.len() - 1
                }
            };
            if let Some(expected) = all.get_mut(at) {
                expected.learn(trace, lost);
            }
        }
        all
    }

    /// The events that should be dead letters, with the reasons that fit.
    pub fn dead(&self) -> impl Iterator<Item = (&str, &'static [DeadReason])> {
        self.traces.iter().filter_map(|t| match t.outcome {
            Outcome::Dead(reasons) => Some((t.event.as_str(), reasons)),
            _ => None,
        })
    }

    /// Judges what the product shows for the person's accounts.
    #[must_use]
    pub fn judge(&self, found: &[Found], lost: &dyn Fn(&str) -> bool) -> Verdict {
        let expected = self.accounts(lost);
        let mut verdict = Verdict {
            accounts: expected.len() as u64,
            ..Verdict::default()
        };
        let mut users: Vec<&Found> = Vec::new();
        for f in found {
            if users.iter().all(|u| u.user != f.user) {
                users.push(f);
            }
        }
        verdict.users = users.len() as u64;
        // Also what a lost event showed, in case it was not lost after all: it is no stranger's.
        let own = |account: &Account| {
            self.traces
                .iter()
                .any(|t| t.account.as_ref() == Some(account))
        };
        let stranger = |u: &&&Found| u.members.iter().any(|m| !own(m));
        verdict.wrong_merges = users.iter().filter(stranger).count() as u64;
        verdict.missed_merges = missed_merges(&expected, found);
        for e in &expected {
            match found.iter().find(|f| f.account == e.account) {
                Some(f) => e.judge(f, &mut verdict),
                None => verdict.missing += 1,
            }
        }
        verdict
    }
}

/// Users beyond one for the accounts of each unionid.
fn missed_merges(expected: &[Expected], found: &[Found]) -> u64 {
    let mut pairs: Vec<(&UnionKey, UserId)> = expected
        .iter()
        .filter_map(|e| {
            let f = found.iter().find(|f| f.account == e.account)?;
            Some((e.union.as_ref()?, f.user))
        })
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs.windows(2).filter(|w| w[0].0 == w[1].0).count() as u64
}

impl Expected {
    fn learn(&mut self, trace: &Trace, lost: &dyn Fn(&str) -> bool) {
        match &trace.outcome {
            Outcome::Links(_) if trace.needs.as_deref().is_some_and(lost) => {
                self.reasons.extend(NO_KEY);
            }
            Outcome::Links(union) => self.union = Some(union.clone()),
            Outcome::Unresolved(reasons) => self.reasons.extend(*reasons),
            Outcome::Contested(union) if !self.contested.contains(union) => {
                self.contested.push(union.clone());
            }
            Outcome::Contested(_) => (),
            Outcome::Dead(_) => (),
        }
    }

    fn judge(&self, found: &Found, verdict: &mut Verdict) {
        let union = self.union.as_ref().map(|u| &u.unionid);
        match (union, &found.unionid) {
            (Some(_), None) => verdict.missed_links += 1,
            (None, Some(_)) => verdict.wrong_links += 1,
            (Some(want), Some(have)) if want != have => verdict.wrong_links += 1,
            (None, None) if found.reason.is_none_or(|r| !self.reasons.contains(&r)) => {
                verdict.wrong_reasons += 1;
            }
            _ => (),
        }
    }
}

/// Why data without its key shows no unionid.
pub(super) const NO_KEY: &[Reason] = &[
    Reason::NoSessionKey,
    Reason::Deferred,
    Reason::DecryptFailed,
];
