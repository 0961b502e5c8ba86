//! Between being given partitions and working on them: recovery, for as long as it takes. The member
//! is asked for news all the while, so that a bus that watches its readers does not give it up, and
//! a newer assignment is not missed.

use super::recover::{RecoverError, recover};
use super::{FIRST_PAUSE, Given, LONGEST_PAUSE, NEWS, READ, Worker, WorkerError};
use crate::bus::{Assigned, Member, Next, Progress};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How long each look for news takes: a recovery that is done waits for it to end, since what a
/// dropped look had in its hands might be lost.
const LOOK: Duration = Duration::from_millis(25);
/// How long an assignment that was overtaken waits for the one after it. There is none if the bus believes
/// that nothing has changed for this worker; joining anew asks again where everything stands.
const OVERTAKEN: Duration = Duration::from_secs(5);
/// While the store is away, a line in the log this often.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What became of an assignment before work on it began.
pub(super) enum Opening {
    /// Work begins here.
    At(Vec<Progress>),
    /// Another one came.
    Given(Given),
    /// The worker was told to stop.
    Stopped,
}

impl Worker {
    /// Finds where to begin, after `delay`, again and again while bus or store are away.
    ///
    /// # Errors
    /// What no retry can help, or the membership is lost.
    pub(super) async fn open(
        &self,
        member: &Arc<dyn Member>,
        assigned: &[Assigned],
        delay: Duration,
        stop: &CancellationToken,
    ) -> Result<Opening, WorkerError> {
        let recovering = self.recovering(assigned, delay);
        tokio::pin!(recovering);
        let mut found = None;
        loop {
            let news = self.watchdog.step(NEWS, member.next(LOOK, READ));
            tokio::pin!(news);
            let news = tokio::select! {
                () = stop.cancelled() => return Ok(Opening::Stopped),
                done = &mut recovering, if found.is_none() => {
                    found = Some(done?);
                    news.await
                }
                news = &mut news => news,
            };
            if let Next::Given(term, assigned) = news? {
                return Ok(Opening::Given((term, assigned)));
            }
            if let Some(start) = found.take() {
                return Ok(Opening::At(start));
            }
        }
    }

    async fn recovering(
        &self,
        assigned: &[Assigned],
        delay: Duration,
    ) -> Result<Vec<Progress>, WorkerError> {
        tokio::time::sleep(delay).await;
        let (logins, links) = (&self.settings.logins, &self.settings.links);
        let (mut pause, mut said) = (FIRST_PAUSE, None::<Instant>);
        let mut overtaken = None::<Instant>;
        loop {
            let attempt = recover(&self.bus, &self.store, logins, links, assigned);
            let attempt = self.watchdog.step("finding where to begin", attempt).await;
            match &attempt {
                Err(RecoverError::Overtaken(_)) => {
                    let since = overtaken.get_or_insert_with(Instant::now);
                    if since.elapsed() >= OVERTAKEN {
                        return Ok(attempt?);
                    }
                }
                _ => overtaken = None,
            }
            match attempt.map_err(WorkerError::from) {
                Ok(start) => return Ok(start),
                Err(error) if error.fatal() => return Err(error),
                Err(error) if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) => {
                    tracing::warn!(%error, "cannot begin; trying again until it works");
                    said = Some(Instant::now());
                }
                Err(_) => {}
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
