//! One gate per app: how many requests may be in flight, how many a minute, and whether the app, or
//! one API of it, is parked because WeChat refuses it (a wrong secret, a spent quota). One app's
//! trouble never holds another's up.

use super::codes::Api;
use crate::model::{AppId, Millis};
use governor::{DefaultDirectRateLimiter, Quota};
use rustc_hash::FxHashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// First pause after refused credentials; doubles with each refusal in a row.
const FIRST_PARK_MS: i64 = 5_000;
/// Longest pause: an operator who corrects a secret waits no longer than this.
const LONGEST_PARK_MS: i64 = 60_000;
/// While one request tries whether a refusal is over, others come back after this.
const PROBE_MS: i64 = 1_000;
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
}

#[derive(Debug)]
struct Gate {
    slots: Arc<Semaphore>,
    /// Besides a slot, what a strained app's request needs.
    strained: Arc<Semaphore>,
    unanswered: u32,
    breaker: Breaker,
    /// Whether the app's own token is good, wherever it comes from.
    token: Breaker,
    apis: FxHashMap<Api, Line>,
}

/// What one API of an app has for itself.
#[derive(Debug, Default)]
struct Line {
    breaker: Breaker,
    rate: Option<Arc<DefaultDirectRateLimiter>>,
}

/// What a refusal says: WeChat's code, or our own reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// `errcode`; `None`: a status or an answer without one.
    Code(Option<i64>),
    /// In words.
    Words(&'static str),
}

