//! The front door: takes login events over HTTP, has each prepared (checked and sealed), publishes
//! them, and answers 202 once the bus has them durably.
//!
//! Promises: a 202 is given for nothing that is not durable; an array or NDJSON body is taken whole
//! or refused whole; nothing that is refused is repeated in the answer or in the logs; requests at
//! once, bytes, events and seconds of each are bounded. It holds no database and knows no user.

mod cloud;
mod limits;
mod post;
mod push;
mod rate;
mod split;

pub use limits::Limits;
pub use push::{Erase, Pushes};

use crate::bus::{Bus, Record};
use crate::clock::Clock;
use crate::http::{Keys, Ops, Service, service};
use crate::model::{EventId, Millis};
use crate::telemetry::INTAKE_REQUESTS;
use axum::Router;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use rate::Rates;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What turns one JSON event into a record for the bus. Implemented in cli with wire and seal.
pub trait Prepare: Send + Sync {
    /// Checks and seals one event, given as the bytes that came.
    ///
    /// # Errors
    /// The event cannot be taken; says which field and why, without repeating its content.
    fn prepare(&self, raw: &[u8], now: Millis) -> Result<Prepared, Refusal>;
}

/// An event ready to be published.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The event's id, given or made.
    pub id: EventId,
    /// Its record.
    pub record: Record,
}

/// Why an event is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What sort of mistake it is.
    pub status: RefusalKind,
    /// The field at fault; empty if it is the event as a whole.
    pub field: String,
    /// What is wrong. Never the value itself.
    pub problem: String,
}

/// Sorts of mistakes, each with its HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// Not JSON, or not an object: 400.
    Malformed,
    /// A field is missing, unknown, of the wrong type or out of bounds: 422.
    Invalid,
    /// The record would be larger than the topic takes: 413.
    TooLarge,
}

/// What the intake is made of.
#[derive(Clone)]
pub struct IntakeDeps {
    /// Where events go.
    pub bus: Arc<dyn Bus>,
    /// What checks and seals them.
    pub prepare: Arc<dyn Prepare>,
    /// Tells the time.
    pub clock: Clock,
    /// Who may call.
    pub keys: Keys,
    /// How much.
    pub limits: Limits,
    /// The apps whose pushes are taken.
    pub pushes: Pushes,
    /// Whether WeChat cloud run's headers are believed.
    pub cloud_run: bool,
    /// For the operational routes.
    pub ops: Ops,
}

/// The paths of the intake, beside the operational ones.
#[must_use]
pub fn paths() -> Vec<&'static str> {
    routes().iter().map(|(path, _)| *path).collect()
}

/// The intake as a router.
pub fn router(deps: IntakeDeps) -> Router {
    let intake = Arc::new(Intake {
        rates: Rates::new(&deps.limits, deps.keys.callers()),
        in_flight: Semaphore::new(deps.limits.max_in_flight),
        visitors: Semaphore::new(deps.limits.max_in_flight),
        bus: deps.bus,
        prepare: deps.prepare,
        clock: deps.clock,
        keys: deps.keys,
        limits: deps.limits,
        pushes: deps.pushes,
        cloud_run: deps.cloud_run,
    });
    let of = Service {
        routes: routes(),
        state: intake,
        count,
    };
    service(of, deps.ops)
}

fn routes() -> Vec<(&'static str, MethodRouter<Arc<Intake>>)> {
    vec![
        ("/v1/logins", post(post::accept)),
        ("/v1/erasures", post(post::erase)),
        ("/wechat/push/{appid}", get(push::check).post(push::take)),
        ("/wechat/cloud", post(cloud::accept)),
    ]
}

fn count(_route: &str, status: StatusCode) {
    metrics::counter!(INTAKE_REQUESTS, "status" => status.as_str().to_owned()).increment(1);
}

struct Intake {
    bus: Arc<dyn Bus>,
    prepare: Arc<dyn Prepare>,
    clock: Clock,
    keys: Keys,
    limits: Limits,
    pushes: Pushes,
    cloud_run: bool,
    rates: Rates,
    in_flight: Semaphore,
    /// Places of those who show no key.
    visitors: Semaphore,
}
