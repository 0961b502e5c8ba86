//! What the company is told: per account in an order that a reader can follow, and only of what
//! others can see.

use super::graph::AccountNode;
use super::registers::Registers;
use crate::model::{
    AccountRow, ClaimRow, ClaimStatus, EventId, LinkMethod, Linked, Millis, News, PlatformId,
    UnionId, UserId, Why,
};
use uuid::Uuid;

/// Collects the news of a batch.
pub(super) struct Publisher {
    namespace: Uuid,
    now: Millis,
    news: Vec<News>,
}

/// What `account.linked` says of the newest binding.
pub(super) struct Shown {
    pub platform: Option<PlatformId>,
    pub unionid: Option<UnionId>,
    pub method: LinkMethod,
}

impl Publisher {
    /// Begins with the registers that changed.
    pub fn new(registers: &Registers, namespace: Uuid, now: Millis) -> Self {
        let tombstones = registers.tombstones.values().cloned();
        let rulings = registers.claims.iter();
        let pairs = registers.pairs.iter();
        let news = tombstones
            .map(News::TombstoneKept)
            .chain(rulings.map(|(key, ruled)| News::RulingKept(key.clone(), ruled.clone())))
            .chain(pairs.map(|(key, ruled)| News::PairKept(key.clone(), ruled.clone())))
            .collect();
        Self {
            namespace,
            now,
            news,
        }
    }

    /// The stored life is over: a null for the account, and one for its own id unless that was
    /// current, for then there is no record of it.
    /// The null has the tombstone's revision, which is the last there is.
    pub fn ended(&mut self, node: &AccountNode<'_>, last: Option<u64>) {
        let Some(row) = node.stored else { return };
        self.news.push(News::Unlinked {
            account: row.account.clone(),
            revision: last.unwrap_or(row.revision + 1),
        });
        self.leave(row);
    }

    fn leave(&mut self, row: &AccountRow) {
        let own = row.account.own_id(self.namespace, row.generation);
        if row.user != own {
            self.news.push(News::Unmerged {
                account: row.account.clone(),
                own,
            });
        }
    }

    /// The account's new revision.
    pub fn linked(
        &mut self,
        row: &AccountRow,
        before: Option<&AccountRow>,
        shown: Shown,
        claims: Vec<ClaimRow>,
    ) {
        let previous_user = before.map(|b| b.user).filter(|user| *user != row.user);
        self.news.push(News::Linked(Box::new(Linked {
            row: row.clone(),
            previous_user,
            platform: shown.platform,
            unionid: shown.unionid,
            method: shown.method,
            claims,
        })));
    }

    /// Keeps `user-merges` flat: every own id that is not the current id of its user points
    /// straight to that, and no other is there.
    pub fn merges(
        &mut self,
        row: &AccountRow,
        before: Option<&AccountRow>,
        names_user: bool,
        cause: &EventId,
    ) {
        let same_own = before.is_some_and(|b| b.generation == row.generation);
        if let (Some(before), false) = (before, same_own) {
            self.leave(before);
        }
        if same_own && before.is_some_and(|b| b.user == row.user) {
            return;
        }
        if !names_user {
            let from = row.account.own_id(self.namespace, row.generation);
            self.merged(row, from, cause);
        } else if same_own {
            self.news.push(News::Unmerged {
                account: row.account.clone(),
                own: row.user,
            });
        }
    }

    fn merged(&mut self, row: &AccountRow, from: UserId, cause: &EventId) {
        self.news.push(News::Merged {
            account: row.account.clone(),
            from,
            into: row.user,
            cause: cause.clone(),
            at: self.now,
        });
    }

    /// A claim is contested for the first time.
    pub fn conflict(&mut self, claim: &ClaimRow, user: UserId, cause: &EventId) {
        if let ClaimStatus::Contested(why) = claim.status {
            self.news.push(News::Conflict {
                claim: Box::new(claim.clone()),
                why,
                user,
                cause: cause.clone(),
                at: self.now,
            });
        }
    }

    /// Everything, in order.
    pub fn finish(self) -> Vec<News> {
        self.news
    }
}

/// Whether `link-conflicts` tells of a claim in this status. A rejected one is decided already.
pub(super) fn is_conflict(status: ClaimStatus) -> bool {
    matches!(status, ClaimStatus::Contested(why) if why != Why::Rejected)
}
