//! How much the intake takes.

use crate::config;
use std::num::NonZeroU32;
use std::time::Duration;

/// Longest wait for the bus: beyond it a gateway does better to hold the event itself. Kafka moves a
/// partition to another leader in less.
const PUBLISH_WAIT: Duration = Duration::from_secs(5);
/// Longest body read: a megabyte in this time is 100 kB/s.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// Limits of one intake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one body.
    pub max_body: usize,
    /// Events of one request.
    pub max_events: usize,
    /// Requests at once.
    pub max_in_flight: usize,
    /// Events per second and caller.
    pub rate: Option<NonZeroU32>,
    /// Longest wait for the bus.
    pub publish_wait: Duration,
    /// Longest wait for a body.
    pub body_wait: Duration,
}

/// Longest body of whoever shows no key, in bytes: WeChat's pushes have a few KiB, and strangers could
/// have the whole of all places held in memory.
const VISITORS_BODY: usize = 128 * 1024;

impl Limits {
    /// Bytes of one body, of a caller without a key.
    pub(super) fn visitors_body(&self) -> usize {
        self.max_body.min(VISITORS_BODY)
    }
}

impl From<&config::Intake> for Limits {
    fn from(config: &config::Intake) -> Self {
        Self {
            max_body: config.max_body,
            max_events: config.max_events,
            max_in_flight: config.max_in_flight,
            rate: config.rate.and_then(NonZeroU32::new),
            publish_wait: PUBLISH_WAIT,
            body_wait: BODY_WAIT,
        }
    }
}
