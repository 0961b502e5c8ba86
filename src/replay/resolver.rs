//! Resolving a window of events: together, so that questions about followers fill their batches, and
//! patiently, so that nothing has to be deferred.
//!
//! A minute limit and a pause are waited for. An app that is refused, or whose quota is spent, is not:
//! its questions stay open and are counted, and other apps go on.

use super::ReplayError;
use super::event::{Cause, Event, Fate, named};
use super::ground::{Ground, has_unionid};
use super::recall::Resolved as Known;
use crate::clock::Clock;
use crate::model::{Account, AppId, Apps, Fact, Keys, Login, Millis, SealedKey, Sighting};
use crate::resolve::book::{Book, Tally};
use crate::resolve::caller::Caller;
use crate::resolve::codes::Api;
use crate::resolve::gate::Stopped;
use crate::resolve::ladder::{Ladder, Resolved};
use crate::resolve::ports::MemoryFault;
use crate::store::HELD_KEYS;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Times that what WeChat does not answer is asked again before it is left open.
const ROUNDS: u32 = 8;
/// Rounds in which only minute limits are waited for: they end by themselves.
const LIMITED_ROUNDS: u32 = 40;
/// Longest pause between two rounds: a minute limit ends within it.
const LONGEST_PAUSE_MS: i64 = 61_000;
/// Batches of followers that are asked about at once.
const BATCHES: usize = 4;

/// What resolves windows.
pub struct Resolver {
    /// The ladder, with a book. It sends no codes.
    pub ladder: Arc<Ladder>,
    /// The one way to WeChat.
    pub caller: Arc<Caller>,
    /// The questions.
    pub book: Arc<Book>,
    /// What is known of accounts while a window is resolved.
    pub known: Arc<Known>,
    /// What work is done on.
    pub ground: Arc<dyn Ground>,
    /// The apps.
    pub apps: Arc<Apps>,
    /// The time.
    pub clock: Clock,
    /// Whether WeChat is asked at all.
    pub asks: bool,
    /// Whether accounts that are linked are left aside.
    pub only_unresolved: bool,
    /// Session keys from before so many milliseconds ago are not kept any more.
    pub keys_ms: i64,
    /// Ends waiting.
    pub stop: CancellationToken,
}

/// A login that is not at its end.
struct Open {
    /// Its place in the window.
    at: usize,
    login: Box<Login>,
    /// Dated by when they came to follow.
    follower: bool,
}

type Climbed = (Open, Result<Resolved, MemoryFault>);

impl Resolver {
    /// What becomes of each event of a window, in their order.
    ///
    /// # Errors
    /// The store or the memory failed, or it was told to stop while it waited.
    pub async fn resolve(&self, events: Vec<Event>) -> Result<Vec<Fate>, ReplayError> {
        let mut fates = Vec::with_capacity(events.len());
        let mut open = Vec::new();
        let now = (self.clock)();
        for (at, event) in events.into_iter().enumerate() {
            let follower = matches!(event, Event::Follower(_));
            fates.push(match event {
                Event::Other => Fate::Other,
                Event::Dead(app, reason) => Fate::Dead(app, reason),
                Event::Operator(fact) => Fate::Fact(None, fact),
                Event::Login(login, Some(resolved)) => Fate::of(&login.app, resolved, now),
                Event::Login(login, None) | Event::Follower(login) => {
                    open.push(Open {
                        at,
                        login,
                        follower,
                    });
                    Fate::Other
                }
            });
        }
        self.look_at(&mut open, &mut fates).await?;
        self.climb_all(open, &mut fates).await?;
        self.forget_known_keys(&mut fates).await?;
        self.known.forget();
        Ok(fates)
    }

