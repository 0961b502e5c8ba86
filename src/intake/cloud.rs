//! `POST /wechat/cloud`: calls that come through WeChat cloud run, which says in headers who calls
//! (`docs/wechat.md` §12). On only where `intake.cloud_run` says so.
//!
//! The headers are believed, so nobody but WeChat's gateway may reach this path: whether it strips
//! forged ones from calls that come over the public domain is not stated. The body is the mini
//! program's word, which anybody can write; nothing of it says who calls.

use super::{Intake, post};
use crate::http::{self, Bounds, HttpError, Place};
use crate::model::Millis;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use uuid::Uuid;

/// `source` of these logins.
const SOURCE: &str = "wechat.cloud";
/// The header whose presence shows that the call came through WeChat.
const VIA: &str = "X-WX-SOURCE";
/// Who calls, by openid, appid and unionid: in an app's own environment, and in one that the
/// calling app shares.
const OWN: Names = Names("X-WX-OPENID", "X-WX-APPID", "X-WX-UNIONID");
const SHARED: Names = Names("X-WX-FROM-OPENID", "X-WX-FROM-APPID", "X-WX-FROM-UNIONID");

#[derive(Clone, Copy)]
struct Names(&'static str, &'static str, &'static str);

/// What the caller may add. `id` makes a repetition harmless.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Extra<'a> {
    id: Option<String>,
    occurred_at: Option<String>,
    external_id: Option<String>,
    #[serde(borrow)]
    attributes: Option<&'a RawValue>,
}

/// The login event that it makes.
#[derive(Serialize)]
struct Event<'a> {
    id: String,
    occurred_at: String,
    appid: &'a str,
    openid: &'a str,
    unionid: Option<&'a str>,
    source: &'static str,
    external_id: Option<String>,
    attributes: Option<&'a RawValue>,
}

pub(super) async fn accept(
    State(intake): State<Arc<Intake>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    if !intake.cloud_run {
        let problem = "cloud run is not switched on: set cloud_run = true in [intake]";
        return Err(HttpError::new(StatusCode::NOT_FOUND, problem));
    }
    if one(&headers, VIA)?.is_none() {
        let problem = "is missing: call through wx.cloud.callContainer";
        return Err(HttpError::field(VIA, problem));
    }
    let names = names(&headers)?;
    let _in_flight = intake.visitors.try_acquire().map_err(|_| post::full())?;
    let bounds = Bounds {
        bytes: intake.limits.visitors_body(),
        wait: intake.limits.body_wait,
    };
    let body = http::read(&headers, body, bounds).await?;
    let now = (intake.clock)();
    let event = event(&headers, names, &body, now)?;
    let prepared = intake.prepare.prepare(&event, now).map_err(|refusal| {
        let mut error = post::refused(refusal, Place::Whole);
        error.field = error.field.map(|field| told(names, field));
        error
    })?;
    intake.accept_one(prepared).await
}

/// The headers of this call: an openid stands in one of the two sets.
fn names(headers: &HeaderMap) -> Result<Names, HttpError> {
    match (one(headers, OWN.0)?, one(headers, SHARED.0)?) {
        (Some(_), None) => Ok(OWN),
        (None, Some(_)) => Ok(SHARED),
        (None, None) => Err(HttpError::field(
            OWN.0,
            "is missing, and so is X-WX-FROM-OPENID: call from a mini program or a web page where \
             the person is logged in",
        )),
        (Some(_), Some(_)) => Err(HttpError::field(
            SHARED.0,
            "stands beside X-WX-OPENID: WeChat sends one of them, so the other is forged",
        )),
    }
}

fn event(
    headers: &HeaderMap,
    names: Names,
    body: &[u8],
    now: Millis,
) -> Result<Vec<u8>, HttpError> {
    let openid = needed(headers, names.0)?;
    let appid = needed(headers, names.1)?;
    let body = body.trim_ascii();
    let extra: Extra<'_> = match body.first() {
        None => Extra::default(),
        Some(b'{') => serde_json::from_slice(body).map_err(|_| unread())?,
        Some(_) => return Err(unread()),
    };
    let event = Event {
        id: extra
            .id
            .unwrap_or_else(|| format!("cloud-{}", Uuid::new_v4())),
        occurred_at: extra.occurred_at.unwrap_or_else(|| now.to_string()),
        appid,
        openid,
        unionid: one(headers, names.2)?,
        source: SOURCE,
        external_id: extra.external_id,
        attributes: extra.attributes,
    };
    serde_json::to_vec(&event).map_err(|_| unread())
}

fn unread() -> HttpError {
    let problem = "the body must be empty, or a JSON object of id, occurred_at, external_id and \
                   attributes";
    HttpError::new(StatusCode::BAD_REQUEST, problem)
}

fn needed<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, HttpError> {
    one(headers, name)?.ok_or_else(|| HttpError::field(name, "is missing"))
}

/// A header that stands once; one that is empty is none.
fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, HttpError> {
    let mut values = headers.get_all(name).iter();
    let (value, more) = (values.next(), values.next());
    if more.is_some() {
        return Err(HttpError::field(name, "stands twice"));
    }
    let Some(value) = value else { return Ok(None) };
    let text = value.to_str().map(str::trim);
    let text = text.map_err(|_| HttpError::field(name, "has characters other than ASCII"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// The header that a field of the event came from.
fn told(names: Names, field: String) -> String {
    match field.as_str() {
        "openid" => names.0.to_owned(),
        "appid" => names.1.to_owned(),
        "unionid" => names.2.to_owned(),
        _ => field,
    }
}
