//! What every surface answers besides its purpose: whether it lives, whether it is ready, its
//! metrics, its description. None of these asks for a key; none tells anything about anybody.

use super::HttpError;
use crate::telemetry::Metrics;
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use futures::future::BoxFuture;
use std::any::Any;
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;

/// The OpenAPI document of both surfaces, kept by hand and compared with the routes by the tests.
const OPENAPI: &str = include_str!("../../schemas/openapi.json");
/// What a scrape of Prometheus wants to hear.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Tells why the process is not ready to serve, or that it is.
pub type Ready = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What the operational routes need.
#[derive(Clone)]
pub struct Ops {
    /// Asked at each `/readyz`. Its text is shown to whoever asks.
    pub ready: Ready,
    /// Shown at `/metrics`.
    pub metrics: Metrics,
}

/// The paths that [`service`] adds.
pub const OPERATIONS: [&str; 4] = ["/livez", "/readyz", "/metrics", "/openapi.json"];

/// A surface: its routes, and the counter of its requests.
pub struct Service<S> {
    /// The routes with a purpose.
    pub routes: Vec<(&'static str, MethodRouter<S>)>,
    /// What they share.
    pub state: S,
    /// Called once per request with the route (`none` if there is no such) and the status;
    /// operational routes are not counted.
    pub count: fn(&str, StatusCode),
}

/// Joins routes with the operational ones, counts requests, and gives every refusal one shape:
/// unknown paths, wrong methods and panics too.
pub fn service<S: Clone + Send + Sync + 'static>(of: Service<S>, ops: Ops) -> Router {
    let mut router = Router::new();
    for (path, methods) in of.routes {
        router = router.route(path, methods);
    }
    let [livez, readyz, metrics, openapi] = OPERATIONS;
    let operations = Router::new()
        .route(livez, get(|| async { "ok\n" }))
        .route(readyz, get(answer_ready))
        .route(metrics, get(answer_metrics))
        .route(openapi, get(|| async { json_text(OPENAPI) }))
        .with_state(ops);
    router
        .with_state(of.state)
        .merge(operations)
        .fallback(|| async { HttpError::new(StatusCode::NOT_FOUND, "there is no such path") })
        .method_not_allowed_fallback(|| async {
            HttpError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path has no such method",
            )
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(of.count, counted))
}

async fn counted(
    State(count): State<fn(&str, StatusCode)>,
    request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    if !OPERATIONS.contains(&route) {
        count(route, response.status());
    }
    response
}

/// What the panic says may hold anything, so it goes nowhere; the panic hook has told stderr where.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a request ended in a panic");
    HttpError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "an error of ours; it is logged",
    )
    .into_response()
}

async fn answer_ready(State(ops): State<Ops>) -> Response {
    match (ops.ready)().await {
        Ok(()) => "ready\n".into_response(),
        Err(why) => HttpError::unavailable(why, 1).into_response(),
    }
}

async fn answer_metrics(State(ops): State<Ops>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], ops.metrics.render()).into_response()
}

fn json_text(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
