//! Work that goes on later.

use super::Home;
use super::fixtures::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use unilink::model::{Changes, Millis, Room, View};
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
    let due = store
        .due(Millis(101), 50, &Room::for_any(10))
        .await
        .expect("leases");
    let want = Deferred {
        next_at: Millis(151),
        ..deferred(1)
    };
    assert_eq!(due, [want], "leased until then");
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
    let first = store
        .due(Millis(200), 50, &Room::for_any(1))
        .await
        .expect("leases");
    assert_eq!(first[0].offset, 1);
    let second = other
        .due(Millis(200), 50, &Room::for_any(10))
        .await
        .expect("leases");
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].offset, 2);
    assert!(
        store
            .due(Millis(249), 50, &Room::for_any(10))
            .await
            .expect("leases")
            .is_empty()
    );
    assert_eq!(
        store
            .due(Millis(250), 50, &Room::for_any(10))
            .await
            .expect("leases")
            .len(),
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
    let due = store
        .due(Millis(10_000), 50, &Room::for_any(6))
        .await
        .expect("leases");
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

/// What was taken at this moment has a lease until then.
fn lease(taken: i64) -> Millis {
    Millis(taken + 1_000)
}

/// The first resolution waits on, for a key.
fn for_a_key(taken: i64) -> Settled {
    Settled::Again {
        partition: 0,
        offset: 1,
        lease: lease(taken),
        account: Some(account(1)),
        waits_for: WaitsFor::SessionKey,
        next_at: Millis(900_000),
        attempts: 1,
    }
}

pub async fn a_key_that_came_during_the_attempt_wakes(home: &dyn Home) {
    let store = open(home).await;
    defer(&*store, vec![waiting(1)]).await;
    assert_eq!(due(&*store, 600_000).await, [1]);
    put_key(&*store, 5).await;
    assert!(due(&*store, 600_100).await.is_empty(), "it is still leased");
    settle(&*store, vec![for_a_key(600_000)]).await;
    assert_eq!(due(&*store, 600_200).await, [1], "the key was missed");
    settle(&*store, vec![for_a_key(600_200)]).await;
    assert!(due(&*store, 600_300).await.is_empty(), "woken once");
}

/// A worker stood still until its lease was over; the one after it was killed.
pub async fn who_lost_the_lease_puts_nobody_to_sleep(home: &dyn Home) {
    let store = open(home).await;
    defer(&*store, vec![waiting(1)]).await;
    assert_eq!(due(&*store, 600_000).await, [1]);
    put_key(&*store, 5).await;
    assert_eq!(due(&*store, 601_000).await, [1], "the first lease is over");
    settle(&*store, vec![for_a_key(600_000)]).await;
    assert!(due(&*store, 601_999).await.is_empty(), "it is leased still");
    assert_eq!(due(&*store, 602_000).await, [1], "the key was forgotten");
    settle(&*store, vec![for_a_key(602_000)]).await;
    settle(&*store, vec![again(1, WaitsFor::Time, 0, lease(602_000))]).await;
    assert!(due(&*store, 602_000).await.is_empty(), "said twice");
}

pub async fn whoever_begins_to_wait_for_a_key_goes_once_more(home: &dyn Home) {
    let store = open(home).await;
    let for_time = Deferred {
        waits_for: WaitsFor::Time,
        ..waiting(1)
    };
    defer(&*store, vec![for_time]).await;
    assert_eq!(due(&*store, 600_000).await, [1]);
    // Nobody is woken who does not wait for a key yet.
    put_key(&*store, 5).await;
    settle(&*store, vec![for_a_key(600_000)]).await;
    assert_eq!(due(&*store, 600_100).await, [1], "the key was missed");
    settle(&*store, vec![for_a_key(600_100)]).await;
    assert!(due(&*store, 600_200).await.is_empty(), "once more only");
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
    let waits = Deferred {
        waits_for: WaitsFor::SessionKey,
        ..deferred(1)
    };
    defer(&*store, vec![waits]).await;
    assert_eq!(due(&*store, 200).await, [1]);
    let again = Settled::Again {
        partition: 0,
        offset: 1,
        lease: lease(200),
        account: Some(account(1)),
        waits_for: WaitsFor::Time,
        next_at: Millis(700),
        attempts: 3,
    };
    settle(&*store, vec![again]).await;
    assert_eq!(store.next_due().await.expect("reads"), Some(Millis(700)));
    let due = store
        .due(Millis(700), 50, &Room::for_any(10))
        .await
        .expect("leases");
    let want = Deferred {
        attempts: 3,
        next_at: Millis(750),
        waits_for: WaitsFor::Time,
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

fn later(offset: i64, next_at: i64) -> Deferred {
    Deferred {
        next_at: Millis(next_at),
        ..deferred(offset)
    }
}

fn again(offset: i64, waits_for: WaitsFor, next_at: i64, lease: Millis) -> Settled {
    Settled::Again {
        partition: 0,
        offset,
        lease,
        account: Some(account(1)),
        waits_for,
        next_at: Millis(next_at),
        attempts: 1,
    }
}

async fn hasten(store: &dyn Store, now: i64) -> u64 {
    store.hasten(&app(1), Millis(now)).await.expect("hastens")
}

pub async fn an_app_is_hastened(home: &dyn Home) {
    let store = open(home).await;
    let code = |d: Deferred| Deferred {
        has_code: true,
        ..d
    };
    let other = Deferred {
        app: app(2),
        ..later(7, 700_000)
    };
    let for_key = |offset| Deferred {
        expires_at: Millis(500_000),
        ..waiting(offset)
    };
    let waits = [for_key(8), code(for_key(9)), other];
    let asks_too = Deferred {
        next_at: Millis(800_000),
        ..waiting(2)
    };
    let times = [
        asks_too,
        later(4, 600_000),
        later(3, 700_000),
        deferred(1),
        code(later(5, 900_000)),
        code(later(6, 800_000)),
    ];
    defer(&*store, [&waits[..], &times[..]].concat()).await;
    assert_eq!(hasten(&*store, 1_000).await, 5, "one of six is due");
    assert_eq!(hasten(&*store, 1_000).await, 0, "all are");
    assert!(due(&*store, 100).await.is_empty(), "due, but not before");
    assert_eq!(
        due(&*store, 1_000).await,
        [6, 5, 1, 2, 3, 4],
        "codes newest first, then what was due already, then the oldest"
    );
    // What waits for a session key alone or is another app's waits on.
    settle(&*store, [6, 5, 1, 2, 3, 4].map(done).into()).await;
    assert!(due(&*store, 499_999).await.is_empty());
    assert_eq!(due(&*store, 700_000).await, [9, 8, 7]);
}

pub async fn a_hastened_app_wakes(home: &dyn Home) {
    let store = open(home).await;
    let soon = std::time::Duration::from_secs(5);
    defer(&*store, vec![later(1, 500_000)]).await;
    let changed = || tokio::time::timeout(soon, store.changed());
    changed().await.expect("deferring wakes");
    assert_eq!(hasten(&*store, 1_000).await, 1);
    changed().await.expect("hastening wakes");
}

pub async fn hastening_spares_what_is_leased(home: &dyn Home) {
    let store = open(home).await;
    defer(&*store, vec![deferred(1), deferred(2), waiting(3)]).await;
    assert_eq!(due(&*store, 600_000).await, [1, 2, 3], "until 601 000");
    assert_eq!(hasten(&*store, 600_100).await, 0);
    assert!(due(&*store, 600_999).await.is_empty(), "still leased");
    // What the attempts missed is not missed: each is followed by another at once.
    let time = |n, taken| again(n, WaitsFor::Time, 900_000, lease(taken));
    settle(&*store, vec![time(1, 600_000), time(3, 600_000), done(2)]).await;
    assert_eq!(due(&*store, 600_200).await, [1, 3]);
    settle(&*store, vec![time(1, 600_200), time(3, 600_200)]).await;
    assert!(due(&*store, 600_300).await.is_empty(), "hastened once");
    assert_eq!(hasten(&*store, 600_300).await, 2, "not what is finished");
    assert_eq!(due(&*store, 600_300).await, [1, 3]);
}

/// More than are written at once.
pub async fn a_large_app_is_hastened_whole(home: &dyn Home) {
    const MANY: i64 = 11_000;
    let store = open(home).await;
    defer(&*store, (0..MANY).map(|n| later(n, 500_000)).collect()).await;
    assert_eq!(hasten(&*store, 1_000).await, MANY.unsigned_abs());
    assert_eq!(hasten(&*store, 1_000).await, 0);
    let due = store
        .due(Millis(1_000), 50, &Room::for_any(100))
        .await
        .expect("leases");
    assert_eq!(due.len(), 100);
}

/// Offsets that were taken: whether an attempt is under way, and how many there were.
type Taken = Arc<Mutex<BTreeMap<i64, (bool, u32)>>>;

const ROUNDS: u32 = 4;
const FOREVER: i64 = 1_000_000_000;

/// Takes what is due and puts it back for long, until all is finished. In another order than others.
async fn attempts(store: Arc<dyn Store>, taken: Taken, n: usize) {
    while store.next_due().await.expect("reads").is_some() {
        let due = store.due(Millis(1_000), FOREVER, &Room::for_any(20)).await;
        let due = due.expect("leases");
        let mut how = Vec::new();
        for offset in due.iter().map(|d| d.offset) {
            let mut taken = taken.lock().expect("lock");
            let (under_way, attempts) = taken.entry(offset).or_default();
            assert!(!*under_way, "{offset} is taken twice at once");
            (*under_way, *attempts) = (true, *attempts + 1);
            how.push(match *attempts {
                ROUNDS => done(offset),
                _ => again(offset, WaitsFor::Time, FOREVER, Millis(1_000 + FOREVER)),
            });
        }
        tokio::task::yield_now().await;
        // Before the store knows, and may give them to others.
        for d in &due {
            let mut taken = taken.lock().expect("lock");
            taken.entry(d.offset).or_default().0 = false;
        }
        let other = n.min(how.len());
        how.rotate_left(other);
        settle(&*store, how).await;
    }
}

/// Only hastening makes due again what four sessions put back.
pub async fn hastening_and_attempts_lose_nothing(home: &dyn Home) {
    const ROWS: usize = 120;
    let store = open(home).await;
    let rows = (0..).map(|n| later(n, 500)).take(ROWS);
    defer(&*store, rows.collect()).await;
    let taken = Taken::default();
    let mut sessions = tokio::task::JoinSet::new();
    for n in 0..4 {
        sessions.spawn(attempts(open(home).await, Arc::clone(&taken), n));
    }
    let hastening = tokio::spawn(async move {
        loop {
            hasten(&*store, 1_000).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let soon = tokio::time::timeout(Duration::from_secs(60), sessions.join_all());
    soon.await.expect("all is finished");
    assert!(!hastening.is_finished(), "hastening failed");
    hastening.abort();
    let taken = taken.lock().expect("lock");
    assert_eq!(taken.len(), ROWS);
    let attempts = taken.values().map(|(_, attempts)| *attempts);
    assert!(attempts.eq(std::iter::repeat_n(ROUNDS, ROWS)));
}
