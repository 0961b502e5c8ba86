//! One flight per code at a time: whoever comes second waits, then finds what the first one noted.

use super::ports::Mark;
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The codes in flight in this process.
#[derive(Debug, Default)]
pub struct Flights {
    open: Arc<StdMutex<FxHashMap<Mark, Arc<Mutex<()>>>>>,
}

/// Being in flight; over when dropped.
#[derive(Debug)]
pub struct Flight {
    mark: Mark,
    open: Arc<StdMutex<FxHashMap<Mark, Arc<Mutex<()>>>>>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Flights {
    /// Waits until nobody else is in flight with the mark.
    pub async fn enter(&self, mark: Mark) -> Flight {
        let gate = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(open.entry(mark).or_default())
        };
        // Made before waiting, so that giving up the wait tidies up as well.
        let mut flight = Flight {
            mark,
            open: Arc::clone(&self.open),
            guard: None,
        };
        flight.guard = Some(gate.lock_owned().await);
        flight
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.guard = None;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever waits or flies holds a second reference.
        if open
            .get(&self.mark)
            .is_some_and(|g| Arc::strong_count(g) == 1)
        {
            open.remove(&self.mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_and_nothing_is_left_behind() {
        let flights = Flights::default();
        let mark = Mark([1; 32]);
        let first = flights.enter(mark).await;
        let mut second = Box::pin(flights.enter(mark));
        assert!(futures::poll!(&mut second).is_pending());
        let _other = flights.enter(Mark([2; 32])).await;
        drop(first);
        drop(second.await);
        assert_eq!(flights.open.lock().expect("lock").len(), 1);
    }
}
