//! One batch, one transaction.

use super::Home;
use super::fixtures::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use unilink::model::{Account, AccountRow, Changes, Keys, UnionKey, View};
use unilink::store::{Batch, Planner, Position, Step, Store, StoreError, Write};

async fn count(store: &dyn Store) -> u64 {
    store.totals().await.expect("counts").accounts
}

fn position(partition: u32, offset: i64) -> Position {
    Position {
        partition,
        offset,
        digest: vec![1; 32],
    }
}

pub async fn what_is_read_in_steps_is_one_view(home: &dyn Home) {
    let store = open(home).await;
    let (a, b, u) = (account_in(1, 1), account_in(2, 2), union(1));
    let claims = vec![claim(&a, &u), claim(&b, &u)];
    put(&*store, vec![row(&a), row(&b)], claims).await;
    let mut steps = 0;
    let mut plan = Plan(|view: &View| {
        steps += 1;
        match steps {
            1 => {
                assert_eq!(view.asked, accounts(std::slice::from_ref(&a)));
                Step::Read(unions(std::slice::from_ref(&u)))
            }
            2 => {
                assert_eq!(view.unionids[&u].claims.len(), 2);
                Step::Read(accounts(std::slice::from_ref(&b)))
            }
            _ => {
                assert_eq!(view.asked.accounts.len(), 2);
                assert!(view.accounts.contains_key(&a) && view.accounts.contains_key(&b));
                write(Changes::default())
            }
        }
    });
    let batch = Batch {
        keys: accounts(std::slice::from_ref(&a)),
        ..Batch::default()
    };
    store.apply(&batch, &mut plan).await.expect("applies");
    assert_eq!(steps, 3);
}

pub async fn a_dropped_apply_leaves_nothing(home: &dyn Home) {
    let store = open(home).await;
    // Dropped at ever later moments, until one gets through.
    for micros in (0..).step_by(150) {
        let batch = Batch {
            positions: vec![position(0, 9)],
            ..Batch::default()
        };
        let rows: Vec<_> = (0..500).map(|n| row(&account(n))).collect();
        let changes = Changes {
            accounts: rows,
            ..Changes::default()
        };
        let mut plan = Plan(|_: &View| write(changes.clone()));
        let apply = store.apply(&batch, &mut plan);
        let done = tokio::time::timeout(Duration::from_micros(micros), apply).await;
        let (seen, at) = settled(&*store).await;
        match seen {
            0 => assert!(at.is_empty(), "a torn batch: position without rows"),
            500 => assert_eq!(at.len(), 1, "a torn batch: rows without position"),
            _ => panic!("a torn batch: {seen} rows"),
        }
        if done.is_ok() {
            assert_eq!(seen, 500);
            break;
        }
        if seen == 500 {
            break; // Dropped after the commit had been sent.
        }
    }
    put(&*store, vec![row(&account(1_000))], vec![]).await;
}

/// Rows and positions at one moment: a commit that was under way when its
/// caller was dropped may land between two reads, so read until nothing moved.
async fn settled(store: &dyn Store) -> (u64, Vec<Position>) {
    loop {
        let before = store.positions().await.expect("reads");
        let seen = count(store).await;
        let after = store.positions().await.expect("reads");
        if before == after {
            return (seen, after);
        }
    }
}

pub async fn a_failing_write_leaves_nothing(home: &dyn Home) {
    let store = open(home).await;
    let batch = Batch {
        positions: vec![position(0, 9)],
        defer: vec![deferred(1)],
        ..Batch::default()
    };
    // A claim of an account that is not there is refused, after accounts were written.
    let changes = Changes {
        accounts: vec![row(&account(1))],
        claims: vec![claim(&account(2), &union(1))],
        ..Changes::default()
    };
    let mut plan = Plan(|_: &View| {
        Step::Write(Box::new(Write {
            changes: changes.clone(),
            outbox: [(0, vec![record("x")])].into(),
        }))
    });
    let error = store.apply(&batch, &mut plan).await.expect_err("refused");
    assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
    assert!(!error.to_string().contains("Person"), "{error}");
    assert_eq!(count(&*store).await, 0);
    assert_eq!(store.outbox_head(0).await.expect("reads"), 0);
    assert!(store.positions().await.expect("reads").is_empty());
    assert_eq!(store.next_due().await.expect("reads"), None);
    put(&*store, vec![row(&account(1))], vec![]).await;
}

