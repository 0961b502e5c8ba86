//! Spent codes and session keys.

use super::Home;
use super::fixtures::*;
use unilink::model::{Account, Changes, Millis};
use unilink::store::{
    Batch, Claim, CodeKey, HELD_KEYS, Prune, Spent, Store, Tracked, TrackedState,
};
use uuid::Uuid;

fn spent(n: u8, account: Option<Account>, answer: &str) -> Spent {
    Spent {
        code: CodeKey([n; 32]),
        account,
        at: Millis(100),
        answer: Some(answer.as_bytes().to_vec()),
    }
}

async fn read(store: &dyn Store, n: u8) -> Option<Spent> {
    let mut read = store.spent(&[CodeKey([n; 32])]).await.expect("reads");
    assert_eq!(read.len(), 1);
    read.remove(0)
}

pub async fn the_first_answer_wins(home: &dyn Home) {
    let store = open(home).await;
    let first = spent(1, Some(account(1)), "first");
    let both = [first.clone(), spent(1, Some(account(2)), "second")];
    store.spend(&both).await.expect("records");
    store
        .spend(&[spent(1, None, "third"), spent(2, None, "other")])
        .await
        .expect("records");
    let read = store.spent(&[2, 9, 1, 2].map(|n| CodeKey([n; 32]))).await;
    let other = Some(spent(2, None, "other"));
    let want = [other.clone(), None, Some(first), other];
    assert_eq!(read.expect("reads"), want, "in the order asked for");
}

pub async fn a_code_without_an_answer_keeps_none(home: &dyn Home) {
    let store = open(home).await;
    let none = Spent {
        answer: None,
        ..spent(1, None, "")
    };
    store
        .spend(std::slice::from_ref(&none))
        .await
        .expect("records");
    store
        .spend(&[spent(1, None, "late")])
        .await
        .expect("records");
    assert_eq!(read(&*store, 1).await, Some(none));
}

pub async fn an_erased_account_keeps_no_answer(home: &dyn Home) {
    let store = open(home).await;
    let who = account(1);
    let before = spent(1, Some(who.clone()), "before");
    store
        .spend(&[before, spent(9, Some(account(2)), "x")])
        .await
        .expect("records");
    let changes = Changes {
        erased: vec![who.clone()],
        tombstones: vec![tombstone(&who, 100)],
        ..Changes::default()
    };
    apply(&*store, &Batch::default(), changes).await;
    let late = spent(2, Some(who.clone()), "late");
    let after = Spent {
        at: Millis(101),
        ..spent(3, Some(who.clone()), "next life")
    };
    store.spend(&[late, after.clone()]).await.expect("records");
    for n in [1, 2] {
        let hash = read(&*store, n).await.expect("the code stays spent");
        assert_eq!((hash.account, hash.answer), (None, None), "code {n}");
    }
    assert_eq!(read(&*store, 3).await, Some(after));
    assert!(read(&*store, 9).await.is_some_and(|s| s.answer.is_some()));
}

pub async fn the_newest_keys_are_held(home: &dyn Home) {
    let store = open(home).await;
    let who = account(1);
    for ats in [vec![3, 9], vec![5], vec![7, 1], vec![5]] {
        let keys = ats.into_iter().map(|at| (who.clone(), sealed(at)));
        let changes = Changes {
            accounts: vec![row(&who)],
            session_keys: keys.collect(),
            ..Changes::default()
        };
        apply(&*store, &Batch::default(), changes).await;
    }
    let held = store
        .held(&[account(2), who.clone(), who])
        .await
        .expect("reads");
    assert!(held[0].keys.is_empty() && !held[0].resolved);
    assert_eq!(held[1].keys, [sealed(9), sealed(7), sealed(5)]);
    assert_eq!(held[1].keys.len(), HELD_KEYS);
    assert_eq!(held[2], held[1]);
}

pub async fn resolved_accounts_hold_no_keys(home: &dyn Home) {
    let store = open(home).await;
    let (a, b) = (account_in(1, 1), account_in(2, 2));
    let changes = Changes {
        accounts: vec![row(&a), row(&b)],
        session_keys: vec![(a.clone(), sealed(1)), (b.clone(), sealed(1))],
        ..Changes::default()
    };
    apply(&*store, &Batch::default(), changes).await;
    let changes = Changes {
        claims: vec![claim(&a, &union(1))],
        resolved: vec![a.clone()],
        ..Changes::default()
    };
    apply(&*store, &Batch::default(), changes).await;
    let held = store.held(&[a, b]).await.expect("reads");
    assert!(held[0].resolved && held[0].keys.is_empty());
    assert!(!held[1].resolved && held[1].keys.len() == 1);
}

pub async fn old_rows_are_pruned(home: &dyn Home) {
    let store = open(home).await;
    let who = account(1);
    let young = Spent {
        at: Millis(200),
        ..spent(2, None, "young")
    };
    store
        .spend(&[spent(1, None, "old"), young])
        .await
        .expect("records");
    for (n, at) in [(1, 100), (2, 200)] {
        let claim = Claim {
            code: CodeKey([n; 32]),
            holder: Uuid::from_u128(1),
            until: Millis(10_000),
        };
        store.claim(&[claim], Millis(at)).await.expect("claims");
    }
    let fate = |n, at| Tracked {
        event: event(n),
        state: TrackedState::Dead,
        account: None,
        reason: None,
        at: Millis(at),
    };
    let batch = Batch {
        tracked: vec![fate(1, 100), fate(2, 200)],
        ..Batch::default()
    };
    let changes = Changes {
        accounts: vec![row(&who)],
        session_keys: vec![(who.clone(), sealed(100)), (who.clone(), sealed(200))],
        ..Changes::default()
    };
    apply(&*store, &batch, changes).await;
    let before = Millis(150);
    let what = Prune {
        tracked_before: before,
        ledger_before: before,
        session_keys_before: before,
        ..prune_nothing()
    };
    store.prune(what).await.expect("prunes");
    assert_eq!(read(&*store, 1).await, None);
    assert!(read(&*store, 2).await.is_some());
    let sendings = store.sendings(&[1, 2].map(|n| CodeKey([n; 32]))).await;
    let sendings = sendings.expect("reads");
    assert!(
        sendings[0].is_none() && sendings[1].is_some(),
        "{sendings:?}"
    );
    assert_eq!(store.find_event(&event(1)).await.expect("reads"), None);
    assert!(store.find_event(&event(2)).await.expect("reads").is_some());
    let held = store.held(&[who]).await.expect("reads");
    assert_eq!(held[0].keys, [sealed(200)]);
}
