//! The simulated gateways of `demo`: they post people's logins to the intake over HTTP, as fast as
//! the worker keeps up, so that codes do not die while they wait.

use super::Failure;
use super::assemble::Parts;
use crate::simulate::{Event, Population, Simulator};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Events in one request.
const REQUEST: usize = 200;
/// Requests at once.
const AT_ONCE: usize = 4;
/// Events posted and not yet resolved: at some thousand a second these are far from 5 minutes.
const LEAD: i64 = 5_000;
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Lines of progress where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// A request is tried again this often before the demo fails.
const TRIES: u32 = 5;

/// What was posted.
#[derive(Debug, Default)]
pub struct Posted {
    /// Events answered with 202.
    pub accepted: u64,
    /// Events refused, as they should be.
    pub refused: HashSet<String>,
}

/// Posts everybody's logins.
pub struct Driver {
    /// The simulated WeChat, which hands out codes.
    pub sim: Arc<Simulator>,
    /// The simulated people.
    pub population: Population,
    /// The intake's base URL.
    pub intake: String,
    /// What is posted to.
    pub parts: Arc<Parts>,
}

impl Driver {
    /// Posts until everybody has logged in, or `stop`.
    ///
    /// # Errors
    /// The intake refuses what it should take, or is gone.
    pub async fn run(&self, stop: &CancellationToken) -> Result<Posted, Failure> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .map_err(|e| Failure::failed(e.without_url()))?;
        let progress = Progress::new(self.population.people());
        let mut posted = Posted::default();
        let mut batch: Vec<Event> = Vec::with_capacity(REQUEST + 16);
        let mut requests: JoinSet<Result<(), Failure>> = JoinSet::new();
        for person in 0..self.population.people() {
            if stop.is_cancelled() {
                return Err(Failure::Failed("interrupted".to_owned()));
            }
            for event in self.population.events(person, &self.sim) {
                if event.refused_at_intake {
                    posted.refused.insert(event.id.clone());
                    post(&http, &self.intake, vec![event], 422).await?;
                } else {
                    posted.accepted += 1;
                    batch.push(event);
                }
            }
            if batch.len() >= REQUEST || person + 1 == self.population.people() {
                while requests.len() >= AT_ONCE {
                    joined(requests.join_next().await)?;
                }
                let events = std::mem::take(&mut batch);
                let (http, intake) = (http.clone(), self.intake.clone());
                requests.spawn(async move { post(&http, &intake, events, 202).await });
                self.keep_pace(stop).await?;
                progress.at(person + 1);
            }
        }
        while let Some(done) = requests.join_next().await {
            joined(Some(done))?;
        }
        progress.done();
        Ok(posted)
    }

    /// Waits until nothing is left that could be done within minutes.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn settle(&self, stop: &CancellationToken) -> Result<(), Failure> {
        /// What is due later than this waits for a session key that will not come.
        const SOON_MS: i64 = 10 * 60_000;
        while !stop.is_cancelled() {
            let next = self.parts.store.next_due().await.map_err(Failure::failed)?;
            let now = (self.parts.clock)();
            let waiting = next.is_some_and(|at| at.since(now) < SOON_MS);
            if !waiting && self.lag().await? == 0 {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(Failure::Failed("interrupted".to_owned()))
    }

    async fn keep_pace(&self, stop: &CancellationToken) -> Result<(), Failure> {
        while !stop.is_cancelled() && self.lag().await? + self.waiting().await? > LEAD {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Logins that wait for WeChat.
    async fn waiting(&self) -> Result<i64, Failure> {
        let waiting = self.parts.store.deferred_by_app().await;
        let waiting: u64 = waiting.map_err(Failure::failed)?.values().sum();
        Ok(i64::try_from(waiting).unwrap_or(i64::MAX / 2))
    }

    /// Events in the login topic that are not applied.
    async fn lag(&self) -> Result<i64, Failure> {
        let logins = &self.parts.config.topics.logins;
        let topics = self.parts.bus.topics(&[]).await;
        let topics = topics.map_err(Failure::failed)?;
        let written: i64 = topics
            .iter()
            .filter(|t| t.name == *logins)
            .flat_map(|t| &t.bounds)
            .map(|(_, next)| next)
            .sum();
        let positions = self
            .parts
            .store
            .positions()
            .await
            .map_err(Failure::failed)?;
        Ok(written - positions.iter().map(|p| p.offset).sum::<i64>())
    }
}

fn joined(
    done: Option<Result<Result<(), Failure>, tokio::task::JoinError>>,
) -> Result<(), Failure> {
    done.map_or(Ok(()), |d| d.unwrap_or_else(|e| Err(Failure::failed(e))))
}

async fn post(
    http: &reqwest::Client,
    intake: &str,
    events: Vec<Event>,
    want: u16,
) -> Result<(), Failure> {
    let mut body = Vec::new();
    for event in &events {
        body.extend(event.json().map_err(Failure::failed)?);
        body.push(b'\n');
    }
    let mut tries = 0;
    loop {
        let request = http
            .post(format!("{intake}/v1/logins"))
            .header("content-type", "application/x-ndjson")
            .body(body.clone());
        let answer = request.send().await;
        match answer {
            Ok(answer) if answer.status().as_u16() == want => return Ok(()),
            // Busy: events may be posted again as often as one likes.
            Ok(answer) if answer.status().as_u16() == 503 && tries < TRIES => {}
            Ok(answer) => {
                let status = answer.status();
                let text = answer.text().await.unwrap_or_default();
                return Err(Failure::Failed(format!(
                    "the intake answered {status}: {text}"
                )));
            }
            Err(_) if tries < TRIES => {}
            Err(error) => return Err(Failure::failed(error.without_url())),
        }
        tries += 1;
        tokio::time::sleep(LOOK * tries).await;
    }
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    begun: Instant,
    last: std::cell::Cell<Instant>,
    total: u64,
}

impl Progress {
    fn new(total: u64) -> Self {
        let bar =
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        let style = "{bar:32} {human_pos}/{human_len} people, {per_sec}, {eta} left";
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let now = Instant::now();
        Self {
            bar,
            begun: now,
            last: std::cell::Cell::new(now),
            total,
        }
    }

    fn at(&self, people: u64) {
        self.bar.set_position(people);
        if self.bar.is_hidden() && self.last.get().elapsed() >= LINE_EVERY {
            self.last.set(Instant::now());
            let seconds = self.begun.elapsed().as_secs().max(1);
            let rate = people / seconds;
            eprintln!(
                "{people}/{} people have logged in, {rate} a second",
                self.total
            );
        }
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}
