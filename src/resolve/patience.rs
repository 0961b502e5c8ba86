//! How long an app's logins are waited for inline. What follows in the same partition waits with them, also
//! the logins of other apps: so no longer than a few times what is usual for the app, and hardly at all
//! for one whose calls fail.

use super::ladder::Resolved;
use crate::model::AppId;
use rustc_hash::FxHashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// So many times what is usual.
const TIMES: f64 = 4.0;
/// Shorter than this is the scheduler's doing, not WeChat's.
const LEAST: Duration = Duration::from_millis(100);
/// Weight of a newer time.
const WEIGHT: f64 = 0.125;
/// What is left of the usual after a failure.
const AFTER_FAILURE: f64 = 0.75;

/// What is usual for each app.
pub(super) struct Patience {
    most: Duration,
    usual: Mutex<FxHashMap<AppId, f64>>,
}

impl Patience {
    /// Never more than `most`, which is also where an app begins.
    pub(super) fn new(most: Duration) -> Self {
        Self {
            most,
            usual: Mutex::default(),
        }
    }

    /// How long to wait for a login of the app.
    pub(super) fn with(&self, app: &AppId) -> Duration {
        let usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        let usual = usual.get(app).map(|s| Duration::from_secs_f64(s * TIMES));
        usual.map_or(self.most, |usual| usual.max(LEAST).min(self.most))
    }

    /// A resolution came to this after so long, whether or not anybody still waited.
    pub(super) fn learn(&self, app: &AppId, took: Duration, came: &Resolved) {
        let most = self.most.as_secs_f64() / TIMES;
        let mut usual = self.usual.lock().unwrap_or_else(PoisonError::into_inner);
        let usual = usual.entry(app.clone()).or_insert(most);
        match came {
            Resolved::Later(later) if later.for_key => {}
            Resolved::Later(_) => *usual *= AFTER_FAILURE,
            Resolved::Facts(_) | Resolved::Dead(..) => {
                *usual += WEIGHT * (took.as_secs_f64().min(most) - *usual);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::DeadReason;
    use crate::resolve::ladder::Later;

    const SECOND: Duration = Duration::from_secs(1);

    fn later(for_key: bool) -> Resolved {
        Resolved::Later(Box::new(Later {
            interim: None,
            reason: None,
            unasked: false,
            for_key,
            next_at: crate::model::Millis(0),
            expires_at: crate::model::Millis(0),
        }))
    }

    #[test]
    fn waits_a_few_times_the_usual_and_learns_in_both_directions() {
        let patience = Patience::new(SECOND);
        let (a, b) = (AppId::parse("wxa").unwrap(), AppId::parse("wxb").unwrap());
        let done = || Resolved::Dead(DeadReason::CodeDead, "");
        let settle = |ms| {
            for _ in 0..100 {
                patience.learn(&a, Duration::from_millis(ms), &done());
            }
            patience.with(&a).as_millis()
        };
        assert_eq!(patience.with(&a), SECOND);
        assert!(
            (395..=405).contains(&settle(100)),
            "{:?}",
            patience.with(&a)
        );
        // One of fifty that fails changes little; that nobody waited for the slow ones, nothing.
        patience.learn(&a, SECOND, &later(false));
        assert!(patience.with(&a) >= Duration::from_millis(295));
        assert_eq!(settle(10), LEAST.as_millis());
        assert!(settle(700) > 990, "{:?}", patience.with(&a));
        for _ in 0..20 {
            patience.learn(&b, SECOND, &later(true));
        }
        assert_eq!(
            patience.with(&b),
            SECOND,
            "a key that is missing is no failure"
        );
        for _ in 0..20 {
            patience.learn(&b, SECOND, &later(false));
        }
        assert_eq!(patience.with(&b), LEAST);
        let hasty = Patience::new(Duration::ZERO);
        hasty.learn(&a, SECOND, &done());
        assert_eq!(hasty.with(&a), Duration::ZERO);
    }
}