/// Raises the revision of what it sees, or makes it.
fn raise(view: &View, who: &unilink::model::Account) -> AccountRow {
    let mut next = view
        .accounts
        .get(who)
        .cloned()
        .unwrap_or_else(|| AccountRow {
            revision: 0,
            ..row(who)
        });
    next.revision += 1;
    next
}

pub async fn a_planner_is_asked_again_when_the_state_moved(home: &dyn Home) {
    let (store, other) = (open(home).await, open(home).await);
    let who = account(1);
    let mut seen = Vec::new();
    let mut plan = Plan(|view: &View| {
        let next = raise(view, &who);
        seen.push(next.revision);
        if seen.len() == 1 {
            // Between its view and its write, another session writes the same account.
            std::thread::scope(|scope| {
                let put = async { put(&*other, vec![row(&who)], vec![]).await };
                let run = || {
                    tokio::runtime::Runtime::new()
                        .expect("runtime")
                        .block_on(put);
                };
                scope.spawn(run).join().expect("other session");
            });
        }
        write(Changes {
            accounts: vec![next],
            ..Changes::default()
        })
    });
    let batch = Batch {
        keys: accounts(std::slice::from_ref(&who)),
        ..Batch::default()
    };
    store.apply(&batch, &mut plan).await.expect("applies");
    assert_eq!(seen, [1, 2], "planned on a stale view");
    let view = store.view(&batch.keys).await.expect("reads");
    assert_eq!(view.accounts[&who].revision, 2);
}

pub async fn eight_sessions_on_one_person_lose_nothing(home: &dyn Home) {
    const EACH: u64 = 25;
    let mut sessions = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = open(home).await;
        sessions.spawn(async move {
            for _ in 0..EACH {
                let mut plan = Plan(|view: &View| {
                    let next = raise(view, &account(1));
                    let text = next.revision.to_string();
                    Step::Write(Box::new(Write {
                        changes: Changes {
                            accounts: vec![next],
                            ..Changes::default()
                        },
                        outbox: [(2, vec![record(&text)])].into(),
                    }))
                });
                let batch = Batch {
                    keys: accounts(&[account(1)]),
                    ..Batch::default()
                };
                store.apply(&batch, &mut plan).await.expect("applies");
            }
        });
    }
    while let Some(done) = sessions.join_next().await {
        done.expect("session");
    }
    let store = open(home).await;
    let view = store.view(&accounts(&[account(1)])).await.expect("reads");
    assert_eq!(view.accounts[&account(1)].revision, 8 * EACH);
    let rows = outbox(&*store, 2, 0, usize::MAX).await;
    let told: Vec<_> = rows.iter().map(|r| r.records[0].clone()).collect();
    let want: Vec<_> = (1..=8 * EACH).map(|n| record(&n.to_string())).collect();
    assert_eq!(told, want, "published in the order of the commits");
}

/// A planner of a few lines that merges: accounts that share a unionid are one user, which is the
/// smallest of all accounts that are found walking as far as claims go.
struct Merge(BTreeMap<Account, BTreeSet<UnionKey>>);

impl Merge {
    /// Everything that is linked to `first`, as far as it was read or is new.
    fn walk(&self, view: &View, first: &Account) -> (BTreeSet<Account>, BTreeSet<UnionKey>) {
        let (mut members, mut unionids) = (BTreeSet::from([first.clone()]), BTreeSet::new());
        loop {
            let before = (members.len(), unionids.len());
            for who in &members {
                let of = view.claims.get(who).into_iter().flatten();
                unionids.extend(of.map(|c| c.key.union.clone()));
                unionids.extend(self.0.get(who).into_iter().flatten().cloned());
            }
            for union in &unionids {
                let of = view.unionids.get(union).into_iter();
                members.extend(of.flat_map(|r| &r.claims).map(|c| c.key.account.clone()));
                let new = self.0.iter().filter(|(_, claims)| claims.contains(union));
                members.extend(new.map(|(who, _)| who.clone()));
            }
            if (members.len(), unionids.len()) == before {
                return (members, unionids);
            }
        }
    }
}

