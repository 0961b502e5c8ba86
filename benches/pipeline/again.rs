//! `unilink replay` of a load that one worker has just taken, so that nothing changes: its rate beside the
//! worker's, and the latency of live logins beside it.

use crate::latency::{self, Latency};
use crate::loads::{Load, Loads};
use crate::measure::{Measured, load};
use crate::run::{self, Task};
use crate::site::{Ground, Site};
use serde::Serialize;
use serde_json::Value;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use unilink::bus::Record;

/// Every so many events of mostly-repeat one is new.
const ONE_IN: usize = 20;

/// What was found.
#[derive(Serialize)]
pub struct Again {
    /// The worker that took the load.
    pub live: Measured,
    /// A replay of it that does not rest, in events a second.
    pub full_speed: f64,
    /// And one that does.
    pub polite: f64,
    /// Load of the machine over the last minute, when it ended.
    pub load: f64,
}

/// The rate of a replay that changes nothing.
pub async fn rates(ground: &Arc<Ground>, site: &mut Site, task: &Task<'_>) -> Again {
    let (live, _) = run::run(ground, site, task).await;
    let events = task.records.len() as u64;
    let before = site.count("account-links").await;
    let mut seconds = Vec::new();
    for options in [&["--full-speed"][..], &[]] {
        let begun = Instant::now();
        let counts = replay(site, options);
        seconds.push(begun.elapsed().as_secs_f64());
        assert_eq!(counts["records"], events, "{counts}");
        assert_eq!(counts["total"]["newly_linked"], 0, "{counts}");
    }
    assert_eq!(site.count("account-links").await, before, "told again");
    Again {
        live,
        full_speed: events as f64 / seconds[0],
        polite: events as f64 / seconds[1],
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
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
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
    let mut command = site.command();
    command
        .args(["replay", "--json", "--author", "bench"])
        .args(options);
    let output: Output = command.stdin(Stdio::null()).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    told["counts"].clone()
}

/// Which load is replayed.
pub const LOAD: Load = Load::MostlyRepeat;
