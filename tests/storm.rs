//! A WeChat in trouble, and one that is merely slow, before the real binary: nothing is lost, nobody waits
//! for another app's trouble, and the worker sends as much at once as it may, never more.
//!
//! `UNILINK_STORM_EVENTS` makes the storm longer (100000 before a release).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

#[path = "storm/crowd.rs"]
mod crowd;
mod harness;
#[path = "storm/judge.rs"]
mod judge;

use crowd::{Crowd, codes};
use harness::{Rig, Wish};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use unilink::cli::assemble::Parts;
use unilink::model::AppKind;
use unilink::simulate::{
    Api, AppNo, AppSpec, Faults, Limits, Population, Scope, Simulator, Stats, Trouble, World,
};

/// One at a time: each measures times, and the machine may be small.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
/// Logins posted a second.
const RATE: u32 = 250;
/// Peak memory of `serve`, in MiB, however long the storm.
const MEMORY_MIB: u64 = 400;

fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |n| n.parse().expect("a number"))
}

fn faults(flags: &[&str]) -> Faults {
    let mut faults = Faults::default();
    for flag in flags {
        faults.set(flag).unwrap();
    }
    faults
}

fn of_app(app: AppNo) -> Scope {
    Scope {
        app: Some(app),
        api: None,
    }
}

async fn serving(seed: u64, more: &str, timeout: &'static str) -> (Rig, Parts) {
    let world = World::new(seed).unwrap();
    in_world(world, more, timeout).await
}

async fn in_world(world: World, more: &str, timeout: &'static str) -> (Rig, Parts) {
    let wish = Wish {
        more: more.to_owned(),
        timeout,
        world: Some(world),
        log: "info",
        ..Wish::default()
    };
    let rig = Rig::serving(wish).await;
    let parts = rig.parts().await;
    (rig, parts)
}

/// Show 2 of the issue on WeChat's APIs: faults of every sort for every app, and one app whose address is
/// refused until somebody corrects it.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_faults_loses_no_login() {
    let _alone = ALONE.lock().await;
    const STORM: [&str; 7] = [
        "busy=0.05",
        "hang=0.02",
        "http_500=0.02",
        "truncated=0.01",
        "token_dies=0.02",
        "string_errcode=0.2",
        "latency=5",
    ];
    let begun = Instant::now();
    let (mut rig, parts) = serving(21, "", "2s").await;
    let (sim, apps) = (&rig.sim, &rig.sim.world().numbers().collect::<Vec<_>>());
    let mut limited = faults(&STORM);
    limited.set("minute_limit=0.02").unwrap();
    sim.set_faults(limited).unwrap();
    let refused = apps[2];
    sim.set_trouble(refused, None, Trouble::RefusedAddress, true)
        .unwrap();

    let logins = number("UNILINK_STORM_EVENTS", 3_000);
    let mut crowd = Crowd::gather(Population::new(u64::MAX, 21).in_every_way(), sim);
    crowd.post(&rig, logins / 2, RATE).await;
    let waiting = parts.store.deferred_by_app().await.unwrap();
    let of_refused = waiting.get(&sim.world().app(refused).unwrap().id);
    assert!(of_refused.is_some_and(|n| *n > 0), "{waiting:?}");
    sim.set_trouble(refused, None, Trouble::RefusedAddress, false)
        .unwrap();
    crowd.post(&rig, logins - logins / 2, RATE).await;
    let posted = begun.elapsed();
    // Otherwise the last of them would be told "next minute" again and again.
    sim.set_faults(faults(&STORM)).unwrap();
    rig.settle(&parts, Duration::from_secs(200)).await;
    let settled = begun.elapsed();

    judge::quota_is_reported(&rig).await;
    let peak = rig.peak_mib();
    rig.stopped().await;
    rig.leftovers().await;
    assert!(!rig.logs().contains("panicked"));
    let outcome = judge::judge(&parts, &rig.sim, &crowd).await;
    let stats = rig.sim.stats();
    println!(
        "{} logins of {} people posted after {posted:?}, settled after {settled:?}: {outcome:?}; peak memory \
         {peak:?} MiB; codes sent {}, spent {}, resent after a fault {}; faults {:?}",
        crowd.accepted(),
        crowd.people(),
        stats.codes.sent,
        stats.codes.spent,
        stats.codes.resent_after_fault,
        stats.faults,
    );
    outcome.perfect();
    let codes = &stats.codes;
    assert_eq!(codes.resent_after_answer, 0, "{codes:?}");
    for fault in ["busy", "minute_limit", "hang", "http_500", "truncated"] {
        let times = stats.faults.get(fault).copied().unwrap_or(0);
        assert!(times > 5, "{fault}: {times}");
    }
    let died: u64 = stats.tokens.values().map(|t| t.revoked).sum();
    assert!(died > 0, "{:?}", stats.tokens);
    assert!(peak.is_none_or(|mib| mib < MEMORY_MIB), "{peak:?} MiB");
}

