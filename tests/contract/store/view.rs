//! What planners see.

use super::Home;
use super::fixtures::*;
use unilink::model::{
    Changes, ClaimKey, ClaimVerdict, ExternalId, Keys, Method, Millis, NeverPair, Reason, Ruled,
    Why,
};
use unilink::store::Batch;

pub async fn absent_keys_are_asked_and_absent(home: &dyn Home) {
    let store = open(home).await;
    let keys = Keys {
        accounts: [account(1)].into(),
        unionids: [union(1)].into(),
    };
    let view = store.view(&keys).await.expect("reads");
    assert_eq!(view.asked, keys);
    assert!(view.accounts.is_empty() && view.claims.is_empty() && view.unionids.is_empty());
    assert!(view.tombstones.is_empty() && view.rulings.is_empty() && view.pairs.is_empty());
}

pub async fn present_keys_show_their_rows(home: &dyn Home) {
    let store = open(home).await;
    let (a, b, u, v) = (account_in(1, 1), account_in(2, 2), union(1), union(2));
    let of_a = contested(&a, &v, Why::OtherUnionid);
    let claims = vec![claim(&a, &u), of_a.clone(), claim(&b, &u)];
    put(&*store, vec![row(&a), row(&b), row(&account(3))], claims).await;

    let view = store.view(&accounts(std::slice::from_ref(&a))).await;
    let view = view.expect("reads");
    assert_eq!(view.accounts.get(&a), Some(&row(&a)));
    assert_eq!(view.accounts.len(), 1, "only what was asked for");
    let mut of = view.claims.get(&a).cloned().unwrap_or_default();
    of.sort_by(|x, y| x.key.cmp(&y.key));
    assert_eq!(of, [claim(&a, &u), of_a]);

    let view = store.view(&unions(std::slice::from_ref(&u))).await;
    let view = view.expect("reads");
    let mut read = view.unionids.get(&u).cloned().expect("claimed");
    read.claims.sort_by(|x, y| x.key.cmp(&y.key));
    assert_eq!(read.claims, [claim(&a, &u), claim(&b, &u)]);
    assert!(!read.truncated);
    assert!(view.accounts.is_empty(), "accounts were not asked for");
}

pub async fn shared_unionids_are_truncated(home: &dyn Home) {
    let store = open(home).await;
    let people: Vec<_> = (0..400).map(account).collect();
    let shared = |n: usize| contested(&people[n], &union(1), Why::SharedUnionid);
    let mut claims: Vec<_> = (0..400).map(shared).collect();
    claims[399].verdict = Some(ClaimVerdict::Accept);
    put(&*store, people.iter().map(row).collect(), claims.clone()).await;
    let view = store.view(&unions(&[union(1), union(2)])).await;
    let view = view.expect("reads");
    let read = view.unionids.get(&union(1)).expect("claimed");
    assert!(read.truncated);
    assert_eq!(read.claims.len(), 256);
    assert!(
        read.claims.contains(&claims[399]),
        "accepted ones are shown"
    );
    assert!(!view.unionids.contains_key(&union(2)));
}

pub async fn rejected_claims_do_not_count(home: &dyn Home) {
    let store = open(home).await;
    let people: Vec<_> = (0..300).map(account).collect();
    let ruled = Ruled {
        verdict: Some(ClaimVerdict::Reject),
        at: Millis(1),
        author: "ops".into(),
        note: String::new(),
    };
    let mut changes = Changes::default();
    for (n, who) in people.iter().enumerate() {
        let mut one = contested(who, &union(1), Why::Rejected);
        if n < 299 {
            one.verdict = ruled.verdict;
            changes.rulings.push((one.key.clone(), ruled.clone()));
        }
        changes.claims.push(one);
        changes.accounts.push(row(who));
    }
    apply(&*store, &Batch::default(), changes).await;
    let view = store.view(&unions(&[union(1)])).await.expect("reads");
    let read = view.unionids.get(&union(1)).expect("claimed");
    assert!(!read.truncated);
    assert_eq!(read.claims.len(), 300);
}

pub async fn registers_show_with_their_accounts(home: &dyn Home) {
    let store = open(home).await;
    let (a, b) = (account(1), account(2));
    let pair = NeverPair {
        a: a.clone(),
        b: b.clone(),
    };
    let key = ClaimKey {
        account: a.clone(),
        union: union(9),
    };
    let ruled = |verdict, at| Ruled {
        verdict,
        at: Millis(at),
        author: "ops".into(),
        note: "why".into(),
    };
    // Neither the accounts nor the claim exist yet.
    for (verdict, at) in [(Some(ClaimVerdict::Accept), 1), (None, 2)] {
        let changes = Changes {
            rulings: vec![(key.clone(), ruled(verdict, at))],
            pairs: vec![(pair.clone(), ruled(Some(ClaimVerdict::Reject), at))],
            tombstones: vec![tombstone(&b, 40 + at)],
            ..Changes::default()
        };
        apply(&*store, &Batch::default(), changes).await;
    }
    let of_a = store.view(&accounts(std::slice::from_ref(&a))).await;
    let of_a = of_a.expect("reads");
    assert_eq!(of_a.rulings.get(&key), Some(&ruled(None, 2)));
    let never = ruled(Some(ClaimVerdict::Reject), 2);
    assert_eq!(of_a.pairs.get(&pair), Some(&never));
    assert!(of_a.tombstones.is_empty());
    let of_b = store.view(&accounts(std::slice::from_ref(&b))).await;
    let of_b = of_b.expect("reads");
    assert!(of_b.rulings.is_empty());
    assert_eq!(of_b.pairs.get(&pair), Some(&never));
    assert_eq!(of_b.tombstones.get(&b), Some(&tombstone(&b, 42)));
}

pub async fn rows_round_trip(home: &dyn Home) {
    let store = open(home).await;
    let mut rows = Vec::new();
    let mut claims = Vec::new();
    for (n, method) in (0..).zip(Method::ALL) {
        let who = account_in(n, 1);
        let mut one = row(&who);
        one.generation = Millis(i64::from(n) * 1_000);
        one.revision = 1 << n;
        let id = ExternalId::parse(&format!("客户 {n}")).expect("valid");
        one.external = (n % 2 == 0).then_some((Millis(5), id));
        let reason = Reason::ALL.get(n as usize).copied();
        one.reason = reason.map(|r| (Millis(6), r));
        rows.push(one);
        let mut one = claim(&who, &union(n));
        one.method = *method;
        one.verdict =
            [None, Some(ClaimVerdict::Accept), Some(ClaimVerdict::Reject)][n as usize % 3];
        one.reported = n % 2 == 0;
        if let Some(why) = Why::ALL.get(n as usize) {
            one.status = unilink::model::ClaimStatus::Contested(*why);
        }
        claims.push(one);
    }
    put(&*store, rows.clone(), claims.clone()).await;
    let found = rows.iter().map(|r| r.account.clone()).collect::<Vec<_>>();
    let view = store.view(&accounts(&found)).await.expect("reads");
    for (row, claim) in rows.iter().zip(&claims) {
        assert_eq!(view.accounts.get(&row.account), Some(row));
        let of = view.claims.get(&row.account).cloned();
        assert_eq!(of, Some(vec![claim.clone()]));
    }
    // Rows are replaced, not merged.
    let mut later = row(&found[0]);
    later.revision = 77;
    put(&*store, vec![later.clone()], vec![]).await;
    let view = store.view(&accounts(&found[..1])).await.expect("reads");
    assert_eq!(view.accounts.get(&found[0]), Some(&later));
}
