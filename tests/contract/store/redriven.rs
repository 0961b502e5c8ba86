//! The memory of redrives: no letter goes twice unless somebody wants it to.

use super::Home;
use super::fixtures::open;
use super::operate::operate;
use std::sync::Arc;
use unilink::model::Millis;
use unilink::store::{LetterPlace, Operate, Redrive};

const NEVER: Millis = Millis(i64::MIN);

async fn desk(home: &dyn Home) -> Arc<dyn Operate> {
    open(home).await;
    operate(home).await
}

fn letter(place: LetterPlace) -> Redrive {
    Redrive {
        place,
        stamp: Millis(50),
        to: (3, 70 + place.1),
    }
}

async fn begun(store: &dyn Operate, letters: &[Redrive], again: bool) -> Vec<LetterPlace> {
    let begun = store
        .begin_redrive(letters, Millis(100), NEVER, again)
        .await;
    let mut begun = begun.expect("writes");
    begun.sort_unstable();
    begun
}

/// How often each went, and whether it is under way.
async fn known(store: &dyn Operate, places: &[LetterPlace]) -> Vec<Option<(u32, bool)>> {
    let asked: Vec<_> = places.iter().map(|place| (*place, Millis(50))).collect();
    let known = store.redriven(&asked).await.expect("reads");
    let told = |one: &unilink::store::Redriven| (one.times, one.under_way);
    known.iter().map(|one| one.as_ref().map(told)).collect()
}

pub async fn a_letter_goes_once(home: &dyn Home) {
    let store = desk(home).await;
    let (a, b, c) = ((0, 1), (0, 2), (7, 1));
    let letters = [letter(c), letter(a), letter(b)];
    assert_eq!(begun(&*store, &letters, false).await, [a, b, c]);
    let under_way = store.redrives_under_way().await.expect("reads");
    let told: Vec<_> = under_way.iter().map(|one| (&one.letter, one.at)).collect();
    let at = Millis(100);
    assert_eq!(
        told,
        [(&letters[1], at), (&letters[2], at), (&letters[0], at)]
    );
    store.end_redrive(&[a, c], true).await.expect("writes");
    store.end_redrive(&[b], false).await.expect("writes");
    assert!(store.redrives_under_way().await.expect("reads").is_empty());
    let states = [Some((1, false)), Some((0, false)), Some((1, false)), None];
    assert_eq!(known(&*store, &[a, b, c, (0, 9)]).await, states);

    assert_eq!(
        begun(&*store, &letters, false).await,
        [b],
        "that did not go"
    );
    store.end_redrive(&[b], true).await.expect("writes");
    assert!(begun(&*store, &letters, false).await.is_empty());
    assert_eq!(begun(&*store, &letters, true).await, [a, b, c]);
    store.end_redrive(&[a, b, c], true).await.expect("writes");
    store.end_redrive(&[a], true).await.expect("writes");
    let states = [Some((2, false)), Some((2, false)), Some((2, false))];
    assert_eq!(
        known(&*store, &[a, b, c]).await,
        states,
        "an end counts once"
    );
}

pub async fn what_another_has_begun_is_left_until_it_is_stale(home: &dyn Home) {
    let store = desk(home).await;
    let letters = [letter((0, 1))];
    assert_eq!(begun(&*store, &letters, false).await, [(0, 1)]);
    for again in [false, true] {
        assert!(begun(&*store, &letters, again).await.is_empty());
    }
    let late = store
        .begin_redrive(&letters, Millis(200), Millis(99), false)
        .await;
    assert!(late.expect("writes").is_empty(), "begun at 100");
    let late = store
        .begin_redrive(&letters, Millis(200), Millis(100), false)
        .await;
    assert_eq!(late.expect("writes"), [(0, 1)]);
    assert_eq!(known(&*store, &[(0, 1)]).await, [Some((0, true))]);
}

pub async fn letters_of_other_topics_are_others(home: &dyn Home) {
    let store = desk(home).await;
    let (old, new) = (
        letter((0, 1)),
        Redrive {
            stamp: Millis(51),
            ..letter((0, 1))
        },
    );
    begun(&*store, std::slice::from_ref(&old), false).await;
    store.end_redrive(&[old.place], true).await.expect("writes");
    let asked = [(new.place, new.stamp)];
    assert_eq!(store.redriven(&asked).await.expect("reads"), [None]);
    assert_eq!(
        begun(&*store, std::slice::from_ref(&new), false).await,
        [(0, 1)]
    );
    let known = store.redriven(&asked).await.expect("reads").remove(0);
    assert_eq!(known.map(|one| (one.times, one.letter)), Some((0, new)));
}

pub async fn what_the_topic_dropped_is_forgotten(home: &dyn Home) {
    let store = desk(home).await;
    let letters = [letter((0, 1)), letter((0, 2)), letter((1, 1))];
    begun(&*store, &letters, false).await;
    store.forget_redrives(0, 2).await.expect("writes");
    let states = [None, Some((0, true)), Some((0, true))];
    assert_eq!(known(&*store, &[(0, 1), (0, 2), (1, 1)]).await, states);
}
