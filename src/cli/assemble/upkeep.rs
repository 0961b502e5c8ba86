//! What has to be done now and then beside the work: forgetting what is old, the gauges of what
//! waits, and, once, trying again what waits for apps that are configured anew.

use super::Parts;
use crate::model::{App, AppId, Millis};
use crate::resolve::book::ANSWERS_MS;
use crate::store::{Prune, StoreError};
use crate::telemetry;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often old records, notes and markers are removed.
const UPKEEP: Duration = Duration::from_secs(60);
/// How often the gauges of waiting work are brought up to date.
const GAUGES: Duration = Duration::from_secs(5);
/// Fates of events are kept for a day (the look-up promises it).
const TRACKED_MS: i64 = 24 * 3_600_000;
/// Session keys of accounts that stay unresolved; WeChat's own die much sooner.
pub(super) const SESSION_KEYS_MS: i64 = 30 * 24 * 3_600_000;
/// Dead letters can be redriven while they last; the ledger lasts longer than both topics.
const LEDGER_SLACK_MS: i64 = 24 * 3_600_000;

impl Parts {
    /// Removes what is old, and keeps the gauges, until `stop`.
    pub async fn upkeep(&self, stop: CancellationToken) {
        let mut last = tokio::time::Instant::now();
        let mut noted = false;
        loop {
            // At once: whoever is stopped again after a moment has noted how it was configured.
            if !noted {
                noted = self.configured_anew().await.is_ok();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(GAUGES) => {}
            }
            if let Err(error) = self.heed_pauses().await {
                tracing::warn!(%error, "pauses of apps stay as they were last seen");
            }
            self.gauges().await;
            if last.elapsed() >= UPKEEP {
                // What is left over waits for the next look at the gauges only.
                if !self.forget().await {
                    last = tokio::time::Instant::now();
                }
            }
        }
    }

    /// What waits for an app whose secret, token or platform is another than before is tried at once.
    async fn configured_anew(&self) -> Result<(), StoreError> {
        let print = |app: &App| (app.id.clone(), self.fingerprint(app));
        let apps: Vec<(AppId, [u8; 32])> = self.apps.iter().map(print).collect();
        let changed = self.store.note_apps(&apps).await?;
        for app in changed {
            let hastened = self.store.hasten(&app, (self.clock)()).await?;
            tracing::info!(%app, hastened, "the app is configured otherwise than before");
        }
        Ok(())
    }

    /// Everything of an app that decides what WeChat answers, under a key: it holds the AppSecret.
    fn fingerprint(&self, app: &App) -> [u8; 32] {
        let secret = app.secret.as_ref().map_or("", |s| s.expose());
        let rest = (&app.kind, &app.token, &app.component, &app.bindings);
        let text = zeroize::Zeroizing::new(format!("{secret}\0{rest:?}"));
        self.keys.ring.mac("app", text.as_bytes())
    }

    async fn gauges(&self) {
        match self.store.deferred_by_app().await {
            Ok(waiting) => {
                for app in self.apps.iter() {
                    #[allow(clippy::cast_precision_loss)] // far below 2^52
                    let count = waiting.get(&app.id).copied().unwrap_or(0) as f64;
                    metrics::gauge!(telemetry::DEFERRED, "app" => app.id.to_string()).set(count);
                }
            }
            Err(error) => tracing::warn!(%error, "the gauges of waiting work are stale"),
        }
    }

    /// Forgets what is old; whether there is more of it.
    async fn forget(&self) -> bool {
        let now = (self.clock)();
        let topics = &self.config.topics;
        let longest = topics.logins_kept.max(topics.dlq_kept).as_millis();
        let ledger_ms = i64::try_from(longest).unwrap_or(i64::MAX / 2) + LEDGER_SLACK_MS;
        let what = Prune {
            tracked_before: Millis(now.0 - TRACKED_MS),
            ledger_before: Millis(now.0 - ledger_ms),
            session_keys_before: Millis(now.0 - SESSION_KEYS_MS),
            answers_before: Millis(now.0 - ANSWERS_MS),
        };
        if let Err(error) = self.store.prune(what).await {
            tracing::warn!(%error, "old rows are kept until the next upkeep");
        }
        self.bus.upkeep(now).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "old records are kept until the next upkeep");
            false
        })
    }
}
