//! `serve` is killed again and again while logins of every sort come in. Afterwards everything
//! accepted is accounted for, and the state is what an oracle says that never saw the code.
//!
//! `UNILINK_KILL_EVENTS` and `UNILINK_KILLS` make it longer (50000 and 30 before a release).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

mod harness;
mod oracle;
mod traffic;
mod verdict;

use harness::{Rig, Wish, lag};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};
use traffic::{Planned, Traffic};
use unilink::simulate::Faults;
use verdict::Judge;

/// Events in one request.
const CHUNK: usize = 100;
/// Requests at once.
const AT_ONCE: usize = 4;
/// Events posted and not yet applied, at most: codes must not die of waiting.
const LEAD: i64 = 3_000;

struct Plan {
    events: usize,
    kills: usize,
    timeout: &'static str,
    faults: &'static [&'static str],
    patience: Duration,
}

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |n| n.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_lose_nothing_and_repeat_nothing() {
    let events = number("UNILINK_KILL_EVENTS", 10_000);
    let plan = Plan {
        events,
        kills: number("UNILINK_KILLS", 10),
        timeout: "3s",
        faults: &[],
        patience: Duration::from_secs(240),
    };
    ordeal(&plan, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_and_a_faulty_wechat_lose_nothing() {
    let plan = Plan {
        events: 800,
        kills: 3,
        timeout: "1s",
        faults: &[
            "busy=0.03",
            "hang=0.01",
            "http_500=0.03",
            "cut=0.03",
            "spent_cut=0.02",
        ],
        patience: Duration::from_secs(360),
    };
    ordeal(&plan, 8).await;
}

async fn ordeal(plan: &Plan, seed: u64) {
    let begun = Instant::now();
    let wish = Wish {
        seed,
        timeout: plan.timeout,
        ..Wish::default()
    };
    let mut rig = Rig::new(wish).await;
    let mut faults = Faults::default();
    for flag in plan.faults {
        faults.set(flag).unwrap();
    }
    rig.sim.set_faults(faults).unwrap();
    rig.start().await;
    let parts = rig.parts().await;
    let (planned, accepted) = post_and_kill(&mut rig, &parts, plan, seed).await;
    let posted = begun.elapsed();
    rig.settle(&parts, plan.patience).await;
    let settled = begun.elapsed();
    // Look-ups while it still serves, then the rest from what it leaves behind.
    verdict::look_up(&rig, &parts).await;
    rig.stopped().await;
    rig.leftovers().await;
    assert!(
        !rig.logs().contains("panicked"),
        "{}",
        harness::tail_of(&rig.logs())
    );

    let topics = verdict::Topics::read(&parts).await;
    let judge = Judge::new(topics, &parts, &planned, &accepted, !plan.faults.is_empty()).await;
    judge.judge(&parts).await;
    let codes = rig.sim.stats().codes;
    println!(
        "{} events ({} accepted ids), {} kills: posted after {posted:?}, settled after {settled:?}; {}; \
         codes sent {}, spent {}, resent after fault {}, kill {}, refusal {}, unanswered {}; faults {:?}",
        plan.events,
        accepted.len(),
        plan.kills,
        judge.summary(),
        codes.sent,
        codes.spent,
        codes.resent_after_fault,
        codes.resent_after_kill,
        codes.resent_after_refusal,
        codes.resent_unanswered,
        rig.sim.stats().faults,
    );
    assert_eq!(codes.resent_after_answer, 0, "{:?}", codes.resends);
    assert!(judge.linked > 0 && judge.deferred > 0 && judge.dead > 0);
}

/// Posts everything, killing in between; what was planned, and the ids that were accepted.
async fn post_and_kill(
    rig: &mut Rig,
    parts: &unilink::cli::assemble::Parts,
    plan: &Plan,
    seed: u64,
) -> (Vec<Planned>, HashSet<String>) {
    let accepted = Arc::new(Mutex::new(HashSet::new()));
    let posted = Arc::new(AtomicUsize::new(0));
    let (chunks, queue) = mpsc::channel::<Vec<Planned>>(1);
    let queue = Arc::new(Mutex::new(queue));
    let posters: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (http, url) = (rig.http.clone(), rig.intake_url("/v1/logins"));
            let (queue, accepted, posted) = (
                Arc::clone(&queue),
                Arc::clone(&accepted),
                Arc::clone(&posted),
            );
            tokio::spawn(async move {
                loop {
                    let Some(chunk) = queue.lock().await.recv().await else {
                        return;
                    };
                    post(&http, &url, &chunk).await;
                    posted.fetch_add(chunk.len(), Ordering::Relaxed);
                    accepted
                        .lock()
                        .await
                        .extend(chunk.into_iter().map(|p| p.id));
                }
            })
        })
        .collect();

    let mut traffic = Traffic::new(Arc::clone(&rig.sim), seed);
    let (mut planned, mut killed) = (Vec::with_capacity(plan.events), 0);
    while planned.len() < plan.events {
        let size = CHUNK.min(plan.events - planned.len());
        let chunk: Vec<Planned> = (0..size).map(|_| traffic.event()).collect();
        planned.extend(chunk.iter().cloned());
        // A poster may be waiting for the process to come back, so this must not wait for it.
        let mut chunk = Some(chunk);
        while let Some(ready) = chunk.take() {
            let due = (killed + 1) * plan.events / (plan.kills + 1);
            if killed < plan.kills && posted.load(Ordering::Relaxed) >= due {
                killed += 1;
                rig.kill();
                tokio::time::sleep(Duration::from_millis(killed as u64 % 3 * 30)).await;
                rig.start().await;
            }
            if lag(parts).await > LEAD {
                tokio::time::sleep(Duration::from_millis(20)).await;
                chunk = Some(ready);
            } else if let Err(full) = chunks.try_send(ready) {
                tokio::time::sleep(Duration::from_millis(2)).await;
                chunk = Some(full.into_inner());
            }
        }
    }
    drop(chunks);
    // What is left of the kills hits the worker with its hands full.
    while killed < plan.kills {
        killed += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        rig.kill();
        rig.start().await;
    }
    for poster in posters {
        poster.await.unwrap();
    }
    let accepted = std::mem::take(&mut *accepted.lock().await);
    (planned, accepted)
}

/// Posts until it is taken: a connection that breaks says nothing about what became of the events.
async fn post(http: &reqwest::Client, url: &str, chunk: &[Planned]) {
    let mut body = Vec::new();
    for planned in chunk {
        serde_json::to_writer(&mut body, &planned.event).unwrap();
        body.push(b'\n');
    }
    let begun = Instant::now();
    loop {
        let request = http
            .post(url)
            .header("content-type", "application/x-ndjson");
        match request.body(body.clone()).send().await {
            Ok(answer) if answer.status().as_u16() == 202 => return,
            Ok(answer) => {
                let status = answer.status().as_u16();
                let text = answer.text().await.unwrap_or_default();
                assert!(status == 503, "{status}: {text}");
            }
            Err(_) => {}
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody takes it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
