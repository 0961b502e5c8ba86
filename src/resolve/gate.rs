//! One gate per app: how many requests may be in flight, and whether the app is parked because
//! WeChat refuses it (a wrong secret, a spent quota). One app's trouble never holds another's up.

use crate::model::{AppId, Millis};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// First pause after refused credentials; doubles with each refusal in a row.
const FIRST_PARK_MS: i64 = 5_000;
/// Longest pause: an operator who corrects a secret waits no longer than this.
const LONGEST_PARK_MS: i64 = 60_000;

/// How many requests may be in flight.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Per app.
    pub per_app: usize,
    /// In total.
    pub total: usize,
}

/// The gates of all apps.
#[derive(Debug)]
pub struct Gates {
    limits: Limits,
    total: Arc<Semaphore>,
    apps: Mutex<FxHashMap<AppId, Gate>>,
}

#[derive(Debug)]
struct Gate {
    slots: Arc<Semaphore>,
    parked_until: Millis,
    refusals: u32,
}

/// Permission for one request; giving it back is dropping it.
#[derive(Debug)]
pub struct Pass {
    _app: OwnedSemaphorePermit,
    _total: OwnedSemaphorePermit,
}

impl Gates {
    /// All gates open.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            total: Arc::new(Semaphore::new(limits.total)),
            apps: Mutex::default(),
        }
    }

    /// Until when the app is parked, if it is at `now`.
    #[must_use]
    pub fn parked(&self, app: &AppId, now: Millis) -> Option<Millis> {
        let until = self.lock().get(app)?.parked_until;
        (until > now).then_some(until)
    }

    /// Waits for a slot of the app, then for one of all.
    pub async fn pass(&self, app: &AppId) -> Option<Pass> {
        let slots = {
            let mut apps = self.lock();
            Arc::clone(&self.gate(&mut apps, app).slots)
        };
        // The app's slot first: an app that has used up its own must not hold the others' slots.
        let app = slots.acquire_owned().await.ok()?;
        let total = Arc::clone(&self.total).acquire_owned().await.ok()?;
        Some(Pass {
            _app: app,
            _total: total,
        })
    }

    /// WeChat refuses the app's credentials: parks it, longer each time. Returns until when, and
    /// whether this is news (the caller then raises the alarm once, not per event).
    pub fn refuse(&self, app: &AppId, now: Millis) -> (Millis, bool) {
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        if gate.parked_until > now {
            return (gate.parked_until, false);
        }
        let pause = (FIRST_PARK_MS << gate.refusals.min(8)).min(LONGEST_PARK_MS);
        gate.refusals += 1;
        gate.parked_until = now.plus(pause);
        (gate.parked_until, true)
    }

    /// Parks the app until `until` (a limit that ends by itself).
    pub fn park(&self, app: &AppId, until: Millis) {
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        gate.parked_until = gate.parked_until.max(until);
    }

    /// WeChat answered the app: its credentials are good.
    pub fn accepted(&self, app: &AppId) {
        if let Some(gate) = self.lock().get_mut(app) {
            gate.refusals = 0;
        }
    }

    fn gate<'a>(&self, apps: &'a mut FxHashMap<AppId, Gate>, app: &AppId) -> &'a mut Gate {
        apps.entry(app.clone()).or_insert_with(|| Gate {
            slots: Arc::new(Semaphore::new(self.limits.per_app)),
            parked_until: Millis(i64::MIN),
            refusals: 0,
        })
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<AppId, Gate>> {
        // Nothing panics while it is held; a poisoned lock still holds a consistent map.
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates() -> (Gates, AppId, AppId) {
        let limits = Limits {
            per_app: 1,
            total: 2,
        };
        let app = |t| AppId::parse(t).expect("valid");
        (Gates::new(limits), app("wxa"), app("wxb"))
    }

    #[test]
    fn refusals_park_one_app_longer_each_time() {
        let (gates, a, b) = gates();
        assert_eq!(gates.refuse(&a, Millis(0)), (Millis(5_000), true));
        assert_eq!(gates.refuse(&a, Millis(10)), (Millis(5_000), false));
        assert_eq!(gates.refuse(&a, Millis(5_000)), (Millis(15_000), true));
        assert_eq!(gates.parked(&b, Millis(0)), None);
        for _ in 0..20 {
            let until = gates.parked(&a, Millis(0)).expect("parked");
            gates.refuse(&a, until);
        }
        let until = gates.parked(&a, Millis(0)).expect("parked");
        let (next, _) = gates.refuse(&a, until);
        assert_eq!(next.since(until), LONGEST_PARK_MS);
        gates.accepted(&a);
        assert_eq!(gates.refuse(&a, next).0.since(next), FIRST_PARK_MS);
    }

    #[tokio::test]
    async fn an_app_that_is_full_leaves_room_for_others() {
        let (gates, a, b) = gates();
        let held = gates.pass(&a).await.expect("open");
        let mut second = Box::pin(gates.pass(&a));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(gates.pass(&b).await.is_some());
        drop(held);
        assert!(second.await.is_some());
    }
}
