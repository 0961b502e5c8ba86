//! Whether requests go through: a refusal closes, and after a pause one request at a time tries again.

use crate::model::Millis;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// First pause after refused credentials; doubles with each refusal in a row.
pub(super) const FIRST_PARK_MS: i64 = 5_000;
/// Longest pause: an operator who corrects a secret waits no longer than this.
pub(super) const LONGEST_PARK_MS: i64 = 60_000;
/// While one request tries whether a refusal is over, others come back after this.
pub(super) const PROBE_MS: i64 = 1_000;

/// What a refusal says: WeChat's code, or our own reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// `errcode`; `None`: a status, or an answer without one.
    Code(Option<i64>),
    /// In words.
    Words(&'static str),
}

/// Opens with a refusal; after its pause one request at a time tries again.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Closed until then.
    pub until: Millis,
    /// In a row.
    pub refusals: u32,
    /// What the operator was told last.
    told: Option<Cause>,
    probing: Arc<AtomicBool>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            until: Millis(i64::MIN),
            refusals: 0,
            told: None,
            probing: Arc::default(),
        }
    }
}

/// The one request that tries whether a refusal is over.
#[derive(Debug)]
pub(super) struct Probe(Arc<AtomicBool>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Breaker {
    /// Closes, longer each time. Until when, and whether it was open.
    pub fn refuse(&mut self, now: Millis, first: i64, longest: i64) -> (Millis, bool) {
        if self.until > now {
            return (self.until, false);
        }
        let pause = (first << self.refusals.min(8)).min(longest);
        self.refusals += 1;
        self.until = now.plus(pause);
        (self.until, true)
    }

    /// Parks for a while. Until when, and whether that is news: an operator who is told the same once
    /// a minute stops to listen.
    pub fn refuse_for(&mut self, cause: Cause, now: Millis) -> (Millis, bool) {
        let (until, parked) = self.refuse(now, FIRST_PARK_MS, LONGEST_PARK_MS);
        (until, parked && self.told.replace(cause) != Some(cause))
    }

    /// Opens; how often in a row it had been refused.
    pub fn accept(&mut self) -> u32 {
        self.told = None;
        std::mem::take(&mut self.refusals)
    }

    /// Lets a request through; after more than so many refusals only one at a time.
    pub fn enter(&self, now: Millis, lenient: u32) -> Result<Option<Probe>, Millis> {
        if self.until > now {
            return Err(self.until);
        }
        if self.refusals <= lenient {
            return Ok(None);
        }
        if self.probing.swap(true, Ordering::AcqRel) {
            return Err(now.plus(PROBE_MS));
        }
        Ok(Some(Probe(Arc::clone(&self.probing))))
    }
}
