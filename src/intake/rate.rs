//! Events per second, for each caller by itself.

use super::Limits;
use crate::http::{Caller, HttpError};
use axum::http::StatusCode;
use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;

/// One limiter per caller; empty without a limit.
pub(super) struct Rates(Vec<DefaultDirectRateLimiter>);

impl Rates {
    /// A burst is a second's worth, and never less than one request may hold: a full array would
    /// otherwise never pass.
    pub(super) fn new(limits: &Limits, callers: usize) -> Self {
        let Some(rate) = limits.rate else {
            return Self(Vec::new());
        };
        let most = u32::try_from(limits.max_events).unwrap_or(u32::MAX);
        let burst = NonZeroU32::new(most).map_or(rate, |most| most.max(rate));
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self((0..callers).map(|_| RateLimiter::direct(quota)).collect())
    }

    /// Takes `events` off what the caller may send.
    pub(super) fn admit(&self, caller: Caller, events: usize) -> Result<(), HttpError> {
        let events = u32::try_from(events).ok().and_then(NonZeroU32::new);
        let (Some(limiter), Some(events)) = (self.0.get(caller.0), events) else {
            return Ok(());
        };
        let seconds = match limiter.check_n(events) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(until)) => until.wait_time_from(limiter.clock().now()).as_secs() + 1,
            // More than a burst: `max_events` keeps requests from it.
            Err(_) => 1,
        };
        let problem = "more events per second than this key may send; come back later";
        Err(HttpError {
            retry_after: Some(seconds),
            ..HttpError::new(StatusCode::TOO_MANY_REQUESTS, problem)
        })
    }
}
