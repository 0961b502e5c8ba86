//! The watchdog: notices a worker that has something to do and gets nowhere.
//!
//! What fails is tried again; what *hangs* (a database or a broker that took a request and never
//! answers, a lock that nobody frees) would stand for good, while the process looks alive. So each
//! step that must end is noted while it is under way, and so is whether records that were read get
//! finished. It counts its own ticks, not hours: while the process is stopped (SIGSTOP, a paused
//! machine) nothing ages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Ticks after which a step is stuck.
const TICKS: u32 = 60;

/// Something is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// What was being done.
    pub what: &'static str,
    /// For about how long, at least.
    pub after: Duration,
}

/// Tells how far something got that is to go on: `None` while there is nothing to do.
type Gauge = Box<dyn Fn() -> Option<u64> + Send>;

/// Watches the steps of one worker.
pub struct Watchdog {
    limit: Duration,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    next: u64,
    steps: BTreeMap<u64, Step>,
}

struct Step {
    what: &'static str,
    age: u32,
    /// Ages only while the gauge stands; without one, always.
    gauge: Option<Gauge>,
    seen: Option<u64>,
}

impl Step {
    fn tick(&mut self) {
        let moved = match &self.gauge {
            None => false,
            Some(gauge) => {
                let now = gauge();
                let moved = now.is_none() || now != self.seen;
                self.seen = now;
                moved
            }
        };
        self.age = if moved { 0 } else { self.age + 1 };
    }
}

impl Watchdog {
    /// Steps that take longer than `limit` are stuck.
    #[must_use]
    pub fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit,
            books: Mutex::default(),
        })
    }

    /// Does something that must end within the limit.
    pub(super) async fn step<T>(&self, what: &'static str, doing: impl Future<Output = T>) -> T {
        let _noted = self.note(what, None);
        doing.await
    }

    /// Watches over something that must go on, until the answer is dropped.
    pub(super) fn attend(
        &self,
        what: &'static str,
        gauge: impl Fn() -> Option<u64> + Send + 'static,
    ) -> Noted<'_> {
        self.note(what, Some(Box::new(gauge)))
    }

    /// Resolves when something is stuck.
    pub async fn bites(&self) -> Stuck {
        loop {
            tokio::time::sleep(self.limit / TICKS).await;
            let mut books = self.books();
            for step in books.steps.values_mut() {
                step.tick();
                if step.age >= TICKS {
                    return Stuck {
                        what: step.what,
                        after: self.limit,
                    };
                }
            }
        }
    }

    fn note(&self, what: &'static str, gauge: Option<Gauge>) -> Noted<'_> {
        let mut books = self.books();
        let id = books.next;
        books.next += 1;
        let step = Step {
            what,
            age: 0,
            gauge,
            seen: None,
        };
        books.steps.insert(id, step);
        Noted { dog: self, id }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing that could panic runs under the lock but gauges, which leave the books sound.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step under way.
#[must_use]
pub(super) struct Noted<'a> {
    dog: &'a Watchdog,
    id: u64,
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.dog.books().steps.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const LIMIT: Duration = Duration::from_millis(300);

    async fn bites_within(dog: &Watchdog, wait: Duration) -> Option<Stuck> {
        tokio::time::timeout(wait, dog.bites()).await.ok()
    }

    #[tokio::test]
    async fn a_step_that_never_ends_is_told_by_its_name() {
        let dog = Watchdog::new(LIMIT);
        let watched = Arc::clone(&dog);
        let hanging = tokio::spawn(async move {
            watched.step("hanging", std::future::pending::<()>()).await;
        });
        let stuck = bites_within(&dog, LIMIT * 20).await.expect("bites");
        assert_eq!((stuck.what, stuck.after), ("hanging", LIMIT));
        hanging.abort();
        hanging.await.expect_err("aborted");
        assert_eq!(bites_within(&dog, LIMIT * 3).await, None, "it is over");
    }

    #[tokio::test]
    async fn steps_that_end_never_bite_however_many_they_are() {
        let dog = Watchdog::new(LIMIT);
        let watched = Arc::clone(&dog);
        let busy = tokio::spawn(async move {
            loop {
                let nap = tokio::time::sleep(Duration::from_millis(20));
                watched.step("busy", nap).await;
            }
        });
        assert_eq!(bites_within(&dog, LIMIT * 4).await, None);
        busy.abort();
    }

    #[tokio::test]
    async fn what_goes_on_does_not_bite_until_it_stands() {
        let dog = Watchdog::new(LIMIT);
        let at = Arc::new(AtomicU64::new(0));
        let gauge = Arc::clone(&at);
        let _noted = dog.attend("going on", move || {
            // 0 stands for nothing to do.
            Some(gauge.load(Ordering::Relaxed)).filter(|n| *n > 0)
        });
        assert_eq!(bites_within(&dog, LIMIT * 3).await, None, "nothing to do");
        let moving = Arc::clone(&at);
        let mover = tokio::spawn(async move {
            loop {
                moving.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert_eq!(bites_within(&dog, LIMIT * 3).await, None, "it moves");
        mover.abort();
        let stuck = bites_within(&dog, LIMIT * 20).await.expect("bites");
        assert_eq!(stuck.what, "going on");
    }
}
