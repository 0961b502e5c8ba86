//! A call to WeChat with everything around it: the gate before, the count and the reaction to what
//! ails the app after. What ails the item is left to who asked.

use super::codes::{self, Action, Api};
use super::failure::{CallError, CallFailure};
use super::gate::{Cause, Gates, Pass};
use super::ports::{MemoryFault, Shelf};
use super::wechat::Client;
use crate::clock::Clock;
use crate::model::{App, AppId, Millis};
use crate::telemetry;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

/// What is told a moment later elsewhere is waited for, in milliseconds: clocks are not equal.
pub const LAG_MS: i64 = 1_000;
/// WeChat counts minute limits by the minute.
const MINUTE_MS: i64 = 60_000;
/// WeChat's day begins at midnight in Beijing, UTC+8.
const BEIJING_MS: i64 = 8 * 3_600_000;
/// One day.
const DAY_MS: i64 = 24 * 3_600_000;

/// Why there is no answer to use.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Missed {
    /// It may work later: not before this moment; `None` leaves the time to a backoff.
    #[error("not now")]
    Later(Option<Millis>),
    /// WeChat answered with an error that nobody has documented: worth a few attempts, not more.
    #[error("an unknown answer")]
    Strange,
    /// WeChat answered about this very item, or this very token.
    #[error("the call failed")]
    Fault(CallError),
    /// The memory is not available.
    #[error(transparent)]
    Memory(#[from] MemoryFault),
}

/// The one way to WeChat.
pub struct Caller {
    client: Client,
    gates: Arc<Gates>,
    shelf: Arc<dyn Shelf>,
    clock: Clock,
}

impl Caller {
    /// Over a client and the gates; `shelf` is told when an app is well again.
    #[must_use]
    pub fn new(client: Client, gates: Arc<Gates>, shelf: Arc<dyn Shelf>, clock: Clock) -> Self {
        Self {
            client,
            gates,
            shelf,
            clock,
        }
    }

