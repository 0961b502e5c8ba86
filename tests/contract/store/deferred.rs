//! Work that goes on later.

use super::Home;
use super::fixtures::*;
use std::collections::{BTreeMap, BTreeSet};
use unilink::model::{Changes, Millis, View};
use unilink::store::{Batch, Deferred, Prune, Settled, Store, WaitsFor};

fn done(offset: i64) -> Settled {
    Settled::Done {
        partition: 0,
        offset,
    }
}

async fn settle(store: &dyn Store, settle: Vec<Settled>) -> BTreeSet<(u32, i64)> {
    finished(
        store,
        &Batch {
            settle,
            ..Batch::default()
        },
    )
    .await
}

/// Applies, and tells what the planner was told to be finished.
async fn finished(store: &dyn Store, batch: &Batch) -> BTreeSet<(u32, i64)> {
    let mut told = BTreeSet::new();
    let mut plan = Plan(|view: &View| {
        told = view.finished.clone();
        write(Changes::default())
    });
    store.apply(batch, &mut plan).await.expect("applies");
    told
}

fn waiting(offset: i64) -> Deferred {
    Deferred {
        account: Some(account(1)),
        waits_for: WaitsFor::SessionKey,
        next_at: Millis(500_000),
        ..deferred(offset)
    }
}

async fn put_key(store: &dyn Store, at: i64) {
    let changes = Changes {
        accounts: vec![row(&account(1))],
        session_keys: vec![(account(1), sealed(at))],
        ..Changes::default()
    };
    apply(store, &Batch::default(), changes).await;
}

pub async fn is_added_once(home: &dyn Home) {
    let store = open(home).await;
    let batch = Batch {
        defer: vec![deferred(1)],
        ..Batch::default()
    };
    assert!(finished(&*store, &batch).await.is_empty());
    assert_eq!(finished(&*store, &batch).await, [(0, 1)].into());
    let by_app = store.deferred_by_app().await.expect("counts");
    assert_eq!(by_app, [(app(1), 1)].into());
    assert_eq!(store.next_due().await.expect("reads"), Some(Millis(101)));
    let due = store.due(Millis(101), 50, 10).await.expect("leases");
    assert_eq!(due, [deferred(1)]);
}

pub async fn finished_ones_stay_finished(home: &dyn Home) {
    let store = open(home).await;
    defer(&*store, vec![deferred(1), deferred(2)]).await;
    assert!(settle(&*store, vec![done(1)]).await.is_empty());
    assert_eq!(settle(&*store, vec![done(1)]).await, [(0, 1)].into());
    // A row tells that the last word is the outbox's, whichever way the record comes back.
    let mut rows = BTreeMap::new();
    let mut plan = Plan(|view: &View| {
        rows = view.deferred.clone();
        write(Changes::default())
    });
    let both = Batch {
        settle: vec![done(1), done(3)],
        defer: vec![deferred(2)],
        ..Batch::default()
    };
    store.apply(&both, &mut plan).await.expect("applies");
    assert_eq!(rows, [((0, 1), false), ((0, 2), false)].into());
    // Never seen here: it ended and its marker is gone.
    assert_eq!(settle(&*store, vec![done(77)]).await, [(0, 77)].into());
    let again = Batch {
        defer: vec![deferred(1)],
        ..Batch::default()
    };
    assert_eq!(finished(&*store, &again).await, [(0, 1)].into());
    assert_eq!(due(&*store, 10_000).await, [2], "finished work is not due");
    let by_app = store.deferred_by_app().await.expect("counts");
    assert_eq!(by_app, [(app(1), 1)].into());
}

pub async fn leases_hide_and_end(home: &dyn Home) {
    let (store, other) = (open(home).await, open(home).await);
    defer(&*store, vec![deferred(1), deferred(2)]).await;
    let first = store.due(Millis(200), 50, 1).await.expect("leases");
    assert_eq!(first[0].offset, 1);
    let second = other.due(Millis(200), 50, 10).await.expect("leases");
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].offset, 2);
    assert!(
        store
            .due(Millis(249), 50, 10)
            .await
            .expect("leases")
            .is_empty()
    );
    assert_eq!(
        store.due(Millis(250), 50, 10).await.expect("leases").len(),
        2
    );
}

pub async fn codes_go_newest_first(home: &dyn Home) {
    let store = open(home).await;
    let code = |offset| Deferred {
        has_code: true,
        ..deferred(offset)
    };
    defer(
        &*store,
        vec![deferred(1), code(2), deferred(3), code(4), code(5)],
    )
    .await;
    assert_eq!(due(&*store, 10_000).await, [5, 4, 2, 1, 3]);
}