/// The same Show: some apps are in total trouble, and the others are as fast as without.
#[tokio::test(flavor = "multi_thread")]
async fn the_trouble_of_some_apps_does_not_slow_the_others() {
    let _alone = ALONE.lock().await;
    let logins = number("UNILINK_STORM_EVENTS", 2_000).min(10_000);
    let calm = healthy(logins, false).await;
    let storm = healthy(logins, true).await;
    println!("p99 in ms by app: calm {calm:?}, storm {storm:?}");
    let slow = i64::try_from(number("UNILINK_STORM_SLOW", 1)).unwrap();
    for (app, calm) in calm {
        // A shared machine has pauses of its own.
        let most = (2 * calm).max(calm + 50) * slow;
        assert!(storm[&app] <= most, "{app}: {} > {most} ms", storm[&app]);
    }
}

/// The 99th percentile of the time from post to linked, in ms, of each app that is healthy throughout.
async fn healthy(logins: usize, trouble: bool) -> BTreeMap<String, i64> {
    let (mut rig, parts) = serving(22, "", "2s").await;
    let sim = &rig.sim;
    let apps: Vec<AppNo> = sim.world().numbers().collect();
    sim.set_faults(faults(&["latency=10"])).unwrap();
    let trouble_with = |on: bool| {
        let hang = on.then(|| faults(&["hang=1"]));
        let fail = on.then(|| faults(&["http_500=0.7", "busy=0.3"]));
        sim.set_faults_in(of_app(apps[0]), hang).unwrap();
        sim.set_faults_in(of_app(apps[2]), fail).unwrap();
        sim.set_trouble(apps[2], None, Trouble::RefusedAddress, on)
            .unwrap();
        sim.set_trouble(apps[5], None, Trouble::WrongSecret, on)
            .unwrap();
    };
    let mut crowd = Crowd::gather(Population::new(u64::MAX, 22).in_every_way(), sim);
    crowd.post(&rig, logins / 4, RATE).await;
    trouble_with(trouble);
    crowd.post(&rig, logins - logins / 4, RATE).await;
    trouble_with(false);
    rig.settle(&parts, Duration::from_secs(150)).await;
    rig.stopped().await;
    let outcome = judge::judge(&parts, &rig.sim, &crowd).await;
    outcome.perfect();
    let healthy = [1, 3, 4, 6].map(|n: usize| rig.sim.world().app(apps[n]).unwrap().id.to_string());
    let of = |app: &String| (app.clone(), outcome.percentile(app, 99));
    healthy.iter().map(of).collect()
}

/// An app whose address is refused gets no token; its codes, which need none, are exchanged all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_address_stops_no_code() {
    const CODES: u32 = 200;
    let _alone = ALONE.lock().await;
    let (mut rig, parts) = in_world(minis(1), "", "5s").await;
    let app = rig.sim.world().numbers().next().unwrap();
    let trouble = |on| rig.sim.set_trouble(app, None, Trouble::RefusedAddress, on);
    trouble(true).unwrap();
    crowd::pay(&rig, app, 7).await;
    let refused = |sim: &Simulator| {
        let apis = sim.stats().apps;
        let mut tokens = apis.values().filter_map(|a| a.get(Api::StableToken.path()));
        tokens.any(|api| api.answers.contains_key(&40164))
    };
    while !refused(&rig.sim) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    codes(&rig, CODES).await;
    let took = answered(&rig.sim, u64::from(CODES)).await;
    println!("{CODES} codes in {took:?} beside a refused token");
    // The first pause of a refused app.
    assert!(took < Duration::from_secs(4), "{took:?}");
    trouble(false).unwrap();
    rig.settle(&parts, Duration::from_secs(100)).await;
    let account = rig.sim.world().account(7, app).unwrap();
    let (app, openid) = (account.app.as_str(), account.openid.as_str());
    let paid = |a: &serde_json::Value| a["unionid"].is_string();
    rig.account(app, openid, paid).await;
    rig.stopped().await;
}

/// In flight, per app and in total.
const FLIGHT: (u32, u32) = (8, 24);
const LATENCY_MS: u32 = 100;

