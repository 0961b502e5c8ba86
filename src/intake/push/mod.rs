//! `/wechat/push/{appid}`: what WeChat tells of its own accord (`docs/wechat.md` §11). Following an
//! official account, or scanning a code of it, is a login; giving up the account of an app erases
//! it. Everything else is answered and counted.
//!
//! WeChat cannot show a key, so its signature is the key. Wherever an app has an `encoding_aes_key`,
//! only the encrypted body counts: the signature in the query of a plain one covers the time and a
//! nonce, not the body. WeChat waits 5 seconds and tries three times within about 15; "success" is
//! said only of what the bus has durably, so that it tries again otherwise.

mod crypto;
mod event;
mod message;

use super::{Intake, Prepare, post};
use crate::bus::Record;
use crate::config::{AesKey, Push, PushBody};
use crate::http::{self, Bounds, HttpError, InPath, InQuery};
use crate::model::{AppId, Erasure, Millis};
use crate::telemetry::{INTAKE_EVENTS, INTAKE_PUSHES};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use event::{Meaning, meaning};
use message::Fields;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// WeChat hangs up after 5 seconds; a second of them is for the way.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// How far a push's time may lie from ours: clocks differ, and the last try comes about 15 seconds
/// after the first. What is older was recorded by somebody and is played again.
const MAX_SKEW_MS: i64 = 5 * 60_000;
/// Longest nonce and `echostr`, in bytes; real ones have about 10 and 20.
const MAX_PARAMETER: usize = 1024;

/// What signs erasures, so that workers obey them; it prepares those that are posted. Implemented in cli
/// with wire.
pub trait Erase: Prepare {
    /// The signed record of an erasure. `source` says where it comes from.
    fn erase(&self, erasure: &Erasure, source: &str) -> Record;
}

/// The apps that push, and what signs the erasures among it.
#[derive(Clone, Default)]
pub struct Pushes {
    apps: Arc<FxHashMap<AppId, Push>>,
    erase: Option<Arc<dyn Erase>>,
}

impl Pushes {
    /// Takes the apps in. Without `erase` none of them may have anything in `erase_on`: the events
    /// would be refused, so that WeChat tries again in vain.
    #[must_use]
    pub fn new(pushes: Vec<Push>, erase: Option<Arc<dyn Erase>>) -> Self {
        let apps = pushes.into_iter().map(|push| (push.app.clone(), push));
        Self {
            apps: Arc::new(apps.collect()),
            erase,
        }
    }

    /// What signs erasures, if anything does.
    pub(super) fn eraser(&self) -> Option<Arc<dyn Prepare>> {
        let erase = self.erase.as_ref()?;
        Some(Arc::clone(erase) as Arc<dyn Prepare>)
    }

    fn of(&self, appid: &str) -> Result<&Push, HttpError> {
        let app = AppId::parse(appid).ok();
        app.and_then(|id| self.apps.get(&id)).ok_or_else(|| {
            let problem = "no push is configured for this app: add [apps.push] to it";
            HttpError::new(StatusCode::NOT_FOUND, problem)
        })
    }
}

/// What WeChat adds to the address.
#[derive(Deserialize)]
pub(super) struct Query {
    timestamp: Option<String>,
    nonce: Option<String>,
    signature: Option<String>,
    msg_signature: Option<String>,
    echostr: Option<String>,
}

/// Answers the check of the URL, which the console does once.
pub(super) async fn check(
    State(intake): State<Arc<Intake>>,
    InPath(appid): InPath<String>,
    InQuery(query): InQuery<Query>,
) -> Result<String, HttpError> {
    let push = intake.pushes.of(&appid)?;
    let answer = check_url(push, query, (intake.clock)());
    count(
        push,
        if answer.is_ok() {
            "url_check"
        } else {
            "refused"
        },
    );
    answer
}

fn check_url(push: &Push, query: Query, now: Millis) -> Result<String, HttpError> {
    query.fresh(now)?;
    query.signed(push)?;
    let echo = query.echostr.filter(|text| text.len() <= MAX_PARAMETER);
    echo.ok_or_else(|| HttpError::field("echostr", "is missing, or too long"))
}

/// Takes one push.
pub(super) async fn take(
    State(intake): State<Arc<Intake>>,
    InPath(appid): InPath<String>,
    InQuery(query): InQuery<Query>,
    headers: HeaderMap,
    body: Body,
) -> Result<&'static str, HttpError> {
    let push = intake.pushes.of(&appid)?;
    let until = Instant::now() + ANSWER_WITHIN;
    let taken = intake.take_push(push, &query, (&headers, body), until);
    match taken.await {
        Ok(kind) => {
            count(push, kind);
            Ok("success")
        }
        Err(error) => {
            let kind = match error.status {
                StatusCode::SERVICE_UNAVAILABLE => "unavailable",
                _ => "refused",
            };
            count(push, kind);
            Err(error)
        }
    }
}

fn count(push: &Push, kind: &'static str) {
    let app = push.app.as_str().to_owned();
    metrics::counter!(INTAKE_PUSHES, "app" => app, "kind" => kind).increment(1);
}

