//! What operators' commands do to a store beside those who work in it.

use super::Home;
use super::fixtures::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use unilink::model::{Account, AccountRow, AppId, Changes, Millis, Reason, Why};
use unilink::store::{Audit, Batch, FoundAccount, Operate, Page, State, StoreError, Which};

pub async fn operate(home: &dyn Home) -> Arc<dyn Operate> {
    home.operate_in(birth(), NAMESPACE).await.expect("opens")
}

fn unresolved(account: &Account) -> AccountRow {
    AccountRow {
        reason: Some((Millis(1), Reason::NoUnionid)),
        ..row(account)
    }
}

fn which(app: Option<AppId>, state: State) -> Which {
    Which { app, state }
}

/// All that a walk shows, in pages of `limit`, and how many pages it took.
async fn walked(store: &dyn Operate, which: &Which, limit: usize) -> (Vec<FoundAccount>, usize) {
    let (mut all, mut after, mut pages) = (Vec::new(), 0, 0);
    loop {
        let page = store.browse(which, after, limit).await.expect("reads");
        pages += 1;
        assert!(page.found.len() <= limit);
        for (place, found) in page.found {
            assert!(place > after, "in the order of places");
            after = place;
            all.push(found);
        }
        match page.next {
            Some(next) => after = next,
            None => return (all, pages),
        }
    }
}

async fn names(store: &dyn Operate, which: &Which) -> Vec<Account> {
    let (all, _) = walked(store, which, 2).await;
    all.into_iter().map(|found| found.row.account).collect()
}

pub async fn a_store_that_nobody_used_is_none(home: &dyn Home) {
    let refused = home.operate_in(birth(), NAMESPACE).await.err();
    assert!(refused.is_some(), "nothing is made");
    let store = open(home).await;
    let again = home.operate_in(birth(), NAMESPACE).await.expect("opens");
    assert_eq!(again.identity(), store.identity());
    let mut other = birth();
    other.group = "another".into();
    match home.operate_in(other, NAMESPACE).await.err() {
        Some(StoreError::Mismatch(why)) => assert!(why.contains("consumer group"), "{why}"),
        other => panic!("{other:?}"),
    }
}

pub async fn a_walk_shows_every_account_once(home: &dyn Home) {
    let store = open(home).await;
    let who: Vec<_> = (0..7).map(account).collect();
    for one in &who {
        put(&*store, vec![row(one)], vec![]).await;
    }
    let claims = vec![
        claim(&who[3], &union(2)),
        contested(&who[3], &union(1), Why::OtherUnionid),
    ];
    put(&*store, vec![], claims).await;
    let gone = Changes {
        erased: vec![who[5].clone()],
        tombstones: vec![tombstone(&who[5], 5_000)],
        ..Changes::default()
    };
    apply(&*store, &Batch::default(), gone).await;
    let operating = operate(home).await;
    let any = which(None, State::Any);
    for limit in [1, 3, 100] {
        let (all, _) = walked(&*operating, &any, limit).await;
        let rows: Vec<_> = all.iter().map(|f| f.row.clone()).collect();
        let living = who.iter().filter(|a| **a != who[5]);
        assert_eq!(rows, living.map(row).collect::<Vec<_>>());
        let unionids: Vec<_> = all[3].claims.iter().map(|c| &c.key.union).collect();
        assert_eq!(unionids, [&union(1), &union(2)], "in order");
        assert!(
            all.iter()
                .enumerate()
                .all(|(n, f)| n == 3 || f.claims.is_empty())
        );
    }
    let nobody = Page::default();
    let end = operating.browse(&any, i64::MAX, 10).await.expect("reads");
    assert_eq!(end, nobody);
}

pub async fn only_those_that_match_are_walked(home: &dyn Home) {
    let store = open(home).await;
    let (plain, lonely, doubtful) = (account(1), account(2), account(3));
    // An app whose name begins like another's, and an account that is both.
    let (other, both) = (account_in(11, 4), account_in(2, 5));
    let rows = vec![
        row(&plain),
        unresolved(&lonely),
        row(&doubtful),
        unresolved(&other),
        unresolved(&both),
    ];
    let claims = vec![
        claim(&plain, &union(1)),
        claim(&doubtful, &union(2)),
        contested(&doubtful, &union(3), Why::OtherUnionid),
        contested(&doubtful, &union(4), Why::Rejected),
        contested(&both, &union(4), Why::SharedUnionid),
    ];
    put(&*store, rows, claims).await;
    let store = operate(home).await;
    for (state, in_app, expected) in [
        (State::Any, Some(app(1)), vec![&plain, &lonely, &doubtful]),
        (State::Unresolved, None, vec![&lonely, &other, &both]),
        (State::Unresolved, Some(app(1)), vec![&lonely]),
        (State::Unresolved, Some(app(11)), vec![&other]),
        (State::Contested, None, vec![&doubtful, &both]),
        (State::Contested, Some(app(2)), vec![&both]),
        (State::Any, Some(app(9)), vec![]),
    ] {
        let mut found = names(&*store, &which(in_app.clone(), state)).await;
        let mut expected: Vec<Account> = expected.into_iter().cloned().collect();
        // Accounts of one batch have their places in no order of ours.
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{state:?} {in_app:?}");
    }
}

/// However few match, no page looks at the whole store.
pub async fn a_long_walk_has_pages_without_anybody(home: &dyn Home) {
    let store = open(home).await;
    let all: Vec<_> = (0..21_000).map(account).collect();
    for some in all.chunks(7_000) {
        put(&*store, some.iter().map(row).collect(), vec![]).await;
    }
    let last = account(99_999);
    put(&*store, vec![unresolved(&last)], vec![]).await;
    let store = operate(home).await;
    let lonely = which(Some(app(1)), State::Unresolved);
    let first = store.browse(&lonely, 0, 10).await.expect("reads");
    assert!(first.found.is_empty() && first.next.is_some());
    let (found, pages) = walked(&*store, &lonely, 10).await;
    assert_eq!((found.len(), pages), (1, 2));
    assert_eq!(found[0].row.account, last);
}

pub async fn who_did_what_is_told_newest_first(home: &dyn Home) {
    open(home).await;
    let store = operate(home).await;
    assert!(store.audits(10).await.expect("reads").is_empty());
    let entry = |n: u64| Audit {
        at: Millis(n.cast_signed()),
        author: "ada@example.com".into(),
        action: "replay".into(),
        note: format!("ticket {n}"),
        detail: BTreeMap::from([("app".into(), "wxapp1".into())]),
        counts: BTreeMap::from([("newly_linked".into(), n)]),
    };
    for n in 1..=3 {
        store.audit(&entry(n)).await.expect("writes");
    }
    let told = store.audits(2).await.expect("reads");
    assert_eq!(told, [entry(3), entry(2)]);
}
