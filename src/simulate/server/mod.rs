//! The simulator over HTTP: WeChat's paths as WeChat serves them, and `/_sim/` to control it.

mod connection;
mod control;
mod deliver;
mod manage;

use super::answer::{Action, Reply};
use super::api::{Api, Verb};
use super::gate::Call;
use super::push::Sender;
use super::request::Request;
use super::simulator::Simulator;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use connection::{Conn, Watched};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Longest hang: far beyond any client's patience, short enough to bound what piles up.
const MAX_HANG: Duration = Duration::from_secs(120);
/// Longest body of a POST, in bytes: a hundred openids are some 10 KB.
const MAX_BODY: usize = 1 << 20;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    sim: Arc<Simulator>,
    sender: Arc<Sender>,
    /// True once the server stops, which ends hangs.
    stop: watch::Receiver<bool>,
}

/// Serves until `shutdown` completes; then hangs end and open answers are finished.
///
/// # Errors
/// As the listener fails.
pub async fn serve(
    listener: TcpListener,
    sim: Arc<Simulator>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let (stopper, stop) = watch::channel(false);
    let app = router(Shared {
        sim: Arc::clone(&sim),
        sender: Arc::new(Sender::new().map_err(std::io::Error::other)?),
        stop,
    });
    let watched = Watched::new(listener, sim);
    axum::serve(watched, app.into_make_service_with_connect_info::<Conn>())
        .with_graceful_shutdown(async move {
            shutdown.await;
            stopper.send_replace(true);
        })
        .await
}

fn router(shared: Shared) -> Router {
    // `any`: axum would answer HEAD with GET's handler, and a wrong method is WeChat's to refuse.
    let wechat = Api::ALL.into_iter().fold(Router::new(), |router, api| {
        let handler = async move |State(shared): State<Shared>,
                                  ConnectInfo(conn): ConnectInfo<Conn>,
                                  method: Method,
                                  headers: HeaderMap,
                                  query: Fields,
                                  body: Body| {
            // WeChat's gateway wants a `Content-Length` (`docs/wechat.md` §1).
            if headers.contains_key(header::TRANSFER_ENCODING) {
                return StatusCode::PRECONDITION_FAILED.into_response();
            }
            let Ok(body) = to_bytes(body, MAX_BODY).await else {
                return StatusCode::PAYLOAD_TOO_LARGE.into_response();
            };
            let request = Request {
                api,
                verb: match method {
                    Method::GET => Verb::Get,
                    Method::POST => Verb::Post,
                    _ => Verb::Other,
                },
                fields: query.map(|Query(fields)| fields).unwrap_or_default(),
                body: body.to_vec(),
                from: conn.peer(),
            };
            answer(&shared, &conn, request).await
        };
        router.route(api.path(), any(handler))
    });
    let control = control::router()
        .merge(manage::router())
        .merge(deliver::router());
    wechat.merge(control).with_state(shared)
}

type Fields = Result<Query<BTreeMap<String, String>>, QueryRejection>;

/// A request under way; it lands however it ends, also when its client leaves.
struct Flight {
    sim: Arc<Simulator>,
    call: Call,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.sim.landed(&self.call);
    }
}

async fn answer(shared: &Shared, conn: &Conn, request: Request) -> Response {
    let sim = Arc::clone(&shared.sim);
    let call = sim.arrive(request);
    let flight = Flight { sim, call };
    let half = Duration::from_millis(flight.call.delay_ms / 2);
    pause(shared, half).await;
    let reply = flight.sim.settle(&flight.call);
    pause(shared, half).await;
    respond(shared, conn, reply).await
}

/// Waits, but not when the server stops.
async fn pause(shared: &Shared, time: Duration) {
    if time.is_zero() {
        return;
    }
    let mut stop = shared.stop.clone();
    tokio::select! {
        () = tokio::time::sleep(time) => (),
        // An error means that the server is gone: the same.
        _ = stop.wait_for(|stop| *stop) => (),
    }
}

async fn respond(shared: &Shared, conn: &Conn, reply: Reply) -> Response {
    match reply.action {
        Action::Respond {
            status,
            content_type,
            body,
        } => {
            if let Some(key) = reply.delivers {
                conn.announce(key, body.len());
            }
            let mut response = Response::new(Body::from(body));
            *response.status_mut() =
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let value = HeaderValue::from_static(content_type);
            response.headers_mut().insert(header::CONTENT_TYPE, value);
            response
        }
        Action::Silence => {
            pause(shared, MAX_HANG).await;
            conn.cut();
            Response::default()
        }
        Action::Cut => {
            conn.cut();
            Response::default()
        }
    }
}