impl Intake {
    /// The word to count it by.
    async fn take_push(
        &self,
        push: &Push,
        query: &Query,
        (headers, body): (&HeaderMap, Body),
        until: Instant,
    ) -> Result<&'static str, HttpError> {
        let now = (self.clock)();
        query.fresh(now)?;
        query.admitted(push)?;
        // Strangers do not take the places of gateways: they have some of their own.
        let _in_flight = self.visitors.try_acquire().map_err(|_| post::full())?;
        let wait = self.limits.body_wait.min(ANSWER_WITHIN);
        let bytes = self.limits.visitors_body();
        let body = http::read(headers, body, Bounds { bytes, wait }).await?;
        let fields = authentic(push, query, &body)?;
        let erases = |on| push.erase_on.contains(&on);
        let (sort, meaning) = meaning(&fields, &push.app, erases, now);
        let meaning = meaning.map_err(|fault| bad(&fault))?;
        let record = match meaning {
            Meaning::Nothing => return Ok(sort.word()),
            Meaning::Nobody => {
                tracing::warn!(app = %push.app, event = sort.word(),
                    "a push names no OpenID, so nobody can be erased for it");
                return Ok("without_openid");
            }
            Meaning::Login(event) => {
                let prepared = self.prepare.prepare(&event, now);
                prepared
                    .map_err(|r| post::refused(r, http::Place::Whole))?
                    .record
            }
            Meaning::Erasure(erasure) => {
                let eraser = self.pushes.erase.as_ref().ok_or_else(unsigned)?;
                eraser.erase(&erasure, event::SOURCE)
            }
        };
        let left = until.saturating_duration_since(Instant::now());
        let wait = self.limits.publish_wait.min(left);
        self.publish(vec![record], wait).await?;
        metrics::counter!(INTAKE_EVENTS).increment(1);
        Ok(sort.word())
    }
}

/// The fields of a body that WeChat signed, as far as it does: in plain mode it signs the query
/// alone, see [`Query::admitted`].
fn authentic(push: &Push, query: &Query, body: &[u8]) -> Result<Fields, HttpError> {
    let (key, beside) = match &push.body {
        PushBody::Plain => {
            let fields = Fields::read(body).map_err(|fault| bad(&fault))?;
            // In compatible mode the same stands beside it in plain.
            if fields.encrypt.is_some() && fields.kind.is_none() {
                return Err(bad(
                    &"the body is encrypted: set encoding_aes_key for this app",
                ));
            }
            return Ok(fields);
        }
        PushBody::Compatible(key) => (key, true),
        PushBody::Encrypted(key) => (key, false),
    };
    let given = query.msg_signature.as_deref().ok_or_else(forged)?;
    let outer = Fields::read(body).map_err(|fault| bad(&fault))?;
    let encrypt = outer.encrypt.as_deref().ok_or_else(forged)?;
    let (timestamp, nonce) = query.moment()?;
    if !crypto::signed([push.token.expose(), timestamp, nonce, encrypt], given) {
        return Err(forged());
    }
    if outer.kind.is_some() && !beside {
        let problem = "the body holds the message in plain too: choose the encrypted mode in the \
                       console, or set mode = \"compatible\" for this app";
        return Err(bad(&problem));
    }
    inner(encrypt, key, &push.app)
}

fn inner(encrypt: &str, key: &AesKey, app: &AppId) -> Result<Fields, HttpError> {
    let message = crypto::open(encrypt, key, app).map_err(|fault| bad(&fault))?;
    Fields::read(&message).map_err(|fault| bad(&fault))
}

impl Query {
    /// Time and nonce, which every signature is made of.
    fn moment(&self) -> Result<(&str, &str), HttpError> {
        let short =
            |text: &Option<String>| text.as_deref().is_some_and(|t| t.len() <= MAX_PARAMETER);
        match (self.timestamp.as_deref(), self.nonce.as_deref()) {
            (Some(timestamp), Some(nonce)) if short(&self.nonce) => Ok((timestamp, nonce)),
            _ => Err(forged()),
        }
    }

    /// Refuses what was recorded and is played again.
    fn fresh(&self, now: Millis) -> Result<(), HttpError> {
        let digits = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
        let seconds = self.timestamp.as_deref().filter(digits);
        let seconds: Option<i64> = seconds.and_then(|text| text.parse().ok());
        let at = seconds
            .and_then(|s| s.checked_mul(1000))
            .ok_or_else(forged)?;
        if Millis(at).since(now).unsigned_abs() > MAX_SKEW_MS.unsigned_abs() {
            let problem = "the timestamp lies more than 5 minutes from now; if it is WeChat's own, \
                           set this machine's clock";
            return Err(HttpError::new(StatusCode::FORBIDDEN, problem));
        }
        Ok(())
    }

    /// What can be said before the body is read: a plain one is not signed.
    fn admitted(&self, push: &Push) -> Result<(), HttpError> {
        match &push.body {
            PushBody::Plain => self.signed(push),
            PushBody::Compatible(_) | PushBody::Encrypted(_) => {
                self.msg_signature.as_ref().map(drop).ok_or_else(forged)
            }
        }
    }

    /// Whether `signature` is that of the token's holder at that time.
    fn signed(&self, push: &Push) -> Result<(), HttpError> {
        let (timestamp, nonce) = self.moment()?;
        let given = self.signature.as_deref().ok_or_else(forged)?;
        match crypto::signed([push.token.expose(), timestamp, nonce], given) {
            true => Ok(()),
            false => Err(forged()),
        }
    }
}

/// One answer, whichever part is missing or wrong.
fn forged() -> HttpError {
    let problem = "not signed with this app's token";
    HttpError::new(StatusCode::FORBIDDEN, problem)
}

fn bad(problem: &dyn std::fmt::Display) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, problem.to_string())
}

fn unsigned() -> HttpError {
    let problem = "erasures are not signed here; see intake.signer";
    HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, problem)
}

#[cfg(test)]
mod tests;
