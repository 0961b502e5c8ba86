//! One gate per app: how many requests may be in flight, how many a minute, and whether the app, or
//! one API of it, is parked because WeChat refuses it (a wrong secret, a spent quota). One app's
//! trouble never holds another's up.

mod stopped;

pub use super::breaker::Cause;
use super::breaker::{Breaker, PROBE_MS, Probe};
use super::codes::{Api, by_app_token};
use super::pauses::Paused;
use super::rate::{Rate, rate};
use crate::model::{AppId, Millis};
use governor::clock::{Clock as _, DefaultClock};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
pub use stopped::Stopped;
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};

/// First pause after a minute limit: some of WeChat's limits are those of one user
/// (`docs/wechat.md` §3.1), and the others need not wait for that user's next minute. Doubles with
/// each refusal in a row, up to the next minute.
const FIRST_LIMITED_MS: i64 = 500;
/// Calls in a row without an answer after which an app gets few slots until one is answered: calls
/// that hang must not hold the slots of all.
const STRAINED: u32 = 8;
/// The slots of an app whose calls hang.
const STRAINED_SLOTS: usize = 2;

/// How many requests may be in flight, and how many a minute.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// In flight, per app.
    pub per_app: usize,
    /// In flight, in total.
    pub total: usize,
    /// A minute, of one app, by API; an API that is not named has no limit.
    pub per_minute: FxHashMap<Api, u32>,
}

/// The gates of all apps.
#[derive(Debug)]
pub struct Gates {
    limits: Limits,
    total: Arc<Semaphore>,
    apps: Mutex<FxHashMap<AppId, Gate>>,
    pub(super) paused: Arc<Paused>,
}

#[derive(Debug)]
struct Gate {
    slots: Arc<Semaphore>,
    /// As many as have a slot may stand ready for the next.
    ready: Arc<Semaphore>,
    strain: Arc<Strain>,
    unanswered: u32,
    breaker: Breaker,
    apis: FxHashMap<Api, Line>,
}

/// What an app has whose calls hang.
#[derive(Debug)]
struct Strain {
    /// Besides a slot, what a request needs meanwhile.
    few: Arc<Semaphore>,
    /// It is over.
    over: Notify,
}

/// What one API of an app has for itself.
#[derive(Debug, Default)]
struct Line {
    breaker: Breaker,
    /// Opens with minute limits.
    limited: Breaker,
    rate: Option<Arc<Rate>>,
}

/// Permission for one request; giving it back is dropping it.
#[derive(Debug)]
pub struct Pass {
    _held: Held,
    _probes: Probes,
}

/// The slots of one request.
#[derive(Debug)]
struct Held {
    _strained: Option<OwnedSemaphorePermit>,
    _app: OwnedSemaphorePermit,
    _total: OwnedSemaphorePermit,
}

type Probes = [Option<Probe>; 3];

impl Pass {
    fn new(held: Held, probes: Probes) -> Self {
        Self {
            _held: held,
            _probes: probes,
        }
    }
}