    /// The client, for the request of a [`Caller::run`].
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The shelf of tokens.
    #[must_use]
    pub fn shelf(&self) -> &Arc<dyn Shelf> {
        &self.shelf
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Millis {
        (self.clock)()
    }

    /// Waits until the app's turn is near; held until admitted.
    ///
    /// # Errors
    /// [`Missed::Later`]: the app is parked.
    pub async fn ready(&self, app: &App, api: Api) -> Result<impl Send + use<>, Missed> {
        let ready = self.gates.ready(&app.id, api, || self.now()).await;
        ready.map_err(|until| Missed::Later(Some(until)))
    }

    /// Waits for the app's turn.
    ///
    /// # Errors
    /// [`Missed::Later`]: the app is parked.
    pub async fn admit(&self, app: &App, api: Api) -> Result<Pass, Missed> {
        let pass = self.gates.admit(&app.id, api, || self.now()).await;
        pass.map_err(|until| Missed::Later(Some(until)))
    }

    /// Runs one request and judges what came of it.
    ///
    /// # Errors
    /// [`Missed`].
    pub async fn run<T>(
        &self,
        pass: Pass,
        app: &App,
        api: Api,
        request: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, Missed> {
        let begun = Instant::now();
        let answer = request.await;
        count(app, api, begun, &answer);
        match answer {
            Ok(value) => {
                drop(pass);
                self.accepted(app, api);
                Ok(value)
            }
            Err(fault) => {
                let missed = self.judge(app, api, fault);
                // Not before: who tries next must find the app parked if it is.
                drop(pass);
                Err(missed)
            }
        }
    }

    /// [`Caller::admit`] and [`Caller::run`] for a request that nothing has to be noted before.
    ///
    /// # Errors
    /// [`Missed`].
    pub async fn call<T, F>(
        &self,
        app: &App,
        api: Api,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, Missed>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let pass = self.admit(app, api).await?;
        let request = request(self.client.clone());
        self.run(pass, app, api, request).await
    }

    /// Until when the API is parked for the app, if it is.
    #[must_use]
    pub fn parked(&self, app: &App, api: Api) -> Option<Millis> {
        self.gates.parked(&app.id, api, self.now())
    }

    /// Whether calls of the app hang.
    #[must_use]
    pub fn strained(&self, app: &AppId) -> bool {
        self.gates.strained(app)
    }

    /// Parks an API of the app for a reason that WeChat did not tell: the token for it does not come.
    /// The APIs that go without that token go on.
    #[must_use]
    pub fn refuse(&self, app: &App, api: Api, why: &'static str) -> Missed {
        let (cause, now) = (Cause::Words(why), self.now());
        let (until, news) = self.gates.refuse(&app.id, Some(api), cause, now);
        if news {
            tracing::error!(app = %app.id, api = api.word(), why, "no such call to WeChat for this app; it is parked");
        }
        self.tell(app, until);
        Missed::Later(Some(until))
    }

    fn accepted(&self, app: &App, api: Api) {
        if !self.gates.accepted(&app.id, api) {
            return;
        }
        tracing::info!(app = %app.id, api = api.word(), "WeChat answers the app again");
        metrics::gauge!(telemetry::WECHAT_PARKED, "app" => app.id.to_string()).set(0.0);
        // Beside: what was just answered may have to be noted, before anything else.
        let (shelf, app) = (Arc::clone(&self.shelf), app.id.clone());
        tokio::spawn(async move {
            if let Err(error) = shelf.hasten(&app).await {
                tracing::warn!(%error, "what waits for the app is tried again at its own time");
            }
        });
    }

    /// What ails the app or the moment is dealt with here; what ails the item goes back.
    fn judge(&self, app: &App, api: Api, fault: CallError) -> Missed {
        let now = self.now();
        match fault.action() {
            Action::MinuteLimit => {
                let next = Millis((now.0.div_euclid(MINUTE_MS) + 1) * MINUTE_MS + LAG_MS);
                // The request waits for the next minute; the limit may be that of one user, so
                // that the others are tried sooner.
                self.gates.limit(&app.id, api, now, next);
                Missed::Later(Some(next))
            }
            Action::DailyQuota => {
                let day = (now.0 + BEIJING_MS).div_euclid(DAY_MS) + 1;
                let next = Millis(day * DAY_MS - BEIJING_MS);
                tracing::error!(app = %app.id, api = api.word(), until = %next,
                    "the day's quota is spent; no call of this API for this app until then");
                self.gates.park(&app.id, api, next);
                Missed::Later(Some(next))
            }
            Action::Configuration | Action::Component => {
                self.refused(app, api, &fault, now);
                if fault.errcode == Some(codes::NOT_BOUND) {
                    return Missed::Fault(fault);
                }
                let until = self.gates.parked(&app.id, api, now);
                Missed::Later(until)
            }
            Action::Unknown => {
                tracing::warn!(app = %app.id, api = api.word(), errcode = fault.errcode, kind = fault.kind.word(),
                    rid = fault.rid, "WeChat answered with what no page lists");
                Missed::Strange
            }
            Action::Transient => {
                if matches!(fault.kind, CallFailure::Timeout | CallFailure::Lost) {
                    self.gates.unanswered(&app.id);
                }
                Missed::Later(None)
            }
            Action::AppTokenBad => Missed::Fault(fault),
            Action::CodeDead
            | Action::UserBlocked
            | Action::BadInput
            | Action::Reauthorise
            | Action::SessionStale
            | Action::PaymentGone => {
                self.accepted(app, api);
                Missed::Fault(fault)
            }
        }
    }

    /// The alarm, once for each cause until the app is well again.
    fn refused(&self, app: &App, api: Api, fault: &CallError, now: Millis) {
        let one = codes::of_one_api(api, fault.errcode);
        let cause = Cause::Code(fault.errcode);
        let (until, news) = self.gates.refuse(&app.id, one.then_some(api), cause, now);
        if news {
            let what = if one {
                "WeChat refuses the app this API; it is parked, check its permissions, binding and addresses"
            } else {
                "WeChat refuses the app; it is parked, check appid, secret, addresses and permissions"
            };
            tracing::error!(app = %app.id, api = api.word(), errcode = fault.errcode,
                rid = fault.rid, detail = fault.detail, "{what}");
        }
        self.tell(app, until);
    }

    fn tell(&self, app: &App, until: Millis) {
        #[allow(clippy::cast_precision_loss, reason = "seconds of this century")]
        let seconds = (until.0 / 1_000) as f64;
        metrics::gauge!(telemetry::WECHAT_PARKED, "app" => app.id.to_string()).set(seconds);
    }
}

fn count<T>(app: &App, api: Api, begun: Instant, answer: &Result<T, CallError>) {
    let api = api.word();
    let outcome = answer
        .as_ref()
        .map_or_else(|fault| fault.kind.word(), |_| "ok");
    let app = app.id.to_string();
    metrics::histogram!(telemetry::WECHAT_SECONDS, "api" => api)
        .record(begun.elapsed().as_secs_f64());
    metrics::counter!(telemetry::WECHAT_CALLS, "app" => app, "api" => api, "outcome" => outcome)
        .increment(1);
}
