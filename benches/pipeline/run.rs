//! The production profile at work on a load that lies ready.
//!
//! The workers join, and are stopped (SIGSTOP) while the load is published: starting and joining
//! are no part of the figures. The clock runs from the signal that lets them go on until the group
//! has committed the last event; they are told to end once the store has applied it, so that they
//! do not wait for company to commit the last positions.

use crate::loads::Load;
use crate::measure::{Measured, load};
use crate::site::{Ground, PATIENCE, Process, Site, signal};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use unilink::bus::Record;

/// How often it is looked whether all is applied.
const LOOK: Duration = Duration::from_millis(20);

/// What a run gave, besides its figures.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Shape {
    /// Events of one transaction on Kafka, on average.
    pub unit: f64,
    /// Events of one transaction on PostgreSQL, on average.
    pub batch: f64,
    /// Records published for each event, on average.
    pub out: f64,
    /// Bytes of one of those, on average.
    pub out_bytes: f64,
}

/// What is run.
pub struct Task<'a> {
    /// Which load it is.
    pub load: Load,
    /// Its records.
    pub records: &'a [Record],
    /// Accounts stored before.
    pub stored: u64,
    /// How many workers.
    pub workers: usize,
}

/// Runs it on `site`, and checks what came of it.
pub async fn run(ground: &Arc<Ground>, site: &mut Site, task: &Task<'_>) -> (Measured, Shape) {
    let events = task.records.len() as u64;
    let workers = site.workers(task.workers).await;
    signal("STOP", &workers);
    site.publish(task.records).await;

    let services = &ground.services;
    let used = || {
        let own: f64 = workers.iter().map(Process::cpu).sum();
        (
            own,
            services.postgres_server.cpu(),
            services.kafka_server.cpu(),
        )
    };
    let (before, begun) = (used(), Instant::now());
    signal("CONT", &workers);
    while site.applied().await < events {
        assert!(
            begun.elapsed() < PATIENCE,
            "stands still: {}",
            workers[0].said()
        );
        tokio::time::sleep(LOOK).await;
    }
    let peak = workers.iter().map(Process::peak).fold(0.0, f64::max);
    let told = metrics(&workers).await;
    signal("TERM", &workers);
    site.committed(events).await;
    let (seconds, after) = (begun.elapsed().as_secs_f64(), used());
    workers.into_iter().for_each(Process::ended);

    let shape = check(site, task, told).await;
    let per_million = |seconds: f64| seconds / events as f64 * 1e6;
    let between = |a: Option<f64>, b: Option<f64>| Some(per_million(b? - a?));
    let measured = Measured {
        events,
        seconds,
        rate: events as f64 / seconds,
        cpu_per_million: per_million(after.0 - before.0),
        postgres_cpu_per_million: between(before.1, after.1),
        kafka_cpu_per_million: between(before.2, after.2),
        peak_mib: peak,
        load: load(),
    };
    (measured, shape)
}

/// Units and batches that the workers count.
async fn metrics(workers: &[Process]) -> [f64; 2] {
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let http = http.build().expect("a client");
    let mut sums = [0.0; 2];
    for worker in workers {
        let url = format!("http://{}/metrics", worker.address);
        let answer = http.get(url).send().await.expect("metrics");
        let text = answer.text().await.expect("text");
        for (sum, name) in sums.iter_mut().zip(["relay_seconds", "apply_seconds"]) {
            let name = format!("unilink_{name}_count ");
            let mut lines = text.lines().filter_map(|l| l.strip_prefix(&name));
            *sum += lines.next().and_then(|n| n.parse().ok()).unwrap_or(0.0);
        }
    }
    sums
}

async fn check(site: &mut Site, task: &Task<'_>, [units, batches]: [f64; 2]) -> Shape {
    let events = task.records.len() as u64;
    let new = task.load.new_accounts(events);
    assert_eq!(site.accounts().await, task.stored + new, "accounts stored");
    let (links, link_bytes) = site.count("account-links").await;
    assert!(links >= new, "{links} links told of {new} accounts");
    let (merges, merge_bytes) = site.count("user-merges").await;
    for topic in ["dlq", "link-conflicts"] {
        assert_eq!(site.count(topic).await.0, 0, "records on {topic}");
    }
    let out = (links + merges) as f64;
    Shape {
        unit: events as f64 / units.max(1.0),
        batch: events as f64 / batches.max(1.0),
        out: out / events as f64,
        out_bytes: (link_bytes + merge_bytes) as f64 / out.max(1.0),
    }
}
