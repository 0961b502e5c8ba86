//! The rungs that ask WeChat about an account whose openid is known: with the user's own token, with
//! a payment, as a follower (`docs/wechat.md` §5, §7, §8), and whether a session key is superseded
//! (§3.3). The first rung that tells a unionid ends the climb.

use super::book::Book;
use super::caller::{Caller, Missed};
use super::climb::Climb;
use super::codes::{Action, Api};
use super::followers::Followers;
use super::kept::Person;
use super::ports::MemoryFault;
use super::tokens::Tokens;
use super::wechat::{CallError, Client, Follower, Profile};
use crate::model::{
    App, AppKind, DeadReason, Method, Millis, Payment, Reason, Secret, UnionId, UserToken,
};
use std::sync::Arc;

/// Life of a user's OAuth token (`docs/wechat.md` §5).
const TOKEN_LIFE_MS: i64 = 2 * 3_600_000;
/// How long after a payment WeChat tells of it (`docs/wechat.md` §8).
const PAYMENT_LIFE_MS: i64 = 5 * 60_000;
/// How long a follower is asked about while WeChat does not answer: longer than a quota or a wrong
/// secret lasts, shorter than logins are kept.
const FOLLOWER_MS: i64 = 3 * 24 * 3_600_000;

/// Attempts at a question that WeChat answers with what nobody has documented.
const STRANGE: u32 = 5;

/// What can be asked with.
#[derive(Clone, Copy, Default)]
pub(super) struct Leads<'a> {
    pub token: Option<&'a UserToken>,
    pub payment: Option<&'a Payment>,
}

/// How asking ended, besides what the climb has learnt.
pub(super) enum Asked {
    /// Every question is answered, or none could be asked.
    Done,
    /// Some answer may come later; when to ask again, and when to give up.
    Later {
        until: Option<Millis>,
        expires_at: Millis,
    },
    /// The account is none.
    Dead(DeadReason, &'static str),
}

/// Asks WeChat about accounts.
pub struct Asking {
    caller: Arc<Caller>,
    tokens: Arc<Tokens>,
    followers: Followers,
    /// What operators' work remembers of its questions.
    book: Option<Arc<Book>>,
}

/// What one question came to.
enum Told {
    Answer,
    Later(Option<Millis>),
    /// An answer that no page lists.
    Strange,
    Dead(DeadReason, &'static str),
}

impl Asking {
    /// Over the one way to WeChat and the token centre.
    #[must_use]
    pub fn new(caller: Arc<Caller>, tokens: Arc<Tokens>) -> Self {
        Self {
            followers: Followers::new(Arc::clone(&tokens)),
            caller,
            tokens,
            book: None,
        }
    }

    /// Asks as operators' work does, with a book.
    #[must_use]
    pub fn with_book(self, book: Arc<Book>) -> Self {
        Self {
            book: Some(book),
            ..self
        }
    }

    /// Those who follow.
    #[must_use]
    pub fn followers(&self) -> &Followers {
        &self.followers
    }

    /// Asks, or finds what the book holds of it; and when it was told.
    async fn once<T: Person>(
        &self,
        app: &App,
        climb: &Climb<'_>,
        what: (Api, &str),
        call: impl Future<Output = Result<T, Missed>>,
    ) -> Result<(T, Millis), Missed> {
        match &self.book {
            None => Ok((call.await?, self.caller.now())),
            Some(book) => book.once(app, &climb.account, what, call).await,
        }
    }

    /// Whether a question could be asked about the account at all.
    pub(super) fn possible(&self, climb: &Climb<'_>, leads: Leads<'_>) -> bool {
        let Some(app) = climb.app().filter(|_| climb.bound(self.caller.now())) else {
            return false;
        };
        leads.token.is_some_and(UserToken::reads_profile)
            || leads.payment.is_some() && pays(app)
            || follows(app)
    }

    /// Whether WeChat can be asked which session key is the newest.
    pub(super) fn checks(&self, climb: &Climb<'_>) -> bool {
        let bound = climb.bound(self.caller.now());
        bound && climb.app().is_some_and(pays)
    }