/// Requests that are under way on average while there is more to send than may be under way: from the moment at
/// which as many are as may, to the one at which all codes are sent.
async fn under_way(sim: &Simulator, codes: u64, at_once: u64) -> f64 {
    let look = || (Instant::now(), sim.stats());
    let wait = async |enough: &dyn Fn(&Stats) -> bool| {
        let patience = Instant::now();
        loop {
            let (now, stats) = look();
            if enough(&stats) {
                return (now, stats.in_flight_ms);
            }
            assert!(patience.elapsed() < Duration::from_secs(120), "{stats:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (full, before) = wait(&|stats| stats.most_in_flight >= at_once).await;
    let (sent, after) = wait(&|stats| stats.codes.sent >= codes).await;
    #[allow(clippy::cast_precision_loss, reason = "some minutes")]
    let ms = (after - before) as f64;
    ms / 1_000.0 / (sent - full).as_secs_f64()
}

/// Show 4 of the issue: as much in flight as is configured, never more.
#[tokio::test(flavor = "multi_thread")]
async fn the_pipe_is_full_and_never_overfull() {
    let _alone = ALONE.lock().await;
    let (per_app, total) = FLIGHT;
    // One app alone, then more apps than may send at once.
    for (apps, at_once) in [(1, per_app), (5, total)] {
        let (mut rig, parts) = in_world(
            minis(apps),
            &format!("[worker]\nhttp_per_app = {per_app}\nhttp_total = {total}\n"),
            "5s",
        )
        .await;
        rig.sim
            .set_faults(faults(&[&format!("latency={LATENCY_MS}")]))
            .unwrap();
        let logins = 100 * at_once;
        let sim = Arc::clone(&rig.sim);
        let (posted, sent) = (codes(&rig, logins), u64::from(logins));
        let under_way = under_way(&sim, sent, u64::from(at_once));
        let ((), took, under_way) = tokio::join!(posted, answered(&sim, sent), under_way);
        let ideal = Duration::from_millis(u64::from(logins / at_once * LATENCY_MS));
        let stats = rig.sim.stats();
        // What the simulator and the machine add to the latency is no empty slot.
        let share = under_way / f64::from(at_once);
        println!(
            "{apps} apps: {logins} codes in {took:?}, {:.1} % of the bound of {LATENCY_MS} ms exactly; in flight \
             {under_way:.2} on average, {:.1} % of what may be, {} at most",
            100.0 * ideal.as_secs_f64() / took.as_secs_f64(),
            100.0 * share,
            stats.most_in_flight
        );
        assert!(share >= 0.9, "{share}");
        assert_eq!(stats.most_in_flight, u64::from(at_once));
        for apis in stats.apps.values() {
            for api in apis.values() {
                assert!(api.most_in_flight <= u64::from(per_app), "{api:?}");
            }
        }
        rig.settle(&parts, Duration::from_secs(60)).await;
        rig.stopped().await;
    }
}

/// The same Show: never more in a minute than is configured, and nearly as many.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_a_minute_is_kept_and_used() {
    const A_MINUTE: u32 = 1_200;
    const LOGINS: u32 = 300;
    let _alone = ALONE.lock().await;
    let more = format!("[wechat.per_minute]\njscode2session = {A_MINUTE}\n");
    let (mut rig, parts) = in_world(minis(1), &more, "5s").await;
    // What slots hold up must not go out all at once afterwards.
    rig.sim
        .set_faults(faults(&["latency=300", "jitter=600"]))
        .unwrap();
    let app = rig.sim.world().numbers().next();
    let minute = Limits {
        minute: Some(u64::from(A_MINUTE)),
        day: None,
    };
    let api = Some(Api::Code2Session);
    rig.sim.set_limits_in(Scope { app, api }, Some(minute));
    codes(&rig, LOGINS).await;
    let took = answered(&rig.sim, u64::from(LOGINS)).await.as_secs_f64();
    // What may come at once is a second's worth.
    let second = f64::from(A_MINUTE) / 60.0;
    let (most, least) = (second * (took + 1.0), 0.9 * second * took);
    println!("{LOGINS} codes in {took:.2} s at {A_MINUTE} a minute");
    assert!(f64::from(LOGINS) <= most, "{LOGINS} > {most}");
    assert!(f64::from(LOGINS) >= least, "{LOGINS} < {least}");
    let stats = rig.sim.stats();
    let answers = stats.apps.values().flat_map(|apis| apis.values());
    assert!(answers.clone().all(|api| !api.answers.contains_key(&45011)));
    rig.settle(&parts, Duration::from_secs(60)).await;
    rig.stopped().await;
}

fn minis(n: usize) -> World {
    let app = AppSpec {
        kind: AppKind::MiniProgram,
        platform: Some(0),
        bound_since: unilink::model::Millis(0),
    };
    let mut world = World::build(23, &["main"], &vec![app; n]).unwrap();
    world.blocked_share = 0.0;
    world
}

/// From the first request to so many codes answered.
async fn answered(sim: &Simulator, codes: u64) -> Duration {
    let patience = Instant::now();
    let mut first = None;
    loop {
        let stats = sim.stats();
        if stats.codes.sent > 0 {
            first = first.or(Some(Instant::now()));
        }
        if stats.codes.answered_ok >= codes {
            return first.unwrap().elapsed();
        }
        assert!(patience.elapsed() < Duration::from_secs(120), "{stats:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