/// Opens with a refusal; after its pause one request at a time tries again.
#[derive(Debug)]
struct Breaker {
    until: Millis,
    refusals: u32,
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

/// Permission for one request; giving it back is dropping it.
#[derive(Debug)]
pub struct Pass {
    _strained: Option<OwnedSemaphorePermit>,
    _app: OwnedSemaphorePermit,
    _total: OwnedSemaphorePermit,
    _probes: [Option<Probe>; 2],
}

/// Permission to use the app's own token; giving it back is dropping it.
#[derive(Debug)]
pub struct TokenPass {
    _probe: Option<Probe>,
}

/// The one request that tries whether a refusal is over.
#[derive(Debug)]
struct Probe(Arc<AtomicBool>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Breaker {
    /// Until when it is parked, and whether that is news: an operator who is told the same once a
    /// minute stops to listen.
    fn refuse(&mut self, cause: Cause, now: Millis) -> (Millis, bool) {
        if self.until > now {
            return (self.until, false);
        }
        let pause = (FIRST_PARK_MS << self.refusals.min(8)).min(LONGEST_PARK_MS);
        self.refusals += 1;
        self.until = now.plus(pause);
        (self.until, self.told.replace(cause) != Some(cause))
    }

    /// Whether it had been refused.
    fn accept(&mut self) -> bool {
        self.told = None;
        std::mem::take(&mut self.refusals) > 0
    }

    /// Lets a request through; after a refusal only one at a time.
    fn enter(&self, now: Millis) -> Result<Option<Probe>, Millis> {
        if self.until > now {
            return Err(self.until);
        }
        if self.refusals == 0 {
            return Ok(None);
        }
        if self.probing.swap(true, Ordering::AcqRel) {
            return Err(now.plus(PROBE_MS));
        }
        Ok(Some(Probe(Arc::clone(&self.probing))))
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
        }
    }

    /// Until when the API is parked for the app, if it is at `now`.
    #[must_use]
    pub fn parked(&self, app: &AppId, api: Api, now: Millis) -> Option<Millis> {
        let apps = self.lock();
        let gate = apps.get(app)?;
        let api = gate.apis.get(&api).map(|line| line.breaker.until);
        let until = api.unwrap_or(gate.breaker.until).max(gate.breaker.until);
        (until > now).then_some(until)
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
        let (slots, strained, rate) = self.handles(app, api);
        if let Some(rate) = rate {
            rate.until_ready().await;
        }
        // None of the semaphores is ever closed.
        let closed = |_| now().plus(PROBE_MS);
        let strained = match strained {
            Some(few) => Some(few.acquire_owned().await.map_err(closed)?),
            None => None,
        };
        // The app's slot first: an app that has used up its own must not hold the others' slots.
        let slot = slots.acquire_owned().await.map_err(closed)?;
        let total = Arc::clone(&self.total).acquire_owned().await;
        let total = total.map_err(closed)?;
        // While it waited for its turn, the app may have been refused.
        let probes = self.enter(app, api, now())?;
        Ok(Pass {
            _strained: strained,
            _app: slot,
            _total: total,
            _probes: probes,
        })
    }

    #[allow(clippy::type_complexity, reason = "three handles, used at once")]
    fn handles(
        &self,
        app: &AppId,
        api: Api,
    ) -> (
        Arc<Semaphore>,
        Option<Arc<Semaphore>>,
        Option<Arc<DefaultDirectRateLimiter>>,
    ) {
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        let strained = gate.unanswered >= STRAINED;
        let few = strained.then(|| Arc::clone(&gate.strained));
        (
            Arc::clone(&gate.slots),
            few,
            self.line(gate, api).rate.clone(),
        )
    }

    fn enter(&self, app: &AppId, api: Api, now: Millis) -> Result<[Option<Probe>; 2], Millis> {
        let mut apps = self.lock();
        let gate = self.gate(&mut apps, app);
        let whole = gate.breaker.enter(now)?;
        let one = self.line(gate, api).breaker.enter(now)?;
        Ok([whole, one])
    }

    /// WeChat refuses the app (or, if `api` is given, that API of it): parks it, longer each time.
    /// Until when, and whether the cause is news.
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
            None => gate.breaker.refuse(cause, now),
            Some(api) => self.line(gate, api).breaker.refuse(cause, now),
        }
    }

    /// The same for the app's own token: what needs none goes on.
    pub fn refuse_token(&self, app: &AppId, cause: Cause, now: Millis) -> (Millis, bool) {
        let mut apps = self.lock();
        self.gate(&mut apps, app).token.refuse(cause, now)
    }

    /// Whether the app's own token may be used; after a refusal by one at a time, until the pass is
    /// dropped.
    ///
    /// # Errors
    /// It is refused: until when.
    pub fn enter_token(&self, app: &AppId, now: Millis) -> Result<TokenPass, Millis> {
        let mut apps = self.lock();
        let probe = self.gate(&mut apps, app).token.enter(now)?;
        Ok(TokenPass { _probe: probe })
    }

    /// WeChat takes the app's own token. Whether it had been refused before.
    pub fn token_accepted(&self, app: &AppId) -> bool {
        let mut apps = self.lock();
        apps.get_mut(app).is_some_and(|gate| gate.token.accept())
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
        gate.unanswered = 0;
        let line = gate.apis.entry(api).or_default();
        let whole = gate.breaker.accept();
        line.breaker.accept() || whole
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
            strained: Arc::new(Semaphore::new(STRAINED_SLOTS)),
            unanswered: 0,
            breaker: Breaker::default(),
            token: Breaker::default(),
            apis: FxHashMap::default(),
        })
    }

    fn line<'a>(&self, gate: &'a mut Gate, api: Api) -> &'a mut Line {
        let limit = self.limits.per_minute.get(&api).copied();
        gate.apis.entry(api).or_insert_with(|| Line {
            rate: limit.and_then(rate).map(Arc::new),
            breaker: Breaker::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, FxHashMap<AppId, Gate>> {
        // Nothing panics while it is held; a poisoned lock still holds a consistent map.
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many a minute, never more in any minute: what may come at once is taken off the rest.
fn rate(per_minute: u32) -> Option<DefaultDirectRateLimiter> {
    let burst = NonZeroU32::new((per_minute / 60).max(1))?;
    let rest = per_minute.saturating_sub(burst.get()).max(1);
    let quota = Quota::with_period(Duration::from_secs(60) / rest)?.allow_burst(burst);
    Some(DefaultDirectRateLimiter::direct(quota))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_refused_token_leaves_what_needs_none_open() {
        let (gates, a, _) = gates();
        let cause = Cause::Words("no file");
        let (until, news) = gates.refuse_token(&a, cause, Millis(0));
        assert!(news && gates.parked(&a, API, Millis(0)).is_none());
        assert_eq!(gates.enter_token(&a, Millis(0)).err(), Some(until));
        assert!(!gates.accepted(&a, API), "says nothing of the token");
        let probe = gates.enter_token(&a, until).expect("the probe");
        let second = gates.enter_token(&a, until).err();
        assert_eq!(second, Some(until.plus(PROBE_MS)));
        drop(probe);
        assert!(gates.token_accepted(&a) && !gates.token_accepted(&a));
        let _one = gates.enter_token(&a, until).expect("open");
        assert!(gates.enter_token(&a, until).is_ok());
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
