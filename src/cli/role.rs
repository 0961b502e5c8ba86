//! What the roles share: listeners, tasks that end together, and the watchdog's last word.

use super::Failure;
use super::assemble::Parts;
use crate::config::{Config, Profile};
use crate::http::{self, Listening};
use crate::worker::Worker;
use axum::Router;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a front that others balance over goes on accepting after the signal: Kubernetes takes a
/// pod out of its services in about a second, simple balancers at their next probes.
const GRACE: Duration = Duration::from_secs(3);

/// The tasks of a process. One that ends takes the others along: a process that half works is worse
/// than none.
pub struct Tasks {
    set: JoinSet<Result<(), Failure>>,
    /// Ends with the others, and does not keep them waiting.
    watching: JoinSet<()>,
    stop: CancellationToken,
}

impl Tasks {
    /// None yet; `stop` ends them all.
    #[must_use]
    pub fn new(stop: &CancellationToken) -> Self {
        Self {
            set: JoinSet::new(),
            watching: JoinSet::new(),
            stop: stop.clone(),
        }
    }

    /// Adds one.
    pub fn spawn(&mut self, task: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        self.set.spawn(task);
    }

    /// Adds a listener with its routes.
    pub fn listen(&mut self, listener: TcpListener, routes: Router, limits: Listening) {
        let stop = self.stop.clone();
        self.set.spawn(async move {
            http::serve(listener, routes, limits, stop).await;
            Ok(())
        });
    }

    /// Adds the worker, its watchdog, and the upkeep of bus and store.
    ///
    /// # Errors
    /// The worker cannot be made.
    pub fn work(&mut self, parts: &Arc<Parts>) -> Result<(), Failure> {
        let worker = parts.worker()?;
        self.watching.spawn(watch(Arc::clone(&worker)));
        let stop = self.stop.clone();
        self.set
            .spawn(async move { worker.run(stop).await.map_err(Failure::failed) });
        let (upkeep, stop) = (Arc::clone(parts), self.stop.clone());
        self.set.spawn(async move {
            upkeep.upkeep(stop).await;
            Ok(())
        });
        Ok(())
    }

    /// Waits until all have ended; the first failure is theirs.
    ///
    /// # Errors
    /// What the first that failed says.
    pub async fn ended(mut self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        while let Some(ended) = self.set.join_next().await {
            let ended = ended.unwrap_or_else(|e| Err(Failure::failed(e)));
            self.stop.cancel();
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// Ends the process when its worker is stuck. Not in order: whatever hangs would hang that too, and what
/// was begun is read again by whoever comes next. But what WeChat said of codes is noted if it can be.
async fn watch(worker: Arc<Worker>) {
    let stuck = worker.watchdog.bites().await;
    tracing::error!(
        doing = stuck.what,
        seconds = stuck.after.as_secs(),
        "the worker is stuck: it made no progress for this long; ending with status 1, to be started anew"
    );
    worker.ladder.close().await;
    std::process::exit(1);
}

/// Binds a listener that `key` configures.
///
/// # Errors
/// The address cannot be had.
pub async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|e| Failure::Failed(format!("{key}: cannot listen on {address}: {e}")))
}

/// Where a listener listens.
#[must_use]
pub fn local(listener: &TcpListener) -> String {
    listener
        .local_addr()
        .map_or_else(|_| "?".to_owned(), |a| a.to_string())
}

/// The limits of a front: others balance over those of production.
#[must_use]
pub fn front(config: &Config) -> Listening {
    let grace = match config.profile {
        Profile::Embedded { .. } => Duration::ZERO,
        Profile::Production { .. } => GRACE,
    };
    Listening {
        grace,
        ..Listening::default()
    }
}

/// A role runs alone in production only.
///
/// # Errors
/// Wrong use, with the remedy.
pub fn alone(config: &Config, role: &str) -> Result<(), Failure> {
    match config.profile {
        Profile::Production { .. } => Ok(()),
        Profile::Embedded { .. } => Err(Failure::Usage(format!(
            "`{role}` runs alone with Kafka and PostgreSQL only (bus.url = kafka://…, store.url = \
             postgres://…); on the embedded profile use `unilink serve`"
        ))),
    }
}
