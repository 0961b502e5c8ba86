//! What is told, when, and how often; and what is kept besides.

use super::*;

fn because(key: &str, at: i64, reason: Reason) -> Fact {
    with(seen(key, at, &[]), |s| s.reason = Some(reason))
}

fn named(key: &str, at: i64, id: &str) -> Fact {
    let id = ExternalId::parse(id).expect("a literal of the test");
    with(seen(key, at, &[]), |s| s.external_id = Some(id))
}

fn keyed(key: &str, at: i64, unionids: &[&str]) -> Fact {
    let sealed = SealedKey {
        at: Millis(at),
        sealed: vec![1],
        exchanged: true,
    };
    with(seen(key, at, unionids), |s| s.session_key = Some(sealed))
}

#[test]
fn the_latest_reason_shows_until_there_is_a_claim() {
    let mut world = World::new();
    world.each(&[
        because("wx0:a", 20, Reason::DecryptFailed),
        because("wx0:a", 10, Reason::NoUnionid),
    ]);
    let shown = |world: &World| world.linked("wx0:a").row.reason.map(|r| r.1);
    assert_eq!(shown(&world), Some(Reason::DecryptFailed));
    world.take(&[because("wx0:a", 25, Reason::NoSessionKey)]);
    assert_eq!(shown(&world), Some(Reason::NoSessionKey));
    world.take(&[seen("wx0:a", 15, &["u"])]);
    assert_eq!(shown(&world), None);
    let changes = world.take(&[because("wx0:a", 30, Reason::NoSessionKey)]);
    assert!(changes.accounts.is_empty(), "hidden, so not written");
}

#[test]
fn of_two_reasons_at_one_time_the_larger_shows() {
    let mut world = World::new();
    world.each(&[
        because("wx0:a", 20, Reason::SnapshotUser),
        because("wx0:a", 20, Reason::NoUnionid),
    ]);
    assert_eq!(
        world.row("wx0:a").reason,
        Some((Millis(20), Reason::SnapshotUser))
    );
}

#[test]
fn a_later_time_of_what_is_known_is_written_and_not_told() {
    let mut world = World::new();
    world.take(&[because("wx0:a", 20, Reason::NoUnionid)]);
    let changes = world.take(&[because("wx0:a", 30, Reason::NoUnionid)]);
    assert_eq!(changes.accounts.len(), 1);
    assert!(changes.news.is_empty());
    world.take(&[because("wx0:a", 25, Reason::DecryptFailed)]);
    assert_eq!(
        world.row("wx0:a").reason.map(|r| r.1),
        Some(Reason::NoUnionid)
    );
}

#[test]
fn the_external_id_of_the_latest_time_wins() {
    let mut world = World::new();
    world.each(&[named("wx0:a", 20, "x2"), named("wx0:a", 10, "x1")]);
    let id = |world: &World| {
        let told = world.linked("wx0:a").row.external.clone();
        told.map(|(_, id)| id.as_str().to_owned())
    };
    assert_eq!(id(&world).as_deref(), Some("x2"));
    world.take(&[named("wx0:a", 30, "x0")]);
    assert_eq!(id(&world).as_deref(), Some("x0"));
    assert_eq!(world.row("wx0:a").first_seen_at, Millis(10));
}

#[test]
fn every_visible_change_is_one_revision_with_its_event() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:a", 20, &[]),
        seen("wx0:a", 10, &[]),
        seen("wx0:a", 30, &["u"]),
        seen("wx0:a", 25, &["u"]),
        seen_by("wx0:a", 30, Method::Paid, &["u"]),
        accept("wx0:a", "u", 40),
    ]);
    let row = &world.linked("wx0:a").row;
    assert_eq!((row.revision, &row.cause), (6, &event("d40")));
    assert_eq!(row.linked_at, Millis(world.now));
}

#[test]
fn a_conflict_is_told_once() {
    let mut world = World::new();
    world.each(&[seen("wx0:a", 10, &["u"]), seen("wx0:b", 20, &["u"])]);
    assert_eq!(world.conflicts(), 1);
    world.take(&[seen("wx0:b", 15, &["u"])]);
    assert_eq!(world.conflicts(), 0, "its time changes, not its fate");
    world.take(&[seen("wx0:b", 5, &["u"])]);
    assert_eq!(world.conflicts(), 1, "now the other's");
    world.take(&[seen("wx0:a", 1, &["u"])]);
    assert_eq!(world.conflicts(), 0, "both were told");
}

#[test]
fn session_keys_are_kept_while_nothing_is_active() {
    let mut world = World::new();
    let changes = world.take(&[keyed("wx0:a", 10, &[])]);
    assert_eq!(changes.session_keys.len(), 1);
    let changes = world.take(&[seen("wx0:a", 20, &["u"])]);
    assert_eq!(changes.resolved, [account("wx0:a")]);
    let changes = world.take(&[keyed("wx0:a", 30, &["u"])]);
    assert!(changes.session_keys.is_empty());
    assert_eq!(changes.resolved, [account("wx0:a")], "it brought one");
    let changes = world.take(&[erased("wx0:a", 40), keyed("wx0:a", 35, &[])]);
    assert!(changes.session_keys.is_empty(), "without effect");
}

#[test]
fn news_comes_in_the_order_of_accounts_whatever_the_order_of_facts() {
    let mut facts: Vec<Fact> = (0..9)
        .map(|n| seen(&format!("wx{n}:a"), 10, &["u"]))
        .collect();
    let told = |facts: &[Fact]| {
        let mut world = World::new();
        world.take(facts);
        format!("{:?}", world.news)
    };
    let forward = told(&facts);
    facts.reverse();
    assert_eq!(told(&facts), forward);
}

#[test]
fn accounts_that_no_fact_is_about_change_by_the_smallest_event_of_their_component() {
    let mut world = World::new();
    world.take(&[seen("wx0:a", 30, &["u"])]);
    world.take(&[
        with(seen("wx1:b", 20, &["u"]), |s| s.cause = event("e2")),
        with(seen("wx2:c", 10, &["u"]), |s| s.cause = event("e1")),
        with(seen("wx3:d", 1, &["other"]), |s| s.cause = event("e0")),
    ]);
    assert_eq!(world.row("wx0:a").cause, event("e1"));
}
