//! How fast this work goes: by default it rests as long as it has worked, since live logins share the
//! machine and the store with it; and never faster than it is told.

use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How fast.
#[derive(Debug, Clone)]
pub struct Pace {
    polite: bool,
    /// Records a second, at most.
    rate: Option<u32>,
    begun: Instant,
    records: u64,
}

impl Pace {
    /// Rests if `polite`; goes through at most `rate` records a second.
    #[must_use]
    pub fn new(polite: bool, rate: Option<u32>) -> Self {
        Self {
            polite,
            rate,
            begun: Instant::now(),
            records: 0,
        }
    }

    /// Whether it rests.
    #[must_use]
    pub fn is_polite(&self) -> bool {
        self.polite
    }

    /// Rests as long as it worked.
    pub async fn rest(&self, worked: Duration, stop: &CancellationToken) {
        if self.polite {
            sleep(worked, stop).await;
        }
    }

    /// Rests after records were applied.
    pub async fn after(&mut self, records: usize, worked: Duration, stop: &CancellationToken) {
        self.records += u64::try_from(records).unwrap_or(0);
        let early = self.early(self.begun.elapsed());
        let rest = if self.polite { worked } else { Duration::ZERO };
        sleep(early.max(rest), stop).await;
    }

    /// How much too early it is after so long.
    fn early(&self, elapsed: Duration) -> Duration {
        #[allow(clippy::cast_precision_loss, reason = "seconds, rounded")]
        let due = self
            .rate
            .map(|rate| self.records as f64 / f64::from(rate.max(1)));
        Duration::from_secs_f64(due.unwrap_or(0.0)).saturating_sub(elapsed)
    }
}

async fn sleep(time: Duration, stop: &CancellationToken) {
    if !time.is_zero() {
        stop.run_until_cancelled(tokio::time::sleep(time)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_rate_is_kept_on_the_whole() {
        let stop = CancellationToken::new();
        let mut pace = Pace::new(false, Some(1_000));
        let begun = Instant::now();
        for _ in 0..5 {
            pace.after(20, Duration::from_secs(60), &stop).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(100), "too fast");
        assert_eq!(pace.early(Duration::from_millis(40)).as_millis(), 60);
        // In a hurry, and no rate: it never rests.
        let mut pace = Pace::new(false, None);
        pace.after(1_000_000, Duration::from_secs(60), &stop).await;
        assert_eq!(pace.early(Duration::ZERO), Duration::ZERO);
    }
}
