//! What became of a login event. Kept for a day, of events that carried a code, are deferred, or
//! are dead; of any other, and of one not seen yet, the answer is `unknown`.

use super::view::AccountView;
use super::{Api, valid};
use crate::clock::parse_duration;
use crate::http::{HttpError, InPath, InQuery};
use crate::model::EventId;
use crate::store::{Tracked, TrackedState};
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Longest wait: proxies between cut at 60 s, many at 30 s.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// A login takes some milliseconds from 202 to link; so the first looks come soon.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Looks of one waiting request come no closer than this in the end: 256 of them cost 512 reads a
/// second.
const LAST_PAUSE: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    wait: Option<String>,
}

/// The fate of an event.
#[derive(Serialize)]
pub(super) struct Fate {
    id: String,
    state: &'static str,
    reason: Option<String>,
    at: Option<String>,
    user_id: Option<String>,
    account: Option<AccountView>,
}

pub(super) async fn fate(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    InPath(id): InPath<String>,
    InQuery(query): InQuery<Waiting>,
) -> Result<Json<Fate>, HttpError> {
    let _place = api.admit(&headers)?;
    let id = valid("id", EventId::parse(&id))?;
    let wait = match query.wait.as_deref() {
        None => Duration::ZERO,
        Some(text) => parse_duration(text)
            .filter(|w| *w <= MAX_WAIT)
            .ok_or_else(|| {
                HttpError::field("wait", "must be a time up to 30s, written like 5s or 500ms")
            })?,
    };
    let tracked = api.wait_for(&id, wait).await?;
    Ok(Json(api.tell(&id, tracked).await?))
}

impl Api {
    /// Looks until the event is known, the time is over or the process stops.
    async fn wait_for(&self, id: &EventId, wait: Duration) -> Result<Option<Tracked>, HttpError> {
        let deadline = Instant::now() + wait;
        let mut pause = FIRST_PAUSE;
        loop {
            let tracked = self.ask(self.store.find_event(id)).await?;
            if tracked.is_some() || Instant::now() >= deadline || self.stop.is_cancelled() {
                return Ok(tracked);
            }
            let next = sleep_until(deadline.min(Instant::now() + pause));
            self.stop.run_until_cancelled(next).await;
            pause = LAST_PAUSE.min(pause * 2);
        }
    }

    async fn tell(&self, id: &EventId, tracked: Option<Tracked>) -> Result<Fate, HttpError> {
        let state = match tracked.as_ref().map(|t| t.state) {
            None => "unknown",
            Some(TrackedState::Linked) => "linked",
            Some(TrackedState::Deferred) => "deferred",
            Some(TrackedState::Dead) => "dead",
        };
        let account = tracked.as_ref().and_then(|t| t.account.clone());
        let found = match account {
            Some(account) => self.ask(self.store.find_accounts(&[account])).await?,
            None => Vec::new(),
        };
        let found = found.into_iter().next().flatten();
        let epoch = self.store.identity().epoch;
        Ok(Fate {
            id: id.as_str().to_owned(),
            state,
            at: tracked.as_ref().map(|t| t.at.to_string()),
            reason: tracked.and_then(|t| t.reason),
            user_id: found.as_ref().map(|f| f.row.user.to_string()),
            account: found.map(|f| AccountView::of(&f, &self.apps, epoch)),
        })
    }
}
