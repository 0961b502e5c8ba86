//! The gateways: they post logins of every sort through the intake until it takes them, as fast as
//! the workers keep up, and never stop while something is being tried.

use crate::reader::Onlooker;
use crate::site::Site;
use crate::traffic::{Planned, Traffic};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};

/// Events in one request.
const CHUNK: usize = 100;
/// Events in one request while only a little is wanted.
const DRIP: usize = 24;
/// Between two of those.
const PAUSE: Duration = Duration::from_millis(150);
/// Requests at once.
const AT_ONCE: usize = 4;
/// Events posted and not yet committed, at most: codes must not die of waiting.
const LEAD: i64 = 3_000;
/// The intake says within its own bound (5 s for the bus) that it cannot; a busy machine is slower.
const REFUSED_WITHIN: Duration = Duration::from_secs(8);
/// Longest that the intake may refuse: longer than any outage here.
const REFUSES: Duration = Duration::from_secs(240);

/// What the gateways count while they post.
#[derive(Default)]
pub struct Counts {
    pub posted: AtomicUsize,
    /// Full speed up to here; a little more beyond.
    pub wanted: AtomicUsize,
    pub refused: AtomicUsize,
    /// Slowest 503, in milliseconds.
    pub slowest_refusal: AtomicU64,
    /// No more is wanted.
    pub enough: AtomicBool,
    /// Posted and not yet committed; -1: nobody knows now.
    lag: AtomicI64,
}

/// What was posted.
pub struct Posted {
    pub planned: Vec<Planned>,
    pub accepted: HashSet<String>,
}

/// Posts until told that it is enough.
pub async fn post(site: &Site, counts: &Arc<Counts>, seed: u64) -> Posted {
    let accepted = Arc::new(Mutex::new(HashSet::new()));
    let (chunks, queue) = mpsc::channel::<Vec<Planned>>(1);
    let queue = Arc::new(Mutex::new(queue));
    let posters: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let http = site.fleet.http.clone();
            let url = format!("http://{}/v1/logins", site.intake);
            let (queue, accepted) = (Arc::clone(&queue), Arc::clone(&accepted));
            let counts = Arc::clone(counts);
            tokio::spawn(async move {
                loop {
                    let Some(chunk) = queue.lock().await.recv().await else {
                        return;
                    };
                    until_taken(&http, &url, &chunk, &counts).await;
                    counts.posted.fetch_add(chunk.len(), Ordering::Relaxed);
                    let ids = chunk.into_iter().map(|p| p.id);
                    accepted.lock().await.extend(ids);
                }
            })
        })
        .collect();
    // Ends with this future, too: a test that fails must not wait for it.
    let _watched = Watched(Arc::clone(counts));
    let watch = tokio::task::spawn_blocking({
        let (onlooker, counts) = (Arc::clone(&site.onlooker), Arc::clone(counts));
        move || watch_lag(&onlooker, &counts)
    });

    let mut traffic = Traffic::new(Arc::clone(&site.sim), seed);
    let mut planned = Vec::new();
    while !counts.enough.load(Ordering::Relaxed) {
        let lag = counts.lag.load(Ordering::Relaxed);
        if lag > 2 * LEAD {
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        let more = planned.len() < counts.wanted.load(Ordering::Relaxed);
        let fast = more && (0..LEAD).contains(&lag);
        let size = if fast { CHUNK } else { DRIP };
        let chunk: Vec<Planned> = (0..size).map(|_| traffic.event()).collect();
        planned.extend(chunk.iter().cloned());
        chunks.send(chunk).await.unwrap();
        if !fast {
            tokio::time::sleep(PAUSE).await;
        }
    }
    drop(chunks);
    for poster in posters {
        poster.await.unwrap();
    }
    watch.await.unwrap();
    let accepted = std::mem::take(&mut *accepted.lock().await);
    Posted { planned, accepted }
}

struct Watched(Arc<Counts>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.enough.store(true, Ordering::Relaxed);
    }
}

fn watch_lag(onlooker: &Onlooker, counts: &Counts) {
    while !counts.enough.load(Ordering::Relaxed) {
        let lag = onlooker.lag().unwrap_or(-1);
        counts.lag.store(lag, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Posts until it is taken. The intake is never killed here, so it always answers.
async fn until_taken(http: &reqwest::Client, url: &str, chunk: &[Planned], counts: &Counts) {
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
        let asked = Instant::now();
        let answer = request.body(body.clone()).send().await;
        let answer = answer.expect("the intake answers");
        let status = answer.status().as_u16();
        if status == 202 {
            return;
        }
        let retry = answer.headers().get("retry-after").cloned();
        let text = answer.text().await.unwrap_or_default();
        assert_eq!(status, 503, "{text}");
        let retry = retry.expect("Retry-After").to_str().unwrap().to_owned();
        assert!(retry.parse::<u64>().is_ok_and(|s| s > 0), "{retry}");
        let took = asked.elapsed();
        assert!(took < crate::slow(REFUSED_WITHIN), "refused after {took:?}");
        counts.refused.fetch_add(1, Ordering::Relaxed);
        let millis = u64::try_from(took.as_millis()).unwrap();
        counts.slowest_refusal.fetch_max(millis, Ordering::Relaxed);
        assert!(begun.elapsed() < REFUSES, "nobody takes it");
        // Less patient than it is told to be.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
