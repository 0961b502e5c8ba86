//! What people are told before they decide: why claims stand as they do, and what a decision would do.

use super::*;
use crate::link::{Against, Outlook, Split, against, explain, split};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that the world's store holds.
fn whole(world: &World) -> View {
    let memory = &world.memory;
    let claims = memory.claims.values().flat_map(BTreeMap::keys);
    let keys = Keys {
        accounts: memory.accounts.keys().cloned().collect(),
        unionids: claims.cloned().collect(),
    };
    let mut view = View::default();
    memory.read(&mut view, &keys);
    view
}

fn names(claims: &[&ClaimRow]) -> Vec<String> {
    let name = |c: &&ClaimRow| format!("{}={}", c.key.account.key(), c.key.union.unionid.as_str());
    claims.iter().map(name).collect()
}

#[test]
fn two_accounts_are_one_by_the_claims_between_them() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:a", 1, &["u"]),
        seen("wx1:b", 2, &["u", "q/v"]),
        seen("wx2:c", 3, &["q/v"]),
    ]);
    let view = whole(&world);
    let (a, c) = (account("wx0:a"), account("wx2:c"));
    let told = explain(&view, &a, &c);
    let path = told.path.expect("one user");
    assert_eq!(names(&path), ["wx0:a=u", "wx1:b=u", "wx1:b=v", "wx2:c=v"]);
    assert_eq!(explain(&view, &a, &a).path, Some(Vec::new()));
}

#[test]
fn contested_claims_join_nobody_and_are_named() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:a", 1, &["u"]),
        seen("wx0:b", 2, &["u"]),
        never("wx0:a", "wx0:b", 3, true),
    ]);
    let view = whole(&world);
    let (a, b) = (account("wx0:a"), account("wx0:b"));
    let told = explain(&view, &b, &a);
    assert_eq!(told.path, None);
    let but_for = told.but_for.expect("a path");
    assert_eq!(names(&but_for), ["wx0:b=u", "wx0:a=u"]);
    assert_eq!(told.never.map(|ruled| &*ruled.author), Some("op"));
    world.take(&[never("wx0:a", "wx0:b", 4, false)]);
    let view = whole(&world);
    assert_eq!(explain(&view, &a, &b).never, None, "taken back");
}

#[test]
fn what_stands_against_a_claim_is_named() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:a", 1, &["u"]),
        seen("wx1:b", 2, &["u"]),
        seen("wx0:c", 3, &["u"]),
        seen("wx1:b", 4, &["w"]),
        seen("wx2:d", 5, &["s"]),
        seen("wx2:e", 6, &["s"]),
        seen("wx2:f", 7, &["s"]),
        seen("wx3:g", 8, &["x", "y", "z"]),
        seen("wx4:h", 9, &["u"]),
        reject("wx4:h", "u", 10),
        seen("wx5:i", 11, &["u"]),
        never("wx1:b", "wx5:i", 12, true),
    ]);
    let view = whole(&world);
    let of = |key: &str, union: &str| against(&view, world.claim(key, union));
    assert_eq!(of("wx0:a", "u"), None);
    let [a, b, c, i] = ["wx0:a", "wx1:b", "wx0:c", "wx5:i"].map(account);
    assert_eq!(of("wx0:c", "u"), Some(Against::Both(&c, &a)));
    assert_eq!(
        of("wx1:b", "w"),
        Some(Against::Has(world.claim("wx1:b", "u")))
    );
    let wx2 = account("wx2:d").app;
    assert_eq!(of("wx2:e", "s"), Some(Against::Shared(&wx2, 3)));
    assert_eq!(of("wx3:g", "y"), Some(Against::Many(3)));
    let Some(Against::Rejected(ruled)) = of("wx4:h", "u") else {
        panic!("a ruling");
    };
    assert_eq!(ruled.at, Millis(10));
    let Some(Against::Never(pair, _)) = of("wx5:i", "u") else {
        panic!("a pair");
    };
    assert_eq!((&pair.a, &pair.b), (&b, &i));
}

/// What deciding would do, asked until the plan is done.
pub(super) fn outlook(world: &World, facts: &[Fact]) -> Outlook {
    let mut view = View::default();
    let mut keys = crate::link::keys(facts);
    loop {
        world.memory.read(&mut view, &keys);
        match plan(&view, facts, &world.rules, Millis(99)) {
            Outcome::Read(more) => keys = more,
            Outcome::Done(changes) => return Outlook::of(&view, &changes),
        }
    }
}

fn set(keys: &[&str]) -> BTreeSet<Account> {
    keys.iter().map(|key| account(key)).collect()
}

