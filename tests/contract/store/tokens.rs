//! What all workers of an app share: its token, and how it was last configured.

use super::Home;
use super::fixtures::*;
use std::collections::BTreeMap;
use unilink::model::{AppId, Millis};
use unilink::store::{AppToken, Store};

const NEVER: Millis = Millis(i64::MAX);

fn token(version: u64, text: &str, expires_at: i64) -> Option<AppToken> {
    Some(AppToken {
        version,
        sealed: text.as_bytes().to_vec(),
        expires_at: Millis(expires_at),
    })
}

async fn read(store: &dyn Store) -> Option<AppToken> {
    store.app_token(&app(1)).await.expect("reads")
}

async fn lease(store: &dyn Store, seen: u64, now: i64, until: i64) -> bool {
    lease_of(store, 1, seen, now, until).await
}

async fn lease_of(store: &dyn Store, n: u32, seen: u64, now: i64, until: i64) -> bool {
    let (app, now, until) = (app(n), Millis(now), Millis(until));
    let leased = store.lease_app_token(&app, seen, now, until).await;
    leased.expect("leases")
}

async fn put(store: &dyn Store, seen: u64, text: &str, expires_at: i64) -> bool {
    put_of(store, 1, seen, text, expires_at).await
}

async fn put_of(store: &dyn Store, n: u32, seen: u64, text: &str, expires_at: i64) -> bool {
    let (app, sealed) = (app(n), text.as_bytes());
    let put = store.put_app_token(&app, seen, sealed, Millis(expires_at));
    put.await.expect("puts")
}

pub async fn there_is_none_until_one_is_put(home: &dyn Home) {
    let store = open(home).await;
    assert_eq!(read(&*store).await, None);
    assert!(lease(&*store, 0, 10, 100).await);
    assert_eq!(read(&*store).await, None, "a lease is no token");
    assert!(put(&*store, 0, "first", 7_000).await);
    assert_eq!(read(&*store).await, token(1, "first", 7_000));
    assert!(put(&*store, 1, "second", 8_000).await);
    drop(store);
    let store = open(home).await;
    assert_eq!(read(&*store).await, token(2, "second", 8_000));
    let other = store.app_token(&app(2)).await.expect("reads");
    assert_eq!(other, None, "another app's");
    // Nobody has to hold the lease, and nobody replaces what is not there.
    assert!(!put_of(&*store, 2, 3, "other", 1).await);
    assert!(put_of(&*store, 2, 0, "other", 1).await);
    assert_eq!(read(&*store).await, token(2, "second", 8_000));
}

pub async fn one_session_at_a_time_refreshes(home: &dyn Home) {
    let (store, sessions) = (open(home).await, eight(home).await);
    let at_once = async |seen| {
        let ask = |session: Session, _| async move { lease(&*session, seen, 10, 100).await };
        let leased = all(&sessions, ask).await;
        leased.into_iter().filter(|leased| *leased).count()
    };
    assert_eq!(at_once(0).await, 1);
    assert!(!lease(&*store, 0, 99, 500).await, "it runs until 100");
    assert!(put(&*store, 0, "first", 7_000).await);
    assert_eq!(at_once(0).await, 0, "version 0 is over");
    assert_eq!(at_once(2).await, 0, "version 2 is to come");
    assert_eq!(at_once(1).await, 1, "the first token gave its lease back");
    assert!(lease_of(&*store, 2, 0, 10, 100).await, "another app's");
    assert!(!lease_of(&*store, 3, 1, 10, 100).await, "there is none");
}

pub async fn a_lease_that_ran_out_is_free(home: &dyn Home) {
    let (store, other) = (open(home).await, open(home).await);
    assert!(lease(&*store, 0, 10, 100).await);
    assert!(!lease(&*other, 0, 99, 500).await);
    assert!(lease(&*other, 0, 100, 200).await);
    assert!(!lease(&*store, 0, 199, 500).await);
    // The slow one's token is as good as any, and its version is made once.
    assert!(put(&*store, 0, "slow", 7_000).await);
    assert!(!put(&*other, 0, "fast", 7_000).await);
    assert!(!put(&*store, 0, "again", 7_000).await);
    assert_eq!(read(&*store).await, token(1, "slow", 7_000));
}

