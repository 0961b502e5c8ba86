//! From the intake's 202 to a committed `account.linked`, at a steady rate: each login is posted at
//! its time, whether or not the ones before were answered (over 64 connections that stay), and a reader of committed records notes
//! when it sees the revision that the login caused. One machine, one clock.

use crate::loads::{Load, Loads};
use crate::measure::load;
use crate::site::{Ground, Process, Site, consumer, partitions, signal};
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::Offset;
use serde::Serialize;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Left out at the start: connections are made, statements prepared.
const WARM: Duration = Duration::from_secs(3);
/// A link that takes longer does not come.
const LATEST: Duration = Duration::from_secs(20);

/// Pause before an event that was refused (503) is posted again.
const BACK: Duration = Duration::from_millis(50);

/// Of the gateways.
const CONNECTIONS: usize = 64;

/// What was found, in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Latency {
    /// Logins taken in a second.
    pub rate: f64,
    /// How many are in the figures.
    pub logins: usize,
    /// Times that one was refused (503) and posted again.
    pub refused: usize,
    /// From the 202 to the link, half of them at most.
    pub p50: f64,
    /// 99 of 100 at most.
    pub p99: f64,
    /// All.
    pub max: f64,
    /// From posting to the 202, half of them at most.
    pub answer_p50: f64,
    /// 99 of 100 at most.
    pub answer_p99: f64,
    /// CPU seconds of intake and workers, for a million logins.
    pub cpu_per_million: f64,
    /// Largest resident set of a worker, in MiB.
    pub peak_mib: f64,
    /// Load of the machine over the last minute.
    pub load: f64,
}

#[derive(serde::Deserialize)]
struct Told<'a> {
    cause: &'a str,
}

/// Stops the reader when it is dropped, whatever else goes wrong.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An event that was taken.
struct Posted {
    /// When it was posted first.
    posted: Instant,
    /// When its 202 came.
    answer: Instant,
    /// Times it was told to come back.
    refused: usize,
}

/// By event.
type Answered = HashMap<String, Posted>;

/// Posts `rate` new accounts a second for `seconds`, to so many workers, after so many events.
pub async fn measure(
    ground: &Arc<Ground>,
    site: &Site,
    loads: &Loads,
    (rate, seconds): (u32, u32),
    (workers, before): (usize, u64),
) -> Latency {
    let mut roles = site.workers(workers).await;
    let intake = site.start("intake", 0);
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let http = http.build().expect("a client");
    let base = format!("http://{}", intake.address);
    while !ready(&http, &base).await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    roles.push(intake);
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Stop(Arc::clone(&stop));
    let reading = read(ground, site, &stop);
    let events = u64::from(rate) * u64::from(seconds);
    let bodies: Vec<(String, Vec<u8>)> = (0..events)
        .map(|i| loads.event(Load::AllNew, i, events))
        .map(|event| (event.id.clone(), event.json().expect("JSON")))
        .collect();
    let used: f64 = roles.iter().map(Process::cpu).sum();
    let begun = Instant::now();
    let answered = post(&http, &format!("{base}/v1/logins"), bodies, rate).await;
    let posting = begun.elapsed().as_secs_f64();
    site.committed(before + events).await;
    let after: f64 = roles.iter().map(Process::cpu).sum();
    drop(stopping);
    let seen = reading.await.expect("read");
    let peak = roles[..workers].iter().map(Process::peak);
    let latency = Latency {
        rate: events as f64 / posting,
        cpu_per_million: (after - used) / events as f64 * 1e6,
        peak_mib: peak.fold(0.0, f64::max),
        load: load(),
        ..figures(&answered, &seen, begun + WARM)
    };
    signal("TERM", &roles);
    roles.into_iter().for_each(Process::ended);
    latency
}

async fn ready(http: &reqwest::Client, base: &str) -> bool {
    let answer = http.get(format!("{base}/readyz")).send().await;
    answer.is_ok_and(|a| a.status().is_success())
}

