//! The ladder: from a login's evidence to claims, or to a reason why there are none.
//!
//! Rungs: what the event gives in plain; the code's exchange; decryption with the event's, the
//! exchange's and the account's stored session keys; the claim already known; `sns/userinfo`, a
//! payment, `user/info`. Cheap rungs that can contradict what is known are climbed as well, so that a
//! contradiction shows; WeChat is asked only while no rung has told a unionid.

use super::asking::Asking;
use super::exchange::Exchange;
use super::patience::Patience;
use super::ports::{Memory, MemoryFault};
use super::rungs::Attempt;
pub use super::slots::Place;
use super::slots::Slots;
use crate::clock::Clock;
use crate::model::{AppId, Apps, DeadReason, Login, Millis, Room, Sighting};
use crate::seal::Keys;
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    patience: Arc<Patience>,
    slots: Slots,
}

impl Ladder {
    /// Composes the ladder; `budget` is how long an event may wait inline at most, `http` how many requests
    /// may be in flight per app and in total.
    #[must_use]
    pub fn new(parts: Parts, budget: Duration, http: (usize, usize)) -> Self {
        Self {
            parts: Arc::new(parts),
            patience: Arc::new(Patience::new(budget)),
            slots: Slots::new(http.0, http.1),
        }
    }

    /// Resolves what needs neither WeChat nor the memory; `None` for the rest.
    #[must_use]
    pub fn at_once(&self, login: &Login) -> Option<Resolved> {
        self.parts.at_once(login)
    }

    /// Resolves the rest for the first time; waits at most for the inline budget,
    /// and less for an app that is usually quick, or in trouble.
    ///
    /// # Errors
    /// The memory is not available.
    pub async fn resolve(&self, login: &Login) -> Result<Resolved, MemoryFault> {
        if let Some(resolved) = self.at_once(login) {
            return Ok(resolved);
        }
        let attempt = Attempt {
            number: 0,
            since: None,
        };
        let begun = Instant::now();
        let budget = self.patience.with(&login.app);
        let Some(slot) = self.slots.live(&login.app, budget).await else {
            return Ok(self.parts.out_of_time(login, attempt));
        };
        let left = budget.saturating_sub(begun.elapsed());
        self.climb(login, attempt, slot, left).await
    }

    /// For how many deferred resolutions there is place.
    #[must_use]
    pub fn room(&self) -> Room {
        self.slots.room(|app| self.parts.exchange.strained(app))
    }

    /// A place for a deferred resolution, if there is one.
    #[must_use]
    pub fn place(&self, app: &AppId) -> Option<Place> {
        self.slots.deferred(app)
    }

    /// Resolves what was deferred at `since`. `attempt` counts from 0.
    ///
    /// # Errors
    /// The memory is not available.
    pub async fn resolve_again(
        &self,
        login: &Login,
        place: Place,
        (number, since): (u32, Millis),
    ) -> Result<Resolved, MemoryFault> {
        if let Some(resolved) = self.at_once(login) {
            return Ok(resolved);
        }
        let since = Some(since);
        let attempt = Attempt { number, since };
        self.climb(login, attempt, place, DEFERRED_BUDGET).await
    }

    /// Sends no code any more, and waits, for some seconds at most, until what WeChat said of those that
    /// were sent is noted; how many are in hand still. For the end of a process, also one that failed.
    pub async fn close(&self) -> usize {
        self.parts.exchange.close().await
    }

    async fn climb(
        &self,
        login: &Login,
        attempt: Attempt,
        slot: impl Send + 'static,
        budget: Duration,
    ) -> Result<Resolved, MemoryFault> {
        let (parts, owned) = (Arc::clone(&self.parts), login.clone());
        let patience = Arc::clone(&self.patience);
        // On a task of its own, so that giving up the wait never loses an answer: what a code
        // bought is noted, and the next attempt finds it.
        let task = tokio::spawn(async move {
            let _slot = slot;
            let begun = Instant::now();
            let resolved = parts.climb_up(&owned, attempt).await;
            if let Ok(resolved) = &resolved {
                patience.learn(&owned.app, begun.elapsed(), resolved);
            }
            resolved
        });
        match tokio::time::timeout(budget, task).await {
            Err(_) => Ok(self.parts.out_of_time(login, attempt)),
            Ok(Ok(resolved)) => resolved,
            Ok(Err(_)) => Err(MemoryFault("a resolution ended early".to_owned())),
        }
    }
}
