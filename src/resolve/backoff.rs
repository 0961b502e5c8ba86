//! How long to wait before the next attempt.

use rand::RngExt;

/// First pause of the backoff.
const BACKOFF_MS: i64 = 500;
/// Longest pause: a code lives five minutes, so it gets some twenty attempts.
pub(super) const LONGEST_BACKOFF_MS: i64 = 20_000;
/// Longest pause of a question that may be asked for days; what is waited for wakes it earlier.
pub(super) const LONGEST_QUESTION_MS: i64 = 10 * 60_000;

/// Exponential, capped, with jitter over the upper half, so that what failed together does not
/// come back together.
pub(super) fn backoff_ms(attempt: u32, longest: i64) -> i64 {
    let full = (BACKOFF_MS << attempt.min(20)).min(longest);
    rand::rng().random_range(full / 2..=full)
}
