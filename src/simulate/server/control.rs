//! `/_sim/`: what the world does to WeChat. The front end's side (`wx.login`, `wx.getUserInfo`), the
//! faults, the counters. For loopback and tests: it has no authentication.

use super::super::crypto::Encrypted;
use super::super::faults::Faults;
use super::super::session::Manner;
use super::super::simulator::LoginError;
use super::super::stats::Stats;
use super::super::world::AppNo;
use super::{Shared, Simulator};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

/// The control paths.
pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/_sim/login", post(login))
        .route("/_sim/encrypted", post(encrypted))
        .route("/_sim/stats", get(stats))
        .route("/_sim/faults", get(faults).post(set_faults))
        .route("/_sim/kill", post(kill))
}

/// An error as JSON, with its status.
type Refusal = (StatusCode, Json<Problem>);

#[derive(Serialize)]
struct Problem {
    error: String,
}

fn refusal(error: &impl ToString) -> Refusal {
    let error = error.to_string();
    (StatusCode::UNPROCESSABLE_ENTITY, Json(Problem { error }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    appid: String,
    person: u64,
    /// Whether the exchange shows the unionid.
    #[serde(default = "yes")]
    unionid: bool,
    #[serde(default)]
    snapshot: bool,
}

fn yes() -> bool {
    true
}

/// What `wx.login` returns, and which session of the person in the app it began.
#[derive(Serialize)]
struct LoginAnswer {
    code: String,
    #[serde(rename = "errMsg")]
    err_msg: &'static str,
    session: u16,
}

async fn login(
    State(shared): State<Shared>,
    Json(request): Json<LoginRequest>,
) -> Result<Json<LoginAnswer>, Refusal> {
    let app = number(&shared.sim, &request.appid)?;
    let manner = Manner {
        unionid: request.unionid,
        snapshot: request.snapshot,
    };
    let session = shared.sim.login(app, request.person, manner);
    let session = session.map_err(|e| refusal(&e))?;
    Ok(Json(LoginAnswer {
        code: shared.sim.code(&session),
        err_msg: "login:ok",
        session: session.epoch,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EncryptedRequest {
    appid: String,
    person: u64,
}

async fn encrypted(
    State(shared): State<Shared>,
    Json(request): Json<EncryptedRequest>,
) -> Result<Json<Encrypted>, Refusal> {
    let app = number(&shared.sim, &request.appid)?;
    let data = shared.sim.encrypted_data(app, request.person);
    Ok(Json(data.map_err(|e| refusal(&e))?))
}

fn number(sim: &Simulator, appid: &str) -> Result<AppNo, Refusal> {
    let number = sim.world().number(appid);
    number.ok_or_else(|| refusal(&LoginError::UnknownApp))
}

async fn stats(State(shared): State<Shared>) -> Json<Stats> {
    Json(shared.sim.stats())
}

async fn faults(State(shared): State<Shared>) -> Json<Faults> {
    Json(shared.sim.faults())
}

/// Replaces all faults: what is not named is off.
async fn set_faults(
    State(shared): State<Shared>,
    Json(faults): Json<Faults>,
) -> Result<Json<Faults>, Refusal> {
    shared.sim.set_faults(faults).map_err(|e| refusal(&e))?;
    Ok(Json(shared.sim.faults()))
}

/// The client was killed just now.
async fn kill(State(shared): State<Shared>) -> StatusCode {
    shared.sim.note_kill();
    StatusCode::NO_CONTENT
}
