//! `/_sim/push`: makes something happen to a person and tells the company, as WeChat does
//! (`docs/wechat.md` §11); `/_sim/push/check` checks a company's URL first.

use super::super::push::{Channel, Check, Delivery, Format, Mode, Names, News};
use super::Shared;
use super::control::{Refusal, number, refusal};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/_sim/push", post(push))
        .route("/_sim/push/check", post(check))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PushRequest {
    /// Where the company listens: `http://…`.
    url: String,
    appid: String,
    person: u64,
    /// `{"event": "subscribe", "scene": …}` and so on.
    news: News,
    /// The token that signs.
    token: String,
    aes_key: Option<String>,
    #[serde(default)]
    mode: Mode,
    format: Option<Format>,
    #[serde(default)]
    names: Names,
    /// Whether authorization events name the unionid.
    #[serde(default)]
    unionid: bool,
}

/// Answers when the message was taken, or three tries have failed.
async fn push(
    State(shared): State<Shared>,
    Json(request): Json<PushRequest>,
) -> Result<Json<Delivery>, Refusal> {
    let url = plain_http(&request.url)?;
    let app = number(&shared.sim, &request.appid)?;
    let channel = Channel {
        token: request.token,
        aes_key: request.aes_key,
        mode: request.mode,
        format: request.format,
        names: request.names,
        unionid: request.unionid,
    };
    let message = shared
        .sim
        .push(app, request.person, &request.news, &channel);
    let message = message.map_err(|e| refusal(&e))?;
    let delivery = shared.sim.deliver(&shared.sender, url, &message).await;
    Ok(Json(delivery))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckRequest {
    url: String,
    token: String,
}

async fn check(
    State(shared): State<Shared>,
    Json(request): Json<CheckRequest>,
) -> Result<Json<Check>, Refusal> {
    let url = plain_http(&request.url)?;
    let channel = Channel {
        token: request.token,
        ..Channel::default()
    };
    let nonce = u64::from(shared.sim.next_nonce());
    let now = shared.sim.now();
    Ok(Json(shared.sender.check(url, &channel, now, nonce).await))
}

/// The sender knows no certificates.
fn plain_http(url: &str) -> Result<&str, Refusal> {
    if url.starts_with("http://") {
        return Ok(url);
    }
    Err(refusal(&"url must begin with http://"))
}
