//! Resolving a window of logins: together, so that questions about followers fill their batches, and
//! patiently, so that nothing has to be deferred.
//!
//! A minute limit and a pause are waited for. An app that is refused, or whose quota is spent, is not:
//! its questions stay open and are counted, and other apps go on.

use super::ReplayError;
use super::ground::{Ground, has_unionid};
use super::recall::Resolved as Known;
use crate::model::{
    Account, AppId, Apps, DeadReason, Evidence, Fact, Keys, Login, Millis, Reason, Sighting,
};
use crate::clock::Clock;
use crate::resolve::book::{Book, Tally};
use crate::resolve::caller::Caller;
use crate::resolve::gate::Stopped;
use crate::resolve::ladder::{Ladder, Later, Resolved};
use crate::resolve::ports::MemoryFault;
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

/// One thing gone through.
#[derive(Debug)]
pub enum Event {
    /// A login, with what it comes to if nobody has to be asked for that.
    Login(Box<Login>, Option<Resolved>),
    /// An operator's event: already a fact.
    Operator(Box<Fact>),
    /// A dead letter.
    Dead(Option<AppId>, DeadReason),
    /// Nothing that concerns this work.
    Other,
}

/// What becomes of it.
#[derive(Debug)]
pub enum Fate {
    /// It is applied. For a login, its app.
    Fact(Option<AppId>, Box<Fact>),
    /// It is a dead letter.
    Dead(Option<AppId>, DeadReason),
    /// A login with a code of which no answer is remembered.
    Unanswered(AppId),
    /// Something could not be asked about it.
    NotAsked(AppId, Cause),
    /// It lies before its account's erasure.
    Void(AppId),
    /// Its account is linked already, and only the others are asked for.
    LeftAside(AppId),
    /// Nothing that concerns this work.
    Other,
}

/// Why something was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The day's quota is spent.
    Quota,
    /// WeChat refuses the app, or this API of it.
    Refused,
    /// Too many calls a minute, for a long time.
    Limited,
    /// WeChat did not answer.
    NoAnswer,
    /// Nobody was to be asked: it can be.
    Possible,
}

impl Cause {
    /// The word, in counts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Quota => "quota",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::NoAnswer => "no_answer",
            Self::Possible => "possible",
        }
    }
}

/// What resolves windows.
pub struct Resolver {
    /// The ladder, with a book.
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
    /// Ends waiting.
    pub stop: CancellationToken,
}

