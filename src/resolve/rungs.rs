//! The rungs of the ladder one by one: what each kind of evidence leads to.

use super::asking::{Asked, Leads};
use super::backoff::{LONGEST_BACKOFF_MS, LONGEST_QUESTION_MS, backoff_ms};
use super::climb::Climb;
use super::ladder::{Later, Parts, Resolved};
use super::ports::MemoryFault;
use super::session_keys::{KEY_WAIT_MS, KeyWait};
use crate::model::{DeadReason, Evidence, Login, Millis, OpenId, Reason, Sighting};

/// Which attempt at a login this is.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    /// Counts from 0.
    pub number: u32,
    /// When it was deferred; `None`: it is live.
    pub since: Option<Millis>,
}

impl Parts {
    pub(super) fn at_once(&self, login: &Login) -> Option<Resolved> {
        let Evidence::OpenId {
            openid,
            unionid,
            session_key,
            data,
            snapshot,
            token,
            payment,
        } = &login.evidence
        else {
            return None;
        };
        let mut climb = self.climb(login, openid.clone());
        if *snapshot {
            // Openid and unionid are virtual and shared: no evidence (`docs/wechat.md` §5).
            climb.reason = Some(Reason::SnapshotUser);
            return Some(end(climb));
        }
        if data.is_some() && session_key.is_none() {
            return None;
        }
        climb.provided(unionid.as_ref());
        self.by_event_key(&mut climb, data.as_ref(), session_key.as_ref());
        let leads = Leads {
            token: token.as_ref(),
            payment: payment.as_ref(),
        };
        let ask = climb.claims.is_empty() && self.asking.possible(&climb, leads);
        // A key that is held may fit where the event's own does not.
        let doubt = climb.in_doubt();
        (!ask && !doubt).then(|| end(climb))
    }

    pub(super) fn climb<'a>(&'a self, login: &'a Login, openid: OpenId) -> Climb<'a> {
        Climb::new(login, openid, &self.apps, &self.keys)
    }

    pub(super) async fn climb_up(
        &self,
        login: &Login,
        attempt: Attempt,
    ) -> Result<Resolved, MemoryFault> {
        match &login.evidence {
            Evidence::Code { code, data } => {
                self.by_code(login, code, data.as_ref(), attempt).await
            }
            Evidence::OpenId { .. } => self.by_openid(login, attempt).await,
        }
    }

    async fn by_openid(&self, login: &Login, attempt: Attempt) -> Result<Resolved, MemoryFault> {
        let Evidence::OpenId {
            openid,
            unionid,
            session_key,
            data,
            token,
            payment,
            ..
        } = &login.evidence
        else {
            return Ok(Resolved::Dead(DeadReason::InvalidField, "names no openid"));
        };
        let mut climb = self.climb(login, openid.clone());
        climb.provided(unionid.as_ref());
        self.by_event_key(&mut climb, data.as_ref(), session_key.as_ref());
        let held = self.memory.held(climb.account.clone()).await?;
        // Also where its own key does not fit: the gateway may have sent that of the session before.
        if let Some(data) = data.as_ref().filter(|_| !climb.sound) {
            self.by_held_keys(&mut climb, data, &held, session_key.as_ref());
            if held.keys.is_empty() && session_key.is_none() {
                climb.note(Reason::NoSessionKey);
            }
        }
        if held.resolved || !climb.claims.is_empty() {
            return Ok(end(climb));
        }
        let leads = Leads {
            token: token.as_ref(),
            payment: payment.as_ref(),
        };
        let mut asked = self.ask(&mut climb, leads, attempt).await?;
        let mut key_until = None;
        let waits = data.is_some() && climb.claims.is_empty() && !climb.sound;
        if waits && climb.bound(login.occurred_at) {
            let own_key = session_key.as_ref();
            match self.wait_for_key(&mut climb, own_key, attempt).await? {
                KeyWait::Vain => {}
                KeyWait::Key(end) => key_until = Some(end),
                KeyWait::Word { until, end } => {
                    key_until = Some(end);
                    asked = asked.or_later(until, end);
                }
                KeyWait::Dead(reason, detail) => return Ok(Resolved::Dead(reason, detail)),
            }
        }
        let own = session_key
            .as_ref()
            .is_some_and(|key| climb.holds(&held, key));
        if own {
            // Held anew, it would wake what waits for a key, this login among them, for ever. Not held
            // is that of a login whose first attempt ran out of time.
            climb.forget_key();
        }
        Ok(self.asked(climb, asked, key_until, attempt))
    }

    pub(super) async fn ask(
        &self,
        climb: &mut Climb<'_>,
        leads: Leads<'_>,
        attempt: Attempt,
    ) -> Result<Asked, MemoryFault> {
        let since = attempt.since.unwrap_or_else(|| (self.clock)());
        self.asking.ask(climb, leads, since, attempt.number).await
    }

    /// What asking came to; `key_until`: until when a session key could still help.
    pub(super) fn asked(
        &self,
        climb: Climb<'_>,
        asked: Asked,
        key_until: Option<Millis>,
        attempt: Attempt,
    ) -> Resolved {
        let now = (self.clock)();
        let (next_at, expires_at) = match (asked, key_until) {
            (Asked::Dead(reason, detail), _) => return Resolved::Dead(reason, detail),
            (_, _) if !climb.claims.is_empty() => return end(climb),
            (Asked::Done, None) => return end(climb),
            (Asked::Done, Some(end)) => (end, end),
            (Asked::Later { until, expires_at }, key_until) => {
                let own = now.plus(backoff_ms(attempt.number, LONGEST_QUESTION_MS));
                let turn = |until| self.asking.turn(&climb.account.app, until, own);
                let next_at = until.map_or(own, turn);
                (
                    next_at.min(expires_at),
                    expires_at.max(key_until.unwrap_or(expires_at)),
                )
            }
        };
        Resolved::Later(Box::new(Later {
            interim: Some(interim(climb)),
            for_key: key_until.is_some(),
            next_at,
            expires_at,
        }))
    }

    /// Nobody waits any longer. What was begun goes on; the next attempt finds what it has noted.
    pub(super) fn out_of_time(&self, login: &Login, attempt: Attempt) -> Resolved {
        let now = (self.clock)();
        let openid = match &login.evidence {
            Evidence::Code { .. } => None,
            Evidence::OpenId { openid, .. } => Some(openid.clone()),
        };
        let code_end = || self.code_end_ms();
        let life = openid.as_ref().map_or_else(code_end, |_| KEY_WAIT_MS);
        Resolved::Later(Box::new(Later {
            interim: openid.map(|openid| interim(self.climb(login, openid))),
            for_key: false,
            next_at: now.plus(backoff_ms(attempt.number, LONGEST_BACKOFF_MS)),
            expires_at: login.occurred_at.max(now).plus(life),
        }))
    }
}

/// The account as it is linked meanwhile.
fn interim(mut climb: Climb<'_>) -> Sighting {
    climb.reason = Some(Reason::Deferred);
    climb.sighting()
}

pub(super) fn end(climb: Climb<'_>) -> Resolved {
    Resolved::Facts(Box::new(climb.sighting()))
}
