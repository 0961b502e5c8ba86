//! Who comes back at the moment at which a pause ends. All that waits for a refused API could, and all but one
//! would be turned away again, as often as it is refused. So a few do, and what else waits comes at its own
//! time: once WeChat takes one, all are called.

use crate::model::{AppId, Millis};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// More than one, since one may find its answer elsewhere, or be too old by then.
const FEW: usize = 4;

/// Who was told to come at which moment.
#[derive(Debug, Default)]
pub(super) struct Turns {
    given: Mutex<FxHashMap<AppId, BTreeMap<Millis, usize>>>,
}

impl Turns {
    /// When to come back: at `until`, the end of a pause, or, if enough do, at one's `own` time after it.
    pub fn take(&self, app: &AppId, until: Millis, own: Millis, now: Millis) -> Millis {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let given = given.entry(app.clone()).or_default();
        given.retain(|end, _| *end > now);
        let taken = given.entry(until).or_default();
        if *taken < FEW {
            *taken += 1;
            return until;
        }
        until.max(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_come_at_the_end_of_each_pause_and_the_others_at_their_own_time() {
        let turns = Turns::default();
        let (a, b) = (AppId::parse("wxa").unwrap(), AppId::parse("wxb").unwrap());
        let told =
            |app, until, own, now| turns.take(app, Millis(until), Millis(own), Millis(now)).0;
        let first: Vec<i64> = (0..6).map(|_| told(&a, 5_000, 600_000, 0)).collect();
        assert_eq!(first, [5_000, 5_000, 5_000, 5_000, 600_000, 600_000]);
        assert_eq!(told(&a, 5_000, 1_000, 0), 5_000, "never before");
        assert_eq!(told(&b, 5_000, 600_000, 0), 5_000, "another app's");
        // The next pause has turns of its own, and those of the first are forgotten.
        assert_eq!(told(&a, 15_000, 600_000, 5_000), 15_000);
        assert_eq!(turns.given.lock().unwrap()[&a].len(), 1);
    }
}
