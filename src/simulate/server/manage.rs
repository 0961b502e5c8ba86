//! `/_sim/`: WeChat's own troubles. Faults, limits, what is wrong with an app, the third-party
//! platform, tokens that die. `?appid=` and `?api=` (a path) narrow faults and limits.

use super::super::api::Api;
use super::super::component::Component;
use super::super::faults::Faults;
use super::super::limits::Limits;
use super::super::scope::Scope;
use super::super::tokens::Family;
use super::super::trouble::Trouble;
use super::control::{Refusal, number, refusal};
use super::{Shared, Simulator};
use crate::model::Millis;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route(
            "/_sim/faults",
            get(faults).post(set_faults).delete(no_faults),
        )
        .route(
            "/_sim/limits",
            get(limits).post(set_limits).delete(no_limits),
        )
        .route("/_sim/trouble", post(trouble))
        .route("/_sim/revoke", post(revoke))
        .route("/_sim/component", post(component))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Narrow {
    appid: Option<String>,
    api: Option<Api>,
}

impl Narrow {
    fn scope(&self, sim: &Simulator) -> Result<Scope, Refusal> {
        let app = self.appid.as_deref().map(|appid| number(sim, appid));
        Ok(Scope {
            app: app.transpose()?,
            api: self.api,
        })
    }
}

type Answer<T> = Result<Json<T>, Refusal>;

/// Those set for exactly this scope, or `null`.
async fn faults(
    State(shared): State<Shared>,
    Query(narrow): Query<Narrow>,
) -> Answer<Option<Faults>> {
    let scope = narrow.scope(&shared.sim)?;
    Ok(Json(shared.sim.faults_in(scope)))
}

/// Replaces all faults of the scope: what is not named is off.
async fn set_faults(
    State(shared): State<Shared>,
    Query(narrow): Query<Narrow>,
    Json(faults): Json<Faults>,
) -> Answer<Option<Faults>> {
    let scope = narrow.scope(&shared.sim)?;
    let done = shared.sim.set_faults_in(scope, Some(faults));
    done.map_err(|e| refusal(&e))?;
    Ok(Json(shared.sim.faults_in(scope)))
}

/// From now on the wider scope's faults hold.
async fn no_faults(
    State(shared): State<Shared>,
    Query(narrow): Query<Narrow>,
) -> Result<StatusCode, Refusal> {
    let scope = narrow.scope(&shared.sim)?;
    let done = shared.sim.set_faults_in(scope, None);
    done.map_err(|e| refusal(&e))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn limits(
    State(shared): State<Shared>,
    Query(narrow): Query<Narrow>,
) -> Answer<Option<Limits>> {
    let scope = narrow.scope(&shared.sim)?;
    Ok(Json(shared.sim.limits_in(scope)))
}

async fn set_limits(
    State(shared): State<Shared>,
    Query(narrow): Query<Narrow>,
    Json(limits): Json<Limits>,
) -> Answer<Option<Limits>> {
    let scope = narrow.scope(&shared.sim)?;
    shared.sim.set_limits_in(scope, Some(limits));
    Ok(Json(shared.sim.limits_in(scope)))
}

async fn no_limits(
    State(shared): State<Shared>,
    Query(narrow): Query<Narrow>,
) -> Result<StatusCode, Refusal> {
    let scope = narrow.scope(&shared.sim)?;
    shared.sim.set_limits_in(scope, None);
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TroubleRequest {
    appid: String,
    /// One API's path; all that it concerns if left out.
    api: Option<Api>,
    trouble: Trouble,
    /// `false` puts it right.
    #[serde(default = "yes")]
    on: bool,
}

fn yes() -> bool {
    true
}

async fn trouble(
    State(shared): State<Shared>,
    Json(request): Json<TroubleRequest>,
) -> Result<StatusCode, Refusal> {
    let app = number(&shared.sim, &request.appid)?;
    let TroubleRequest {
        api, trouble, on, ..
    } = request;
    let done = shared.sim.set_trouble(app, api, trouble, on);
    done.map_err(|e| refusal(&e))?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeRequest {
    appid: String,
    /// Both families if left out.
    family: Option<Family>,
}

async fn revoke(
    State(shared): State<Shared>,
    Json(request): Json<RevokeRequest>,
) -> Result<StatusCode, Refusal> {
    let app = number(&shared.sim, &request.appid)?;
    for family in [Family::Plain, Family::Stable] {
        if request.family.is_none_or(|f| f == family) {
            let done = shared.sim.revoke_tokens(app, family);
            done.map_err(|e| refusal(&e))?;
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ComponentRequest {
    component_appid: String,
    component_access_token: String,
    /// Seconds that the token lives; for ever if left out.
    expires_in: Option<i64>,
    /// The apps that authorised it; all if left out.
    appids: Option<Vec<String>>,
}

async fn component(
    State(shared): State<Shared>,
    Json(request): Json<ComponentRequest>,
) -> Result<StatusCode, Refusal> {
    let sim = &shared.sim;
    let apps = request.appids.map(|appids| {
        let numbers = appids.iter().map(|appid| number(sim, appid));
        numbers.collect::<Result<_, _>>()
    });
    let expires = |seconds: i64| Millis(sim.now().0.saturating_add(seconds.saturating_mul(1_000)));
    sim.set_component(Some(Component {
        appid: request.component_appid,
        token: request.component_access_token,
        expires: request.expires_in.map(expires),
        apps: apps.transpose()?,
    }));
    Ok(StatusCode::NO_CONTENT)
}
