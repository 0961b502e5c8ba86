//! Leases of codes: of all who may be about to send one, one sends it.

use super::Home;
use super::fixtures::*;
use unilink::model::Millis;
use unilink::store::{Claim, Claimed, CodeKey, NOTICE_MS, Release, Sending, Store};
use uuid::Uuid;

fn who(n: usize) -> Uuid {
    Uuid::from_u128(n as u128 + 1)
}

fn wish(code: u8, holder: Uuid, until: i64) -> Claim {
    Claim {
        code: CodeKey([code; 32]),
        holder,
        until: Millis(until),
    }
}

/// One attempt at code 1.
async fn claim(store: &dyn Store, holder: usize, now: i64, until: i64) -> Claimed {
    let wish = wish(1, who(holder), until);
    let claimed = store.claim(&[wish], Millis(now)).await.expect("claims");
    let [claimed] = claimed[..] else {
        panic!("{claimed:?}");
    };
    claimed
}

async fn release(store: &dyn Store, holder: usize, sent: bool) {
    let release = Release {
        code: CodeKey([1; 32]),
        holder: who(holder),
        sent,
    };
    store.release(&[release]).await.expect("releases");
}

fn mine(first: bool, sent: bool) -> Claimed {
    Claimed::Mine { first, sent }
}

fn held(holder: Option<usize>, until: i64) -> Claimed {
    Claimed::Held {
        holder: holder.map(who),
        until: Millis(until),
    }
}

pub async fn one_of_eight_sessions_has_a_code(home: &dyn Home) {
    const CODES: u8 = 40;
    let end = |n: usize| 10_000 + i64::try_from(n).expect("few");
    let sessions = eight(home).await;
    // Again after a lease ran out, and its holder had notice.
    for round in [0, 1_000_000] {
        let claim = |session: Session, n: usize| async move {
            let wish = |code| wish(code, who(n), round + end(n));
            let mut wishes: Vec<_> = (0..CODES).map(wish).collect();
            // Not in the same order: they must not wait for each other in a circle.
            wishes.rotate_left(n * 5);
            let claimed = session.claim(&wishes, Millis(round + NOTICE_MS)).await;
            let codes = wishes.iter().map(|w| w.code);
            let mut claimed: Vec<_> = codes.zip(claimed.expect("claims")).collect();
            claimed.sort_by_key(|(code, _)| *code);
            (n, claimed)
        };
        if round > 0 {
            let wishes: Vec<_> = (0..CODES).map(|code| wish(code, who(99), 0)).collect();
            let told = sessions[0].claim(&wishes, Millis(round)).await;
            let notice = held(None, round + NOTICE_MS);
            assert!(told.expect("claims").iter().all(|c| *c == notice));
        }
        let mut answers = all(&sessions, claim).await;
        answers.sort_by_key(|(n, _)| *n);
        for code in 0..usize::from(CODES) {
            let claimed: Vec<Claimed> = answers.iter().map(|(_, a)| a[code].1).collect();
            let winner = claimed
                .iter()
                .position(|c| matches!(c, Claimed::Mine { .. }));
            let winner = winner.expect("somebody has it");
            for (n, claimed) in claimed.into_iter().enumerate() {
                let want = if n == winner {
                    mine(round == 0, round > 0)
                } else {
                    held(Some(winner), round + end(winner))
                };
                assert_eq!(claimed, want, "code {code}, session {n}");
            }
        }
    }
}

pub async fn whoever_has_it_goes_on(home: &dyn Home) {
    let store = open(home).await;
    assert_eq!(claim(&*store, 1, 10, 100).await, mine(true, false));
    assert_eq!(claim(&*store, 1, 50, 150).await, mine(false, false));
    assert_eq!(claim(&*store, 2, 149, 500).await, held(Some(1), 150));
    // Nobody came meanwhile: it has not lost it.
    assert_eq!(claim(&*store, 1, 400, 500).await, mine(false, false));
    assert_eq!(claim(&*store, 2, 450, 900).await, held(Some(1), 500));
    drop(store);
    let store = open(home).await;
    assert_eq!(claim(&*store, 2, 450, 900).await, held(Some(1), 500));
}