impl Planner for Merge {
    fn step(&mut self, view: &View) -> Step {
        let (mut keys, mut changes, mut told) = (Keys::default(), Changes::default(), Vec::new());
        let mut done = BTreeSet::new();
        for (first, claims) in &self.0 {
            let (members, unionids) = self.walk(view, first);
            let unread = |a: &&Account| !view.asked.accounts.contains(*a);
            keys.accounts.extend(members.iter().filter(unread).cloned());
            let unread = |u: &&UnionKey| !view.asked.unionids.contains(*u);
            keys.unionids
                .extend(unionids.iter().filter(unread).cloned());
            let user = own(members.first().expect("itself"));
            for who in members {
                let stored = view.accounts.get(&who);
                if stored.is_none_or(|row| row.user != user) && done.insert(who.clone()) {
                    let mut next = raise(view, &who);
                    next.user = user;
                    told.push(record(&format!("{} {}", who.key(), next.revision)));
                    changes.accounts.push(next);
                }
            }
            let known = view.claims.get(first).into_iter().flatten();
            let known: BTreeSet<&UnionKey> = known.map(|c| &c.key.union).collect();
            let new = claims.iter().filter(|u| !known.contains(u));
            changes.claims.extend(new.map(|u| claim(first, u)));
        }
        if !keys.is_empty() {
            return Step::Read(keys);
        }
        Step::Write(Box::new(Write {
            changes,
            outbox: [(1, told)].into(),
        }))
    }
}

/// People whose accounts come a few at a time, from all sides at once, in rings: each account claims
/// the unionids on both sides of it, so that every link joins two parts that others are joining.
pub async fn eight_sessions_on_meeting_people_lose_nothing(home: &dyn Home) {
    const PEOPLE: u32 = 3;
    const ACCOUNTS: u32 = 25;
    const BATCH: u32 = 3;
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..8_u32 {
        let store = open(home).await;
        sessions.spawn(async move {
            // Each session goes through all of it, in an order of its own.
            let step = [1, 2, 4, 7, 8, 11, 13, 14][session as usize];
            let order =
                (0..PEOPLE * ACCOUNTS).map(|n| (n * step + session * 9) % (PEOPLE * ACCOUNTS));
            let order: Vec<u32> = order.collect();
            for some in order.chunks(BATCH as usize) {
                let of = |n: &u32| {
                    let (person, link) = (n % PEOPLE, n / PEOPLE);
                    let ring = |link| union(person * 100 + link % ACCOUNTS);
                    (
                        account_in(link, person),
                        [ring(link), ring(link + 1)].into(),
                    )
                };
                let mut plan = Merge(some.iter().map(of).collect());
                let batch = Batch {
                    keys: Keys {
                        accounts: plan.0.keys().cloned().collect(),
                        ..Keys::default()
                    },
                    ..Batch::default()
                };
                store.apply(&batch, &mut plan).await.expect("applies");
            }
        });
    }
    while let Some(done) = sessions.join_next().await {
        done.expect("session");
    }
    let store = open(home).await;
    for person in 0..PEOPLE {
        let all: Vec<_> = (0..ACCOUNTS).map(|link| account_in(link, person)).collect();
        let view = store.view(&accounts(&all)).await.expect("reads");
        let user = own(all.iter().min().expect("some"));
        for who in &all {
            assert_eq!(view.accounts[who].user, user, "a merge was lost");
        }
    }
    // Each account's revisions are told once each, in order.
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let mut after = 0;
    loop {
        let rows = outbox(&*store, 1, after, 1 << 20).await;
        let Some(last) = rows.last() else { break };
        after = last.seq;
        for record in rows.into_iter().flat_map(|r| r.records) {
            let text = String::from_utf8(record.value.expect("value")).expect("text");
            let (who, revision) = text.split_once(' ').expect("two words");
            let before = told.insert(who.into(), revision.parse().expect("a number"));
            assert_eq!(
                told[who],
                before.unwrap_or(0) + 1,
                "a revision out of order"
            );
        }
    }
    assert_eq!(told.len(), (PEOPLE * ACCOUNTS) as usize);
}

