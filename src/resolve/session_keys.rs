//! Encrypted data and the keys that may open it: the event's, those that are held for the account, and one that is
//! still to come. Whether the event's own is superseded is asked at WeChat (`docs/wechat.md` §3.3).

use super::asking::{Asking, NO_OPENID, STRANGE, pays};
use super::caller::Missed;
use super::climb::Climb;
use super::codes::{Action, Api};
use super::ladder::Parts;
use super::ports::{HeldKeys, MemoryFault};
use super::rungs::Attempt;
use super::wechat::Client;
use crate::model::{App, AppKind, DeadReason, EncryptedData, Method, Millis, Reason, Secret};

/// How long encrypted data waits for its session key, in milliseconds.
pub const KEY_WAIT_MS: i64 = 24 * 3_600_000;

/// What data that no key opened waits for.
pub(super) enum KeyWait {
    /// Nothing would help.
    Vain,
    /// A key, until then.
    Key(Millis),
    /// A key, until `end`, and WeChat's word on the one that it came with.
    Word { until: Option<Millis>, end: Millis },
    /// The account is none.
    Dead(DeadReason, &'static str),
}

/// What WeChat says of a session key that does not open its data.
enum Checked {
    /// It is the newest: the data is corrupt.
    Newest,
    /// There is a newer one, which may open it.
    Superseded,
    /// Nothing now; when to ask again.
    Later(Option<Millis>),
    /// Nothing, and asking again would not help.
    Untold,
    /// The account is none.
    Dead(DeadReason, &'static str),
}

impl Parts {
    pub(super) fn by_event_key(
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
    pub(super) fn by_held_keys(
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

    /// What data that no key opened waits for. Data that came with its key is corrupt unless that key is
    /// superseded: then the data may be under the newer one. Data without a key, and data of whose key
    /// WeChat does not tell, may be under any that is still to come.
    pub(super) async fn wait_for_key(
        &self,
        climb: &mut Climb<'_>,
        own_key: Option<&Secret>,
        attempt: Attempt,
    ) -> Result<KeyWait, MemoryFault> {
        let now = (self.clock)();
        let end = attempt.since.unwrap_or(now).plus(KEY_WAIT_MS);
        let mut wait = KeyWait::Key(end);
        if let Some(key) = own_key {
            let mini = |app: &App| app.kind == AppKind::MiniProgram;
            if !climb.in_doubt() || !climb.app().is_some_and(mini) {
                return Ok(KeyWait::Vain);
            }
            match self.asking.check(climb, key, attempt.number).await? {
                Checked::Newest => return Ok(KeyWait::Vain),
                Checked::Superseded => climb.note(Reason::SessionSuperseded),
                Checked::Later(until) => wait = KeyWait::Word { until, end },
                Checked::Untold => {}
                Checked::Dead(reason, detail) => return Ok(KeyWait::Dead(reason, detail)),
            }
        }
        Ok(if now < end { wait } else { KeyWait::Vain })
    }
}

impl Asking {
    /// Asks whether the person has a newer session key than this one, which does not open the data that
    /// it came with. `attempt` counts from 0.
    async fn check(
        &self,
        climb: &Climb<'_>,
        key: &Secret,
        attempt: u32,
    ) -> Result<Checked, MemoryFault> {
        let Some(app) = climb.app().filter(|app| pays(app)) else {
            return Ok(Checked::Untold);
        };
        let openid = &climb.account.openid;
        let request = |client: Client, token: Secret| async move {
            client.check_session(openid, key, &token).await
        };
        let call = self.tokens.ask(app, Api::CheckSession, request);
        let what = (Api::CheckSession, key.expose());
        let missed = match self.once(app, climb, what, call).await {
            Ok(_) => return Ok(Checked::Newest),
            Err(missed) => missed,
        };
        Ok(match missed {
            Missed::Fault(fault) => match fault.action() {
                Action::SessionStale => Checked::Superseded,
                Action::BadInput => Checked::Dead(DeadReason::Refused, NO_OPENID),
                _ => Checked::Later(self.caller.parked(app, Api::CheckSession)),
            },
            Missed::Later(until) => Checked::Later(until),
            Missed::Strange if attempt + 1 >= STRANGE => Checked::Untold,
            Missed::Strange => Checked::Later(None),
            Missed::Memory(fault) => return Err(fault),
        })
    }
}
