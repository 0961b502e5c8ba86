//! A code is spent once, whatever happens to those who spend it.

use super::city::{City, Login, TIMEOUT, Worker, until};
use crate::model::{DeadReason, Millis};
use crate::resolve::exchange::{CODE_LIFE_MS, Exchanged};
use crate::resolve::gate::Cause;
use crate::resolve::ports::MemoryFault;
use crate::store::{Claimed, NOTICE_MS};
use std::sync::Arc;
use std::time::Duration;

/// As long as a lease, with some.
const LEASE_MS: i64 = 60_000;
/// As long as a second look is later than the first, with some.
const SECOND_LOOK_MS: i64 = 10_000;

fn is_session(came: &Exchanged) -> bool {
    matches!(came, Exchanged::Session(..))
}

fn until_when(came: &Exchanged) -> Millis {
    match came {
        Exchanged::Elsewhere(until) => *until,
        other => panic!("nobody else has it: {other:?}"),
    }
}

fn dead(came: &Exchanged) -> DeadReason {
    match came {
        Exchanged::Dead(reason, _) => *reason,
        other => panic!("not dead: {other:?}"),
    }
}

/// What comes of a code that WeChat calls used, at the second look.
async fn at_the_second_look(worker: &Worker, login: &Login) -> DeadReason {
    let first = worker.exchange(login).await;
    assert!(matches!(first, Exchanged::Later(Some(_))), "{first:?}");
    worker.sleeps(SECOND_LOOK_MS);
    dead(&worker.exchange(login).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_that_looked_before_either_noted_one_sends() {
    let city = City::new().await;
    let (a, b, login) = (city.worker(), city.worker(), city.code(1));
    b.memory.claims(false);
    let late = b.begin(&login);
    b.memory.until_at_the_gate(1).await;
    assert!(is_session(&a.exchange(&login).await));
    b.memory.claims(true);
    let came = late.await.expect("ends").expect("the memory is there");
    assert!(until_when(&came) > b.now(), "{came:?}");
    assert!(is_session(&b.exchange(&login).await));
    let codes = city.codes();
    assert_eq!((codes.sent, codes.resent_after_answer), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_the_lease_of_another_looks_at_the_notes_again() {
    let city = City::new().await;
    let (a, b, login) = (city.worker(), city.worker(), city.code(1));
    b.memory.claims(false);
    let late = b.begin(&login);
    b.memory.until_at_the_gate(1).await;
    assert!(is_session(&a.exchange(&login).await));
    // Nobody released it: it ran out, and somebody gave notice.
    b.sleeps(LEASE_MS);
    let told = city.claim(&login, b.now(), LEASE_MS).await;
    assert!(
        matches!(told, Claimed::Held { holder: None, .. }),
        "{told:?}"
    );
    b.sleeps(NOTICE_MS);
    b.memory.claims(true);
    let came = late.await.expect("ends").expect("the memory is there");
    assert!(is_session(&came), "{came:?}");
    assert_eq!(city.codes().sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_attempts_of_one_worker_take_turns() {
    let city = City::new().await;
    let (worker, login) = (city.worker(), city.code(1));
    let both = [worker.begin(&login), worker.begin(&login)];
    for one in both {
        let came = one.await.expect("ends").expect("the memory is there");
        assert!(is_session(&came), "{came:?}");
    }
    assert_eq!(city.codes().sent, 1);
}

/// WeChat answered, and the store is away.
async fn answered_without_a_store(city: &City, worker: &Worker, login: &Login) -> Pending {
    worker.memory.mute(true);
    let pending = worker.begin(login);
    until(|| worker.memory.refused() >= 2).await;
    worker.memory.away(true);
    worker.memory.mute(false);
    assert_eq!(city.codes().answered_ok, 1);
    pending
}

type Pending = tokio::task::JoinHandle<Result<Exchanged, MemoryFault>>;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_while_the_store_is_away_is_noted_when_it_is_back() {
    let city = City::new().await;
    let (a, b, login) = (city.worker(), city.worker(), city.code(1));
    let pending = answered_without_a_store(&city, &a, &login).await;
    // The same login again, after the end of a term: it waits for the answer that is in hand.
    let again = a.begin(&login);
    a.memory.away(false);
    for came in [pending, again] {
        let came = came.await.expect("ends").expect("the memory is there");
        assert!(is_session(&came), "{came:?}");
    }
    assert!(is_session(&b.exchange(&login).await));
    assert_eq!(city.codes().sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_the_holder_comes_before_whoever_finds_its_lease_run_out() {
    let city = City::new().await;
    let (a, b, login) = (city.worker(), city.worker(), city.code(1));
    let pending = answered_without_a_store(&city, &a, &login).await;
    // It was away for longer than any lease; the other one is the first to find it back.
    b.sleeps(LEASE_MS);
    let came = b.exchange(&login).await;
    assert!(until_when(&came) <= b.now().plus(NOTICE_MS), "{came:?}");
    a.memory.away(false);
    let came = pending.await.expect("ends").expect("the memory is there");
    assert!(is_session(&came), "{came:?}");
    b.sleeps(NOTICE_MS);
    assert!(is_session(&b.exchange(&login).await));
    assert_eq!(city.codes().sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_after_the_code_is_too_old_is_waited_for() {
    let city = City::new().await;
    let (a, b, login) = (city.worker(), city.worker(), city.code(1));
    let pending = answered_without_a_store(&city, &a, &login).await;
    b.sleeps(CODE_LIFE_MS + 1_000);
    until_when(&b.exchange(&login).await);
    a.memory.away(false);
    assert!(pending.await.expect("ends").is_ok());
    assert!(is_session(&b.exchange(&login).await));
    // Had it been killed instead, the login would be lost, and not merely late.
    let killed = city.code(2);
    city.claim(&killed, b.now(), 0).await;
    until_when(&b.exchange(&killed).await);
    b.sleeps(NOTICE_MS);
    assert_eq!(dead(&b.exchange(&killed).await), DeadReason::CodeLost);
    assert_eq!(city.codes().sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stood_still_before_sending_finds_that_another_has_the_code() {
    let city = City::new().await;
    let (a, b, login) = (city.worker(), city.worker(), city.code(1));
    let slot = a.slot().await;
    let stopped = a.begin(&login);
    city.until_claimed(&login).await;
    // Its time passes for both, while the other one works.
    a.sleeps(LEASE_MS);
    b.sleeps(LEASE_MS);
    until_when(&b.exchange(&login).await);
    b.sleeps(NOTICE_MS);
    assert!(is_session(&b.exchange(&login).await));
    drop(slot);
    let came = stopped.await.expect("ends").expect("the memory is there");
    assert!(until_when(&came) > a.now(), "{came:?}");
    assert!(is_session(&a.exchange(&login).await));
    assert_eq!(city.codes().sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stood_still_while_nobody_came_sends_on_a_lease_taken_anew() {
    let city = City::new().await;
    let (a, login) = (city.worker(), city.code(1));
    let slot = a.slot().await;
    let stopped = a.begin(&login);
    city.until_claimed(&login).await;
    a.sleeps(LEASE_MS);
    drop(slot);
    let came = stopped.await.expect("ends").expect("the memory is there");
    assert!(is_session(&came), "{came:?}");
    let sending = city.sending(&login).await.expect("claimed");
    assert!(sending.until > a.now(), "{sending:?}");
    assert_eq!(city.codes().sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wechat_does_not_answer_for_good_is_given_back_at_once() {
    let city = City::new().await;
    let faults: [&[&str]; 5] = [
        &["busy=1"],
        &["minute_limit=1"],
        &["http_500=1"],
        &["hang=1"],
        &["errcode=40125", "refused=1"],
    ];
    for (n, fault) in (1..).zip(faults) {
        let (a, b, login) = (city.worker(), city.worker(), city.code(n));
        city.fault(fault);
        let came = a.exchange(&login).await;
        assert!(matches!(came, Exchanged::Later(_)), "{fault:?}: {came:?}");
        let sending = city.sending(&login).await.expect("claimed");
        assert!(
            sending.holder.is_none() && sending.sent,
            "{fault:?}: {sending:?}"
        );
        city.fault(&[]);
        assert!(is_session(&b.exchange(&login).await), "{fault:?}");
        assert_eq!(city.codes().sent, 2 * n, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_may_have_reached_wechat_counts_as_sent() {
    let city = City::new().await;
    let (lost, worker) = (city.lost_worker().await, city.worker());
    for (n, (reached, reason)) in
        (1..).zip([(false, DeadReason::CodeDead), (true, DeadReason::CodeLost)])
    {
        let login = city.code(n);
        city.fault(&["hang=1", "tries=1"]);
        let first = if reached { &worker } else { &lost };
        let came = first.exchange(&login).await;
        assert!(matches!(came, Exchanged::Later(None)), "{came:?}");
        let sending = city.sending(&login).await.expect("claimed");
        assert_eq!((sending.holder, sending.sent), (None, reached));
        city.fault(&[]);
        city.sim.spend_elsewhere(login.code.expose());
        assert_eq!(at_the_second_look(&worker, &login).await, reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_was_announced_and_not_sent_is_late_and_not_lost() {
    let city = City::new().await;
    let (worker, login) = (city.worker(), city.code(1));
    worker.memory.claims(false);
    let announced = worker.begin(&login);
    worker.memory.until_at_the_gate(1).await;
    let cause = Cause::Code(Some(40_125));
    worker
        .gates
        .refuse(&worker.app.id, None, cause, worker.now());
    worker.memory.claims(true);
    let came = announced.await.expect("ends").expect("the memory is there");
    assert!(matches!(came, Exchanged::Later(Some(_))), "{came:?}");
    let sending = city.sending(&login).await.expect("claimed");
    assert!(sending.holder.is_none() && !sending.sent, "{sending:?}");
    worker.sleeps(CODE_LIFE_MS + 1_000);
    let came = worker.exchange(&login).await;
    assert_eq!(dead(&came), DeadReason::CodeExpired);
    // So is one that nobody ever began with; one that was sent is lost.
    assert_eq!(
        dead(&worker.exchange(&city.code(2)).await),
        DeadReason::CodeExpired
    );
    let (other, sent) = (city.worker(), city.code(3));
    city.fault(&["busy=1"]);
    other.exchange(&sent).await;
    assert_eq!(dead(&worker.exchange(&sent).await), DeadReason::CodeLost);
    assert_eq!(city.codes().sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_which_nobody_knows_what_came_is_taken_back() {
    let city = City::new().await;
    let (a, b, login) = (city.worker(), city.worker(), city.code(1));
    a.memory.claims(false);
    let cut = a.begin(&login);
    a.memory.until_at_the_gate(1).await;
    a.memory.away(true);
    a.memory.claims(true);
    until(|| a.memory.refused() >= 2).await;
    a.memory.away(false);
    cut.await.expect("ends").expect_err("the memory was away");
    assert!(is_session(&b.exchange(&login).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_notes_what_wechat_said_first_and_begins_nothing_more() {
    let city = City::new().await;
    let (a, b, login) = (city.worker(), city.worker(), city.code(1));
    let pending = answered_without_a_store(&city, &a, &login).await;
    a.memory.mute(true);
    a.memory.away(false);
    // Another has its lease, and waits for its turn.
    let _slot = a.slot().await;
    let waiting = city.code(2);
    let unsent = a.begin(&waiting);
    city.until_claimed(&waiting).await;
    let memory = Arc::clone(&a.memory);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        memory.mute(false);
    });
    assert_eq!(a.exchange.close().await, 0);
    assert!(is_session(&b.exchange(&login).await));
    assert!(pending.await.expect("ends").is_ok());
    let came = unsent.await.expect("ends").expect("the memory is there");
    assert!(matches!(came, Exchanged::Later(None)), "{came:?}");
    let sending = city.sending(&waiting).await.expect("claimed");
    assert!(sending.holder.is_none() && !sending.sent, "{sending:?}");
    let came = a.exchange(&city.code(3)).await;
    assert!(matches!(came, Exchanged::Later(None)), "{came:?}");
    assert_eq!(city.codes().sent, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_without_a_store_does_not_wait_for_ever() {
    let city = City::new().await;
    let (worker, login) = (city.worker(), city.code(1));
    let _pending = answered_without_a_store(&city, &worker, &login).await;
    let bound = TIMEOUT + Duration::from_secs(8);
    let left = tokio::time::timeout(bound, worker.exchange.close()).await;
    assert_eq!(left.expect("ends"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_process_holds_up_nobody_who_is_alone() {
    let city = City::new().await;
    let (one, lone, login) = (city.worker(), city.lone_worker(), city.code(1));
    city.claim(&login, one.now(), LEASE_MS).await;
    until_when(&one.exchange(&login).await);
    assert!(is_session(&lone.exchange(&login).await));
    // It may have sent it.
    let used = city.code(2);
    city.claim(&used, one.now(), LEASE_MS).await;
    city.sim.spend_elsewhere(used.code.expose());
    assert_eq!(at_the_second_look(&lone, &used).await, DeadReason::CodeLost);
}