    /// Asks what can be asked until a unionid is told. `since`: when this was first tried; `attempt`
    /// counts from 0.
    pub(super) async fn ask(
        &self,
        climb: &mut Climb<'_>,
        leads: Leads<'_>,
        since: Millis,
        attempt: u32,
    ) -> Result<Asked, MemoryFault> {
        let Some(app) = climb.app().filter(|_| climb.bound(self.caller.now())) else {
            return Ok(Asked::Done);
        };
        let at = climb.login.occurred_at;
        let mut later: Option<(Option<Millis>, Millis)> = None;
        for rung in [Rung::Profile, Rung::Paid, Rung::Follower] {
            let (told, expires_at) = match rung {
                Rung::Profile => match leads.token {
                    Some(token) => (
                        self.profile(app, climb, token).await?,
                        at.plus(TOKEN_LIFE_MS),
                    ),
                    None => continue,
                },
                Rung::Paid => match leads.payment.filter(|_| pays(app)) {
                    Some(payment) => (
                        self.paid(app, climb, payment).await?,
                        at.plus(PAYMENT_LIFE_MS),
                    ),
                    None => continue,
                },
                Rung::Follower if follows(app) => {
                    (self.follower(app, climb).await?, since.plus(FOLLOWER_MS))
                }
                Rung::Follower => continue,
            };
            match told {
                Told::Dead(reason, detail) => return Ok(Asked::Dead(reason, detail)),
                Told::Answer if !climb.claims.is_empty() => return Ok(Asked::Done),
                Told::Answer => {}
                Told::Strange if attempt + 1 >= STRANGE => climb.note(Reason::GaveUp),
                Told::Strange => later = Some(put_off(later, None, expires_at)),
                // Its time is over: what is known by now stays.
                Told::Later(_) if self.caller.now() >= expires_at => climb.note(Reason::GaveUp),
                Told::Later(until) => later = Some(put_off(later, until, expires_at)),
            }
        }
        Ok(
            later.map_or(Asked::Done, |(until, expires_at)| Asked::Later {
                until,
                expires_at,
            }),
        )
    }

    /// Whether WeChat says that the person has a newer session key than this one; `None` if it does
    /// not say.
    pub(super) async fn superseded(
        &self,
        climb: &Climb<'_>,
        key: &Secret,
    ) -> Result<Option<bool>, MemoryFault> {
        let Some(app) = climb.app() else {
            return Ok(None);
        };
        let openid = &climb.account.openid;
        let check = |client: Client, token: Secret| async move {
            client.check_session(openid, key, &token).await
        };
        let call = self.tokens.ask(app, Api::CheckSession, check);
        let what = (Api::CheckSession, key.expose());
        match self.once(app, climb, what, call).await {
            Ok(_) => Ok(Some(false)),
            Err(Missed::Fault(fault)) if fault.action() == Action::SessionStale => Ok(Some(true)),
            Err(Missed::Memory(fault)) => Err(fault),
            Err(_) => Ok(None),
        }
    }

    async fn profile(
        &self,
        app: &App,
        climb: &mut Climb<'_>,
        token: &UserToken,
    ) -> Result<Told, MemoryFault> {
        let age = self.caller.now().since(climb.login.occurred_at);
        let late = age > TOKEN_LIFE_MS;
        if !token.reads_profile() || late {
            // Who goes through old logins is late himself: that says nothing of the login.
            if self.book.is_none() || !late {
                climb.note(Reason::UserTokenRefused);
            }
            return Ok(Told::Answer);
        }
        let openid = climb.account.openid.clone();
        let request = |client: Client| async move { client.profile(&openid, token).await };
        let call = self.caller.call(app, Api::SnsUserinfo, request);
        let what = (Api::SnsUserinfo, token.access_token.expose());
        match self.once(app, climb, what, call).await {
            Ok((Profile { openid, unionid }, at)) if openid == climb.account.openid => {
                self.told(climb, unionid, Method::SnsUserinfo, at);
                Ok(Told::Answer)
            }
            // Somebody else's token: what it tells is about somebody else.
            Ok(_) | Err(Missed::Fault(_)) => {
                climb.note(Reason::UserTokenRefused);
                Ok(Told::Answer)
            }
            Err(missed) => later(missed),
        }
    }

