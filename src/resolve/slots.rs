//! How many resolutions may be under way, those included that wait for their app's turn at WeChat, and
//! those that nobody waits for any more: bounds memory when WeChat is slower than logins come, keeps
//! enough at hand for the requests that may be in flight, and leaves the other apps alone.

use crate::model::{AppId, Room};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Live resolutions of one app, at least.
const LIVE: usize = 256;
/// Deferred ones of one app, at least; less, since an app in trouble has many and they can wait.
const DEFERRED: usize = 64;
/// Deferred ones of an app whose calls hang: twice the slots that it has at its gate.
const DEFERRED_OF_STRAINED: usize = 4;
/// Deferred ones in all, at least.
const DEFERRED_TOTAL: usize = 512;

/// The slots of all apps.
pub(super) struct Slots {
    live: usize,
    deferred: usize,
    total: Arc<Semaphore>,
    apps: Mutex<FxHashMap<AppId, OfApp>>,
}

#[derive(Clone)]
struct OfApp {
    live: Arc<Semaphore>,
    deferred: Arc<Semaphore>,
}

/// The place of one deferred resolution; giving it back is dropping it.
#[derive(Debug)]
pub struct Place {
    _app: OwnedSemaphorePermit,
    _total: OwnedSemaphorePermit,
}

impl Slots {
    /// Enough for so many requests in flight, per app and in total: twice as many, so that while some
    /// come back others stand ready.
    pub(super) fn new(http_per_app: usize, http_total: usize) -> Self {
        Self {
            live: LIVE.max(2 * http_per_app),
            deferred: DEFERRED.max(2 * http_per_app),
            total: Arc::new(Semaphore::new(DEFERRED_TOTAL.max(2 * http_total))),
            apps: Mutex::default(),
        }
    }

    /// Waits for a live slot, so long.
    pub(super) async fn live(&self, app: &AppId, budget: Duration) -> Option<OwnedSemaphorePermit> {
        let live = self.of(app).live.acquire_owned();
        tokio::time::timeout(budget, live).await.ok()?.ok()
    }

    /// A place for a deferred resolution, if there is one now.
    pub(super) fn deferred(&self, app: &AppId) -> Option<Place> {
        Some(Place {
            _app: self.of(app).deferred.try_acquire_owned().ok()?,
            _total: Arc::clone(&self.total).try_acquire_owned().ok()?,
        })
    }

    /// For how many there is place now; `strained` tells whether an app's calls hang.
    pub(super) fn room(&self, strained: impl Fn(&AppId) -> bool) -> Room {
        let apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = BTreeMap::new();
        for (app, slots) in apps.iter() {
            let free = slots.deferred.available_permits();
            let taken = self.deferred - free;
            if strained(app) {
                left.insert(app.clone(), DEFERRED_OF_STRAINED.saturating_sub(taken));
            } else if taken > 0 {
                left.insert(app.clone(), free);
            }
        }
        Room {
            total: self.total.available_permits(),
            per_app: self.deferred,
            left,
        }
    }

    fn of(&self, app: &AppId) -> OfApp {
        let mut apps = self.apps.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || OfApp {
            live: Arc::new(Semaphore::new(self.live)),
            deferred: Arc::new(Semaphore::new(self.deferred)),
        };
        apps.entry(app.clone()).or_insert_with(new).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_is_left_and_little_for_an_app_whose_calls_hang() {
        let (a, b) = (AppId::parse("wxa").unwrap(), AppId::parse("wxb").unwrap());
        let slots = Slots::new(100, 300);
        let room = slots.room(|_| false);
        assert_eq!((room.total, room.per_app), (600, 200));
        assert!(room.left.is_empty());
        let mut held: Vec<_> = (0..200).map(|_| slots.deferred(&a).unwrap()).collect();
        assert!(slots.deferred(&a).is_none());
        held.extend((0..3).map(|_| slots.deferred(&b).unwrap()));
        let room = slots.room(|app| *app == b);
        assert_eq!((room.total, room.left[&a], room.left[&b]), (397, 0, 1));
        held.clear();
        let room = slots.room(|app| *app == b);
        assert_eq!(
            (room.total, room.left.get(&a), room.left[&b]),
            (600, None, 4)
        );
    }
}
