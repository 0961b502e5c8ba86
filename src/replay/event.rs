//! What is gone through, and what becomes of it.

use super::spec::Progress;
use crate::model::{Account, AppId, DeadReason, Evidence, Fact, Login, Millis, Reason, Sighting};
use crate::resolve::KEY_WAIT_MS;
use crate::resolve::gate::Stopped;
use crate::resolve::ladder::{Later, Resolved};

/// One thing gone through.
#[derive(Debug)]
pub enum Event {
    /// A login, with what it comes to if nobody has to be asked for that.
    Login(Box<Login>, Option<Resolved>),
    /// Somebody on a list of followers who may be new: dated by when they came to follow.
    Follower(Box<Login>),
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
    /// Its account is linked already, and only the others are asked for; or it follows no longer.
    LeftAside(AppId),
    /// Nothing that concerns this work.
    Other,
}

/// Why something was not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// An operator has paused the app.
    Paused,
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

impl From<Stopped> for Cause {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Paused => Self::Paused,
            Stopped::Quota => Self::Quota,
            Stopped::Refused => Self::Refused,
            Stopped::Limited => Self::Limited,
        }
    }
}

impl Cause {
    /// The word, in counts.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Quota => "quota",
            Self::Refused => "refused",
            Self::Limited => "limited",
            Self::NoAnswer => "no_answer",
            Self::Possible => "possible",
        }
    }
}

/// Events that are applied together, and how far the work has got after them. Where one ends depends on
/// where it begins and on nothing else, so that work that was stopped goes on as if it had not been.
#[derive(Debug, Default)]
pub struct Chunk {
    /// In order.
    pub events: Vec<Event>,
    /// How far it has got then.
    pub after: Progress,
    /// Whether the work goes back, if it is stopped here: what has no place of its own is gone through
    /// again, and must not be counted twice.
    pub goes_back: bool,
}

impl Fate {
    /// What a resolution comes to where nothing is deferred.
    pub(super) fn of(app: &AppId, resolved: Resolved, now: Millis) -> Self {
        let app = app.clone();
        match resolved {
            Resolved::Facts(sighting) => Self::Fact(Some(app), Box::new(Fact::Sighting(*sighting))),
            Resolved::Dead(reason, _) => Self::Dead(Some(app), reason),
            Resolved::Later(later) => match without_waiting(*later, now) {
                Some(sighting) => Self::Fact(Some(app), Box::new(Fact::Sighting(sighting))),
                None => Self::Unanswered(app),
            },
        }
    }
}

/// The account as it stands without what is waited for (a session key): live workers wait for it, for a
/// day, and may wait still; this work does not.
fn without_waiting(later: Later, now: Millis) -> Option<Sighting> {
    let sighting = later.interim?;
    if now.since(sighting.at) < KEY_WAIT_MS {
        // As live workers have it.
        return Some(sighting);
    }
    Some(Sighting {
        reason: Some(later.reason.unwrap_or(Reason::NoUnionid)),
        ..sighting
    })
}

/// Whose login it is, if the event says so.
pub(super) fn named(login: &Login) -> Option<Account> {
    match &login.evidence {
        Evidence::Code { .. } => None,
        Evidence::OpenId { openid, .. } => Some(Account {
            app: login.app.clone(),
            openid: openid.clone(),
        }),
    }
}