    async fn paid(
        &self,
        app: &App,
        climb: &mut Climb<'_>,
        payment: &Payment,
    ) -> Result<Told, MemoryFault> {
        let age = self.caller.now().since(climb.login.occurred_at);
        if age > PAYMENT_LIFE_MS {
            if self.book.is_none() {
                climb.note(Reason::PaymentGone);
            }
            return Ok(Told::Answer);
        }
        let openid = &climb.account.openid;
        let request = |client: Client, token: Secret| async move {
            client.paid(openid, payment, &token).await
        };
        let call = self.tokens.ask(app, Api::PaidUnionid, request);
        let what = (Api::PaidUnionid, payment.text());
        match self.once(app, climb, what, call).await {
            Ok((unionid, at)) => {
                self.told(climb, unionid, Method::Paid, at);
                Ok(Told::Answer)
            }
            Err(Missed::Fault(fault)) => Ok(refused(climb, &fault, Reason::PaymentGone)),
            Err(missed) => later(missed),
        }
    }

    async fn follower(&self, app: &App, climb: &mut Climb<'_>) -> Result<Told, MemoryFault> {
        let openid = &climb.account.openid;
        let told = match &self.book {
            None => {
                let told = self.followers.ask(app, openid.clone()).await;
                told.map(|told| (told, self.caller.now()))
            }
            Some(book) => book.follower(app, openid).await,
        };
        match told {
            Ok((
                Follower {
                    subscribed: true,
                    unionid,
                    ..
                },
                at,
            )) => {
                self.told(climb, unionid, Method::UserInfo, at);
                Ok(Told::Answer)
            }
            // Of others nothing is told, whatever stands there.
            Ok(_) => {
                climb.note(Reason::NotFollowing);
                Ok(Told::Answer)
            }
            Err(Missed::Fault(fault)) => Ok(refused(climb, &fault, Reason::NoUnionid)),
            Err(missed) => later(missed),
        }
    }

    /// What WeChat told at `at`. Live that is the login's own moment; of an old login it is not, so that
    /// the claim is dated by the answer.
    fn told(
        &self,
        climb: &mut Climb<'_>,
        unionid: Option<Result<UnionId, ()>>,
        method: Method,
        at: Millis,
    ) {
        match unionid {
            Some(Ok(unionid)) if self.book.is_some() => climb.claim_dated(unionid, method, at),
            Some(Ok(unionid)) => climb.claim(unionid, method, at),
            Some(Err(())) => climb.note(Reason::PlaceholderUnionid),
            None => climb.note(Reason::NoUnionid),
        }
    }
}

/// The sooner next attempt and the later end of what is put off already and one question more.
fn put_off(
    already: Option<(Option<Millis>, Millis)>,
    until: Option<Millis>,
    expires_at: Millis,
) -> (Option<Millis>, Millis) {
    let (soonest, last) = already.unwrap_or((until, expires_at));
    (soonest.min(until), last.max(expires_at))
}

enum Rung {
    Profile,
    Paid,
    Follower,
}

/// Whether the app's token can ask about payments and session keys (`docs/wechat.md` §3.3, §8).
fn pays(app: &App) -> bool {
    app.kind == AppKind::MiniProgram && app.has_token()
}

/// Whether the app has followers to be asked about (`docs/wechat.md` §7).
fn follows(app: &App) -> bool {
    app.kind == AppKind::OfficialAccount && app.has_token()
}

/// WeChat refuses this item, or the app's use of this API; for the latter the alarm is raised.
fn refused(climb: &mut Climb<'_>, fault: &CallError, reason: Reason) -> Told {
    match fault.action() {
        Action::BadInput => {
            let detail = "WeChat says that the openid is none of this app's";
            return Told::Dead(DeadReason::Refused, detail);
        }
        Action::Configuration => climb.note(Reason::AppNotBound),
        _ => climb.note(reason),
    }
    Told::Answer
}

fn later(missed: Missed) -> Result<Told, MemoryFault> {
    match missed {
        Missed::Later(until) => Ok(Told::Later(until)),
        Missed::Strange => Ok(Told::Strange),
        Missed::Fault(_) => Ok(Told::Later(None)),
        Missed::Memory(fault) => Err(fault),
    }
}
