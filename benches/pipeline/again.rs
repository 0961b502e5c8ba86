//! `unilink replay` of a load that one worker has just taken, so that nothing changes: its rate beside the
//! worker's, and the latency of live logins beside it.

use crate::latency::{self, Latency};
use crate::loads::{Load, Loads};
use crate::measure::{Measured, load};
use crate::run::{self, Task};
use crate::site::{Ground, Site};
use serde::Serialize;
use serde_json::Value;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use unilink::bus::Record;

/// Every so many events of mostly-repeat one is new.
const ONE_IN: usize = 20;

/// SIGKILLs of the replay that is killed.
pub const KILLS: u32 = 5;

/// What was found.
#[derive(Serialize)]
pub struct Again {
    /// The worker that took the load.
    pub live: Measured,
    /// A replay of it that does not rest, in events a second.
    pub full_speed: f64,
    /// One that does not, but is killed [`KILLS`] times on its way and gone on with; the kills count.
    pub killed: f64,
    /// And one that rests.
    pub polite: f64,
    /// Load of the machine over the last minute, when it ended.
    pub load: f64,
}

/// The rate of a replay that changes nothing, writes no row and publishes nothing.
pub async fn rates(ground: &Arc<Ground>, site: &mut Site, task: &Task<'_>) -> Again {
    let (live, _) = run::run(ground, site, task).await;
    let events = task.records.len() as u64;
    let before = (site.published().await, site.written().await);
    let mut first = None;
    let mut timed = |replay: &dyn Fn() -> Value| {
        let begun = Instant::now();
        let counts = replay();
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(counts["records"], events, "{counts}");
        assert_eq!(counts["total"]["newly_linked"], 0, "{counts}");
        let first = first.get_or_insert_with(|| counts.clone());
        assert_eq!(*first, counts, "another result");
        seconds
    };
    let fast = timed(&|| replay(site, &["--full-speed"]));
    let killed = timed(&|| killed(site, Duration::from_secs_f64(fast)));
    let polite = timed(&|| replay(site, &[]));
    let after = (site.published().await, site.written().await);
    assert_eq!(after, before, "something was published or written");
    Again {
        live,
        full_speed: events as f64 / fast,
        killed: events as f64 / killed,
        polite: events as f64 / polite,
        load: load(),
    }
}

/// The latency of one worker without a replay, and with one that goes on all the time.
pub async fn latencies(
    ground: &Arc<Ground>,
    loads: &Loads,
    stock: &str,
    repeats: impl Fn(&Site) -> Vec<Record>,
    pace: (u32, u32),
) -> [Latency; 2] {
    let mut found = Vec::new();
    for beside in [false, true] {
        eprintln!("latency, a replay beside it: {beside} …");
        let mut site = Site::new(ground, Some(stock), None).await;
        // Nothing of it is new: what `latency` posts must be.
        let records: Vec<Record> = repeats(&site)
            .into_iter()
            .enumerate()
            .filter(|(i, _)| i % ONE_IN != 0)
            .map(|(_, record)| record)
            .collect();
        let events = records.len() as u64;
        let worker = site.workers(1).await;
        site.publish(&records).await;
        while site.applied().await < events {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        crate::site::signal("TERM", &worker);
        worker.into_iter().for_each(crate::site::Process::ended);
        site.committed(events).await;
        let stop = Arc::new(AtomicBool::new(!beside));
        let site = Arc::new(site);
        let going_on = {
            let (site, stop) = (Arc::clone(&site), Arc::clone(&stop));
            tokio::task::spawn_blocking(move || {
                while !stop.load(Ordering::Relaxed) {
                    replay(&site, &[]);
                }
            })
        };
        let measured = latency::measure(ground, &site, loads, pace, (1, events)).await;
        stop.store(true, Ordering::Relaxed);
        going_on.await.expect("replayed");
        found.push(measured);
        Arc::into_inner(site).expect("nobody else").end().await;
    }
    let with = found.pop().unwrap_or_default();
    [found.pop().unwrap_or_default(), with]
}

fn replay(site: &Site, options: &[&str]) -> Value {
    counts(&replaying(site, options).output().expect("runs"))
}

fn replaying(site: &Site, options: &[&str]) -> Command {
    let mut command = site.command();
    command
        .args(["replay", "--json", "--author", "bench"])
        .args(options)
        .stdin(Stdio::null());
    command
}

fn counts(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    told["counts"].clone()
}

/// Kills it evenly over the time that one takes that is left alone.
fn killed(site: &Site, alone: Duration) -> Value {
    let go_on = |options: &[&str]| {
        let mut command = replaying(site, options);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("runs")
    };
    let mut child = go_on(&["--full-speed"]);
    for _ in 0..KILLS {
        std::thread::sleep(alone / (KILLS + 1));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let listed = site.command().args(["replay", "--list"]).output();
        let listed = String::from_utf8(listed.expect("runs").stdout).expect("text");
        let id = listed.split_whitespace().next().expect("a job");
        child = go_on(&["--resume", id, "--take-over", "--full-speed"]);
    }
    counts(&child.wait_with_output().expect("ends"))
}

/// Which load is replayed.
pub const LOAD: Load = Load::MostlyRepeat;
