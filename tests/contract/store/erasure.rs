//! Erased people leave a tombstone.

use super::Home;
use super::fixtures::*;
use unilink::model::{
    Account, Changes, ClaimVerdict, Millis, NeverPair, Room, Ruled, Tombstone, UserId,
};
use unilink::store::{
    Batch, CodeKey, Deferred, FoundUser, Settled, Spent, Store, Tracked, TrackedState, WaitsFor,
};

async fn erase(store: &dyn Store, who: &Account, at: i64) {
    let changes = Changes {
        erased: vec![who.clone()],
        tombstones: vec![tombstone(who, at)],
        ..Changes::default()
    };
    apply(store, &Batch::default(), changes).await;
}

/// Puts the account's name wherever a table has room for it, noted at `at`.
async fn everywhere(store: &dyn Store, who: &Account, at: i64) {
    let offset = at;
    let batch = Batch {
        defer: vec![Deferred {
            account: Some(who.clone()),
            waits_for: WaitsFor::SessionKey,
            next_at: Millis(500_000),
            since: Millis(at),
            ..deferred(offset)
        }],
        tracked: vec![Tracked {
            event: event(u32::try_from(at).expect("small")),
            state: TrackedState::Linked,
            account: Some(who.clone()),
            reason: None,
            at: Millis(at),
        }],
        ..Batch::default()
    };
    let never = Ruled {
        verdict: Some(ClaimVerdict::Reject),
        at: Millis(1),
        author: "ops".into(),
        note: String::new(),
    };
    let pair = NeverPair {
        a: who.clone(),
        b: account_in(9, 9),
    };
    let changes = Changes {
        accounts: vec![row(who)],
        claims: vec![claim(who, &union(1))],
        session_keys: vec![(who.clone(), sealed(at))],
        rulings: vec![(claim(who, &union(1)).key, never.clone())],
        pairs: vec![(pair, never)],
        ..Changes::default()
    };
    apply(store, &batch, changes).await;
    let spent = Spent {
        code: CodeKey([u8::try_from(at % 256).expect("small"); 32]),
        account: Some(who.clone()),
        at: Millis(at),
        answer: Some(b"sealed".to_vec()),
    };
    store.spend(&[spent]).await.expect("records");
}

pub async fn leaves_a_tombstone_and_no_rows(home: &dyn Home) {
    let store = open(home).await;
    let (who, other) = (account_in(1, 1), account_in(2, 2));
    put(&*store, vec![row(&other)], vec![claim(&other, &union(1))]).await;
    everywhere(&*store, &who, 50).await;
    erase(&*store, &who, 100).await;
    let view = store.view(&accounts(std::slice::from_ref(&who))).await;
    let view = view.expect("reads");
    assert!(view.accounts.is_empty() && view.claims.is_empty());
    assert_eq!(view.tombstones.get(&who), Some(&tombstone(&who, 100)));
    let view = store.view(&unions(&[union(1)])).await.expect("reads");
    assert_eq!(view.unionids[&union(1)].claims, [claim(&other, &union(1))]);
    assert!(store.held(&[who]).await.expect("reads")[0].keys.is_empty());
    let fate = store.find_event(&event(50)).await.expect("reads");
    let fate = fate.expect("the fate stays");
    assert_eq!((fate.state, fate.account), (TrackedState::Linked, None));
    let waiting = store.deferred_by_app().await.expect("counts");
    assert!(waiting.is_empty(), "waiting work ends: {waiting:?}");
    let all = Room::for_any(10);
    let due = store.due(Millis(600_000), 10, &all).await.expect("leases");
    assert!(due.is_empty(), "{due:?}");
}

/// The person was erased while their logins waited to be read, or were being resolved.
pub async fn what_is_noted_late_is_void_too(home: &dyn Home) {
    let store = open(home).await;
    let who = account(1);
    everywhere(&*store, &who, 150).await;
    // Of two that wait, the batch that erases settles one itself.
    let batch = Batch {
        settle: vec![Settled::Done {
            partition: 0,
            offset: 150,
        }],
        defer: vec![Deferred {
            account: Some(who.clone()),
            ..deferred(151)
        }],
        ..Batch::default()
    };
    let changes = Changes {
        erased: vec![who.clone()],
        tombstones: vec![tombstone(&who, 100)],
        ..Changes::default()
    };
    apply(&*store, &batch, changes).await;
    let read = store.spent(&[CodeKey([150; 32])]).await.expect("reads");
    let kept = read[0].as_ref().expect("the code stays spent");
    assert_eq!((&kept.answer, &kept.account), (&None, &None));
    let fate = store.find_event(&event(150)).await.expect("reads");
    assert_eq!(fate.expect("the fate stays").account, None);
    // What comes later still: its resolution is over before it begins.
    let late = Batch {
        keys: accounts(std::slice::from_ref(&who)),
        defer: vec![Deferred {
            account: Some(who.clone()),
            since: Millis(900),
            ..deferred(152)
        }],
        tracked: vec![Tracked {
            event: event(152),
            state: TrackedState::Deferred,
            account: Some(who.clone()),
            reason: None,
            at: Millis(900),
        }],
        ..Batch::default()
    };
    apply(&*store, &late, Changes::default()).await;
    let waiting = store.deferred_by_app().await.expect("counts");
    assert!(waiting.is_empty(), "{waiting:?}");
    let fate = store.find_event(&event(152)).await.expect("reads");
    assert_eq!(fate.expect("noted").state, TrackedState::Linked);
}

