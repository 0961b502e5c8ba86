//! One login's way up the ladder: what the rungs found so far. Pure but for a metric.

use super::decrypt::{self, DecryptFault};
use super::ports::HeldKeys;
use crate::model::{
    Account, App, Apps, EncryptedData, Login, Method, Millis, NewClaim, OpenId, Reason, SealedKey,
    Secret, Sighting, UnionId, UnionKey,
};
use crate::seal::Keys;
use crate::telemetry;

/// What the rungs found so far.
pub(super) struct Climb<'a> {
    apps: &'a Apps,
    keys: &'a Keys,
    pub login: &'a Login,
    pub account: Account,
    pub claims: Vec<NewClaim>,
    pub reason: Option<Reason>,
    session_key: Option<SealedKey>,
    faults: Vec<DecryptFault>,
    /// Whether data came that some key opened.
    pub sound: bool,
}

impl<'a> Climb<'a> {
    /// At the foot of the ladder.
    pub fn new(login: &'a Login, openid: OpenId, apps: &'a Apps, keys: &'a Keys) -> Self {
        Self {
            apps,
            keys,
            login,
            account: Account {
                app: login.app.clone(),
                openid,
            },
            claims: Vec::new(),
            reason: None,
            session_key: None,
            faults: Vec::new(),
            sound: false,
        }
    }

    /// Notes a reason; the one that says most (the largest) stays.
    pub fn note(&mut self, reason: Reason) {
        self.reason = self.reason.max(Some(reason));
    }

    /// What the event gives in plain.
    pub fn provided(&mut self, unionid: Option<&Result<UnionId, ()>>) {
        match unionid {
            Some(Ok(unionid)) => {
                let at = self.login.occurred_at;
                self.claim(unionid.clone(), Method::Provided, at);
            }
            Some(Err(())) => self.note(Reason::PlaceholderUnionid),
            None => {}
        }
        self.note_unbound(self.login.occurred_at);
    }

    /// Adds a claim under the platform of the binding at `at`, the time the answer was true.
    pub fn claim(&mut self, unionid: UnionId, method: Method, at: Millis) {
        self.claim_at(unionid, method, at, self.login.occurred_at);
    }

    /// The same, dated by the answer.
    pub fn claim_dated(&mut self, unionid: UnionId, method: Method, at: Millis) {
        self.claim_at(unionid, method, at, at);
    }

    fn claim_at(&mut self, unionid: UnionId, method: Method, at: Millis, dated: Millis) {
        if unionid.as_str() == self.account.openid.as_str() {
            self.note(Reason::PlaceholderUnionid);
            return;
        }
        let Some(platform) = self.apps.platform_at(&self.login.app, at) else {
            self.note(Reason::AppNotBound);
            return;
        };
        self.claims.push(NewClaim {
            union: UnionKey {
                platform: platform.clone(),
                unionid,
            },
            at: dated,
            method,
        });
    }

    /// Whether the data decrypted to this account's data, with or without a unionid in it.
    pub fn decrypted(
        &mut self,
        data: &EncryptedData,
        key: &Secret,
        method: Method,
        at: Millis,
    ) -> bool {
        match decrypt::decrypt(&self.login.app, &self.account.openid, key, data) {
            Ok(opened) => {
                self.sound = true;
                match opened.unionid {
                    Some(Ok(unionid)) => self.claim(unionid, method, at),
                    Some(Err(())) => self.note(Reason::PlaceholderUnionid),
                    None => self.note(Reason::DecryptedWithoutUnionid),
                }
                true
            }
            Err(fault) => {
                self.faults.push(fault);
                self.note(Reason::DecryptFailed);
                false
            }
        }
    }

    /// Notes that the app was in no platform, if so.
    pub fn note_unbound(&mut self, at: Millis) {
        if !self.bound(at) {
            self.note(Reason::AppNotBound);
        }
    }

    /// Whether the app was in a platform: elsewhere no answer of WeChat's could hold a unionid.
    pub fn bound(&self, at: Millis) -> bool {
        self.apps.platform_at(&self.login.app, at).is_some()
    }

    /// The app, as configured.
    pub fn app(&self) -> Option<&'a App> {
        self.apps.get(&self.login.app)
    }

    /// Whether data came that a key did not open, and nothing else told a unionid: the key may have
    /// been superseded.
    pub fn in_doubt(&self) -> bool {
        use DecryptFault::{Json, Padding, Utf8};
        let garbled = |fault: &DecryptFault| matches!(fault, Padding | Utf8 | Json);
        self.claims.is_empty() && !self.sound && self.faults.iter().any(garbled)
    }

    /// Holds a session key for later; one that cannot be sealed is not held.
    pub fn keep(&mut self, key: &Secret, at: Millis, exchanged: bool) {
        let id = self.account.key();
        let ring = &self.keys.ring;
        let sealed = ring.seal("session_key", id.as_bytes(), key.expose().as_bytes());
        self.session_key = sealed.ok().map(|sealed| SealedKey {
            at,
            sealed,
            exchanged,
        });
    }

    /// Holds none after all.
    pub fn forget_key(&mut self) {
        self.session_key = None;
    }

    /// A key that was held for this account.
    pub fn unseal(&self, sealed: &SealedKey) -> Option<Secret> {
        let id = self.account.key();
        let ring = &self.keys.ring;
        let opened = ring.open("session_key", id.as_bytes(), &sealed.sealed);
        let text = String::from_utf8(opened.ok()?.to_vec());
        text.ok().map(Secret::new)
    }

    /// Whether this very key is held for the account.
    pub fn holds(&self, held: &HeldKeys, key: &Secret) -> bool {
        let mut keys = held.keys.iter().filter_map(|sealed| self.unseal(sealed));
        keys.any(|held| held == *key)
    }

    /// What it comes to: claims, or the reason why there are none.
    pub fn sighting(self) -> Sighting {
        for fault in &self.faults {
            count_fault(self.login, *fault);
        }
        let reason = match (self.claims.is_empty(), self.reason) {
            (false, _) => None,
            (true, reason) => Some(reason.unwrap_or(Reason::NoUnionid)),
        };
        Sighting {
            account: self.account,
            at: self.login.occurred_at,
            cause: self.login.id.clone(),
            external_id: self.login.external_id.clone(),
            reason,
            claims: self.claims,
            session_key: self.session_key,
        }
    }
}

/// The cause stays on the operator's side; callers see one word for all of them.
fn count_fault(login: &Login, fault: DecryptFault) {
    let labels = [
        ("app", login.app.to_string()),
        ("cause", fault.word().to_owned()),
    ];
    metrics::counter!(telemetry::DECRYPT_FAULTS, &labels).increment(1);
    tracing::debug!(app = %login.app, event = %login.id, cause = fault.word(), "not decrypted");
}
