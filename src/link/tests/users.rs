//! Who is one user, and by which id.

use super::*;

#[test]
fn an_account_alone_is_its_own_user() {
    let mut world = World::new();
    world.take(&[seen("wx0:a", 10, &[])]);
    assert_eq!(world.user("wx0:a"), world.own("wx0:a", 0));
    assert!(world.published.merges.is_empty());
    assert_eq!(world.row("wx0:a").revision, 1);
}

#[test]
fn accounts_with_one_unionid_are_one_user_named_by_the_first_seen() {
    let mut world = World::new();
    world.each(&[seen("wx1:b", 20, &["u"]), seen("wx0:a", 30, &["u"])]);
    let own = world.own("wx1:b", 0);
    assert_eq!((world.user("wx0:a"), world.user("wx1:b")), (own, own));
    let merges = &world.published.merges;
    assert_eq!(merges.get(&world.own("wx0:a", 0)), Some(&own));
    assert_eq!(merges.len(), 1);
}

#[test]
fn a_tie_of_first_times_goes_to_the_smaller_account() {
    let mut world = World::new();
    world.take(&[
        seen("wx1:a", 20, &["u"]),
        seen("wx0:b", 20, &["u"]),
        seen("wx0:c", 20, &[]),
    ]);
    assert_eq!(world.user("wx1:a"), world.own("wx0:b", 0));
}

#[test]
fn an_earlier_sighting_renames_the_user_and_keeps_the_merges_flat() {
    let mut world = World::new();
    world.take(&[
        seen("wx0:a", 20, &["u"]),
        seen("wx1:b", 30, &["u"]),
        seen("wx2:c", 40, &["u"]),
    ]);
    world.take(&[seen("wx2:c", 5, &[])]);
    let own = world.own("wx2:c", 0);
    for key in ["wx0:a", "wx1:b", "wx2:c"] {
        assert_eq!(world.user(key), own, "{key}");
    }
    let merges: Vec<_> = world.published.merges.values().collect();
    assert_eq!(merges, [&own, &own]);
    assert_eq!(world.linked("wx0:a").row.cause, event("e5"));
    assert_eq!(
        world.linked("wx0:a").previous_user,
        Some(world.own("wx0:a", 0))
    );
}

#[test]
fn a_claim_does_not_make_its_account_older() {
    let mut world = World::new();
    let late = with(seen("wx0:a", 20, &["u"]), |s| s.claims[0].at = Millis(3));
    world.take(&[late]);
    assert_eq!(world.row("wx0:a").first_seen_at, Millis(20));
    assert_eq!(world.claim("wx0:a", "u").at, Millis(3));
}

#[test]
fn a_claim_keeps_its_smallest_time_with_its_event_and_its_strongest_method() {
    let mut world = World::new();
    world.each(&[
        seen_by("wx0:a", 20, Method::Provided, &["u"]),
        seen_by("wx0:a", 10, Method::Imported, &["u"]),
        seen_by("wx0:a", 30, Method::Decrypted, &["u"]),
    ]);
    let claim = world.claim("wx0:a", "u");
    let kept = (claim.at, claim.method, &claim.cause);
    assert_eq!(kept, (Millis(10), Method::Decrypted, &event("e10")));
    let earlier = with(seen("wx0:a", 10, &["u"]), |s| s.cause = event("d"));
    world.take(&[earlier]);
    assert_eq!(world.claim("wx0:a", "u").cause, event("d"));
    assert!(world.news.is_empty(), "the event of a claim is not told");
}

#[test]
fn the_larger_method_rank_loses_whatever_the_time() {
    let mut world = World::new();
    world.each(&[
        seen_by("wx0:a", 10, Method::Imported, &["u1"]),
        seen_by("wx0:a", 20, Method::Code2Session, &["u2"]),
    ]);
    assert_eq!(world.why("wx0:a", "u1"), Some(Why::OtherUnionid));
    assert_eq!(world.why("wx0:a", "u2"), None);
}

#[test]
fn of_equal_methods_the_earlier_claim_wins_then_the_smaller_unionid() {
    let mut world = World::new();
    world.each(&[seen("wx0:a", 20, &["u1"]), seen("wx0:a", 10, &["u2"])]);
    assert_eq!(world.why("wx0:a", "u1"), Some(Why::OtherUnionid));
    world.take(&[seen("wx0:b", 10, &["v2", "v1"])]);
    assert_eq!(world.why("wx0:b", "v1"), None);
    assert_eq!(world.why("wx0:b", "v2"), Some(Why::OtherUnionid));
}

#[test]
fn of_equal_claims_the_smaller_account_wins() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:b", 10, &["u"]),
        seen("wx1:x", 5, &["u"]),
        seen("wx0:a", 10, &["u"]),
    ]);
    assert_eq!(world.why("wx0:a", "u"), None);
    assert_eq!(world.why("wx0:b", "u"), Some(Why::SameApp));
}

#[test]
fn of_equal_claims_the_account_decides_before_the_unionid() {
    let mut world = World::new();
    world.take(&[
        seen("wx1:m", 10, &["old/v", "u"]),
        seen("wx0:a", 20, &["u"]),
        seen("wx0:b", 20, &["old/v"]),
    ]);
    assert_eq!(world.why("wx0:a", "u"), None);
    assert_eq!(world.why("wx0:b", "old/v"), Some(Why::SameApp));
}

#[test]
fn an_accepted_claim_goes_before_all_others() {
    let mut world = World::new();
    world.each(&[
        seen_by("wx0:a", 10, Method::Operator, &["u1"]),
        seen_by("wx0:a", 20, Method::Imported, &["u2"]),
        accept("wx0:a", "u2", 30),
    ]);
    assert_eq!(world.why("wx0:a", "u1"), Some(Why::OtherUnionid));
    assert_eq!(world.linked("wx0:a").method, LinkMethod::Operator);
    world.take(&[ruled("wx0:a", "u2", 40, None)]);
    assert_eq!(world.why("wx0:a", "u2"), Some(Why::OtherUnionid));
}

#[test]
fn an_older_binding_joins_accounts_and_the_newest_is_shown() {
    let mut world = World::new();
    world.take(&[
        seen("moved:a", 10, &["old/o"]),
        seen("wx0:b", 20, &["old/o", "u"]),
    ]);
    assert_eq!(world.user("wx0:b"), world.own("moved:a", 0));
    let linked = world.linked("moved:a");
    assert_eq!((linked.method, &linked.unionid), (LinkMethod::Merge, &None));
    assert_eq!(linked.platform, Some(unionid("u").platform));
    world.take(&[seen("moved:a", 60, &["u"])]);
    let linked = world.linked("moved:a");
    assert_eq!(linked.method, LinkMethod::By(Method::Provided));
    assert_eq!(linked.unionid, Some(unionid("u").unionid));
}

#[test]
fn a_repeat_changes_nothing_and_reads_only_its_account() {
    let mut world = World::new();
    let facts = [seen("wx0:a", 10, &["u"]), seen("wx1:b", 20, &["u"])];
    world.take(&facts);
    let mut view = View::default();
    world.memory.read(&mut view, &keys(&facts[1..]));
    let Outcome::Done(changes) = plan(&view, &facts[1..], &world.rules, Millis(9)) else {
        panic!("all that the facts are about was read, so nothing more may be asked for")
    };
    assert!(changes.accounts.is_empty() && changes.claims.is_empty());
    assert!(changes.news.is_empty());
    let result = SightingResult {
        user: Some(world.own("wx0:a", 0)),
        unionid: Some(unionid("u").unionid),
    };
    assert_eq!(changes.sightings, [result]);
}