pub async fn one_of_eight_sessions_makes_each_version(home: &dyn Home) {
    let sessions = eight(home).await;
    for seen in 0..20 {
        let make = |session: Session, n: usize| async move {
            let put = put(&*session, seen, &format!("from {n}"), 7_000).await;
            put.then_some(n)
        };
        let made: Vec<usize> = all(&sessions, make).await.into_iter().flatten().collect();
        let [n] = made[..] else {
            panic!("version {} was made by {made:?}", seen + 1);
        };
        let want = token(seen + 1, &format!("from {n}"), 7_000);
        assert_eq!(read(&*sessions[0]).await, want);
    }
}

pub async fn a_lease_is_given_back(home: &dyn Home) {
    let store = open(home).await;
    assert!(lease(&*store, 0, 10, NEVER.0).await);
    store.release_app_token(&app(2), 0).await.expect("releases");
    store.release_app_token(&app(1), 1).await.expect("releases");
    assert!(!lease(&*store, 0, 20, NEVER.0).await, "none of these");
    store.release_app_token(&app(1), 0).await.expect("releases");
    assert!(lease(&*store, 0, 20, NEVER.0).await);
    assert!(put(&*store, 0, "first", 7_000).await);
    assert!(lease(&*store, 1, 30, NEVER.0).await);
    // Whoever comes late with a version that is over disturbs nobody.
    store.release_app_token(&app(1), 0).await.expect("releases");
    assert!(!put(&*store, 0, "late", 9_000).await);
    assert!(!lease(&*store, 1, 40, NEVER.0).await);
    assert_eq!(read(&*store).await, token(1, "first", 7_000));
}

pub async fn apps_noted_otherwise_are_told(home: &dyn Home) {
    let store = open(home).await;
    let note = async |apps: &[(u32, u8)]| -> Vec<AppId> {
        let apps: Vec<_> = apps.iter().map(|(n, h)| (app(*n), [*h; 32])).collect();
        store.note_apps(&apps).await.expect("notes")
    };
    assert!(note(&[]).await.is_empty());
    assert!(note(&[(1, 1), (2, 2), (4, 4)]).await.is_empty(), "new");
    assert!(note(&[(1, 1), (2, 2), (4, 4)]).await.is_empty(), "the same");
    let some = note(&[(4, 5), (3, 3), (2, 3), (1, 1)]).await;
    assert_eq!(some, [app(2), app(4)], "in their order, and no new one");
    assert!(note(&[(2, 3), (4, 5)]).await.is_empty(), "once");
    assert_eq!(note(&[(1, 9)]).await, [app(1)], "apps left out stay noted");
    assert!(note(&[(3, 3)]).await.is_empty());
    let back = note(&[(1, 1), (2, 2)]).await;
    assert_eq!(back, [app(1), app(2)], "and so does a way back");
}

pub async fn one_of_eight_sessions_is_told_of_an_app(home: &dyn Home) {
    let sessions = eight(home).await;
    for hash in 0..20 {
        // Not in the same order: they must not wait for each other in a circle.
        let note = |session: Session, n: usize| async move {
            let mut apps: Vec<_> = (0..20).map(|n| (app(n), [hash; 32])).collect();
            apps.rotate_left(n);
            session.note_apps(&apps).await.expect("notes")
        };
        let mut told = BTreeMap::new();
        for app in all(&sessions, note).await.into_iter().flatten() {
            *told.entry(app).or_insert(0) += 1;
        }
        assert!(told.values().all(|times| *times == 1), "{told:?}");
        assert_eq!(told.len(), if hash == 0 { 0 } else { 20 }, "hash {hash}");
    }
}
