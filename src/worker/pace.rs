//! Keeps beginnings a little apart. What comes every millisecond is dearest when each is handled by
//! itself; a moment later it is a batch. What comes seldom waits for nothing.

use std::time::Duration;
use tokio::time::Instant;

/// One thing that is begun again and again.
pub(super) struct Pace {
    apart: Duration,
    next: Instant,
}

impl Pace {
    /// Begins that are at least `apart`; the first is at once.
    pub fn new(apart: Duration) -> Self {
        let next = Instant::now();
        Self { apart, next }
    }

    /// Waits for its turn.
    pub async fn turn(&mut self) {
        tokio::time::sleep_until(self.next).await;
        self.next = Instant::now() + self.apart;
    }
}
