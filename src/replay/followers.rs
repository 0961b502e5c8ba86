//! Everybody who follows an official account (`docs/wechat.md` §7), known or not, page by page.
//!
//! The list changes while it is read: who leaves a page makes others move up into it. So a page that is
//! read again, after a stop, is gone through again from its beginning: nobody is skipped, and what is
//! known of those who were looked at already is not asked again.

use super::accounts::{CHUNK, WINDOW, bare};
use super::event::{Chunk, Event};
use super::ground::Ground;
use super::spec::Progress;
use super::{ReplayError, Source};
use crate::clock::Clock;
use crate::model::{Account, App, EventId, Keys as Asked, OpenId};
use crate::resolve::asking::Asking;
use crate::resolve::caller::{Caller, Missed};
use crate::resolve::gate::Stopped;
use crate::resolve::wechat::FollowerPage;
use crate::seal::Keys;
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Times that a page is asked for.
const TRIES: u32 = 40;
/// Longest pause between two tries: a minute limit ends within it.
const LONGEST_PAUSE_MS: i64 = 61_000;
/// What the places in the list are sealed for.
const PURPOSE: &str = "followers";

/// Reads the list of followers, after another source has ended.
pub struct FollowerSource {
    /// What comes before.
    pub first: Option<Box<dyn Source>>,
    /// What is worked on.
    pub ground: Arc<dyn Ground>,
    /// Asks for pages.
    pub asking: Arc<Asking>,
    /// Tells what keeps the app from being asked.
    pub caller: Arc<Caller>,
    /// Seals places in the list.
    pub keys: Arc<Keys>,
    /// The account.
    pub app: App,
    /// Stands for the event that changes come from.
    pub cause: EventId,
    /// The time.
    pub clock: Clock,
    /// How far the work has got.
    pub progress: Progress,
    /// What is left of the page at hand.
    pub page: Option<Page>,
    /// Ends waiting.
    pub stop: CancellationToken,
}

/// A page under way.
pub struct Page {
    left: VecDeque<OpenId>,
    next: Option<OpenId>,
}

#[async_trait]
impl Source for FollowerSource {
    async fn next(&mut self) -> Result<Vec<Chunk>, ReplayError> {
        if let Some(first) = &mut self.first {
            let chunks = first.next().await?;
            if let Some(last) = chunks.last() {
                self.progress = last.after.clone();
                return Ok(chunks);
            }
            self.first = None;
        }
        if self.progress.listed {
            return Ok(Vec::new());
        }
        let mut page = match self.page.take() {
            Some(page) => page,
            None => self.fetch().await?,
        };
        let mut chunks = Vec::new();
        let mut count = 0;
        while count < WINDOW {
            let some = page.left.len().min(CHUNK);
            let openids: Vec<OpenId> = page.left.drain(..some).collect();
            count += some;
            let events = self.events(openids).await?;
            self.progress.done += u64::try_from(some).unwrap_or(0);
            let ends = page.left.is_empty();
            if ends {
                self.progress.listed = page.next.is_none();
                self.progress.page = page.next.as_ref().map(|o| self.sealed(o)).transpose()?;
            }
            chunks.push(Chunk {
                events,
                after: self.progress.clone(),
                goes_back: !ends,
            });
            if ends {
                return Ok(chunks);
            }
        }
        self.page = Some(page);
        Ok(chunks)
    }
}

impl FollowerSource {
    /// Who is known is looked at as of when he was first seen, and asked about unless he is linked; the
    /// others as of when they came to follow.
    async fn events(&self, openids: Vec<OpenId>) -> Result<Vec<Event>, ReplayError> {
        let account = |openid| Account {
            app: self.app.id.clone(),
            openid,
        };
        let accounts: Vec<Account> = openids.into_iter().map(account).collect();
        let asked = Asked {
            accounts: accounts.iter().cloned().collect(),
            ..Asked::default()
        };
        let view = self.ground.view(&asked).await?;
        let now = (self.clock)();
        let event = |account: &Account| match view.accounts.get(account) {
            Some(row) => Event::Login(bare(account, row.first_seen_at, &self.cause), None),
            None => Event::Follower(bare(account, now, &self.cause)),
        };
        Ok(accounts.iter().map(event).collect())
    }

    async fn fetch(&mut self) -> Result<Page, ReplayError> {
        let after = self.progress.page.clone();
        let after = after.map(|sealed| self.opened(&sealed)).transpose()?;
        for _ in 0..TRIES {
            let followers = self.asking.followers();
            match followers.page(&self.app, after.as_ref()).await {
                Ok(FollowerPage {
                    total,
                    openids,
                    next,
                }) => {
                    self.progress.followers = total;
                    return Ok(Page {
                        left: openids.into(),
                        next,
                    });
                }
                Err(Missed::Memory(fault)) => return Err(fault.into()),
                Err(Missed::Fault(fault)) => {
                    return Err(unread(&format!("WeChat refuses it: {fault}")));
                }
                Err(Missed::Strange) => return Err(unread("WeChat's answer is none we know")),
                Err(Missed::Later(until)) => {
                    match self.caller.stopped(&self.app.id) {
                        Some(Stopped::Paused) => {
                            return Err(unread("the app is paused: `unilink app resume` it"));
                        }
                        Some(Stopped::Quota) => return Err(unread("the day's quota is spent")),
                        Some(Stopped::Refused) => {
                            return Err(unread("WeChat refuses the app; the log says why"));
                        }
                        Some(Stopped::Limited) | None => {}
                    }
                    let ms = until.map_or(1_000, |until| until.since((self.clock)()));
                    let ms = u64::try_from(ms.clamp(200, LONGEST_PAUSE_MS)).unwrap_or(0);
                    let pause = tokio::time::sleep(Duration::from_millis(ms));
                    if self.stop.run_until_cancelled(pause).await.is_none() {
                        return Err(ReplayError::Stopped);
                    }
                }
            }
        }
        Err(unread("WeChat does not answer"))
    }

    /// A place in the list names somebody.
    fn sealed(&self, openid: &OpenId) -> Result<String, ReplayError> {
        let (ring, id) = (&self.keys.ring, self.app.id.as_str().as_bytes());
        let sealed = ring.seal(PURPOSE, id, openid.as_str().as_bytes());
        let sealed = sealed.map_err(|e| unread(&e.to_string()))?;
        Ok(hex::encode(sealed))
    }

    fn opened(&self, sealed: &str) -> Result<OpenId, ReplayError> {
        let (ring, id) = (&self.keys.ring, self.app.id.as_str().as_bytes());
        let bytes = hex::decode(sealed).ok();
        let opened = bytes.and_then(|bytes| ring.open(PURPOSE, id, &bytes).ok());
        let text = opened.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        text.and_then(|text| OpenId::parse(&text).ok())
            .ok_or_else(|| unread("its place does not open: is a [[ring]] key missing?"))
    }
}

fn unread(why: &str) -> ReplayError {
    ReplayError::Refused(format!("the list of followers cannot be read: {why}"))
}
