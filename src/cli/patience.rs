//! Waiting for services: whoever starts before its database or its brokers are there waits for them,
//! says so now and then, and goes on by itself.

use super::Failure;
use crate::bus::BusError;
use crate::store::StoreError;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// A line in the log this often.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Why something could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It may work later.
    #[error("{0}")]
    Later(String),
    /// It will not work until somebody changes something.
    #[error(transparent)]
    Never(#[from] Failure),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Later(error.to_string()),
            StoreError::Mismatch(_) | StoreError::Corrupt(_) => Failure::failed(error).into(),
        }
    }
}

impl From<BusError> for Trouble {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Unavailable(_) => Self::Later(error.to_string()),
            BusError::Refused(_) => Failure::failed(error).into(),
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Later(why) => Self::Failed(why),
            Trouble::Never(failure) => failure,
        }
    }
}

/// Tries until it works; `None` if `stop` came first.
///
/// # Errors
/// What no waiting can help.
pub async fn patiently<T, F: Future<Output = Result<T, Trouble>>>(
    what: &str,
    stop: &CancellationToken,
    mut attempt: impl FnMut() -> F,
) -> Result<Option<T>, Failure> {
    let mut said: Option<Instant> = None;
    loop {
        let attempted = match stop.run_until_cancelled(attempt()).await {
            None => return Ok(None),
            Some(attempted) => attempted,
        };
        match attempted {
            Ok(opened) => return Ok(Some(opened)),
            Err(Trouble::Never(failure)) => return Err(failure),
            Err(Trouble::Later(why)) => {
                if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                    tracing::warn!(%why, "waiting for {what}");
                    said = Some(Instant::now());
                }
            }
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(PAUSE))
            .await
            .is_none()
        {
            return Ok(None);
        }
    }
}