/// Posts each at its time, or once a connection is free.
async fn post(
    http: &reqwest::Client,
    url: &str,
    bodies: Vec<(String, Vec<u8>)>,
    rate: u32,
) -> Answered {
    let begun = Instant::now();
    let due = |n: u32| begun + Duration::from_secs(1) / rate * n;
    let bodies = (0u32..)
        .zip(bodies)
        .map(|(n, (id, body))| (due(n), id, body));
    let queue = Arc::new(Mutex::new(bodies.collect::<VecDeque<_>>()));
    let mut gateways = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (http, url, queue) = (http.clone(), url.to_owned(), Arc::clone(&queue));
        gateways.spawn(async move {
            let mut answered = Vec::new();
            loop {
                let next = queue.lock().expect("sound").pop_front();
                let Some((due, id, body)) = next else {
                    return answered;
                };
                tokio::time::sleep_until(due.into()).await;
                answered.push((id, one(&http, &url, body).await));
            }
        });
    }
    let answered = gateways.join_all().await;
    answered.into_iter().flatten().collect()
}

/// Posts one until it is taken, as a gateway does.
async fn one(http: &reqwest::Client, url: &str, body: Vec<u8>) -> Posted {
    let (posted, mut refused) = (Instant::now(), 0);
    loop {
        let request = http
            .post(url)
            .header("content-type", "application/json")
            .body(body.clone());
        let answer = request.send().await.expect("an answer");
        let (at, status) = (Instant::now(), answer.status());
        let said = answer.text().await.expect("a body");
        if status == 202 {
            return Posted {
                posted,
                answer: at,
                refused,
            };
        }
        assert_eq!(status, 503, "{said}");
        refused += 1;
        tokio::time::sleep(BACK).await;
    }
}

/// Notes when the first revision of each cause is seen, until told to stop.
fn read(
    ground: &Arc<Ground>,
    site: &Site,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<HashMap<String, Instant>> {
    let (kafka, topic) = (ground.services.kafka.clone(), site.topic("account-links"));
    let stop = Arc::clone(stop);
    tokio::task::spawn_blocking(move || {
        let consumer = consumer(&kafka, "a-latency", "read_committed");
        let from = partitions(&topic, Offset::Beginning);
        consumer.assign(&from).expect("assigned");
        let (mut seen, mut ended) = (HashMap::new(), None::<Instant>);
        loop {
            // What is committed is there by then.
            let over = ended.is_some_and(|at| at.elapsed() > Duration::from_secs(1));
            if over {
                return seen;
            }
            if stop.load(Ordering::Relaxed) {
                ended.get_or_insert_with(Instant::now);
            }
            let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let at = Instant::now();
            let value = record.payload().expect("a value");
            let told: Told<'_> = serde_json::from_slice(value).expect("account.linked");
            seen.entry(told.cause.to_owned()).or_insert(at);
        }
    })
}

fn figures(answered: &Answered, seen: &HashMap<String, Instant>, from: Instant) -> Latency {
    let counted = answered.iter().filter(|(_, p)| p.posted >= from);
    let (mut links, mut answers, mut again) = (Vec::new(), Vec::new(), 0);
    for (id, one) in counted {
        let Posted {
            posted,
            answer,
            refused,
        } = one;
        again += refused;
        let link = seen.get(id).expect("every login is linked");
        // The link may be there before the answer is.
        let took = link.saturating_duration_since(*answer);
        assert!(took < LATEST, "a link took {took:?}");
        links.push(took);
        answers.push(answer.duration_since(*posted));
    }
    links.sort_unstable();
    answers.sort_unstable();
    let at = |times: &[Duration], part: usize| {
        let n = (times.len() * part / 100).min(times.len().saturating_sub(1));
        times.get(n).map_or(0.0, |t| t.as_secs_f64() * 1e3)
    };
    Latency {
        logins: links.len(),
        refused: again,
        p50: at(&links, 50),
        p99: at(&links, 99),
        max: at(&links, 100),
        answer_p50: at(&answers, 50),
        answer_p99: at(&answers, 99),
        ..Latency::default()
    }
}
