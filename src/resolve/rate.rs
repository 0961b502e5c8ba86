//! So many requests a minute.

use governor::{DefaultDirectRateLimiter, Quota};
use std::num::NonZeroU32;
use std::time::Duration;

/// So many calls a minute.
#[derive(Debug)]
pub(super) struct Rate {
    /// Who is next: one waits for the time to come, the others for him.
    pub turn: tokio::sync::Mutex<()>,
    /// Says when.
    pub limiter: DefaultDirectRateLimiter,
}

/// So many a minute, never more in any minute: what may come at once is taken off the rest.
pub(super) fn rate(per_minute: u32) -> Option<Rate> {
    let burst = NonZeroU32::new((per_minute / 60).max(1))?;
    let rest = per_minute.saturating_sub(burst.get()).max(1);
    let quota = Quota::with_period(Duration::from_secs(60) / rest)?.allow_burst(burst);
    Some(Rate {
        turn: tokio::sync::Mutex::default(),
        limiter: DefaultDirectRateLimiter::direct(quota),
    })
}
