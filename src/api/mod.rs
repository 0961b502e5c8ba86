//! The look-ups: which user an account, a unionid, a user id or a login event belongs to.
//!
//! Reads only. Promises: an id that was merged away answers with the user it became, an erased one
//! with 410; what is asked and answered is in no log; waiting look-ups are bounded in number and
//! time, and end when the process stops.

mod accounts;
mod logins;
mod users;
mod view;

pub use view::{AccountView, UserView};

use crate::http::{HttpError, Keys, Ops, Service, service};
use crate::model::{Apps, InvalidId};
use crate::store::{Store, StoreError};
use crate::telemetry::API_REQUESTS;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{MethodRouter, get, post};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// A keyed read takes a millisecond; a store that needs this long is down.
const STORE_WAIT: Duration = Duration::from_secs(10);
/// Seconds after which to come back when the store or a place is wanting.
const RETRY: u64 = 1;

/// What the look-ups are made of.
#[derive(Clone)]
pub struct ApiDeps {
    /// Where the answers are.
    pub store: Arc<dyn Store>,
    /// The configured apps: they tell the newest binding.
    pub apps: Arc<Apps>,
    /// Who may call.
    pub keys: Keys,
    /// Most requests at once, waiting ones included.
    pub max_in_flight: usize,
    /// Ends the waits.
    pub stop: CancellationToken,
    /// For the operational routes.
    pub ops: Ops,
}

/// The paths of the look-ups, beside the operational ones.
#[must_use]
pub fn paths() -> Vec<&'static str> {
    routes().iter().map(|(path, _)| *path).collect()
}

/// The look-ups as a router.
pub fn router(deps: ApiDeps) -> Router {
    let api = Arc::new(Api {
        in_flight: Semaphore::new(deps.max_in_flight),
        store: deps.store,
        apps: deps.apps,
        keys: deps.keys,
        stop: deps.stop,
    });
    let of = Service {
        routes: routes(),
        state: api,
        count,
    };
    service(of, deps.ops)
}

fn routes() -> Vec<(&'static str, MethodRouter<Arc<Api>>)> {
    vec![
        ("/v1/logins/{id}", get(logins::fate)),
        ("/v1/accounts/{appid}/{openid}", get(accounts::one)),
        ("/v1/accounts/lookup", post(accounts::many)),
        ("/v1/users/{user_id}", get(users::by_id)),
        ("/v1/unionids/{platform}/{unionid}", get(users::by_unionid)),
    ]
}

fn count(route: &str, status: StatusCode) {
    let (route, status) = (route.to_owned(), status.as_str().to_owned());
    metrics::counter!(API_REQUESTS, "route" => route, "status" => status).increment(1);
}

struct Api {
    store: Arc<dyn Store>,
    apps: Arc<Apps>,
    keys: Keys,
    stop: CancellationToken,
    in_flight: Semaphore,
}

impl Api {
    /// Lets a caller with a key in, if there is room.
    fn admit(&self, headers: &HeaderMap) -> Result<SemaphorePermit<'_>, HttpError> {
        self.keys.admit(headers)?;
        let full = |_| HttpError::unavailable("too many requests at once; come back later", RETRY);
        self.in_flight.try_acquire().map_err(full)
    }

    /// What the store answers, within [`STORE_WAIT`].
    async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, HttpError> {
        match tokio::time::timeout(STORE_WAIT, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(StoreError::Unavailable(why))) => {
                tracing::warn!(%why, "a look-up found no store");
                Err(HttpError::unavailable(
                    "the store does not answer now",
                    RETRY,
                ))
            }
            Ok(Err(StoreError::Mismatch(why) | StoreError::Corrupt(why))) => {
                tracing::error!(%why, "a look-up found the store wanting");
                let problem = "an error of ours; it is logged";
                Err(HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, problem))
            }
            Err(_) => Err(HttpError::unavailable(
                "the store does not answer now",
                RETRY,
            )),
        }
    }
}

/// Validates one part of a request.
fn valid<T>(field: &str, parsed: Result<T, InvalidId>) -> Result<T, HttpError> {
    parsed.map_err(|why| HttpError::field(field, why.to_string()))
}

fn not_found(problem: &str) -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND, problem)
}
