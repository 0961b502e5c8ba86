//! The simulator over HTTP: WeChat's paths as WeChat serves them, and `/_sim/` to control it.

mod connection;
mod control;

use super::answer::{Action, Api, Params, Reply};
use super::simulator::Simulator;
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
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

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    sim: Arc<Simulator>,
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
    let wechat = Router::new()
        .route(Api::Code2Session.path(), any(code2session))
        .route(Api::Oauth.path(), any(oauth))
        .layer(from_fn(refuse_chunked));
    wechat.merge(control::router()).with_state(shared)
}

/// WeChat's gateway wants a `Content-Length` (`docs/wechat.md` §1).
async fn refuse_chunked(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        return StatusCode::PRECONDITION_FAILED.into_response();
    }
    next.run(request).await
}

type Fields = Result<Query<BTreeMap<String, String>>, QueryRejection>;

async fn code2session(
    State(shared): State<Shared>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    method: Method,
    query: Fields,
) -> Response {
    exchange(&shared, &conn, &method, Api::Code2Session, query).await
}

async fn oauth(
    State(shared): State<Shared>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    method: Method,
    query: Fields,
) -> Response {
    exchange(&shared, &conn, &method, Api::Oauth, query).await
}

async fn exchange(
    shared: &Shared,
    conn: &Conn,
    method: &Method,
    api: Api,
    query: Fields,
) -> Response {
    let fields = query.map(|Query(fields)| fields).unwrap_or_default();
    let field = |name| fields.get(name).map_or("", String::as_str);
    if method != Method::GET {
        let reply = shared.sim.wrong_method(api, field("appid"));
        return respond(shared, conn, reply).await;
    }
    let code = match api {
        Api::Code2Session => "js_code",
        Api::Oauth => "code",
    };
    let params = Params {
        appid: field("appid"),
        secret: field("secret"),
        code: field(code),
        grant_type: field("grant_type"),
    };
    let call = shared.sim.arrive(api, &params);
    let half = Duration::from_millis(call.delay_ms / 2);
    pause(shared, half).await;
    let reply = shared.sim.settle(&call, &params);
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
                conn.expect(key, body.len());
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
