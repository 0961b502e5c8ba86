//! What contradicts, and what an operator can do about it.

use super::*;

#[test]
fn one_account_has_one_active_unionid_in_a_platform() {
    let mut world = World::new();
    world.take(&[seen("wx0:a", 10, &["u1", "u2", "old/u3"])]);
    assert_eq!(world.why("wx0:a", "u1"), None);
    assert_eq!(world.why("wx0:a", "u2"), Some(Why::OtherUnionid));
    assert_eq!(world.why("wx0:a", "old/u3"), None, "another platform");
}

#[test]
fn one_user_has_no_two_openids_of_one_app() {
    let mut world = World::new();
    world.each(&[seen("wx0:a", 10, &["u"]), seen("wx0:b", 20, &["u"])]);
    assert_eq!(world.why("wx0:b", "u"), Some(Why::SameApp));
    assert_ne!(world.user("wx0:a"), world.user("wx0:b"));
    assert_eq!(
        world.row("wx0:b").reason.map(|r| r.1),
        Some(Reason::Contested)
    );
}

#[test]
fn two_openids_of_one_app_do_not_meet_through_others_either() {
    let mut world = World::new();
    world.take(&[
        seen("wx0:a", 10, &["u"]),
        seen("wx0:b", 11, &["old/v"]),
        seen("moved:m", 12, &["u", "old/v"]),
    ]);
    assert_eq!(
        world.user("moved:m"),
        world.user("wx0:b"),
        "old/v sorts first"
    );
    assert_eq!(world.why("moved:m", "u"), Some(Why::SameApp));
}

#[test]
fn a_never_pair_keeps_two_accounts_apart_until_it_is_withdrawn() {
    let mut world = World::new();
    let logins = [seen("wx0:a", 10, &["u"]), seen("wx1:b", 20, &["u"])];
    world.each(&logins);
    world.take(&[never("wx1:b", "wx0:a", 30, true)]);
    assert_eq!(world.why("wx1:b", "u"), Some(Why::NeverMerge));
    assert_eq!(world.user("wx1:b"), world.own("wx1:b", 0));
    assert!(world.published.merges.is_empty());
    world.take(&[never("wx0:a", "wx1:b", 25, false)]);
    assert_eq!(world.why("wx1:b", "u"), Some(Why::NeverMerge), "older");
    world.take(&[never("wx0:a", "wx1:b", 40, false)]);
    assert_eq!(world.user("wx1:b"), world.user("wx0:a"));
}

#[test]
fn a_never_pair_also_stands_between_the_sets_of_its_accounts() {
    let mut world = World::new();
    world.take(&[
        never("wx0:a", "wx2:c", 1, true),
        seen("wx0:a", 10, &["u"]),
        seen("wx1:b", 20, &["u"]),
        seen("wx1:b", 21, &["old/v"]),
        seen("wx2:c", 22, &["old/v"]),
    ]);
    assert_eq!(world.user("wx1:b"), world.user("wx0:a"));
    assert_eq!(world.why("wx2:c", "old/v"), Some(Why::NeverMerge));
}

#[test]
fn a_user_has_at_most_64_accounts() {
    let mut world = World::new();
    let logins = (0..66).map(|n| seen(&format!("wx{n}:a"), 10 + n, &["u"]));
    world.take(&logins.collect::<Vec<_>>());
    assert_eq!(world.why("wx63:a", "u"), None);
    assert_eq!(world.why("wx64:a", "u"), Some(Why::TooLarge));
    assert_eq!(world.why("wx65:a", "u"), Some(Why::TooLarge));
}

#[test]
fn the_third_openid_of_an_app_makes_a_unionid_shared() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:a", 10, &["u"]),
        seen("wx1:x", 11, &["u"]),
        seen("wx0:b", 12, &["u"]),
    ]);
    assert_eq!(
        world.user("wx1:x"),
        world.user("wx0:a"),
        "two are not enough"
    );
    world.take(&[seen("wx0:c", 13, &["u"])]);
    for key in ["wx0:a", "wx0:b", "wx0:c", "wx1:x"] {
        assert_eq!(world.why(key, "u"), Some(Why::SharedUnionid), "{key}");
        assert_eq!(world.user(key), world.own(key, 0), "{key}");
    }
}

#[test]
fn an_accepted_claim_on_a_shared_unionid_links() {
    let mut world = World::new();
    let logins = ["wx0:a", "wx0:b", "wx0:c", "wx1:x"].map(|key| seen(key, 10, &["u"]));
    world.take(&logins);
    world.each(&[accept("wx0:b", "u", 20), accept("wx1:x", "u", 21)]);
    assert_eq!(world.user("wx1:x"), world.user("wx0:b"));
    assert_eq!(world.why("wx0:a", "u"), Some(Why::SharedUnionid));
}

#[test]
fn rejecting_a_claim_ends_a_shared_unionid() {
    let mut world = World::new();
    let logins = ["wx0:a", "wx0:b", "wx0:c", "wx1:x"].map(|key| seen(key, 10, &["u"]));
    world.take(&logins);
    world.take(&[reject("wx0:a", "u", 20)]);
    assert_eq!(world.why("wx0:a", "u"), Some(Why::Rejected));
    assert_eq!(world.user("wx1:x"), world.own("wx0:b", 0));
    assert_eq!(world.why("wx0:c", "u"), Some(Why::SameApp));
}

