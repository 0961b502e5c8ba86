//! Accounts of an app that have no unionid: each as if it had logged in when it was first seen, with
//! nothing but its openid. What can be asked about that is asked.

use super::event::{Chunk, Event};
use super::spec::Progress;
use super::{ReplayError, Source};
use crate::model::{Account, AppId, EventId, Evidence, Login, Millis};
use crate::store::{Operate, State, Which};
use async_trait::async_trait;
use std::sync::Arc;

/// Accounts of a chunk: one batch for the store.
pub(super) const CHUNK: usize = 500;
/// Accounts of a window: they fill batches of questions.
pub(super) const WINDOW: usize = 4_000;
/// Pages of a window, however few accounts they hold.
const PAGES: usize = 20;

/// Walks through accounts.
pub struct AccountSource {
    store: Arc<dyn Operate>,
    app: AppId,
    cause: EventId,
    progress: Progress,
}

impl AccountSource {
    /// From where the work has got to; `cause` stands for the event that changes come from.
    #[must_use]
    pub fn new(store: Arc<dyn Operate>, app: AppId, cause: EventId, progress: Progress) -> Self {
        Self {
            store,
            app,
            cause,
            progress,
        }
    }

    fn which(&self) -> Which {
        Which {
            app: Some(self.app.clone()),
            state: State::Unresolved,
        }
    }
}

#[async_trait]
impl Source for AccountSource {
    async fn next(&mut self) -> Result<Vec<Chunk>, ReplayError> {
        let (mut chunks, mut count) = (Vec::new(), 0);
        while !self.progress.walked && count < WINDOW && chunks.len() < PAGES {
            let place = self.progress.place;
            let page = self.store.browse(&self.which(), place, CHUNK).await?;
            count += page.found.len();
            let events = page.found.into_iter().map(|(_, found)| {
                let seen = found.row.first_seen_at;
                Event::Login(bare(&found.row.account, seen, &self.cause), None)
            });
            let events: Vec<Event> = events.collect();
            self.progress.done += u64::try_from(events.len()).unwrap_or(0);
            self.progress.walked = page.next.is_none();
            self.progress.place = page.next.unwrap_or(place);
            chunks.push(Chunk {
                events,
                after: self.progress.clone(),
                goes_back: false,
            });
        }
        Ok(chunks)
    }
}

/// A login that brings nothing but who it is.
pub(super) fn bare(account: &Account, at: Millis, cause: &EventId) -> Box<Login> {
    Box::new(Login {
        id: cause.clone(),
        occurred_at: at,
        clamped: false,
        app: account.app.clone(),
        evidence: Evidence::OpenId {
            openid: account.openid.clone(),
            unionid: None,
            session_key: None,
            data: None,
            token: None,
            payment: None,
            snapshot: false,
        },
        source: None,
        external_id: None,
        attributes: None,
    })
}
