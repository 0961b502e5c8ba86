//! `/_sim/`: what the world does to WeChat. Here the front end's side (`wx.login`,
//! `wx.getUserInfo`, payments, following) and the counters. For loopback and tests: it has no
//! authentication.

use super::super::crypto::Encrypted;
use super::super::oauth::{Grant, Scope};
use super::super::payment::Payment;
use super::super::session::{Manner, Session};
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
        .route("/_sim/grant", post(grant))
        .route("/_sim/pay", post(pay))
        .route("/_sim/follow", post(follow))
        .route("/_sim/kill", post(kill))
}

/// An error as JSON, with its status.
pub(super) type Refusal = (StatusCode, Json<Problem>);

#[derive(Serialize)]
pub(super) struct Problem {
    error: String,
}

pub(super) fn refusal(error: &impl ToString) -> Refusal {
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
    /// What the page asked for, instead of `unionid`; it must be one that the app's kind can ask for.
    #[serde(default)]
    scope: Option<Scope>,
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

fn begin(sim: &Simulator, request: &LoginRequest) -> Result<Session, Refusal> {
    let app = number(sim, &request.appid)?;
    let manner = Manner {
        unionid: request.scope.map_or(request.unionid, |s| s != Scope::Base),
        snapshot: request.snapshot,
    };
    let session = sim.login(app, request.person, manner);
    let session = session.map_err(|e| refusal(&e))?;
    match request.scope {
        Some(scope) if scope != sim.scope(&session) => Err(refusal(&"not a scope of this app")),
        _ => Ok(session),
    }
}

async fn login(
    State(shared): State<Shared>,
    Json(request): Json<LoginRequest>,
) -> Result<Json<LoginAnswer>, Refusal> {
    let session = begin(&shared.sim, &request)?;
    Ok(Json(LoginAnswer {
        code: shared.sim.code(&session),
        err_msg: "login:ok",
        session: session.epoch,
    }))
}

/// A login whose code the company's own back end exchanged.
async fn grant(
    State(shared): State<Shared>,
    Json(request): Json<LoginRequest>,
) -> Result<Json<Grant>, Refusal> {
    let session = begin(&shared.sim, &request)?;
    Ok(Json(shared.sim.grant(&session)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PayRequest {
    appid: String,
    person: u64,
}

async fn pay(
    State(shared): State<Shared>,
    Json(request): Json<PayRequest>,
) -> Result<Json<Payment>, Refusal> {
    let app = number(&shared.sim, &request.appid)?;
    let paid = shared.sim.pay(app, request.person);
    Ok(Json(paid.map_err(|e| refusal(&e))?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FollowRequest {
    appid: String,
    person: u64,
    follows: bool,
}

async fn follow(
    State(shared): State<Shared>,
    Json(request): Json<FollowRequest>,
) -> Result<StatusCode, Refusal> {
    let app = number(&shared.sim, &request.appid)?;
    let FollowRequest {
        person, follows, ..
    } = request;
    let done = shared.sim.set_follows(app, person, follows);
    done.map_err(|e| refusal(&e))?;
    Ok(StatusCode::NO_CONTENT)
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

pub(super) fn number(sim: &Simulator, appid: &str) -> Result<AppNo, Refusal> {
    let number = sim.world().number(appid);
    number.ok_or_else(|| refusal(&LoginError::UnknownApp))
}

async fn stats(State(shared): State<Shared>) -> Json<Stats> {
    Json(shared.sim.stats())
}

/// The client was killed just now.
async fn kill(State(shared): State<Shared>) -> StatusCode {
    shared.sim.note_kill();
    StatusCode::NO_CONTENT
}