#[test]
fn a_rejected_claim_does_not_count_when_another_comes() {
    let mut world = World::new();
    world.take(&[
        reject("wx0:a", "u", 5),
        seen("wx0:a", 10, &["u"]),
        seen("wx0:b", 11, &["u"]),
        seen("wx0:c", 12, &["u"]),
    ]);
    assert_eq!(world.why("wx0:b", "u"), None);
}

#[test]
fn an_account_with_three_unionids_links_by_none_in_that_platform() {
    let mut world = World::new();
    world.each(&[
        seen("wx1:x", 5, &["u1"]),
        seen("wx0:a", 10, &["u1", "u2"]),
        seen("wx0:a", 11, &["old/v"]),
    ]);
    assert_eq!(world.user("wx0:a"), world.user("wx1:x"));
    world.take(&[seen("wx0:a", 12, &["u3"])]);
    for union in ["u1", "u2", "u3"] {
        assert_eq!(world.why("wx0:a", union), Some(Why::ManyUnionids));
    }
    assert_eq!(world.why("wx0:a", "old/v"), None);
    assert_eq!(world.user("wx0:a"), world.own("wx0:a", 0));
    world.take(&[accept("wx0:a", "u1", 20)]);
    assert_eq!(world.user("wx0:a"), world.user("wx1:x"));
    assert_eq!(world.why("wx0:a", "u2"), Some(Why::ManyUnionids));
}

#[test]
fn rejecting_a_claim_ends_too_many_unionids() {
    let mut world = World::new();
    world.take(&[seen("wx0:a", 10, &["u1", "u2", "u3"])]);
    world.take(&[reject("wx0:a", "u1", 20)]);
    assert_eq!(world.why("wx0:a", "u2"), None);
    assert_eq!(world.why("wx0:a", "u3"), Some(Why::OtherUnionid));
}

#[test]
fn a_split_is_rejecting_claims_and_both_go_on() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:a", 10, &["u"]),
        seen("wx1:b", 20, &["u"]),
        reject("wx0:a", "u", 30),
    ]);
    assert_eq!(world.user("wx1:b"), world.own("wx1:b", 0));
    assert_eq!(world.conflicts(), 0, "what is decided is no conflict");
    world.take(&[ruled("wx0:a", "u", 40, None)]);
    assert_eq!(world.user("wx1:b"), world.own("wx0:a", 0));
}

#[test]
fn accepting_overrules_no_contradiction_among_accepted_claims() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:a", 10, &["u"]),
        seen("wx0:b", 20, &["u"]),
        accept("wx0:a", "u", 30),
        accept("wx0:b", "u", 40),
    ]);
    assert_eq!(world.why("wx0:b", "u"), Some(Why::SameApp));
}

#[test]
fn a_decision_waits_for_its_claim_and_the_last_one_stands() {
    let mut world = World::new();
    world.each(&[
        reject("wx0:a", "u", 30),
        accept("wx0:a", "u", 20),
        seen("wx0:a", 40, &["u"]),
    ]);
    assert_eq!(world.why("wx0:a", "u"), Some(Why::Rejected));
    let kept = &world.published.rulings[&world.claim("wx0:a", "u").key];
    assert_eq!(kept.at, Millis(30));
}

#[test]
fn of_decisions_at_one_time_the_larger_author_stands() {
    let mut world = World::new();
    let by = |author: &str, fact: Fact| match fact {
        Fact::Decision(d) => Fact::Decision(Decision {
            author: author.into(),
            ..d
        }),
        other => other,
    };
    world.each(&[
        seen("wx0:a", 10, &["u"]),
        by("zoe", accept("wx0:a", "u", 20)),
        by("amy", reject("wx0:a", "u", 20)),
    ]);
    assert_eq!(world.linked("wx0:a").method, LinkMethod::Operator);
}

#[test]
fn a_unionid_that_the_store_cannot_read_whole_is_shared() {
    let mut world = World::new();
    let logins = (0..30).map(|n| seen(&format!("wx{}:o{n}", n % 3), 10 + n, &["u"]));
    world.take(&logins.collect::<Vec<_>>());
    world.memory.limit = 2; // what it shows of them looks harmless
    world.take(&[seen("wx4:new", 50, &["u"])]);
    assert_eq!(world.why("wx4:new", "u"), Some(Why::SharedUnionid));
    world.take(&[accept("wx2:o29", "u", 60), accept("wx4:new", "u", 61)]);
    assert_eq!(world.user("wx4:new"), world.user("wx2:o29"));
}

#[test]
fn hubs_are_not_walked_through() {
    let mut world = World::new();
    let logins = (0..9).map(|n| seen(&format!("wx0:o{n}"), 10 + n, &["u"]));
    world.take(&logins.collect::<Vec<_>>());
    world.take(&[seen("wx1:many", 30, &["u", "v1", "v2", "v3"])]);
    let facts = [seen("wx0:new", 50, &["u", "v1"])];
    let mut view = View::default();
    let mut asked = keys(&facts);
    let changes = loop {
        world.memory.read(&mut view, &asked);
        match plan(&view, &facts, &world.rules, Millis(9)) {
            Outcome::Read(more) => asked = more,
            Outcome::Done(changes) => break changes,
        }
    };
    let read: Vec<String> = view.asked.accounts.iter().map(Account::key).collect();
    assert_eq!(
        read,
        ["wx0:new", "wx1:many"],
        "the second only to see that it is a hub"
    );
    assert_eq!(view.asked.unionids.len(), 2);
    assert_eq!(changes.claims.len(), 2);
}