    /// Looks the accounts up that something may be asked about: nobody is asked about an account that
    /// is erased, or linked.
    async fn look_at(&self, open: &mut Vec<Open>, fates: &mut [Fate]) -> Result<(), ReplayError> {
        let accounts: BTreeSet<Account> = open.iter().filter_map(|o| named(&o.login)).collect();
        if accounts.is_empty() {
            return Ok(());
        }
        let keys = Keys {
            accounts,
            ..Keys::default()
        };
        let view = self.ground.view(&keys).await?;
        let linked = keys.accounts.iter();
        let linked = linked.map(|a| (a.clone(), has_unionid(&view, a, &self.apps)));
        self.known.note(linked.collect());
        open.retain(|one| {
            let Some(account) = named(&one.login) else {
                return true;
            };
            let stone = view.tombstones.get(&account);
            let void = stone.is_some_and(|stone| one.login.occurred_at <= stone.erased_at);
            let aside = self.only_unresolved && has_unionid(&view, &account, &self.apps);
            match (void, aside) {
                (true, _) => put(fates, one.at, Fate::Void(account.app)),
                (_, true) => put(fates, one.at, Fate::LeftAside(account.app)),
                _ => return true,
            }
            false
        });
        Ok(())
    }

    async fn climb_all(&self, mut open: Vec<Open>, fates: &mut [Fate]) -> Result<(), ReplayError> {
        let mut before = usize::MAX;
        for round in 0.. {
            let mut left = Vec::new();
            let mut next_at: Option<Millis> = None;
            for (one, resolved) in self.climb(open, round).await? {
                match resolved? {
                    Resolved::Later(later) if later.unasked && later.interim.is_some() => {
                        next_at = Some(next_at.map_or(later.next_at, |n| n.min(later.next_at)));
                        left.push(one);
                    }
                    resolved => {
                        let fate = self.fate(&one, resolved).await?;
                        put(fates, one.at, fate);
                    }
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            let asked = self.asks && self.ask_followers().await?;
            // What was asked is looked at once more, unless that helped nobody: of the erased nothing is kept.
            let in_vain = std::mem::replace(&mut before, left.len()) == left.len();
            if !asked || in_vain {
                left = self.give_up(left, round, fates);
                if left.is_empty() {
                    return Ok(());
                }
                self.pause(next_at).await?;
            }
            open = left;
        }
        Ok(())
    }

    /// All of them at once: the gates bound what is in flight.
    async fn climb(&self, open: Vec<Open>, round: u32) -> Result<Vec<Climbed>, ReplayError> {
        let mut climbing = JoinSet::new();
        for one in open {
            let ladder = Arc::clone(&self.ladder);
            climbing.spawn(async move {
                let resolved = ladder.resolve_patiently(&one.login, round).await;
                (one, resolved)
            });
        }
        let mut climbed = Vec::with_capacity(climbing.len());
        loop {
            let done = tokio::select! {
                // Nothing is lost with those that still wait: what was told is remembered.
                () = self.stop.cancelled() => return Err(ReplayError::Stopped),
                done = climbing.join_next() => done,
            };
            match done {
                Some(done) => climbed.push(done?),
                None => return Ok(climbed),
            }
        }
    }

    /// Somebody who follows was seen when they came to follow; who does not is nobody new.
    async fn fate(&self, one: &Open, resolved: Resolved) -> Result<Fate, ReplayError> {
        let app = &one.login.app;
        let fate = Fate::of(app, resolved, (self.clock)());
        let (true, Some(account), Some(known)) =
            (one.follower, named(&one.login), self.apps.get(app))
        else {
            return Ok(fate);
        };
        let told = self.book.told(known, &account.openid).await?;
        let since = told.filter(|told| told.subscribed);
        match (since.and_then(|told| told.subscribed_at), fate) {
            (Some(since), Fate::Fact(app, fact)) => Ok(Fate::Fact(app, dated(fact, since))),
            (None, Fate::Fact(..)) => Ok(Fate::LeftAside(app.clone())),
            (_, other) => Ok(other),
        }
    }

    /// Leaves open for good what another round would not help.
    fn give_up(&self, left: Vec<Open>, round: u32, fates: &mut [Fate]) -> Vec<Open> {
        let mut causes: BTreeMap<AppId, Option<Cause>> = BTreeMap::new();
        let mut on = Vec::new();
        for one in left {
            let app = &one.login.app;
            let cause = *causes
                .entry(app.clone())
                .or_insert_with(|| self.cause(app, round));
            match cause {
                Some(cause) => {
                    let fate = Fate::NotAsked(app.clone(), cause);
                    put(fates, one.at, fate);
                }
                None => on.push(one),
            }
        }
        on
    }

    /// Why another round would not help.
    fn cause(&self, app: &AppId, round: u32) -> Option<Cause> {
        if !self.asks {
            return Some(Cause::Possible);
        }
        match self.caller.stopped(app) {
            Some(Stopped::Limited) if round < LIMITED_ROUNDS => None,
            Some(stopped) => Some(stopped.into()),
            None => (round >= ROUNDS).then_some(Cause::NoAnswer),
        }
    }

    /// Asks about the followers that were gathered; whether anything was answered.
    async fn ask_followers(&self) -> Result<bool, ReplayError> {
        let mut asked = false;
        let batches = self.book.take_followers();
        for some in batches.chunks(BATCHES) {
            if self.stop.is_cancelled() {
                return Err(ReplayError::Stopped);
            }
            let asking = some.iter().filter_map(|(app, openids)| {
                let app = self.apps.get(app)?;
                Some(async move {
                    let followers = self.ladder.asking().followers();
                    (app, followers.ask_batch(app, openids.clone()).await)
                })
            });
            for (app, told) in futures::future::join_all(asking).await {
                asked |= told.iter().any(|(_, answer)| answer.is_ok());
                self.book.learn(app, told).await?;
            }
        }
        Ok(asked)
    }

    async fn pause(&self, next_at: Option<Millis>) -> Result<(), ReplayError> {
        let now = (self.clock)();
        let ms = next_at.map_or(0, |next| next.since(now));
        let ms = u64::try_from(ms.clamp(50, LONGEST_PAUSE_MS)).unwrap_or(0);
        let pause = tokio::time::sleep(Duration::from_millis(ms));
        match self.stop.run_until_cancelled(pause).await {
            Some(()) => Ok(()),
            None => Err(ReplayError::Stopped),
        }
    }

    /// Session keys that the store has, or would not keep, are left out: a login that tells nothing new
    /// must write nothing.
    async fn forget_known_keys(&self, fates: &mut [Fate]) -> Result<(), ReplayError> {
        let accounts = fates.iter_mut().filter_map(keyed);
        let accounts: BTreeSet<Account> = accounts.map(|s| s.account.clone()).collect();
        if accounts.is_empty() {
            return Ok(());
        }
        let accounts: Vec<Account> = accounts.into_iter().collect();
        let held = self.ground.held(&accounts).await?;
        let held: BTreeMap<Account, _> = accounts.into_iter().zip(held).collect();
        let oldest = (self.clock)().plus(-self.keys_ms);
        for sighting in fates.iter_mut().filter_map(keyed) {
            let held = held.get(&sighting.account);
            let wanted = sighting.session_key.as_ref().is_some_and(|key| {
                key.at > oldest && held.is_none_or(|h| !h.resolved && is_new(key, &h.keys))
            });
            if !wanted {
                sighting.session_key = None;
            }
        }
        Ok(())
    }

    /// Calls that were made since this was last asked; and those that were counted, a batch of
    /// followers as one call.
    #[must_use]
    pub fn take_calls(&self) -> (Tally, Tally) {
        let mut counted = self.book.take_counted();
        if !self.asks {
            for (app, _) in self.book.take_followers() {
                *counted.entry((app, Api::UserInfo)).or_default() += 1;
            }
        }
        (self.caller.take_made(), counted)
    }
}

fn put(fates: &mut [Fate], at: usize, fate: Fate) {
    if let Some(slot) = fates.get_mut(at) {
        *slot = fate;
    }
}

/// The sighting, if it brings a session key.
fn keyed(fate: &mut Fate) -> Option<&mut Sighting> {
    let Fate::Fact(_, fact) = fate else {
        return None;
    };
    match fact.as_mut() {
        Fact::Sighting(sighting) => Some(sighting).filter(|s| s.session_key.is_some()),
        _ => None,
    }
}

/// Whether a store that has these keys, newest first, would keep this one too.
fn is_new(key: &SealedKey, held: &[SealedKey]) -> bool {
    let place = |key: &SealedKey| (key.at, key.exchanged);
    let newer = |other: &&SealedKey| place(other) >= place(key);
    held.iter().all(|other| place(other) != place(key))
        && held.iter().filter(newer).count() < HELD_KEYS
}

fn dated(mut fact: Box<Fact>, at: Millis) -> Box<Fact> {
    if let Fact::Sighting(sighting) = fact.as_mut() {
        sighting.at = at;
    }
    fact
}