impl Gates {
    /// All gates open.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            total: Arc::new(Semaphore::new(limits.total)),
            limits,
            apps: Mutex::default(),
            paused: Arc::default(),
        }
    }

    /// Until when the API is parked for the app, if it is at `now`.
    #[must_use]
    pub fn parked(&self, app: &AppId, api: Api, now: Millis) -> Option<Millis> {
        let refused = || {
            let apps = self.lock();
            let gate = apps.get(app)?;
            let line = gate.apis.get(&api);
            let line = line.map(|line| line.breaker.until.max(line.limited.until));
            let until = line.unwrap_or(gate.breaker.until).max(gate.breaker.until);
            (until > now).then_some(until)
        };
        self.paused.until(app, now).or_else(refused)
    }

    /// Whether the app's calls hang, so that it has few slots.
    #[must_use]
    pub fn strained(&self, app: &AppId) -> bool {
        let apps = self.lock();
        apps.get(app)
            .is_some_and(|gate| gate.unanswered >= STRAINED)
    }

    /// Waits until its turn is near: for what has to be done before a request and must not hold a
    /// slot meanwhile. To be dropped once it is admitted.
    ///
    /// # Errors
    /// The app is parked: until when.
    pub async fn ready(
        &self,
        app: &AppId,
        api: Api,
        now: impl Fn() -> Millis,
    ) -> Result<OwnedSemaphorePermit, Millis> {
        let ready = {
            let mut apps = self.lock();
            Arc::clone(&self.gate(&mut apps, app).ready)
        };
        if let Some(until) = self.parked(app, api, now()) {
            return Err(until);
        }
        // Never closed.
        let ready = ready.acquire_owned().await;
        let ready = ready.map_err(|_| now().plus(PROBE_MS))?;
        // While it waited, the app may have been refused.
        match self.parked(app, api, now()) {
            Some(until) => Err(until),
            None => Ok(ready),
        }
    }

    /// Waits for the API's turn, for a slot of the app, then for one of all.
    ///
    /// # Errors
    /// The app is parked: until when. `now` tells the time again after the wait.
    pub async fn admit(
        &self,
        app: &AppId,
        api: Api,
        now: impl Fn() -> Millis,
    ) -> Result<Pass, Millis> {
        if let Some(until) = self.parked(app, api, now()) {
            return Err(until);
        }
        // None of the semaphores is ever closed.
        let closed = |_| now().plus(PROBE_MS);
        let Some(rate) = self.rate(app, api) else {
            let held = self.hold(app).await.map_err(closed)?;
            // While it waited for its turn, the app may have been refused.
            let probes = self.enter(app, api, now())?;
            return Ok(Pass::new(held, probes));
        };
        let _turn = rate.turn.lock().await;
        loop {
            let held = self.hold(app).await.map_err(closed)?;
            let probes = self.enter(app, api, now())?;
            // Counted as it leaves, not when it begins to wait for a slot: what slots held up must
            // not leave all at once. Nobody holds a slot while he waits for the minute.
            match rate.limiter.check() {
                Ok(()) => return Ok(Pass::new(held, probes)),
                Err(early) => {
                    drop((held, probes));
                    let wait = early.wait_time_from(DefaultClock::default().now());
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// The app's slot first: an app that has used up its own must not hold the others' slots.
    async fn hold(&self, app: &AppId) -> Result<Held, AcquireError> {
        let (slots, strain) = self.handles(app);
        loop {
            let over = strain.over.notified();
            let few = if self.strained(app) {
                tokio::select! {
                    few = Arc::clone(&strain.few).acquire_owned() => Some(few?),
                    () = over => continue,
                }
            } else {
                None
            };
            let slot = Arc::clone(&slots).acquire_owned().await?;
            // Whoever waited for the slot while the calls began to hang gives it back.
            if few.is_none() && self.strained(app) {
                continue;
            }
            let total = Arc::clone(&self.total).acquire_owned().await?;
            return Ok(Held {
                _strained: few,
                _app: slot,
                _total: total,
            });
        }
    }

    fn handles(&self, app: &AppId) -> (Arc<Semaphore>, Arc<Strain>) {
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        (Arc::clone(&gate.slots), Arc::clone(&gate.strain))
    }

    fn rate(&self, app: &AppId, api: Api) -> Option<Arc<Rate>> {
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        self.line(gate, api).rate.clone()
    }

    fn enter(&self, app: &AppId, api: Api, now: Millis) -> Result<Probes, Millis> {
        self.paused.enter(app, now)?;
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        let whole = gate.breaker.enter(now, 0)?;
        let line = self.line(gate, api);
        Ok([
            whole,
            line.breaker.enter(now, 0)?,
            // One limit may have been one user's; the next one is not.
            line.limited.enter(now, 1)?,
        ])
    }

    /// WeChat refuses the app (or, if `api` is given, that API of it): parks it, longer each time.
    /// Until when, and whether the operator has not been told of the cause yet.
    pub fn refuse(
        &self,
        app: &AppId,
        api: Option<Api>,
        cause: Cause,
        now: Millis,
    ) -> (Millis, bool) {
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        match api {
            None => gate.breaker.refuse_for(cause, now),
            Some(api) => self.line(gate, api).breaker.refuse_for(cause, now),
        }
    }

    /// A minute limit: pauses the API, at the longest until the minute is over.
    pub fn limit(&self, app: &AppId, api: Api, now: Millis, next_minute: Millis) {
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        let longest = next_minute.since(now);
        let limited = &mut self.line(gate, api).limited;
        limited.refuse(now, FIRST_LIMITED_MS, longest);
    }

    /// Parks an API of the app until `until` (a limit that ends by itself).
    pub fn park(&self, app: &AppId, api: Api, until: Millis) {
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        let breaker = &mut self.line(gate, api).breaker;
        breaker.until = breaker.until.max(until);
    }

    /// WeChat answered: the app's credentials are good, and so is the API. Whether either had been
    /// refused before.
    pub fn accepted(&self, app: &AppId, api: Api) -> bool {
        let mut apps = self.lock();
        let Some(gate) = apps.get_mut(app) else {
            return false;
        };
        if gate.unanswered >= STRAINED {
            gate.strain.over.notify_waiters();
        }
        gate.unanswered = 0;
        let mut refused = gate.breaker.accept();
        if let Some(line) = gate.apis.get_mut(&api) {
            line.limited.refusals = 0;
            refused += line.breaker.accept();
        }
        // Where the app's token was good, it has come, whoever brought it.
        if by_app_token(api)
            && let Some(line) = gate.apis.get_mut(&Api::AppToken)
        {
            refused += line.breaker.accept();
        }
        refused > 0
    }

    /// A call got no answer in time.
    pub fn unanswered(&self, app: &AppId) {
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        gate.unanswered = gate.unanswered.saturating_add(1);
    }

    fn gate<'a>(&self, apps: &'a mut FxHashMap<AppId, Gate>, app: &AppId) -> &'a mut Gate {
        apps.entry(app.clone()).or_insert_with(|| Gate {
            slots: Arc::new(Semaphore::new(self.limits.per_app)),
            ready: Arc::new(Semaphore::new(self.limits.per_app)),
            strain: Arc::new(Strain {
                few: Arc::new(Semaphore::new(STRAINED_SLOTS)),
                over: Notify::new(),
            }),
            unanswered: 0,
            breaker: Breaker::default(),
            apis: FxHashMap::default(),
        })
    }

    fn line<'a>(&self, gate: &'a mut Gate, api: Api) -> &'a mut Line {
        let limit = self.limits.per_minute.get(&api).copied();
        gate.apis.entry(api).or_insert_with(|| Line {
            rate: limit.and_then(rate).map(Arc::new),
            ..Line::default()
        })
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<AppId, Gate>> {
        // Nothing panics while it is held; a poisoned lock still holds a consistent map.
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::{FIRST_PARK_MS, LONGEST_PARK_MS};
    use super::*;
    use std::time::Duration;

    const API: Api = Api::Code2Session;
    const SECRET: Cause = Cause::Code(Some(40_125));
    const ADDRESS: Cause = Cause::Code(Some(40_164));

    fn gates() -> (Gates, AppId, AppId) {
        let limits = Limits {
            per_app: 1,
            total: 2,
            ..Limits::default()
        };
        let app = |t| AppId::parse(t).expect("valid");
        (Gates::new(limits), app("wxa"), app("wxb"))
    }

    fn at(ms: i64) -> impl Fn() -> Millis {
        move || Millis(ms)
    }

    #[test]
    fn refusals_park_one_app_longer_each_time() {
        let (gates, a, b) = gates();
        assert_eq!(
            gates.refuse(&a, None, SECRET, Millis(0)),
            (Millis(5_000), true)
        );
        assert_eq!(
            gates.refuse(&a, None, SECRET, Millis(10)),
            (Millis(5_000), false)
        );
        assert_eq!(
            gates.refuse(&a, None, SECRET, Millis(5_000)),
            (Millis(15_000), false)
        );
        assert_eq!(gates.parked(&b, API, Millis(0)), None);
        for _ in 0..20 {
            let until = gates.parked(&a, API, Millis(0)).expect("parked");
            gates.refuse(&a, None, SECRET, until);
        }
        let until = gates.parked(&a, API, Millis(0)).expect("parked");
        let (next, _) = gates.refuse(&a, None, SECRET, until);
        assert_eq!(next.since(until), LONGEST_PARK_MS);
        assert!(gates.accepted(&a, API));
        assert!(!gates.accepted(&a, API));
        assert_eq!(
            gates.refuse(&a, None, SECRET, next).0.since(next),
            FIRST_PARK_MS
        );
    }

    #[test]
    fn the_same_refusal_is_told_once_until_it_is_over() {
        let (gates, a, _) = gates();
        let mut at = Millis(0);
        let mut refuse = |cause| {
            let (until, news) = gates.refuse(&a, None, cause, at);
            at = until;
            news
        };
        let told = [SECRET, SECRET, ADDRESS, ADDRESS, SECRET].map(&mut refuse);
        assert_eq!(told, [true, false, true, false, true]);
        assert!(gates.accepted(&a, API));
        assert!(refuse(SECRET));
    }

    #[test]
    fn a_refused_api_leaves_the_others_open() {
        let (gates, a, _) = gates();
        gates.refuse(&a, Some(Api::UserInfo), SECRET, Millis(0));
        assert!(gates.parked(&a, Api::UserInfo, Millis(0)).is_some());
        assert_eq!(gates.parked(&a, API, Millis(0)), None);
        gates.park(&a, API, Millis(70));
        assert_eq!(gates.parked(&a, API, Millis(0)), Some(Millis(70)));
        assert_eq!(gates.parked(&a, API, Millis(70)), None);
    }

    #[tokio::test]
    async fn an_app_that_is_full_leaves_room_for_others() {
        let (gates, a, b) = gates();
        let held = gates.admit(&a, API, at(0)).await.expect("open");
        let mut second = Box::pin(gates.admit(&a, API, at(0)));
        assert!(futures::poll!(&mut second).is_pending());
        assert!(gates.admit(&b, API, at(0)).await.is_ok());
        drop(held);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn after_a_refusal_one_request_tries() {
        let limits = Limits {
            per_app: 4,
            total: 4,
            ..Limits::default()
        };
        let (gates, app) = (Gates::new(limits), AppId::parse("wxa").expect("valid"));
        let (until, _) = gates.refuse(&app, None, SECRET, Millis(0));
        assert_eq!(gates.admit(&app, API, at(0)).await.err(), Some(until));
        let probe = gates.admit(&app, API, at(5_000)).await.expect("the probe");
        let second = gates.admit(&app, API, at(5_000)).await.err();
        assert_eq!(second, Some(Millis(5_000 + PROBE_MS)));
        drop(probe);
        let probe = gates.admit(&app, API, at(5_000)).await.expect("the next");
        gates.accepted(&app, API);
        assert!(gates.admit(&app, API, at(5_000)).await.is_ok());
        drop(probe);
    }

    #[tokio::test]
    async fn an_app_whose_calls_hang_keeps_few_slots() {
        let limits = Limits {
            per_app: 8,
            total: 8,
            ..Limits::default()
        };
        let (gates, app) = (Gates::new(limits), AppId::parse("wxa").expect("valid"));
        for _ in 0..STRAINED {
            gates.unanswered(&app);
        }
        let one = gates.admit(&app, API, at(0)).await.expect("open");
        let _two = gates.admit(&app, API, at(0)).await.expect("open");
        let mut third = Box::pin(gates.admit(&app, API, at(0)));
        assert!(futures::poll!(&mut third).is_pending());
        drop(one);
        assert!(third.await.is_ok());
        gates.accepted(&app, API);
        let mut held = Vec::new();
        for _ in 0..7 {
            held.push(gates.admit(&app, API, at(0)).await.expect("open"));
        }
    }

    #[tokio::test]
    async fn who_waits_while_calls_begin_to_hang_gets_few_slots_and_all_once_they_do_not() {
        let limits = Limits {
            per_app: 4,
            total: 8,
            ..Limits::default()
        };
        let (gates, app) = (Gates::new(limits), AppId::parse("wxa").expect("valid"));
        let mut hanging = Vec::new();
        for _ in 0..4 {
            hanging.push(gates.admit(&app, API, at(0)).await.expect("open"));
        }
        let mut waiting: Vec<_> = (0..4)
            .map(|_| Box::pin(gates.admit(&app, API, at(0))))
            .collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        for _ in 0..STRAINED {
            gates.unanswered(&app);
        }
        hanging.clear();
        let mut admitted = Vec::new();
        for one in &mut waiting {
            if let std::task::Poll::Ready(pass) = futures::poll!(one) {
                admitted.push(pass.expect("open"));
            }
        }
        assert_eq!(admitted.len(), STRAINED_SLOTS);
        gates.accepted(&app, API);
        for one in waiting.iter_mut().skip(STRAINED_SLOTS) {
            let pass = tokio::time::timeout(Duration::from_secs(1), one).await;
            admitted.push(pass.expect("no longer strained").expect("open"));
        }
        assert_eq!(admitted.len(), 4);
    }

    #[test]
    fn a_minute_limit_pauses_briefly_and_longer_if_it_stays() {
        let (gates, app, _) = gates();
        let next = Millis(60_000);
        let mut now = Millis(0);
        let mut pauses = Vec::new();
        while now < next {
            gates.limit(&app, API, now, next);
            let until = gates.parked(&app, API, now).expect("limited");
            pauses.push(until.since(now));
            now = until;
        }
        assert_eq!(pauses[..4], [500, 1_000, 2_000, 4_000]);
        assert_eq!(now, next, "never longer than the minute");
        assert_eq!(gates.parked(&app, Api::UserInfo, Millis(0)), None);
        assert!(!gates.accepted(&app, API), "nothing was refused");
        gates.limit(&app, API, now, Millis(120_000));
        assert_eq!(gates.parked(&app, API, now), Some(now.plus(500)));
    }

    #[tokio::test]
    async fn what_slots_held_up_does_not_leave_all_at_once() {
        let limits = Limits {
            per_app: 1,
            total: 1,
            per_minute: [(API, 600)].into_iter().collect(),
        };
        let (gates, app) = (Gates::new(limits), AppId::parse("wxa").expect("valid"));
        // An API without a limit has the only slot for a second.
        let held = gates.admit(&app, Api::UserInfo, at(0)).await.expect("open");
        let release = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(held);
        };
        let limited = async {
            let begun = tokio::time::Instant::now();
            let all = (0..20).map(|_| gates.admit(&app, API, at(0)));
            let all = all.map(|one| async { drop(one.await.expect("open")) });
            futures::future::join_all(all).await;
            begun.elapsed()
        };
        let (took, ()) = tokio::join!(limited, release);
        // A second for the slot, 10 at once, the other 10 at 590 a minute.
        assert!(took >= Duration::from_millis(1_950), "{took:?}");
    }

    #[tokio::test]
    async fn a_rate_holds_in_every_minute() {
        let limits = Limits {
            per_app: 100,
            total: 100,
            per_minute: [(API, 1_200)].into_iter().collect(),
        };
        let (gates, app) = (Gates::new(limits), AppId::parse("wxa").expect("valid"));
        let begun = std::time::Instant::now();
        for _ in 0..40 {
            gates.admit(&app, API, at(0)).await.expect("open");
        }
        // 20 at once, the other 20 at 1,180 a minute.
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(950), "{took:?}");
        gates.admit(&app, Api::UserInfo, at(0)).await.expect("open");
    }
}
