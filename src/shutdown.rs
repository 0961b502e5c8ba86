//! SIGTERM and SIGINT. The first asks the program to finish what it has begun; the second ends it
//! at once with 130 (SIGINT) or 143 (SIGTERM).

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// 128 + SIGINT, as shells report it.
const INTERRUPTED: i32 = 130;
/// 128 + SIGTERM, as shells report it.
const TERMINATED: i32 = 143;

/// A token that is cancelled by the first signal. Call once, inside a tokio runtime.
///
/// # Errors
/// The signal handlers cannot be installed.
pub fn on_signals() -> std::io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        next(&mut interrupt, &mut terminate).await;
        tracing::info!("stopping: finishing what has begun; a second signal ends at once");
        stop.cancel();
        std::process::exit(next(&mut interrupt, &mut terminate).await);
    });
    Ok(token)
}

/// Waits for a signal and tells the exit status that stands for it.
async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> i32 {
    tokio::select! {
        _ = interrupt.recv() => INTERRUPTED,
        _ = terminate.recv() => TERMINATED,
    }
}
