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

    /// Adds a claim under the platform of the binding at `at`, the time the answer was true. It is as old
    /// as the login, but lies within that binding: the app may have moved between login and answer.
    pub fn claim(&mut self, unionid: UnionId, method: Method, at: Millis) {
        if unionid.as_str() == self.account.openid.as_str() {
            self.note(Reason::PlaceholderUnionid);
            return;
        }
        let Some(bound) = self.apps.bound_at(&self.login.app, at) else {
            self.note(Reason::AppNotBound);
            return;
        };
        self.claims.push(NewClaim {
            union: UnionKey {
                platform: bound.platform.clone(),
                unionid,
            },
            at: bound.nearest(self.login.occurred_at),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppId, AppKind, Binding, EventId, Evidence, PlatformId, TokenSource};
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        let dir = tempfile::tempdir().expect("a directory");
        Keys::create(&dir.path().join("keys")).expect("keys")
    });

    fn apps(since: &[i64]) -> Apps {
        let bindings = (0..).zip(since).map(|(n, since): (u32, _)| Binding {
            platform: PlatformId::parse(&format!("p{n}")).expect("valid"),
            since: Millis(*since),
        });
        Apps::new(vec![App {
            id: AppId::parse("wxa").expect("valid"),
            kind: AppKind::OfficialAccount,
            secret: None,
            token: TokenSource::default(),
            component: None,
            bindings: bindings.collect(),
        }])
    }

    fn login(at: i64) -> Login {
        Login {
            id: EventId::parse("e").expect("valid"),
            occurred_at: Millis(at),
            clamped: false,
            app: AppId::parse("wxa").expect("valid"),
            evidence: Evidence::Code {
                code: Secret::new("c".into()),
                data: None,
            },
            source: None,
            external_id: None,
            attributes: None,
        }
    }

    proptest! {
        /// Whenever the login was and whenever WeChat answered: the claim belongs to the platform of the answer
        /// and lies within its binding, no farther from the login than it must.
        #[test]
        fn a_claim_lies_within_the_binding_of_its_answer(
            mut since in prop::collection::btree_set(0i64..1_000, 0..4),
            occurred in 0i64..1_000,
            answered in 0i64..1_000,
        ) {
            since.insert(2_000);
            let since: Vec<i64> = since.into_iter().collect();
            let (apps, login) = (apps(&since), login(occurred));
            let openid = || OpenId::parse("oA").expect("valid");
            let claimed = || {
                let mut climb = Climb::new(&login, openid(), &apps, &KEYS);
                let unionid = UnionId::parse("uA").expect("valid");
                climb.claim(unionid, Method::UserInfo, Millis(answered));
                climb.sighting()
            };
            let sighting = claimed();
            prop_assert_eq!(&sighting.claims, &claimed().claims);
            prop_assert_eq!(sighting.at, Millis(occurred), "the account was seen when it was");
            let Some(holds) = since.iter().rposition(|s| *s <= answered) else {
                prop_assert_eq!(sighting.claims, vec![]);
                prop_assert_eq!(sighting.reason, Some(Reason::AppNotBound));
                return Ok(());
            };
            let claim = &sighting.claims[0];
            let at = claim.at;
            prop_assert_eq!(claim.union.platform.as_str(), format!("p{holds}"));
            prop_assert_eq!(apps.platform_at(&login.app, at), Some(&claim.union.platform));
            let within = since[holds]..since[holds + 1];
            prop_assert!(at.0 == occurred || !within.contains(&occurred));
            prop_assert!([occurred, since[holds], since[holds + 1] - 1].contains(&at.0));
        }
    }
}
