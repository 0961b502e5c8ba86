//! `POST /v1/logins` and `/v1/erasures`, as one line of steps: admit, read, split, weigh, prepare,
//! publish, answer.

use super::split::{Events, format, split};
use super::{Intake, Prepare, Prepared, Refusal, RefusalKind};
use crate::bus::{BusError, Record};
use crate::http::{self, Bounds, HttpError, Place};
use crate::model::{EventId, Millis};
use crate::telemetry::{INTAKE_EVENTS, INTAKE_PUBLISH_SECONDS};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Sealing takes about 0.1 ms an event: more than this would hold up other requests' I/O, so it
/// moves to a thread of its own.
const PREPARE_INLINE: usize = 8;
/// Seconds after which a gateway that found the intake full should come back.
const FULL_RETRY: u64 = 1;
/// Seconds after which a gateway that found no bus should come back.
const BUS_RETRY: u64 = 5;

pub(super) async fn accept(
    State(intake): State<Arc<Intake>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let prepare = Arc::clone(&intake.prepare);
    take(&intake, prepare, headers, body).await
}

pub(super) async fn erase(
    State(intake): State<Arc<Intake>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    // Whoever has no key is not told how this intake is set up.
    intake.keys.admit(&headers)?;
    let eraser = intake.pushes.eraser().ok_or_else(|| {
        let problem = "this intake has no key to sign erasures with: set intake.signer";
        HttpError::new(StatusCode::NOT_IMPLEMENTED, problem)
    })?;
    take(&intake, eraser, headers, body).await
}

async fn take(
    intake: &Intake,
    prepare: Arc<dyn Prepare>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpError> {
    let caller = intake.keys.admit(&headers)?;
    let format = format(&headers)?;
    let _in_flight = intake.in_flight.try_acquire().map_err(|_| full())?;
    let bounds = Bounds {
        bytes: intake.limits.max_body,
        wait: intake.limits.body_wait,
    };
    let body = http::read(&headers, body, bounds).await?;
    let Events { single, events } = split(&body, format, intake.limits.max_events)?;
    intake.rates.admit(caller, events.len())?;
    let (ids, records) = prepared(intake, prepare, events).await?;
    intake.publish(records, intake.limits.publish_wait).await?;
    metrics::counter!(INTAKE_EVENTS).increment(ids.len() as u64);
    Ok(accepted(&ids, single))
}

/// More requests at once than there are places.
pub(super) fn full() -> HttpError {
    HttpError::unavailable("too many requests at once; come back later", FULL_RETRY)
}

fn accepted(ids: &[EventId], single: bool) -> Response {
    let texts: Vec<&str> = ids.iter().map(EventId::as_str).collect();
    let body = match texts.first() {
        Some(id) if single => json!({ "id": id, "ids": texts }),
        _ => json!({ "ids": texts }),
    };
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

type Ready = (Vec<EventId>, Vec<Record>);

async fn prepared(
    intake: &Intake,
    prepare: Arc<dyn Prepare>,
    events: Vec<(Place, Bytes)>,
) -> Result<Ready, HttpError> {
    let now = (intake.clock)();
    if events.len() <= PREPARE_INLINE {
        return prepare_all(&*prepare, &events, now);
    }
    let task = tokio::task::spawn_blocking(move || prepare_all(&*prepare, &events, now));
    task.await.unwrap_or_else(|_| {
        tracing::error!("preparing events ended in a panic");
        let problem = "an error of ours; it is logged";
        Err(HttpError::new(StatusCode::INTERNAL_SERVER_ERROR, problem))
    })
}

/// All of them, or the first refusal.
fn prepare_all(
    prepare: &dyn Prepare,
    events: &[(Place, Bytes)],
    now: Millis,
) -> Result<Ready, HttpError> {
    let mut ids = Vec::with_capacity(events.len());
    let mut records = Vec::with_capacity(events.len());
    for (place, raw) in events {
        let Prepared { id, record } = prepare.prepare(raw, now).map_err(|r| refused(r, *place))?;
        ids.push(id);
        records.push(record);
    }
    Ok((ids, records))
}

pub(super) fn refused(refusal: Refusal, place: Place) -> HttpError {
    let status = match refusal.status {
        RefusalKind::Malformed => StatusCode::BAD_REQUEST,
        RefusalKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    };
    HttpError {
        field: Some(refusal.field).filter(|f| !f.is_empty()),
        ..HttpError::new(status, refusal.problem).at(place)
    }
}

impl Intake {
    /// Publishes one event and answers as for a single one.
    pub(super) async fn accept_one(&self, event: Prepared) -> Result<Response, HttpError> {
        self.publish(vec![event.record], self.limits.publish_wait)
            .await?;
        metrics::counter!(INTAKE_EVENTS).increment(1);
        Ok(accepted(&[event.id], true))
    }

    /// Whether a bus that did not answer in time has the events is unknown. The gateway sends them
    /// again, and a repeated id is harmless.
    pub(super) async fn publish(
        &self,
        records: Vec<Record>,
        wait: Duration,
    ) -> Result<(), HttpError> {
        let began = Instant::now();
        let published = timeout(wait, self.bus.publish(records)).await;
        metrics::histogram!(INTAKE_PUBLISH_SECONDS).record(began.elapsed().as_secs_f64());
        let why: &dyn std::fmt::Display = match &published {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(BusError::Unavailable(why) | BusError::Refused(why))) => why,
            Err(_) => &"it did not answer in time",
        };
        tracing::warn!(%why, "the bus did not take events; their gateway is told to come back");
        let problem = "the bus does not take events now; send them again";
        Err(HttpError::unavailable(problem, BUS_RETRY))
    }
}
