//! Decisions that are given one after the other: whether that can be done is known before.

use super::looking::outlook;
use super::*;
use crate::link::{InTurn, Outlook, in_turn};
use proptest::prelude::*;

/// Whether decisions can be given one after the other without joining anybody.
fn turns(world: &World, facts: &[Fact]) -> InTurn {
    let mut view = View::default();
    let mut keys = crate::link::keys(facts);
    loop {
        world.memory.read(&mut view, &keys);
        let apart = |step: &Outlook| step.joined().is_empty();
        match in_turn(&view, facts, apart, &world.rules, Millis(99)) {
            InTurn::Read(more) => keys = more,
            done => return done,
        }
    }
}

#[test]
fn whether_decisions_can_be_given_in_turn_is_known_before() {
    let mut world = World::new();
    world.each(&[
        seen("wx0:a", 1, &["u"]),
        seen("wx0:b", 2, &["u"]),
        seen("wx0:c", 3, &["u"]),
        seen("wx1:d", 4, &["u"]),
    ]);
    let three = ["wx0:a", "wx0:b", "wx0:c"].map(|of| reject(of, "u", 50));
    let whole = outlook(&world, &three);
    assert_eq!(whole, Outlook::default(), "each is alone before and after");
    // Whichever goes first, two openids of the app are left, and the elder is linked to the stranger.
    assert_eq!(turns(&world, &three), InTurn::Only(0));
    let all = [&three[..], &[reject("wx1:d", "u", 50)]].concat();
    assert_eq!(turns(&world, &all), InTurn::All);
}

proptest! {
    /// What is known before is what comes of giving them.
    #[test]
    fn giving_decisions_in_turn_comes_to_what_was_foreseen(
        sightings in prop::collection::vec((0u8..4, 0u8..3, 0u8..3), 1..14),
        pick in any::<u64>(),
    ) {
        let mut world = World::new();
        for (n, (app, person, u)) in (1..).zip(&sightings) {
            world.take(&[seen(&format!("wx{app}:o{person}"), n, &[&format!("u{u}")])]);
        }
        let claims = world.memory.claims.iter();
        let claims = claims.flat_map(|(of, claims)| claims.keys().map(move |u| (of, u)));
        let picked = (0..).zip(claims).filter(|(n, _)| pick >> n & 1 == 1);
        let mut left: Vec<Fact> = picked
            .map(|(n, (of, u))| reject(&of.key(), u.unionid.as_str(), 500 + n))
            .collect();
        let foreseen = turns(&world, &left);
        let mut given = 0;
        while !left.is_empty() {
            let apart = |fact: &Fact| outlook(&world, std::slice::from_ref(fact)).joined().is_empty();
            let Some(next) = left.iter().position(apart) else {
                break;
            };
            world.take(&[left.remove(next)]);
            given += 1;
        }
        let came = if left.is_empty() { InTurn::All } else { InTurn::Only(given) };
        prop_assert_eq!(foreseen, came);
    }
}
