//! The ladder: from a login's evidence to claims, or to a reason why there are none.
//!
//! Rungs: what the event gives in plain; the code's exchange; decryption with the event's, the
//! exchange's and the account's stored session keys; the claim already known; `sns/userinfo`, a
//! payment, `user/info`. Cheap rungs that can contradict what is known are climbed as well, so that a
//! contradiction shows; WeChat is asked only while no rung has told a unionid.

use super::asking::Asking;
use super::exchange::Exchange;
use super::ports::{Memory, MemoryFault};
use super::rungs::Attempt;
use crate::clock::Clock;
use crate::model::{AppId, Apps, DeadReason, Login, Millis, Sighting};
use crate::seal::Keys;
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Resolutions of one app under way at once, those included that wait for the app's turn: bounds
/// memory when WeChat is slower than logins come, and leaves the other apps alone.
const LIVE: usize = 256;
/// The same for deferred ones; less, since an app in trouble has many and they can wait.
const DEFERRED: usize = 64;
/// A deferred resolution is given up for this time after so long, before its lease ends.
const DEFERRED_BUDGET: Duration = Duration::from_secs(15);

/// How a resolution ended.
#[derive(Debug)]
pub enum Resolved {
    /// With what was learnt, if only that the account was seen.
    Facts(Box<Sighting>),
    /// It goes on later.
    Later(Box<Later>),
    /// The event can never be resolved.
    Dead(DeadReason, &'static str),
}

/// A resolution that goes on later.
#[derive(Debug)]
pub struct Later {
    /// The account, if known, linked unresolved meanwhile.
    pub interim: Option<Sighting>,
    /// Whether a session key for the account would make it due at once.
    pub for_key: bool,
    /// When it is due.
    pub next_at: Millis,
    /// When the ladder will give up by itself, at the latest.
    pub expires_at: Millis,
}

/// What the ladder leans on.
pub struct Parts {
    /// The configured apps.
    pub apps: Arc<Apps>,
    /// Opens and seals what is held.
    pub keys: Arc<Keys>,
    /// Spends codes.
    pub exchange: Arc<Exchange>,
    /// Asks about accounts.
    pub asking: Arc<Asking>,
    /// Outlives the process.
    pub memory: Arc<dyn Memory>,
    /// The time.
    pub clock: Clock,
}

/// Everything a resolution needs.
pub struct Ladder {
    parts: Arc<Parts>,
    budget: Duration,
    /// One for each resolution under way, also those that nobody waits for any more.
    slots: Mutex<FxHashMap<AppId, Slots>>,
}

#[derive(Clone)]
struct Slots {
    live: Arc<Semaphore>,
    deferred: Arc<Semaphore>,
}

impl Ladder {
    /// Composes the ladder; `budget` is how long an event may wait inline.
    #[must_use]
    pub fn new(parts: Parts, budget: Duration) -> Self {
        Self {
            parts: Arc::new(parts),
            budget,
            slots: Mutex::default(),
        }
    }

    /// Resolves what needs neither WeChat nor the memory; `None` for the rest.
    #[must_use]
    pub fn at_once(&self, login: &Login) -> Option<Resolved> {
        self.parts.at_once(login)
    }

    /// Resolves the rest; waits at most for the inline budget unless `since` tells that the event
    /// is deferred already. `attempt` counts from 0.
    ///
    /// # Errors
    /// The memory is not available.
    pub async fn resolve(
        &self,
        login: &Login,
        attempt: u32,
        since: Option<Millis>,
    ) -> Result<Resolved, MemoryFault> {
        if let Some(resolved) = self.at_once(login) {
            return Ok(resolved);
        }
        let attempt = Attempt {
            number: attempt,
            since,
        };
        let begun = Instant::now();
        let budget = since.map_or(self.budget, |_| DEFERRED_BUDGET);
        let Some(slot) = self.slot(&login.app, since.is_some(), budget).await else {
            return Ok(self.parts.out_of_time(login, attempt));
        };
        let (parts, owned) = (Arc::clone(&self.parts), login.clone());
        // On a task of its own, so that giving up the wait never loses an answer: what a code
        // bought is noted, and the next attempt finds it.
        let task = tokio::spawn(async move {
            let _slot = slot;
            parts.climb_up(&owned, attempt).await
        });
        let left = budget.saturating_sub(begun.elapsed());
        match tokio::time::timeout(left, task).await {
            Err(_) => Ok(self.parts.out_of_time(login, attempt)),
            Ok(Ok(resolved)) => resolved,
            Ok(Err(_)) => Err(MemoryFault("a resolution ended early".to_owned())),
        }
    }

    async fn slot(
        &self,
        app: &AppId,
        deferred: bool,
        budget: Duration,
    ) -> Option<OwnedSemaphorePermit> {
        let slots = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            let slots = slots.entry(app.clone()).or_insert_with(|| Slots {
                live: Arc::new(Semaphore::new(LIVE)),
                deferred: Arc::new(Semaphore::new(DEFERRED)),
            });
            slots.clone()
        };
        if deferred {
            return slots.deferred.try_acquire_owned().ok();
        }
        let slot = tokio::time::timeout(budget, slots.live.acquire_owned());
        slot.await.ok()?.ok()
    }
}
