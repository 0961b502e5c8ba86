//! What an erasure takes, what it leaves, and what comes after it.

use super::*;

#[test]
fn an_erasure_takes_the_account_and_leaves_a_tombstone() {
    let mut world = World::new();
    let login = seen("wx0:a", 10, &["u"]);
    world.take(std::slice::from_ref(&login));
    let changes = world.take(&[erased("wx0:a", 20)]);
    assert_eq!(changes.erased, [account("wx0:a")]);
    assert!(world.memory.accounts.is_empty() && world.memory.claims.is_empty());
    let tombstone = &world.published.tombstones[&account("wx0:a")];
    assert_eq!((tombstone.erased_at, tombstone.revision), (Millis(20), 2));
    assert_eq!(tombstone.own_ids, [world.own("wx0:a", 0)]);
    assert_eq!(world.published.revisions[&account("wx0:a")], 2);
    let changes = world.take(&[login]);
    assert_eq!(changes.sightings[0].user, None);
    assert!(world.memory.accounts.is_empty());
}

#[test]
fn an_event_at_the_very_time_of_the_erasure_has_no_effect() {
    let mut world = World::new();
    world.each(&[erased("wx0:a", 20), seen("wx0:a", 20, &[])]);
    assert!(world.memory.accounts.is_empty());
    world.take(&[seen("wx0:a", 21, &[])]);
    assert_eq!(world.user("wx0:a"), world.own("wx0:a", 20));
}

#[test]
fn a_later_login_is_a_new_user_and_revisions_go_on() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:a", 10, &[]),
        erased("wx0:a", 20),
        seen("wx0:a", 30, &[]),
    ]);
    let row = world.row("wx0:a");
    assert_eq!((row.generation, row.revision), (Millis(20), 3));
    assert_eq!(row.user, world.own("wx0:a", 20));
    world.take(&[erased("wx0:a", 40)]);
    let tombstone = &world.memory.tombstones[&account("wx0:a")];
    let own_ids = [world.own("wx0:a", 0), world.own("wx0:a", 20)];
    assert_eq!(tombstone.own_ids, own_ids);
    assert_eq!(tombstone.revision, 4);
}

#[test]
fn death_and_rebirth_in_one_batch_are_both_told() {
    let mut world = World::new();
    world.take(&[seen("wx0:a", 10, &["u"]), seen("wx1:b", 5, &["u"])]);
    world.take(&[seen("wx0:a", 30, &["v"]), erased("wx0:a", 20)]);
    assert_eq!(world.row("wx0:a").revision, 3);
    assert!(!world.memory.claims[&account("wx0:a")].contains_key(&unionid("u")));
    assert!(world.published.merges.is_empty());
}

#[test]
fn the_others_move_on_when_the_account_that_named_the_user_is_erased() {
    let mut world = World::new();
    world.take(&[
        seen("wx0:a", 10, &["u"]),
        seen("wx1:b", 20, &["u"]),
        seen("wx2:c", 30, &["u"]),
    ]);
    world.take(&[erased("wx0:a", 15)]);
    let own = world.own("wx1:b", 0);
    assert_eq!((world.user("wx1:b"), world.user("wx2:c")), (own, own));
    assert_eq!(world.published.merges.len(), 1);
    assert_eq!(world.linked("wx2:c").row.cause, event("x15"));
}

#[test]
fn erasing_one_claimant_ends_a_shared_unionid() {
    let mut world = World::new();
    let logins = ["wx0:a", "wx0:b", "wx0:c", "wx1:x"].map(|key| seen(key, 10, &["u"]));
    world.take(&logins);
    world.take(&[erased("wx0:a", 20)]);
    assert_eq!(world.user("wx1:x"), world.own("wx0:b", 0));
}

