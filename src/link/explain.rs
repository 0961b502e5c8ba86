//! Why two accounts are one user, or why they are not: read off what a store holds. Follows claims
//! and decides nothing.

use crate::model::{Account, ClaimRow, ClaimStatus, NeverPair, Ruled, UnionKey, View};
use std::collections::{BTreeMap, BTreeSet};

/// How two accounts stand to each other. A path goes from one to the other by unionids: of each pair of
/// claims the first is an account's, the second the next account's on the same unionid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained<'v> {
    /// The shortest path of claims that link; `None` if the two are not one user.
    pub path: Option<Vec<&'v ClaimRow>>,
    /// Where there is none: the path with the fewest contested claims, of all that were read.
    pub but_for: Option<Vec<&'v ClaimRow>>,
    /// An operator's word that they are never one user, if it stands.
    pub never: Option<&'v Ruled>,
}

/// Explains, from a view that holds everything that the two reach along claims that link; contested ones
/// are followed as far as they were read. An account is one user with itself, by no claim.
#[must_use]
pub fn explain<'v>(view: &'v View, a: &'v Account, b: &'v Account) -> Explained<'v> {
    let net = Net::of(view);
    let path = net.path(a, b, links);
    let but_for = match path {
        Some(_) => None,
        None => net.path(a, b, |_| true),
    };
    let (a, b) = (a.min(b).clone(), a.max(b).clone());
    let never = view.pairs.get(&NeverPair { a, b });
    Explained {
        path,
        but_for,
        never: never.filter(|ruled| ruled.verdict.is_some()),
    }
}

fn links(claim: &ClaimRow) -> bool {
    claim.status == ClaimStatus::Active
}

/// All claims of a view, from both sides.
struct Net<'v> {
    of: BTreeMap<&'v Account, Vec<&'v ClaimRow>>,
    on: BTreeMap<&'v UnionKey, Vec<&'v ClaimRow>>,
}

/// Contested claims, then steps.
type Cost = (usize, usize);
/// How an account was reached: at what cost, and by which two claims.
type Reached<'v> = (Cost, Option<[&'v ClaimRow; 2]>);

impl<'v> Net<'v> {
    fn of(view: &'v View) -> Self {
        let read = view.claims.values().flatten();
        let read = read.chain(view.unionids.values().flat_map(|read| &read.claims));
        let claims: BTreeMap<_, &'v ClaimRow> = read.map(|claim| (&claim.key, claim)).collect();
        let mut net = Self {
            of: BTreeMap::new(),
            on: BTreeMap::new(),
        };
        for (key, claim) in claims {
            net.of.entry(&key.account).or_default().push(claim);
            net.on.entry(&key.union).or_default().push(claim);
        }
        net
    }

    /// The cheapest path along claims that pass.
    fn path(
        &self,
        a: &'v Account,
        b: &'v Account,
        passes: fn(&ClaimRow) -> bool,
    ) -> Option<Vec<&'v ClaimRow>> {
        let mut reached: BTreeMap<&Account, Reached<'v>> = BTreeMap::from([(a, ((0, 0), None))]);
        let mut open: BTreeSet<(Cost, &Account)> = BTreeSet::from([((0, 0), a)]);
        while let Some((cost, who)) = open.pop_first() {
            if who == b {
                return Some(unwound(&reached, b));
            }
            for step in self.steps(who, passes) {
                let next = &step[1].key.account;
                let contested = step.iter().filter(|claim| !links(claim)).count();
                let cost = (cost.0 + contested, cost.1 + 1);
                let known = reached.get(next).map(|(known, _)| *known);
                if known.is_none_or(|known| cost < known) {
                    open.extend([(cost, next)]);
                    reached.insert(next, (cost, Some(step)));
                }
            }
        }
        None
    }

    /// The ways from an account to the next ones.
    fn steps(
        &self,
        who: &Account,
        passes: fn(&ClaimRow) -> bool,
    ) -> impl Iterator<Item = [&'v ClaimRow; 2]> {
        let of = self.of.get(who).into_iter().flatten();
        let of = of.filter(move |claim| passes(claim));
        of.flat_map(move |out| {
            let on = self.on.get(&out.key.union).into_iter().flatten();
            on.filter(move |back| passes(back) && back.key.account != out.key.account)
                .map(|back| [*out, *back])
        })
    }
}

fn unwound<'v>(reached: &BTreeMap<&Account, Reached<'v>>, to: &Account) -> Vec<&'v ClaimRow> {
    let (mut path, mut at) = (Vec::new(), to);
    while let Some((_, Some([out, back]))) = reached.get(at) {
        path.extend([*back, *out]);
        at = &out.key.account;
    }
    path.reverse();
    path
}
