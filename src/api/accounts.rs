//! Look-ups by account: one, or up to 1,000 at once.

use super::view::AccountView;
use super::{Api, not_found, valid};
use crate::http::{self, Bounds, HttpError, InPath, Place};
use crate::model::{Account, AppId, OpenId};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Accounts of one request: their answers stay under about 2 MiB.
const MAX_ACCOUNTS: usize = 1_000;
/// 1,000 accounts take 170 kB at most, and some white space.
const BODY: Bounds = Bounds {
    bytes: 256 * 1024,
    wait: Duration::from_secs(10),
};

pub(super) async fn one(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    InPath((appid, openid)): InPath<(String, String)>,
) -> Result<Json<AccountView>, HttpError> {
    let _place = api.admit(&headers)?;
    let account = account(&appid, &openid)?;
    let found = api.ask(api.store.find_accounts(&[account])).await?;
    let found = found.into_iter().next().flatten();
    let found = found.ok_or_else(|| not_found("no such account, or it was erased"))?;
    let epoch = api.store.identity().epoch;
    Ok(Json(AccountView::of(&found, &api.apps, epoch)))
}

pub(super) async fn many(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, HttpError> {
    let _place = api.admit(&headers)?;
    let body = http::read(&headers, body, BODY).await?;
    let accounts = wanted(&body)?;
    let found = api.ask(api.store.find_accounts(&accounts)).await?;
    let epoch = api.store.identity().epoch;
    let view = |found: &Option<_>| found.as_ref().map(|f| AccountView::of(f, &api.apps, epoch));
    let views: Vec<Option<AccountView>> = found.iter().map(view).collect();
    Ok(Json(json!({ "accounts": views })))
}

/// Read by hand, because serde's messages quote what they refuse.
fn wanted(body: &[u8]) -> Result<Vec<Account>, HttpError> {
    let not_json = |e: serde_json::Error| {
        let problem = format!("not JSON at line {} column {}", e.line(), e.column());
        HttpError::new(StatusCode::BAD_REQUEST, problem)
    };
    let mut body: Value = serde_json::from_slice(body).map_err(not_json)?;
    let list = match body.get_mut("accounts").map(Value::take) {
        Some(Value::Array(list)) => list,
        _ => {
            return Err(HttpError::field(
                "accounts",
                "must be an array of {appid, openid}",
            ));
        }
    };
    if list.len() > MAX_ACCOUNTS {
        let problem = format!("more than {MAX_ACCOUNTS} accounts; ask for fewer at once");
        return Err(HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, problem));
    }
    let element = |(i, value): (usize, &Value)| element(value).map_err(|e| e.at(Place::Index(i)));
    list.iter().enumerate().map(element).collect()
}

fn element(value: &Value) -> Result<Account, HttpError> {
    let not_object = || HttpError::field("accounts", "must hold objects {appid, openid}");
    let object = value.as_object().ok_or_else(not_object)?;
    account(text(object, "appid")?, text(object, "openid")?)
}

fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Result<&'a str, HttpError> {
    let found = object.get(field).and_then(Value::as_str);
    found.ok_or_else(|| HttpError::field(field, "must be a string"))
}

fn account(appid: &str, openid: &str) -> Result<Account, HttpError> {
    Ok(Account {
        app: valid("appid", AppId::parse(appid))?,
        openid: valid("openid", OpenId::parse(openid))?,
    })
}
