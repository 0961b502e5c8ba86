//! The rungs that ask WeChat about an account whose openid is known: with the user's own token, with
//! a payment, as a follower (`docs/wechat.md` §5, §7, §8). The first rung that tells a unionid ends the
//! climb.

use super::caller::{Caller, Missed};
use super::climb::Climb;
use super::codes::{Action, Api};
use super::followers::Followers;
use super::ports::MemoryFault;
use super::tokens::Tokens;
use super::turns::Turns;
use super::wechat::{CallError, Client, Follower, Profile};
use crate::model::{
    App, AppId, AppKind, DeadReason, Method, Millis, Payment, Reason, Secret, UnionId, UserToken,
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
pub(super) const STRANGE: u32 = 5;
/// Why an account that is asked about is none.
pub(super) const NO_OPENID: &str = "WeChat says that the openid is none of this app's";

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

impl Asked {
    /// Unless something else is asked again anyway, one more question is.
    pub(super) fn or_later(self, until: Option<Millis>, expires_at: Millis) -> Self {
        match self {
            Self::Done => Self::Later { until, expires_at },
            other => other,
        }
    }
}

/// Asks WeChat about accounts.
pub struct Asking {
    pub(super) caller: Arc<Caller>,
    pub(super) tokens: Arc<Tokens>,
    followers: Followers,
    turns: Turns,
}

/// What one question came to.
enum Told {
    Answer,
    Later(Option<Millis>),
    /// The app is in no platform, says WeChat; when to ask again whether it is.
    NotBound(Option<Millis>),
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
            turns: Turns::default(),
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
                Told::NotBound(_) if self.caller.now() >= expires_at => {
                    climb.note(Reason::AppNotBound);
                }
                Told::Later(until) | Told::NotBound(until) => {
                    later = Some(put_off(later, until, expires_at));
                }
            }
        }
        Ok(
            later.map_or(Asked::Done, |(until, expires_at)| Asked::Later {
                until,
                expires_at,
            }),
        )
    }

    /// When to try again what WeChat keeps from being asked until `until`: a few at that moment, the
    /// others at their `own` time, but not before.
    pub(super) fn turn(&self, app: &AppId, until: Millis, own: Millis) -> Millis {
        self.turns.take(app, until, own, self.caller.now())
    }

    async fn profile(
        &self,
        app: &App,
        climb: &mut Climb<'_>,
        token: &UserToken,
    ) -> Result<Told, MemoryFault> {
        let age = self.caller.now().since(climb.login.occurred_at);
        if !token.reads_profile() || age > TOKEN_LIFE_MS {
            climb.note(Reason::UserTokenRefused);
            return Ok(Told::Answer);
        }
        let openid = climb.account.openid.clone();
        let request = |client: Client| async move { client.profile(&openid, token).await };
        match self.caller.call(app, Api::SnsUserinfo, request).await {
            Ok(Profile { openid, unionid }) if openid == climb.account.openid => {
                self.told(climb, unionid, Method::SnsUserinfo);
                Ok(Told::Answer)
            }
            Err(Missed::Fault(fault)) if fault.action() == Action::Configuration => {
                Ok(Told::NotBound(self.caller.parked(app, Api::SnsUserinfo)))
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
            climb.note(Reason::PaymentGone);
            return Ok(Told::Answer);
        }
        let openid = &climb.account.openid;
        let request = |client: Client, token: Secret| async move {
            client.paid(openid, payment, &token).await
        };
        match self.tokens.ask(app, Api::PaidUnionid, request).await {
            Ok(unionid) => {
                self.told(climb, unionid, Method::Paid);
                Ok(Told::Answer)
            }
            Err(Missed::Fault(fault)) => {
                let parked = self.caller.parked(app, Api::PaidUnionid);
                Ok(refused(climb, &fault, Reason::PaymentGone, parked))
            }
            Err(missed) => later(missed),
        }
    }

    async fn follower(&self, app: &App, climb: &mut Climb<'_>) -> Result<Told, MemoryFault> {
        match self.followers.ask(app, climb.account.openid.clone()).await {
            Ok(Follower {
                subscribed: true,
                unionid,
                ..
            }) => {
                self.told(climb, unionid, Method::UserInfo);
                Ok(Told::Answer)
            }
            // Of others nothing is told, whatever stands there.
            Ok(_) => {
                climb.note(Reason::NotFollowing);
                Ok(Told::Answer)
            }
            Err(Missed::Fault(fault)) => {
                let parked = self.caller.parked(app, Api::UserInfo);
                Ok(refused(climb, &fault, Reason::NoUnionid, parked))
            }
            Err(missed) => later(missed),
        }
    }

    fn told(&self, climb: &mut Climb<'_>, unionid: Option<Result<UnionId, ()>>, method: Method) {
        match unionid {
            Some(Ok(unionid)) => climb.claim(unionid, method, self.caller.now()),
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
pub(super) fn pays(app: &App) -> bool {
    app.kind == AppKind::MiniProgram && app.has_token()
}

/// Whether the app has followers to be asked about (`docs/wechat.md` §7).
fn follows(app: &App) -> bool {
    app.kind == AppKind::OfficialAccount && app.has_token()
}

/// WeChat refuses this item, or says that the app is in no platform; `parked`: until when it is not asked.
fn refused(
    climb: &mut Climb<'_>,
    fault: &CallError,
    reason: Reason,
    parked: Option<Millis>,
) -> Told {
    match fault.action() {
        Action::BadInput => Told::Dead(DeadReason::Refused, NO_OPENID),
        Action::Configuration => Told::NotBound(parked),
        _ => {
            climb.note(reason);
            Told::Answer
        }
    }
}

fn later(missed: Missed) -> Result<Told, MemoryFault> {
    match missed {
        Missed::Later(until) => Ok(Told::Later(until)),
        Missed::Strange => Ok(Told::Strange),
        Missed::Fault(_) => Ok(Told::Later(None)),
        Missed::Memory(fault) => Err(fault),
    }
}