#[test]
fn an_erasure_may_come_before_its_account_was_seen() {
    let mut world = World::new();
    let changes = world.take(&[erased("wx0:a", 20)]);
    assert_eq!(changes.erased, [account("wx0:a")], "others may know of it");
    assert!(
        !changes
            .news
            .iter()
            .any(|n| matches!(n, News::Unlinked { .. }))
    );
    world.take(&[seen("wx0:a", 30, &[])]);
    assert_eq!(world.row("wx0:a").revision, 1);
    assert_eq!(world.user("wx0:a"), world.own("wx0:a", 20));
}

#[test]
fn a_late_erasure_of_an_earlier_life_only_renames_the_present_one() {
    let mut world = World::new();
    world.take(&[seen("wx0:a", 30, &["u"]), seen("wx1:b", 40, &["u"])]);
    let changes = world.take(&[erased("wx0:a", 20)]);
    assert!(changes.erased.is_empty());
    let own = world.own("wx0:a", 20);
    assert_eq!((world.user("wx0:a"), world.user("wx1:b")), (own, own));
    assert_eq!(world.row("wx0:a").generation, Millis(20));
    let tombstone = &world.memory.tombstones[&account("wx0:a")];
    assert_eq!(tombstone.own_ids, [world.own("wx0:a", 0)]);
    assert_eq!(
        world.published.merges.get(&world.own("wx1:b", 0)),
        Some(&own)
    );
}

#[test]
fn a_late_erasure_moves_the_record_of_a_merged_id() {
    let mut world = World::new();
    world.take(&[seen("wx0:a", 30, &["u"]), seen("wx1:b", 5, &["u"])]);
    world.take(&[erased("wx0:a", 20)]);
    let merges: Vec<_> = world.published.merges.keys().collect();
    assert_eq!(merges, [&world.own("wx0:a", 20)]);
}

#[test]
fn a_repeated_or_older_erasure_changes_nothing() {
    let mut world = World::new();
    world.each(&[seen("wx0:a", 10, &[]), erased("wx0:a", 20)]);
    for at in [20, 15] {
        let changes = world.take(&[erased("wx0:a", at)]);
        assert!(changes.tombstones.is_empty() && changes.erased.is_empty());
        assert!(changes.news.is_empty());
    }
}

#[test]
fn rulings_up_to_the_erasure_are_void_and_later_ones_stand() {
    for late in [false, true] {
        let mut world = World::new();
        let rulings = [reject("wx0:a", "u", 15), never("wx0:a", "wx1:b", 16, true)];
        let erasure = [erased("wx0:a", 20)];
        if late {
            world.take(&rulings);
            world.take(&erasure);
        } else {
            world.take(&erasure);
            world.take(&rulings);
        }
        world.take(&[seen("wx0:a", 30, &["u"]), seen("wx1:b", 40, &["u"])]);
        assert_eq!(world.user("wx1:b"), world.own("wx0:a", 20), "late: {late}");
    }
    let mut world = World::new();
    world.take(&[reject("wx0:a", "u", 25), never("wx0:a", "wx1:b", 26, true)]);
    world.take(&[erased("wx0:a", 20)]);
    world.take(&[
        seen("wx0:a", 30, &["u", "old/v"]),
        seen("wx1:b", 40, &["old/v"]),
    ]);
    assert_eq!(world.why("wx0:a", "u"), Some(Why::Rejected));
    assert_eq!(world.why("wx1:b", "old/v"), Some(Why::NeverMerge));
}

#[test]
fn a_late_erasure_voids_the_verdicts_of_the_present_life() {
    let mut world = World::new();
    world.take(&[
        seen("wx0:a", 30, &["u"]),
        seen("wx1:b", 40, &["u"]),
        reject("wx0:a", "u", 15),
    ]);
    assert_ne!(world.user("wx1:b"), world.user("wx0:a"));
    world.take(&[erased("wx0:a", 20)]);
    assert_eq!(world.user("wx1:b"), world.user("wx0:a"));
    assert_eq!(world.claim("wx0:a", "u").verdict, None);
}