#[test]
fn an_outlook_tells_who_is_joined_and_who_is_parted() {
    let mut world = World::new();
    // A shared unionid: rejecting one of three lets two strangers link.
    world.each(&[
        seen("wx0:a", 1, &["u"]),
        seen("wx0:b", 2, &["u"]),
        seen("wx0:c", 3, &["u"]),
        seen("wx1:d", 4, &["u"]),
        seen("wx1:p", 5, &["v"]),
        seen("wx2:q", 6, &["v"]),
        seen("wx3:r", 7, &["v"]),
    ]);
    let told = outlook(&world, &[reject("wx0:c", "u", 50)]);
    let joined = told.joined();
    assert_eq!(joined.len(), 1);
    assert_eq!(joined[0].0.accounts, set(&["wx0:a", "wx1:d"]));
    assert!(told.parted().is_empty());
    assert!(told.together(&set(&["wx0:a"]), &set(&["wx1:d"])));
    // The one that names the user leaves: the others take another id.
    let told = outlook(&world, &[reject("wx1:p", "v", 50)]);
    assert!(told.joined().is_empty());
    let parted = told.parted();
    assert_eq!(parted.len(), 1);
    assert_eq!(parted[0].0.accounts, set(&["wx1:p", "wx2:q", "wx3:r"]));
    assert_eq!(told.after.len(), 2);
    assert_eq!(
        outlook(&world, &[reject("wx9:z", "v", 50)]),
        Outlook::default()
    );
}

/// Splits as a command does, and returns what is rejected and the outlook.
fn splits(
    world: &World,
    apart: &BTreeSet<Account>,
    rest: &BTreeSet<Account>,
) -> (BTreeSet<ClaimKey>, Outlook) {
    let mut view = View::default();
    let mut keys = Keys {
        accounts: apart.union(rest).cloned().collect(),
        unionids: BTreeSet::new(),
    };
    loop {
        world.memory.read(&mut view, &keys);
        match split(&view, (apart, rest), &event("split"), &world.rules) {
            Split::Read(more) => keys = more,
            Split::Reject(rejected, outlook) => return (rejected, *outlook),
        }
    }
}

#[test]
fn a_split_also_rejects_what_would_link_instead() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:a", 1, &["u"]),
        seen("wx1:b", 2, &["u", "q/w"]),
        seen("wx2:c", 3, &["q/w"]),
        seen("wx3:s", 4, &["u"]),
        // Contested as long as the other unionid links.
        seen("wx3:s", 5, &["u2"]),
        seen("wx4:t", 6, &["u2", "q/w"]),
    ]);
    let (rejected, outlook) = splits(
        &world,
        &set(&["wx3:s"]),
        &set(&["wx0:a", "wx1:b", "wx2:c", "wx4:t"]),
    );
    let names: Vec<&str> = rejected.iter().map(|k| k.union.unionid.as_str()).collect();
    assert_eq!(names, ["u", "u2"]);
    assert!(outlook.joined().is_empty());
    assert_eq!(outlook.after.len(), 2);
}

type Claims = Vec<(u8, u8, bool)>;

/// A view of claims between six accounts of as many apps and five unionids, by no rule.
fn drawn(claims: &Claims) -> View {
    let mut view = View::default();
    for (a, u, links) in claims {
        let key = ClaimKey {
            account: account(&format!("wx{a}:o")),
            union: unionid(&format!("u{u}")),
        };
        let status = match links {
            true => ClaimStatus::Active,
            false => ClaimStatus::Contested(Why::OtherUnionid),
        };
        let of = view.claims.entry(key.account.clone()).or_default();
        if of.iter().all(|c| c.key != key) {
            of.push(ClaimRow {
                key,
                at: Millis(1),
                method: Method::Provided,
                cause: event("e"),
                status,
                verdict: None,
                reported: false,
            });
        }
    }
    view
}

/// (contested claims, steps) from each account to each, by trying all ways (Floyd and Warshall).
fn distances(view: &View, contested: bool) -> Vec<Vec<Option<(usize, usize)>>> {
    let of = |n: usize| view.claims.get(&account(&format!("wx{n}:o")));
    let mut far = vec![vec![None; 6]; 6];
    for (i, row) in far.iter_mut().enumerate() {
        for (j, cell) in row.iter_mut().enumerate() {
            let pairs = of(i).into_iter().flatten().flat_map(|x| {
                let met = of(j).into_iter().flatten();
                met.filter(|y| y.key.union == x.key.union)
                    .map(move |y| [x, y])
            });
            let cost = |pair: [&ClaimRow; 2]| {
                let links = |c: &&ClaimRow| c.status == ClaimStatus::Active;
                (2 - pair.iter().filter(|c| links(c)).count(), 1)
            };
            let costs = pairs.map(cost).filter(|(n, _)| contested || *n == 0);
            *cell = if i == j { Some((0, 0)) } else { costs.min() };
        }
    }
    for k in 0..6 {
        for i in 0..6 {
            for j in 0..6 {
                if let (Some(x), Some(y)) = (far[i][k], far[k][j]) {
                    let way = (x.0 + y.0, x.1 + y.1);
                    far[i][j] = Some(far[i][j].map_or(way, |known: (usize, usize)| known.min(way)));
                }
            }
        }
    }
    far
}

