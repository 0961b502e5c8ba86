//! Listening: a bounded number of connections, none of which may dawdle, and a drain at the end.
//!
//! Promises: a request that was begun before the stop is answered, up to [`Listening::drain`];
//! connections that were waiting to be accepted are served too; whoever sends nothing is cut. For
//! the time of [`Listening::grace`] new ones are still welcome, and every answer asks its client not
//! to use the connection again.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Longest request line and headers together, in bytes: ours take a few hundred.
const MAX_HEAD: usize = 64 * 1024;
/// Pause after an accept failed (no file descriptors left): trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long one may wait for a connection that is already queued when the stop comes.
const QUEUED: Duration = Duration::from_millis(10);

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// Most connections at once; further ones wait in the kernel's queue.
    pub connections: usize,
    /// How long a connection may take to send a request's head, idle time before it included.
    pub head_wait: Duration,
    /// How long after the stop new connections are taken: balancers need a moment to see that
    /// `/readyz` answers 503.
    pub grace: Duration,
    /// How long the end waits for requests that were begun.
    pub drain: Duration,
}

impl Default for Listening {
    /// 1,024 connections (default limit of file descriptors), 30 s (pools of clients keep idle
    /// connections about as long), no grace, a drain of 30 s (longer than any request but a long wait, which
    /// the stop ends).
    fn default() -> Self {
        Self {
            connections: 1_024,
            head_wait: Duration::from_secs(30),
            grace: Duration::ZERO,
            drain: Duration::from_secs(30),
        }
    }
}

/// Serves until `stop`, then answers what was begun and returns.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Listening,
    stop: CancellationToken,
) {
    let mut server = Server {
        router: router.layer(from_fn_with_state(stop.clone(), close_when_stopping)),
        limits,
        slots: Arc::new(Semaphore::new(limits.connections)),
        graceful: GracefulShutdown::new(),
        open: JoinSet::new(),
    };
    let closing = async {
        stop.cancelled().await;
        sleep(limits.grace).await;
    };
    tokio::select! {
        () = closing => {}
        () = server.accept(&listener) => {}
    }
    while let Ok(Ok((stream, _))) = timeout(QUEUED, listener.accept()).await {
        match Arc::clone(&server.slots).try_acquire_owned() {
            Ok(slot) => server.take(stream, slot),
            Err(_) => break,
        }
    }
    drop(listener);
    server.finish().await;
}

struct Server {
    router: Router,
    limits: Listening,
    slots: Arc<Semaphore>,
    graceful: GracefulShutdown,
    open: JoinSet<()>,
}

async fn close_when_stopping(
    State(stop): State<CancellationToken>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    if stop.is_cancelled() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

impl Server {
    /// Takes connections as they come, forever.
    async fn accept(&mut self, listener: &TcpListener) {
        while let Some(slot) = self.slot().await {
            match listener.accept().await {
                Ok((stream, _)) => self.take(stream, slot),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A place for one more connection; `None` never comes, since the semaphore is never closed.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    fn take(&mut self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        while self.open.try_join_next().is_some() {}
        // Answers are small and awaited; holding them back for more gains nothing.
        stream.set_nodelay(true).ok();
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_wait)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection);
        self.open.spawn(async move {
            // Clients that break off or dawdle are their own affair.
            connection.await.ok();
            drop(slot);
        });
    }

    async fn finish(self) {
        if timeout(self.limits.drain, self.graceful.shutdown())
            .await
            .is_err()
        {
            let left = self.open.len();
            tracing::warn!(
                left,
                "connections were still busy at the end of the drain; cut"
            );
        }
    }
}
