//! What stands against a contested claim, read off what a store holds. Decides nothing.

use crate::model::{
    Account, AppId, ClaimKey, ClaimRow, ClaimStatus, ClaimVerdict, NeverPair, Ruled, UserId, View,
    Why,
};
use std::collections::BTreeMap;

/// What stands against a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Against<'v> {
    /// The account has this other unionid in the platform.
    Has(&'v ClaimRow),
    /// Two openids of one app would be one user.
    Both(&'v Account, &'v Account),
    /// An operator said that these two are never one user.
    Never(&'v NeverPair, &'v Ruled),
    /// The user would have so many accounts.
    Large(usize),
    /// So many openids of the app claim the unionid, or more, if not all were read.
    Shared(&'v AppId, usize),
    /// The account claims so many unionids in the platform.
    Many(usize),
    /// An operator rejected it.
    Rejected(&'v Ruled),
    /// It stands outside what was read.
    Unread,
}

/// What stands against the claim; `None` if it links. The view holds the account, the unionid, and the
/// accounts of the users on either side.
#[must_use]
pub fn against<'v>(view: &'v View, claim: &ClaimRow) -> Option<Against<'v>> {
    let ClaimStatus::Contested(why) = claim.status else {
        return None;
    };
    let key = &claim.key;
    let found = match why {
        Why::OtherUnionid => other(view, key).map(Against::Has),
        Why::SameApp => pairs(view, key)
            .into_iter()
            .find(|(m, n)| m.app == n.app)
            .map(|(m, n)| Against::Both(m, n)),
        Why::NeverMerge => pairs(view, key)
            .into_iter()
            .find_map(|(m, n)| never(view, m, n)),
        Why::TooLarge => large(view, key).map(Against::Large),
        Why::SharedUnionid => shared(view, key),
        Why::ManyUnionids => Some(Against::Many(many(view, key))),
        Why::Rejected => view.rulings.get(key).map(Against::Rejected),
    };
    Some(found.unwrap_or(Against::Unread))
}

fn other<'v>(view: &'v View, key: &ClaimKey) -> Option<&'v ClaimRow> {
    let claims = view.claims.get(&key.account)?.iter();
    let mut active = claims.filter(|c| c.status == ClaimStatus::Active);
    active.find(|c| c.key.union != key.union && c.key.union.platform == key.union.platform)
}

/// The users on either side of the claim: that of its account, and that of the unionid.
fn sides(view: &View, key: &ClaimKey) -> Option<[UserId; 2]> {
    let mine = view.accounts.get(&key.account)?.user;
    let on = view.unionids.get(&key.union)?.claims.iter();
    let mut active = on.filter(|c| c.status == ClaimStatus::Active);
    let holder = active.find_map(|c| view.accounts.get(&c.key.account))?;
    Some([mine, holder.user])
}

fn members(view: &View, user: UserId) -> Vec<&Account> {
    let rows = view.accounts.values().filter(|row| row.user == user);
    let mut members: Vec<&Account> = rows.map(|row| &row.account).collect();
    members.sort_unstable();
    members
}

/// Each account of one side with each of the other.
fn pairs<'v>(view: &'v View, key: &ClaimKey) -> Vec<(&'v Account, &'v Account)> {
    let Some([mine, theirs]) = sides(view, key).filter(|[a, b]| a != b) else {
        return Vec::new();
    };
    let theirs = members(view, theirs);
    let pairs = members(view, mine).into_iter();
    pairs
        .flat_map(|m| theirs.iter().map(move |n| (m, *n)))
        .collect()
}

fn never<'v>(view: &'v View, m: &Account, n: &Account) -> Option<Against<'v>> {
    let (a, b) = (m.min(n).clone(), m.max(n).clone());
    let (pair, ruled) = view.pairs.get_key_value(&NeverPair { a, b })?;
    (ruled.verdict == Some(ClaimVerdict::Reject)).then_some(Against::Never(pair, ruled))
}

fn large(view: &View, key: &ClaimKey) -> Option<usize> {
    let [mine, theirs] = sides(view, key)?;
    Some(members(view, mine).len() + members(view, theirs).len())
}

fn counts(claim: &ClaimRow) -> bool {
    claim.verdict != Some(ClaimVerdict::Reject)
}

fn shared<'v>(view: &'v View, key: &ClaimKey) -> Option<Against<'v>> {
    let claims = &view.unionids.get(&key.union)?.claims;
    let mut openids: BTreeMap<&AppId, usize> = BTreeMap::new();
    for claim in claims.iter().filter(|c| counts(c)) {
        *openids.entry(&claim.key.account.app).or_default() += 1;
    }
    let (app, n) = openids.into_iter().max_by_key(|(_, n)| *n)?;
    Some(Against::Shared(app, n))
}

fn many(view: &View, key: &ClaimKey) -> usize {
    let claims = view.claims.get(&key.account).into_iter().flatten();
    claims
        .filter(|c| counts(c) && c.key.union.platform == key.union.platform)
        .count()
}
