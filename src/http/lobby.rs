//! The lobby: what a listener answers while the rest of the process still waits for its services.
//! It lives, it is not ready, and whoever asks for more is told to come back. Once the door is
//! opened, everything goes through to the router behind it.

use super::HttpError;
use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use tower::ServiceExt;

/// Seconds after which to come back.
const RETRY: u64 = 1;

/// Opens the way to the router behind the lobby.
#[derive(Clone)]
pub struct Door(Arc<OnceLock<Router>>);

impl Door {
    /// Lets requests through to `router` from now on. The first router stays.
    pub fn open(&self, router: Router) {
        self.0.set(router).ok();
    }
}

/// A lobby with its door closed. `why` is what it waits for, as `/readyz` shows it.
pub fn lobby(why: &'static str) -> (Router, Door) {
    let door = Door(Arc::default());
    let router = Router::new()
        .fallback(answer)
        .with_state((door.clone(), why));
    (router, door)
}

async fn answer(State((door, why)): State<(Door, &'static str)>, request: Request) -> Response {
    let Some(router) = door.0.get() else {
        return match request.uri().path() {
            "/livez" => "ok\n".into_response(),
            _ => HttpError::unavailable(why, RETRY).into_response(),
        };
    };
    match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => gone(never),
    }
}

fn gone(never: Infallible) -> Response {
    match never {}
}
