//! Apps that operators have paused: their gates are closed whatever WeChat says.

use super::gate::Gates;
use crate::model::{AppId, Millis};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

/// When what was put off for a pause is tried again. Once the app is resumed, it is due at once.
const LATER_MS: i64 = 2 * 60_000;

/// The apps that are paused.
#[derive(Debug, Default)]
pub struct Paused(RwLock<BTreeSet<AppId>>);

impl Paused {
    /// These are paused from now on, and no others. Those of which that is news.
    pub fn set(&self, apps: &BTreeSet<AppId>) -> Vec<AppId> {
        let mut paused = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let changed = paused.symmetric_difference(apps).cloned().collect();
        paused.clone_from(apps);
        changed
    }

    /// This one is, again.
    pub fn add(&self, app: &AppId) {
        let mut paused = self.0.write().unwrap_or_else(PoisonError::into_inner);
        paused.insert(app.clone());
    }

    /// Until when the app is put off, if it is paused.
    pub(super) fn until(&self, app: &AppId, now: Millis) -> Option<Millis> {
        let paused = self.0.read().unwrap_or_else(PoisonError::into_inner);
        paused.contains(app).then(|| now.plus(LATER_MS))
    }

    /// The same, as whoever asks for admission wants it.
    pub(super) fn enter(&self, app: &AppId, now: Millis) -> Result<(), Millis> {
        self.until(app, now).map_or(Ok(()), Err)
    }
}

impl Gates {
    /// Heeds these pauses, as they are at each moment.
    #[must_use]
    pub fn heeding(mut self, paused: &Arc<Paused>) -> Self {
        self.paused = Arc::clone(paused);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::codes::Api;
    use crate::resolve::gate::Limits;

    #[tokio::test]
    async fn nobody_is_admitted_while_the_app_is_paused() {
        let app = |text| AppId::parse(text).expect("valid");
        let (a, b) = (app("wxa"), app("wxb"));
        let paused = Arc::new(Paused::default());
        let gates = Gates::new(Limits {
            per_app: 1,
            total: 2,
            ..Limits::default()
        });
        let gates = gates.heeding(&paused);
        let (api, now) = (Api::Code2Session, || Millis(1_000));
        let held = gates.admit(&a, api, now).await.expect("open");
        let only = |app: &AppId| BTreeSet::from([app.clone()]);
        let waits = async {
            // Whoever waits for a slot finds the app paused once it is his turn.
            let waiting = gates.admit(&a, api, now);
            let pausing = async {
                tokio::task::yield_now().await;
                assert_eq!(paused.set(&only(&a)), std::slice::from_ref(&a));
                drop(held);
            };
            tokio::join!(waiting, pausing).0
        };
        let until = Millis(1_000 + LATER_MS);
        assert_eq!(waits.await.err(), Some(until));
        assert_eq!(gates.ready(&a, api, now).await.err(), Some(until));
        assert_eq!(gates.parked(&a, Api::UserInfo, now()), Some(until));
        assert!(gates.admit(&b, api, now).await.is_ok());
        assert_eq!(paused.set(&only(&b)), [a.clone(), b.clone()]);
        assert!(gates.admit(&a, api, now).await.is_ok());
        paused.add(&a);
        assert!(gates.admit(&a, api, now).await.is_err());
        assert!(paused.set(&BTreeSet::from([a.clone(), b])).is_empty());
    }
}
