//! Look-ups and totals.

use super::Home;
use super::fixtures::*;
use unilink::model::{AccountRow, Changes, Method, Millis, Reason, UserId, Why};
use unilink::store::{Batch, FoundUser, Store, Tracked, TrackedState};
use uuid::Uuid;

/// Three accounts in a chain of two unionids, one more that only contests, one on its own.
async fn chain(store: &dyn Store) -> Vec<AccountRow> {
    let who: Vec<_> = (0..5).map(|n| account_in(n, n)).collect();
    let mut rows: Vec<_> = who.iter().map(row).collect();
    for one in &mut rows[..3] {
        one.user = own(&who[0]);
    }
    let claims = vec![
        claim(&who[0], &union(1)),
        claim(&who[1], &union(1)),
        claim(&who[1], &union(2)),
        claim(&who[2], &union(2)),
        contested(&who[3], &union(2), Why::SameApp),
    ];
    put(store, rows.clone(), claims).await;
    rows
}

async fn members(store: &dyn Store, id: UserId) -> (UserId, Vec<AccountRow>) {
    match store.find_user(id).await.expect("reads") {
        FoundUser::Is(user, found) => (user, found.into_iter().map(|f| f.row).collect()),
        other => panic!("{other:?}"),
    }
}

pub async fn users_are_all_that_is_linked(home: &dyn Home) {
    let store = open(home).await;
    let rows = chain(&*store).await;
    let all = members(&*store, rows[0].user).await;
    assert_eq!(all, (rows[0].user, rows[..3].to_vec()));
    let alone = members(&*store, rows[4].user).await;
    assert_eq!(alone, (rows[4].user, rows[4..].to_vec()));
    let contested = members(&*store, rows[3].user).await;
    assert_eq!(contested.1, rows[3..4]);
}

pub async fn merged_ids_lead_to_the_user(home: &dyn Home) {
    let store = open(home).await;
    let rows = chain(&*store).await;
    for merged in &rows[1..3] {
        let all = members(&*store, own(&merged.account)).await;
        assert_eq!(all, (rows[0].user, rows[..3].to_vec()));
    }
}

pub async fn unknown_ids_are_unknown(home: &dyn Home) {
    let store = open(home).await;
    chain(&*store).await;
    let nobody = UserId(Uuid::from_u128(5));
    let found = store.find_user(nobody).await.expect("reads");
    assert_eq!(found, FoundUser::Unknown);
}

pub async fn unionids_lead_to_the_user(home: &dyn Home) {
    let store = open(home).await;
    let rows = chain(&*store).await;
    let found = store.find_unionid(&union(2)).await.expect("reads");
    assert_eq!(found, Some(rows[0].user));
    assert_eq!(store.find_unionid(&union(3)).await.expect("reads"), None);
    let only = contested(&rows[4].account, &union(3), Why::ManyUnionids);
    put(&*store, vec![], vec![only]).await;
    assert_eq!(store.find_unionid(&union(3)).await.expect("reads"), None);
}

pub async fn accounts_in_their_order(home: &dyn Home) {
    let store = open(home).await;
    let rows = chain(&*store).await;
    let asked = [
        account(77),
        rows[1].account.clone(),
        rows[4].account.clone(),
    ];
    let found = store.find_accounts(&asked).await.expect("reads");
    assert_eq!(found.len(), 3);
    assert_eq!(found[0], None);
    let one = found[1].as_ref().expect("stored");
    assert_eq!(one.row, rows[1]);
    let unionids: Vec<_> = one.claims.iter().map(|c| &c.key.union).collect();
    assert_eq!(unionids, [&union(1), &union(2)], "in order");
    assert!(found[2].as_ref().is_some_and(|f| f.claims.is_empty()));
    assert!(store.find_accounts(&[]).await.expect("reads").is_empty());
}

pub async fn fates_are_kept(home: &dyn Home) {
    let store = open(home).await;
    let fate = |state, at| Tracked {
        event: event(5),
        state,
        account: Some(account(1)),
        reason: Some("code_dead".into()),
        at: Millis(at),
    };
    let deferred = |at| fate(TrackedState::Deferred, at);
    assert_eq!(store.find_event(&event(5)).await.expect("reads"), None);
    let linked = fate(TrackedState::Linked, 7);
    for (noted, shown) in [
        (deferred(5), deferred(5)),
        (linked.clone(), linked.clone()),
        // A repeat that has to wait does not take it back, nor does older news.
        (deferred(9), linked.clone()),
        (fate(TrackedState::Dead, 6), linked.clone()),
        (fate(TrackedState::Dead, 8), fate(TrackedState::Dead, 8)),
    ] {
        let batch = Batch {
            tracked: vec![noted],
            ..Batch::default()
        };
        apply(&*store, &batch, Changes::default()).await;
        let found = store.find_event(&event(5)).await.expect("reads");
        assert_eq!(found, Some(shown));
    }
}

pub async fn totals_count(home: &dyn Home) {
    let store = open(home).await;
    let rows = chain(&*store).await;
    let mut weaker = claim(&rows[0].account, &union(8));
    weaker.method = Method::Provided;
    let mut imported = claim(&rows[2].account, &union(2));
    imported.method = Method::Imported;
    let mut alone = rows[4].clone();
    alone.reason = Some((Millis(1), Reason::SnapshotUser));
    let changes = Changes {
        accounts: vec![alone],
        claims: vec![weaker, imported],
        tombstones: vec![tombstone(&account(50), 1)],
        ..Changes::default()
    };
    let batch = Batch {
        defer: vec![deferred(1), deferred(2)],
        ..Batch::default()
    };
    apply(&*store, &batch, changes).await;
    let totals = store.totals().await.expect("counts");
    let words = |of: &[(&str, u64)]| of.iter().map(|(w, n)| ((*w).to_owned(), *n)).collect();
    assert_eq!((totals.accounts, totals.users), (5, 3));
    assert_eq!(
        totals.linked_by_method,
        words(&[("code2session", 2), ("imported", 1)])
    );
    assert_eq!(
        totals.unresolved_by_reason,
        words(&[("contested", 1), ("snapshot_user", 1)])
    );
    assert_eq!(totals.contested_by_why, words(&[("same_app", 1)]));
    assert_eq!(totals.deferred_by_app, words(&[("wxapp1", 2)]));
    assert_eq!(totals.tombstones, 1);
}