/// Somebody who was never seen is erased, and logs in, before anything of it is written.
pub async fn an_erasure_and_a_first_life_come_together(home: &dyn Home) {
    let store = open(home).await;
    let (who, other) = (account_in(1, 1), account_in(1, 2));
    let life = unilink::model::AccountRow {
        generation: Millis(100),
        first_seen_at: Millis(200),
        ..row(&who)
    };
    let changes = Changes {
        accounts: vec![life.clone(), row(&other)],
        claims: vec![claim(&who, &union(1))],
        erased: vec![who.clone()],
        tombstones: vec![tombstone(&who, 100)],
        ..Changes::default()
    };
    apply(&*store, &Batch::default(), changes).await;
    let found = store.find_accounts(&[who, other.clone()]).await;
    let found = found.expect("reads").into_iter().flatten();
    let found: Vec<_> = found.map(|found| (found.row, found.claims.len())).collect();
    assert_eq!(found, [(life, 1), (row(&other), 0)]);
}

pub async fn own_ids_are_gone(home: &dyn Home) {
    let store = open(home).await;
    let who = account(1);
    put(&*store, vec![row(&who)], vec![]).await;
    erase(&*store, &who, 100).await;
    let found = store.find_user(own(&who)).await.expect("reads");
    assert_eq!(found, FoundUser::Gone);
}

pub async fn a_later_life_has_its_own_id(home: &dyn Home) {
    let store = open(home).await;
    let who = account(1);
    put(&*store, vec![row(&who)], vec![]).await;
    let life = |erased_at: i64| {
        let generation = Millis(erased_at);
        let mut next = row(&who);
        next.generation = generation;
        next.user = who.own_id(NAMESPACE, generation);
        next
    };
    let ids = |n: usize| -> Vec<UserId> {
        let all = [own(&who), life(100).user, life(200).user];
        all[..n].to_vec()
    };
    // The second erasure and the next login come in one batch.
    erase(&*store, &who, 100).await;
    put(&*store, vec![life(100)], vec![]).await;
    let changes = Changes {
        erased: vec![who.clone()],
        tombstones: vec![Tombstone {
            own_ids: ids(2),
            ..tombstone(&who, 200)
        }],
        accounts: vec![life(200)],
        ..Changes::default()
    };
    apply(&*store, &Batch::default(), changes).await;
    for gone in ids(2) {
        assert_eq!(store.find_user(gone).await.expect("reads"), FoundUser::Gone);
    }
    let found = store.find_user(life(200).user).await.expect("reads");
    let FoundUser::Is(user, members) = found else {
        panic!("{found:?}");
    };
    assert_eq!(user, life(200).user);
    assert_eq!(members[0].row, life(200));
    let view = store.view(&accounts(std::slice::from_ref(&who))).await;
    let view = view.expect("reads");
    assert_eq!(view.accounts[&who], life(200));
    assert_eq!(view.tombstones[&who].own_ids, ids(2));
}

pub async fn no_openid_stays_in_plain(home: &dyn Home) {
    let store = open(home).await;
    let who = account_in(1, 777_777);
    let openid = who.openid.as_str().to_owned();
    let shows = |bytes: &[u8]| bytes.windows(openid.len()).any(|w| w == openid.as_bytes());
    everywhere(&*store, &who, 50).await;
    if !shows(&home.raw_bytes().await) {
        return; // This home has no way to look.
    }
    erase(&*store, &who, 100).await;
    // What comes late and bears the name is not written with it.
    let late = Batch {
        keys: accounts(std::slice::from_ref(&who)),
        defer: vec![Deferred {
            account: Some(who.clone()),
            ..deferred(60)
        }],
        tracked: vec![Tracked {
            event: event(60),
            state: TrackedState::Linked,
            account: Some(who.clone()),
            reason: None,
            at: Millis(60),
        }],
        ..Batch::default()
    };
    apply(&*store, &late, Changes::default()).await;
    let spent = Spent {
        code: CodeKey([60; 32]),
        account: Some(who.clone()),
        at: Millis(60),
        answer: Some(b"sealed".to_vec()),
    };
    store.spend(&[spent]).await.expect("records");
    drop(store);
    // The journal is written back and gone once the last process has ended.
    for _ in 0..100 {
        if !shows(&home.raw_bytes().await) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("an erased openid is still at rest");
}

pub async fn pairs_outlive_their_accounts(home: &dyn Home) {
    let store = open(home).await;
    let (a, b) = (account(1), account_in(9, 9));
    everywhere(&*store, &a, 50).await;
    let pair = NeverPair {
        a: a.clone(),
        b: b.clone(),
    };
    for erased in [&a, &b] {
        erase(&*store, erased, 100).await;
        let view = store.view(&accounts(&[a.clone(), b.clone()])).await;
        assert!(view.expect("reads").pairs.contains_key(&pair));
    }
}

pub async fn younger_data_stays(home: &dyn Home) {
    let store = open(home).await;
    let who = account(1);
    everywhere(&*store, &who, 50).await;
    everywhere(&*store, &who, 150).await;
    let mut next = row(&who);
    next.generation = Millis(100);
    let changes = Changes {
        erased: vec![who.clone()],
        tombstones: vec![tombstone(&who, 100)],
        accounts: vec![next],
        ..Changes::default()
    };
    apply(&*store, &Batch::default(), changes).await;
    let held = store.held(std::slice::from_ref(&who)).await.expect("reads");
    assert_eq!(held[0].keys, [sealed(150)]);
    let read = store.spent(&[CodeKey([50; 32]), CodeKey([150; 32])]).await;
    let answers: Vec<_> = read.expect("reads").into_iter().flatten().collect();
    assert_eq!(answers[0].answer, None);
    assert_eq!(answers[1].account, Some(who));
    let fate = store.find_event(&event(150)).await.expect("reads");
    assert!(fate.is_some_and(|f| f.account.is_some()));
}
