//! The rung of codes: what their exchange tells, and what is asked where it does not tell enough.

use super::asking::Leads;
use super::backoff::{LONGEST_BACKOFF_MS, backoff_ms};
use super::exchange::{CODE_LIFE_MS, Exchanged};
use super::ladder::{Later, Parts, Resolved};
use super::ports::MemoryFault;
use super::rungs::{Attempt, end};
use super::wechat::Session;
use crate::model::{AppKind, DeadReason, EncryptedData, Login, Method, Millis, Reason, Secret};

impl Parts {
    pub(super) async fn by_code(
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
        match self.exchange.exchange(app, code, login.occurred_at).await? {
            Exchanged::Session(session, at) => {
                self.by_session(login, session, data, at, attempt).await
            }
            Exchanged::Dead(reason, detail) => Ok(Resolved::Dead(reason, detail)),
            Exchanged::Later(until) => Ok(self.code_later(login, attempt, |now, backoff| {
                // A quota may be spent for hours; a code is dead long before.
                let latest = login.occurred_at.plus(CODE_LIFE_MS + 1).max(backoff);
                until.map_or(backoff, |until| until.max(now).min(latest))
            })),
            Exchanged::Elsewhere(until) => {
                Ok(self.code_later(login, attempt, |now, backoff| until.max(now).min(backoff)))
            }
        }
    }

    /// A code goes on later; `when` chooses by the time and that of the backoff.
    fn code_later(
        &self,
        login: &Login,
        attempt: Attempt,
        when: impl FnOnce(Millis, Millis) -> Millis,
    ) -> Resolved {
        let now = (self.clock)();
        let backoff = now.plus(backoff_ms(attempt.number, LONGEST_BACKOFF_MS));
        Resolved::Later(Box::new(Later {
            interim: None,
            for_key: false,
            next_at: when(now, backoff),
            expires_at: login.occurred_at.plus(self.code_end_ms()),
        }))
    }

    /// How long after its event a code has surely come to an end, in milliseconds.
    pub(super) fn code_end_ms(&self) -> i64 {
        CODE_LIFE_MS + self.exchange.aftermath_ms()
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
}