pub async fn apps_take_turns(home: &dyn Home) {
    let store = open(home).await;
    let of = |offset, n| Deferred {
        app: app(n),
        ..deferred(offset)
    };
    let mut all: Vec<_> = (0..50).map(|offset| of(offset, 1)).collect();
    all.extend([of(60, 2), of(61, 2), of(62, 3)]);
    defer(&*store, all).await;
    let due = store.due(Millis(10_000), 50, 6).await.expect("leases");
    let offsets: Vec<_> = due.iter().map(|d| d.offset).collect();
    assert_eq!(offsets, [0, 60, 62, 1, 61, 2]);
}

pub async fn a_session_key_wakes(home: &dyn Home) {
    let store = open(home).await;
    let other = Deferred {
        account: Some(account(2)),
        ..waiting(2)
    };
    defer(&*store, vec![waiting(1), other]).await;
    assert!(due(&*store, 1_000).await.is_empty());
    put_key(&*store, 5).await;
    assert_eq!(due(&*store, 1_000).await, [1]);
}

pub async fn a_key_that_came_during_the_attempt_wakes(home: &dyn Home) {
    let store = open(home).await;
    defer(&*store, vec![waiting(1)]).await;
    assert_eq!(due(&*store, 600_000).await, [1]);
    put_key(&*store, 5).await;
    assert!(due(&*store, 600_100).await.is_empty(), "it is still leased");
    let again = Settled::Again {
        partition: 0,
        offset: 1,
        waits_for: WaitsFor::SessionKey,
        next_at: Millis(900_000),
        attempts: 1,
    };
    settle(&*store, vec![again.clone()]).await;
    assert_eq!(due(&*store, 600_200).await, [1], "the key was missed");
    settle(&*store, vec![again]).await;
    assert!(due(&*store, 600_300).await.is_empty(), "woken once");
}

pub async fn a_key_that_came_before_wakes(home: &dyn Home) {
    let store = open(home).await;
    put_key(&*store, 5).await;
    defer(&*store, vec![waiting(1)]).await;
    assert_eq!(due(&*store, 1_000).await, [1]);
}

pub async fn a_link_wakes(home: &dyn Home) {
    let store = open(home).await;
    defer(&*store, vec![waiting(1)]).await;
    let changes = Changes {
        accounts: vec![row(&account(1))],
        resolved: vec![account(1)],
        ..Changes::default()
    };
    apply(&*store, &Batch::default(), changes).await;
    assert_eq!(due(&*store, 1_000).await, [1]);
}

pub async fn attempts_go_on(home: &dyn Home) {
    let store = open(home).await;
    defer(&*store, vec![deferred(1)]).await;
    assert_eq!(due(&*store, 200).await, [1]);
    let again = Settled::Again {
        partition: 0,
        offset: 1,
        waits_for: WaitsFor::SessionKey,
        next_at: Millis(700),
        attempts: 3,
    };
    settle(&*store, vec![again]).await;
    assert_eq!(store.next_due().await.expect("reads"), Some(Millis(700)));
    let due = store.due(Millis(700), 50, 10).await.expect("leases");
    let want = Deferred {
        attempts: 3,
        next_at: Millis(700),
        waits_for: WaitsFor::SessionKey,
        ..deferred(1)
    };
    assert_eq!(due, [want]);
}

pub async fn markers_go_once_nothing_brings_them_up(home: &dyn Home) {
    let store = open(home).await;
    defer(&*store, vec![deferred(1), deferred(2), deferred(3)]).await;
    settle(&*store, vec![done(1), done(2)]).await;
    let old = Prune {
        tracked_before: Millis(500_000),
        ..prune_nothing()
    };
    let known = |offsets: [i64; 3]| Batch {
        defer: offsets.map(deferred).into(),
        ..Batch::default()
    };
    store.relayed(0, 0, 2).await.expect("notes");
    store.prune(prune_nothing()).await.expect("prunes");
    let told = finished(&*store, &known([1, 2, 3])).await;
    assert_eq!(told.len(), 3, "young markers stay");
    store.prune(old).await.expect("prunes");
    let told = finished(&*store, &known([1, 2, 3])).await;
    assert_eq!(told, [(0, 2), (0, 3)].into(), "the first is forgotten");
}
