//! The rungs of the ladder one by one: what each kind of evidence leads to.

use super::asking::{Asked, Leads};
use super::backoff::{LONGEST_BACKOFF_MS, LONGEST_QUESTION_MS, backoff_ms};
use super::climb::Climb;
use super::exchange::{CODE_LIFE_MS, Exchanged};
use super::ladder::{Later, Parts, Resolved};
use super::ports::{HeldKeys, MemoryFault};
use super::wechat::Session;
use crate::model::{
    AppKind, DeadReason, EncryptedData, Evidence, Login, Method, Millis, OpenId, Reason, Secret,
    Sighting,
};

/// How long encrypted data waits for its session key.
const KEY_WAIT_MS: i64 = 24 * 3_600_000;
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

    fn climb<'a>(&'a self, login: &'a Login, openid: OpenId) -> Climb<'a> {
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

    async fn by_code(
        &self,
        login: &Login,
        code: &Secret,
        data: Option<&EncryptedData>,
        attempt: Attempt,
    ) -> Result<Resolved, MemoryFault> {
        let Some(app) = self.apps.get(&login.app) else {
            let detail = "the appid is not configured";
            return Ok(Resolved::Dead(DeadReason::UnknownApp, detail));
        };
        let exchanged = if self.spends {
            self.exchange.exchange(app, code, login.occurred_at).await?
        } else {
            let remembered = self.exchange.remembered(app, code).await?;
            remembered.unwrap_or(Exchanged::Later(None))
        };
        match exchanged {
            Exchanged::Session(session, at) => {
                self.by_session(login, session, data, at, attempt).await
            }
            Exchanged::Dead(reason, detail) => Ok(Resolved::Dead(reason, detail)),
            Exchanged::Later(until) => {
                let now = (self.clock)();
                let backoff = now.plus(backoff_ms(attempt.number, LONGEST_BACKOFF_MS));
                let expires_at = login.occurred_at.plus(CODE_LIFE_MS);
                // A quota may be spent for hours; a code is dead long before.
                let latest = expires_at.plus(1).max(backoff);
                Ok(Resolved::Later(Box::new(Later {
                    interim: None,
                    reason: None,
                    unasked: false,
                    for_key: false,
                    next_at: until.map_or(backoff, |until| until.max(now).min(latest)),
                    expires_at,
                })))
            }
        }
    }

    async fn by_session(
        &self,
        login: &Login,
        session: Session,
        data: Option<&EncryptedData>,
        at: Millis,
        attempt: Attempt,
    ) -> Result<Resolved, MemoryFault> {
        let mut climb = self.climb(login, session.openid);
        if session.snapshot {
            climb.reason = Some(Reason::SnapshotUser);
            return Ok(end(climb));
        }
        let method = match climb.app().map(|app| app.kind) {
            Some(AppKind::MiniProgram) | None => Method::Code2Session,
            Some(_) => Method::Oauth,
        };
        match session.unionid {
            Some(Ok(unionid)) => climb.claim(unionid, method, at),
            Some(Err(())) => climb.note(Reason::PlaceholderUnionid),
            None => {}
        }
        if let Some(key) = session.session_key {
            if let Some(data) = data {
                climb.decrypted(data, &key, Method::Decrypted, at);
            }
            if climb.claims.is_empty() {
                climb.keep(&key, at, true);
            }
        } else if data.is_some() {
            climb.note(Reason::NoSessionKey);
        }
        climb.note_unbound(at);
        let leads = Leads {
            token: session.token.as_ref(),
            payment: None,
        };
        if !climb.claims.is_empty() || !self.asking.possible(&climb, leads) {
            return Ok(end(climb));
        }
        if self.memory.held(climb.account.clone()).await?.resolved {
            return Ok(end(climb));
        }
        let asked = self.ask(&mut climb, leads, attempt).await?;
        Ok(self.asked(climb, asked, None, attempt))
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
        let waits = data.is_some() && climb.claims.is_empty() && !climb.sound;
        let wait = if waits && climb.bound(login.occurred_at) {
            let own_key = session_key.as_ref();
            self.wait_for_key(&mut climb, own_key, attempt).await?
        } else {
            None
        };
        if let (Asked::Done, Some((end, true))) = (&asked, wait) {
            asked = Asked::Later {
                until: None,
                expires_at: end,
            };
        }
        let own = session_key
            .as_ref()
            .is_some_and(|key| climb.holds(&held, key));
        if own {
            // Held anew, it would wake what waits for a key, this login among them, for ever. Not held
            // is that of a login whose first attempt ran out of time.
            climb.forget_key();
        }
        Ok(self.asked(climb, asked, wait.map(|(end, _)| end), attempt))
    }

    fn by_event_key(
        &self,
        climb: &mut Climb<'_>,
        data: Option<&EncryptedData>,
        key: Option<&Secret>,
    ) {
        let at = climb.login.occurred_at;
        if let (Some(data), Some(key)) = (data, key) {
            climb.decrypted(data, key, Method::DecryptedEventKey, at);
        }
        if let (Some(key), true) = (key, climb.claims.is_empty()) {
            climb.keep(key, at, false);
        }
    }

    /// Tries the keys that are held, but for the one that was `tried`.
    fn by_held_keys(
        &self,
        climb: &mut Climb<'_>,
        data: &EncryptedData,
        held: &HeldKeys,
        tried: Option<&Secret>,
    ) {
        for sealed in &held.keys {
            let Some(key) = climb.unseal(sealed).filter(|key| tried != Some(key)) else {
                continue;
            };
            let method = if sealed.exchanged {
                Method::Decrypted
            } else {
                Method::DecryptedEventKey
            };
            let at = climb.login.occurred_at;
            if climb.decrypted(data, &key, method, at) {
                break;
            }
        }
    }

    /// Until when data that no key opened waits for another, and whether WeChat is to be asked again;
    /// `None`: no key would help. Data that came with its key is corrupt unless WeChat says that this
    /// key is superseded: then the data may be under the newer one. Data without a key may be under
    /// any that is still to come.
    async fn wait_for_key(
        &self,
        climb: &mut Climb<'_>,
        own_key: Option<&Secret>,
        attempt: Attempt,
    ) -> Result<Option<(Millis, bool)>, MemoryFault> {
        let now = (self.clock)();
        let end = attempt.since.unwrap_or(now).plus(KEY_WAIT_MS);
        let mut unsure = false;
        if let Some(key) = own_key {
            if !climb.in_doubt() || !self.asking.checks(climb) {
                return Ok(None);
            }
            match self.asking.superseded(climb, key).await? {
                Some(false) => return Ok(None),
                Some(true) => climb.note(Reason::SessionSuperseded),
                None => unsure = true,
            }
        }
        Ok((now < end).then_some((end, unsure)))
    }

    async fn ask(
        &self,
        climb: &mut Climb<'_>,
        leads: Leads<'_>,
        attempt: Attempt,
    ) -> Result<Asked, MemoryFault> {
        let since = attempt.since.unwrap_or_else(|| (self.clock)());
        self.asking.ask(climb, leads, since, attempt.number).await
    }

    /// What asking came to; `key_until`: until when a session key could still help.
    fn asked(
        &self,
        climb: Climb<'_>,
        asked: Asked,
        key_until: Option<Millis>,
        attempt: Attempt,
    ) -> Resolved {
        let now = (self.clock)();
        let unasked = matches!(asked, Asked::Later { .. });
        let (next_at, expires_at) = match (asked, key_until) {
            (Asked::Dead(reason, detail), _) => return Resolved::Dead(reason, detail),
            (_, _) if !climb.claims.is_empty() => return end(climb),
            (Asked::Done, None) => return end(climb),
            (Asked::Done, Some(end)) => (end, end),
            (Asked::Later { until, expires_at }, key_until) => {
                let backoff = now.plus(backoff_ms(attempt.number, LONGEST_QUESTION_MS));
                let next_at = until.map_or(backoff, |until| until.max(backoff));
                (
                    next_at.min(expires_at),
                    expires_at.max(key_until.unwrap_or(expires_at)),
                )
            }
        };
        Resolved::Later(Box::new(Later {
            reason: climb.reason,
            unasked,
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
        let life = openid.as_ref().map_or(CODE_LIFE_MS, |_| KEY_WAIT_MS);
        Resolved::Later(Box::new(Later {
            interim: openid.map(|openid| interim(self.climb(login, openid))),
            reason: None,
            unasked: true,
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

fn end(climb: Climb<'_>) -> Resolved {
    Resolved::Facts(Box::new(climb.sighting()))
}