pub async fn a_lease_that_ran_out_is_taken_over_after_notice(home: &dyn Home) {
    let store = open(home).await;
    claim(&*store, 1, 10, 100).await;
    assert_eq!(claim(&*store, 2, 99, 900).await, held(Some(1), 100));
    let over = 100 + NOTICE_MS;
    assert_eq!(claim(&*store, 2, 100, 900).await, held(None, over));
    assert_eq!(claim(&*store, 3, over - 1, 900).await, held(None, over));
    assert_eq!(claim(&*store, 1, over - 1, 900).await, held(None, over));
    // Too late for both.
    release(&*store, 1, false).await;
    assert_eq!(claim(&*store, 3, over - 1, 900).await, held(None, over));
    let taken = claim(&*store, 3, over, over + 50).await;
    assert_eq!(taken, mine(false, true), "the first may have sent it");
    assert_eq!(claim(&*store, 1, over, 900).await, held(Some(3), over + 50));
}

pub async fn what_is_given_back_is_free(home: &dyn Home) {
    let store = open(home).await;
    claim(&*store, 1, 10, 100).await;
    release(&*store, 2, true).await;
    assert_eq!(claim(&*store, 2, 20, 100).await, held(Some(1), 100));
    release(&*store, 1, false).await;
    assert_eq!(claim(&*store, 2, 20, 200).await, mine(false, false));
    release(&*store, 2, true).await;
    assert_eq!(claim(&*store, 3, 30, 300).await, mine(false, true));
    // What is known of an earlier attempt stays known.
    release(&*store, 3, false).await;
    assert_eq!(claim(&*store, 4, 40, 400).await, mine(false, true));
    store.release(&[]).await.expect("nothing to release");
}

pub async fn several_claims_of_one_code_are_one_after_the_other(home: &dyn Home) {
    let store = open(home).await;
    let wishes = [
        wish(2, who(5), 100),
        wish(1, who(1), 100),
        wish(2, who(6), 200),
        wish(1, who(1), 100),
        wish(1, who(2), 300),
    ];
    let claimed = store.claim(&wishes, Millis(10)).await.expect("claims");
    let want = [
        mine(true, false),
        mine(true, false),
        held(Some(5), 100),
        mine(true, false),
        held(Some(1), 100),
    ];
    assert_eq!(claimed, want, "in the order asked for");
    assert!(
        store
            .claim(&[], Millis(10))
            .await
            .expect("claims")
            .is_empty()
    );
}

pub async fn what_is_known_of_their_sending_is_told(home: &dyn Home) {
    let store = open(home).await;
    let ask = async |codes: &[u8]| {
        let codes: Vec<CodeKey> = codes.iter().map(|n| CodeKey([*n; 32])).collect();
        store.sendings(&codes).await.expect("reads")
    };
    let sending = |holder: Option<usize>, until, sent| {
        Some(Sending {
            holder: holder.map(who),
            until: Millis(until),
            sent,
        })
    };
    assert_eq!(ask(&[1]).await, [None]);
    claim(&*store, 1, 10, 100).await;
    assert_eq!(
        ask(&[9, 1, 1]).await,
        [
            None,
            sending(Some(1), 100, false),
            sending(Some(1), 100, false)
        ]
    );
    claim(&*store, 2, 100, 200).await;
    let notice = 100 + NOTICE_MS;
    assert_eq!(ask(&[1]).await, [sending(None, notice, true)]);
    claim(&*store, 2, notice, notice + 1).await;
    release(&*store, 2, false).await;
    assert_eq!(ask(&[1]).await, [sending(None, 0, true)]);
    assert!(ask(&[]).await.is_empty());
}

pub async fn claims_and_releases_do_not_wait_in_a_circle(home: &dyn Home) {
    const CODES: u8 = 60;
    let sessions = eight(home).await;
    let work = |session: Session, n: usize| async move {
        let mut had = 0;
        for turn in 0..15 {
            let holder = who(n * 1_000 + turn);
            let mut wishes: Vec<_> = (0..CODES).map(|code| wish(code, holder, 100)).collect();
            if (n + turn).is_multiple_of(2) {
                wishes.reverse();
            }
            let claimed = session.claim(&wishes, Millis(10)).await.expect("claims");
            let got = wishes.iter().zip(claimed);
            let got = got.filter(|(_, c)| matches!(c, Claimed::Mine { .. }));
            let releases = got.map(|(wish, _)| Release {
                code: wish.code,
                holder,
                sent: true,
            });
            let releases: Vec<Release> = releases.rev().collect();
            had += releases.len();
            session.release(&releases).await.expect("releases");
        }
        had
    };
    let had: usize = all(&sessions, work).await.into_iter().sum();
    assert!(had >= usize::from(CODES), "{had}");
}