/// A login that is not at its end.
struct Open {
    /// Its place in the window.
    at: usize,
    login: Box<Login>,
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
        for (at, event) in events.into_iter().enumerate() {
            fates.push(match event {
                Event::Other => Fate::Other,
                Event::Dead(app, reason) => Fate::Dead(app, reason),
                Event::Operator(fact) => Fate::Fact(None, fact),
                Event::Login(login, Some(resolved)) => ended(&login.app, resolved),
                Event::Login(login, None) => {
                    open.push(Open { at, login });
                    Fate::Other
                }
            });
        }
        self.look_at(&mut open, &mut fates).await?;
        self.climb_all(open, &mut fates).await?;
        if self.only_unresolved {
            self.leave_linked_aside(&mut fates).await?;
        }
        self.known.forget();
        Ok(fates)
    }

    /// Looks the accounts up that something may be asked about: nobody is asked about an account that
    /// is erased, or linked.
    async fn look_at(
        &self,
        open: &mut Vec<Open>,
        fates: &mut [Fate],
    ) -> Result<(), ReplayError> {
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
            let stone = named(&one.login).and_then(|a| view.tombstones.get(&a));
            let void = stone.is_some_and(|stone| one.login.occurred_at <= stone.erased_at);
            if void && let Some(fate) = fates.get_mut(one.at) {
                *fate = Fate::Void(one.login.app.clone());
            }
            !void
        });
        Ok(())
    }

    async fn climb_all(
        &self,
        mut open: Vec<Open>,
        fates: &mut [Fate],
    ) -> Result<(), ReplayError> {
        for round in 0.. {
            let mut left = Vec::new();
            let mut next_at: Option<Millis> = None;
            for (one, resolved) in self.climb(open, round).await {
                match resolved? {
                    Resolved::Later(later) if later.unasked && later.interim.is_some() => {
                        next_at = Some(next_at.map_or(later.next_at, |n| n.min(later.next_at)));
                        left.push(one);
                    }
                    resolved => put(fates, one.at, ended(&one.login.app, resolved)),
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            let asked = if self.asks { self.ask_followers().await? } else { false };
            left = self.give_up(left, round, asked, fates);
            if left.is_empty() {
                return Ok(());
            }
            // What was asked just now is known; else WeChat was asked in vain, and gets a pause.
            if !asked {
                self.pause(next_at).await?;
            }
            open = left;
        }
        Ok(())
    }

    /// All of them at once: the gates bound what is in flight.
    async fn climb(&self, open: Vec<Open>, round: u32) -> Vec<Climbed> {
        let mut climbing = JoinSet::new();
        for one in open {
            let ladder = Arc::clone(&self.ladder);
            climbing.spawn(async move {
                let resolved = ladder.resolve_patiently(&one.login, round).await;
                (one, resolved)
            });
        }
        let mut climbed = Vec::with_capacity(climbing.len());
        while let Some(done) = climbing.join_next().await {
            climbed.extend(done.ok());
        }
        climbed
    }

    /// Leaves open for good what another round would not help.
    fn give_up(
        &self,
        left: Vec<Open>,
        round: u32,
        asked: bool,
        fates: &mut [Fate],
    ) -> Vec<Open> {
        let mut causes: BTreeMap<AppId, Option<Cause>> = BTreeMap::new();
        let mut on = Vec::new();
        for one in left {
            let app = &one.login.app;
            let cause = match causes.get(app) {
                Some(cause) => *cause,
                None => {
                    let cause = self.cause(app, round);
                    causes.insert(app.clone(), cause);
                    cause
                }
            };
            // What was asked just now is to be looked at once more in any case.
            match cause.filter(|_| !asked) {
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
            Some(Stopped::Quota) => Some(Cause::Quota),
            Some(Stopped::Refused) => Some(Cause::Refused),
            Some(Stopped::Limited) => (round >= LIMITED_ROUNDS).then_some(Cause::Limited),
            None => (round >= ROUNDS).then_some(Cause::NoAnswer),
        }
    }

    /// Asks about the followers that were gathered; whether there were any that could be asked about.
    async fn ask_followers(&self) -> Result<bool, ReplayError> {
        let mut asked = false;
        for (app, openids) in self.book.take_followers() {
            let Some(app) = self.apps.get(&app) else {
                continue;
            };
            if self.stop.is_cancelled() {
                return Err(ReplayError::Stopped);
            }
            let told = self.ladder.asking().followers().ask_batch(app, openids).await;
            asked |= told.iter().any(|(_, answer)| answer.is_ok());
            self.book.learn(app, told).await?;
        }
        Ok(asked)
    }

    async fn pause(&self, next_at: Option<Millis>) -> Result<(), ReplayError> {
        let now = (self.clock)();
        let ms = next_at.map_or(0, |next| next.since(now)).clamp(50, LONGEST_PAUSE_MS);
        let pause = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        tokio::select! {
            () = self.stop.cancelled() => Err(ReplayError::Stopped),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    async fn leave_linked_aside(&self, fates: &mut [Fate]) -> Result<(), ReplayError> {
        let seen = fates.iter().filter_map(sighted).cloned();
        let keys = Keys {
            accounts: seen.collect(),
            ..Keys::default()
        };
        let view = self.ground.view(&keys).await?;
        for fate in fates {
            let linked = sighted(fate).is_some_and(|a| has_unionid(&view, a, &self.apps));
            if let (true, Fate::Fact(Some(app), _)) = (linked, &*fate) {
                *fate = Fate::LeftAside(app.clone());
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
                *counted.entry((app, crate::resolve::codes::Api::UserInfo)).or_default() += 1;
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

/// Whose login it is, if the event says so.
fn named(login: &Login) -> Option<Account> {
    match &login.evidence {
        Evidence::Code { .. } => None,
        Evidence::OpenId { openid, .. } => Some(Account {
            app: login.app.clone(),
            openid: openid.clone(),
        }),
    }
}

fn sighted(fate: &Fate) -> Option<&Account> {
    match fate {
        Fate::Fact(Some(_), fact) => match fact.as_ref() {
            Fact::Sighting(sighting) => Some(&sighting.account),
            _ => None,
        },
        _ => None,
    }
}

/// What a resolution comes to where nothing is deferred.
fn ended(app: &AppId, resolved: Resolved) -> Fate {
    let app = app.clone();
    match resolved {
        Resolved::Facts(sighting) => Fate::Fact(Some(app), Box::new(Fact::Sighting(*sighting))),
        Resolved::Dead(reason, _) => Fate::Dead(Some(app), reason),
        Resolved::Later(later) => match without_waiting(*later) {
            Some(sighting) => Fate::Fact(Some(app), Box::new(Fact::Sighting(sighting))),
            None => Fate::Unanswered(app),
        },
    }
}

/// The account as it stands without what is waited for (a session key): a live worker waits, a replay
/// does not.
fn without_waiting(later: Later) -> Option<Sighting> {
    let sighting = later.interim?;
    Some(Sighting {
        reason: Some(later.reason.unwrap_or(Reason::NoUnionid)),
        ..sighting
    })
}