/// A path leads from one to the other, account by unionid by account.
fn leads(path: &[&ClaimRow], from: &Account, to: &Account) {
    let mut at = from;
    for pair in path.chunks(2) {
        assert_eq!(&pair[0].key.account, at);
        assert_eq!(pair[0].key.union, pair[1].key.union);
        at = &pair[1].key.account;
    }
    assert_eq!(at, to);
}

proptest! {
    #[test]
    fn explanations_are_the_shortest_ways_there_are(
        claims in prop::collection::vec((0u8..6, 0u8..5, any::<bool>()), 0..16),
    ) {
        let view = drawn(&claims);
        let (linked, any) = (distances(&view, false), distances(&view, true));
        for i in 0..6 {
            for j in 0..6 {
                let (a, b) = (account(&format!("wx{i}:o")), account(&format!("wx{j}:o")));
                let told = explain(&view, &a, &b);
                let far = told.path.as_ref().map(|p| (0, p.len() / 2));
                prop_assert_eq!(far, linked[i][j]);
                let contested = |p: &Vec<&ClaimRow>| {
                    let n = p.iter().filter(|c| c.status != ClaimStatus::Active).count();
                    (n, p.len() / 2)
                };
                let but_for = told.but_for.as_ref().map(contested);
                prop_assert_eq!(but_for, any[i][j].filter(|_| linked[i][j].is_none()));
                for path in told.path.iter().chain(&told.but_for) {
                    leads(path, &a, &b);
                }
            }
        }
    }

    /// After a split nobody of those who leave is with the rest, and without one of the rejections
    /// somebody still is.
    #[test]
    fn splits_part_and_reject_no_more_than_they_must(
        sightings in prop::collection::vec((0u8..5, 0u8..3, 0u8..4, 0u8..2), 1..14),
        pick in any::<u64>(),
    ) {
        let mut world = World::new();
        for (n, (app, person, u, platform)) in (1..).zip(&sightings) {
            let platform = ["p", "q"][usize::from(*platform)];
            let fact = seen(&format!("wx{app}:o{person}"), n, &[&format!("{platform}/u{u}")]);
            world.take(&[fact]);
        }
        let mut users: BTreeMap<UserId, BTreeSet<Account>> = BTreeMap::new();
        for row in world.memory.accounts.values() {
            users.entry(row.user).or_default().insert(row.account.clone());
        }
        for members in users.values().filter(|set| set.len() > 1) {
            let leaves = |(n, _): &(usize, &Account)| pick >> n & 1 == 1;
            let apart = members.iter().enumerate().filter(leaves);
            let apart: BTreeSet<Account> = apart.map(|(_, a)| a.clone()).collect();
            let rest: BTreeSet<Account> = members.difference(&apart).cloned().collect();
            if apart.is_empty() || rest.is_empty() {
                continue;
            }
            let (rejected, told) = splits(&world, &apart, &rest);
            prop_assert!(!rejected.is_empty());
            prop_assert!(rejected.iter().all(|key| apart.contains(&key.account)));
            prop_assert!(!told.together(&apart, &rest));
            let facts = |without: Option<&ClaimKey>| -> Vec<Fact> {
                let kept = rejected.iter().filter(|key| Some(*key) != without);
                kept.map(|key| decision(Ruling::Claim {
                    account: key.account.clone(),
                    union: key.union.clone(),
                    verdict: Some(ClaimVerdict::Reject),
                }, 500)).collect()
            };
            prop_assert_eq!(outlook(&world, &facts(None)), told);
            for key in &rejected {
                let less = facts(Some(key));
                let with = if less.is_empty() { Outlook::default() } else { outlook(&world, &less) };
                // An outlook tells of users that change: one that it does not tell of stays whole.
                let changes = with.before.iter().any(|p| p.accounts == *members);
                let apart_now = changes && !with.together(&apart, &rest);
                prop_assert!(!apart_now, "{key:?} need not be rejected");
            }
        }
    }
}
