//! Apps that operators have paused, as this process heeds them.

use super::Parts;
use crate::model::AppId;
use crate::store::StoreError;
use crate::telemetry;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Between two tries to learn which apps are paused, before anything is asked.
const AGAIN: Duration = Duration::from_millis(500);
/// Between two looks of who asks beside the workers.
const LOOK: Duration = Duration::from_secs(5);

impl Parts {
    /// Learns which apps are paused; what waits for one that is no longer is due at once.
    ///
    /// # Errors
    /// The store does not tell: all stays as it was.
    pub async fn heed_pauses(&self) -> Result<(), StoreError> {
        let paused = self.store.paused().await?;
        let paused: BTreeSet<AppId> = paused.into_iter().map(|pause| pause.app).collect();
        let changed = self.paused.set(&paused);
        for app in self.apps.iter() {
            let is = if paused.contains(&app.id) { 1.0 } else { 0.0 };
            metrics::gauge!(telemetry::PAUSED, "app" => app.id.to_string()).set(is);
        }
        for app in changed {
            if paused.contains(&app) {
                tracing::warn!(%app, "an operator has paused the app: WeChat is asked nothing about it");
                continue;
            }
            // Only now: what came due before this gate opened would have been put off again.
            let hastened = self.store.hasten(&app, (self.clock)()).await;
            let hastened = hastened.inspect_err(|_| self.paused.add(&app))?;
            tracing::info!(%app, hastened, "the app is resumed");
        }
        Ok(())
    }

    /// Learns which apps are paused, for who asks beside the workers, and goes on looking until the
    /// answer is dropped. What waits is the workers' to try.
    pub(super) async fn heeding_pauses(&self, stop: &CancellationToken) -> JoinSet<()> {
        self.heed_pauses_first(stop).await;
        let (store, paused) = (Arc::clone(&self.store), Arc::clone(&self.paused));
        let mut looking = JoinSet::new();
        looking.spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                // Not told: all stays as it was.
                if let Ok(now) = store.paused().await {
                    paused.set(&now.into_iter().map(|pause| pause.app).collect());
                }
            }
        });
        looking
    }

    /// The same, until it has been learnt once: nobody may ask WeChat before.
    pub async fn heed_pauses_first(&self, stop: &CancellationToken) {
        while let Err(error) = self.heed_pauses().await {
            tracing::warn!(%error, "which apps are paused is not known yet");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}
