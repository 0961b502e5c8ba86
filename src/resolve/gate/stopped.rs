//! What keeps an app from being asked, for who decides whether to wait.

use super::Gates;
use crate::model::{AppId, Millis};

/// What keeps an app from being asked; what lasts longest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stopped {
    /// An operator has paused it.
    Paused,
    /// The day's quota of an API is spent.
    Quota,
    /// WeChat refuses the app, or an API of it.
    Refused,
    /// There were too many calls this minute.
    Limited,
}

impl Gates {
    /// What keeps the app, or an API of it, from being asked at `now`.
    #[must_use]
    pub fn stopped(&self, app: &AppId, now: Millis) -> Option<Stopped> {
        if self.paused.until(app, now).is_some() {
            return Some(Stopped::Paused);
        }
        let apps = self.lock();
        let gate = apps.get(app)?;
        if gate.breaker.refusals > 0 {
            return Some(Stopped::Refused);
        }
        let lines = gate.apis.values().filter_map(|line| {
            if line.breaker.refusals > 0 {
                Some(Stopped::Refused)
            } else if line.breaker.until > now {
                Some(Stopped::Quota)
            } else {
                (line.limited.refusals > 0).then_some(Stopped::Limited)
            }
        });
        lines.min()
    }
}