pub async fn positions_are_kept_as_given(home: &dyn Home) {
    let store = open(home).await;
    for given in [vec![position(0, 5), position(3, 7)], vec![position(0, 2)]] {
        let batch = Batch {
            positions: given,
            ..Batch::default()
        };
        apply(&*store, &batch, Changes::default()).await;
    }
    let kept = store.positions().await.expect("reads");
    assert_eq!(kept, [position(0, 2), position(3, 7)]);
}

pub async fn a_large_batch_round_trips(home: &dyn Home) {
    let store = open(home).await;
    let people: Vec<_> = (0..2_000).map(account).collect();
    let rows: Vec<_> = people.iter().map(row).collect();
    let claims: Vec<_> = (0..)
        .zip(&people)
        .map(|(n, a)| claim(a, &union(n)))
        .collect();
    put(&*store, rows.clone(), claims.clone()).await;
    let keys = Keys {
        accounts: people.iter().cloned().collect(),
        unionids: claims.iter().map(|c| c.key.union.clone()).collect(),
    };
    let view = store.view(&keys).await.expect("reads");
    for (row, claim) in rows.iter().zip(&claims) {
        assert_eq!(view.accounts.get(&row.account), Some(row));
        let want = std::slice::from_ref(claim);
        assert_eq!(view.claims[&row.account], want);
        assert_eq!(view.unionids[&claim.key.union].claims, want);
    }
    assert_eq!(view.accounts.len(), 2_000);
}

pub async fn nothing_to_write_writes_nothing(home: &dyn Home) {
    let store = open(home).await;
    while tokio::time::timeout(Duration::from_millis(20), store.changed())
        .await
        .is_ok()
    {}
    apply(&*store, &Batch::default(), Changes::default()).await;
    let woken = tokio::time::timeout(Duration::from_millis(50), store.changed()).await;
    assert!(woken.is_err(), "woken by nothing");
}

pub async fn an_endless_planner_is_stopped(home: &dyn Home) {
    let store = open(home).await;
    let mut plan = Plan(|_: &View| Step::Read(accounts(&[account(1)])));
    let error = store.apply(&Batch::default(), &mut plan).await;
    assert!(matches!(error, Err(StoreError::Corrupt(_))), "{error:?}");
}

pub async fn all_is_there_after_reopening(home: &dyn Home) {
    let who = account(1);
    let store: Arc<dyn Store> = open(home).await;
    let batch = Batch {
        positions: vec![position(1, 3)],
        defer: vec![deferred(4)],
        ..Batch::default()
    };
    let changes = Changes {
        accounts: vec![row(&who)],
        claims: vec![claim(&who, &union(1))],
        session_keys: vec![(who.clone(), sealed(5))],
        ..Changes::default()
    };
    apply(&*store, &batch, changes).await;
    publish(&*store, &[1], "before").await;
    let row_id = store.outbox_row(1, 1).await.expect("reads");
    drop(store);

    let store = open(home).await;
    assert_eq!(store.positions().await.expect("reads"), batch.positions);
    assert_eq!(due(&*store, 10_000).await, [4]);
    let view = store.view(&accounts(std::slice::from_ref(&who))).await;
    assert_eq!(view.expect("reads").accounts[&who], row(&who));
    let held = store.held(std::slice::from_ref(&who)).await.expect("reads");
    assert_eq!(held[0].keys, [sealed(5)]);
    assert!(held[0].resolved);
    assert_eq!(store.outbox_row(1, 1).await.expect("reads"), row_id);
    publish(&*store, &[1], "after").await;
    assert_eq!(store.outbox_head(1).await.expect("reads"), 2);
}
