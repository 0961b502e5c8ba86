//! The ladder: from a login's evidence to claims, or to a reason why there are none.
//!
//! Rungs: what the event gives in plain; the code's exchange; decryption with the event's, the
//! exchange's and the account's stored session keys; the claim already known. Cheap rungs that can
//! contradict what is known are climbed as well, so that a contradiction shows.

use super::climb::Climb;
use super::exchange::{Exchange, Exchanged};
use super::ports::{HeldKeys, Memory, MemoryFault};
use super::wechat::Session;
use crate::clock::Clock;
use crate::model::{
    App, AppKind, Apps, DeadReason, EncryptedData, Evidence, Login, Method, Millis, OpenId, Reason,
    Secret, Sighting,
};
use crate::seal::Keys;
use rand::RngExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long encrypted data waits for its session key.
const KEY_WAIT_MS: i64 = 24 * 3_600_000;
/// First pause of the backoff.
const BACKOFF_MS: i64 = 500;
/// Longest pause: a code lives five minutes, so it gets some twenty attempts.
const LONGEST_BACKOFF_MS: i64 = 20_000;

/// Exchanges under way at once, those included that wait for their app's turn: bounds memory when
/// WeChat is slower than logins come.
const EXCHANGES: usize = 1_024;

/// How a resolution ended.
#[derive(Debug)]
pub enum Resolved {
    /// With what was learnt, if only that the account was seen.
    Facts(Box<Sighting>),
    /// It goes on later.
    Later(Box<Later>),
    /// The event can never be resolved.
    Dead(DeadReason, &'static str),
}

/// A resolution that goes on later.
#[derive(Debug)]
pub struct Later {
    /// The account, if known, linked unresolved meanwhile.
    pub interim: Option<Sighting>,
    /// Whether a session key for the account would make it due at once.
    pub for_key: bool,
    /// When it is due.
    pub next_at: Millis,
    /// When the ladder will give up by itself, at the latest.
    pub expires_at: Millis,
}

/// Everything a resolution needs.
pub struct Ladder {
    apps: Arc<Apps>,
    keys: Arc<Keys>,
    exchange: Arc<Exchange>,
    memory: Arc<dyn Memory>,
    clock: Clock,
    budget: Duration,
    /// One for each exchange under way, also those that nobody waits for any more.
    slots: Arc<Semaphore>,
}

impl Ladder {
    /// Composes the ladder; `budget` is how long an event may wait inline.
    #[must_use]
    pub fn new(
        apps: Arc<Apps>,
        keys: Arc<Keys>,
        exchange: Arc<Exchange>,
        memory: Arc<dyn Memory>,
        clock: Clock,
        budget: Duration,
    ) -> Self {
        Self {
            apps,
            keys,
            exchange,
            memory,
            clock,
            budget,
            slots: Arc::new(Semaphore::new(EXCHANGES)),
        }
    }

    /// Resolves what needs neither WeChat nor the memory; `None` for the rest.
    #[must_use]
    pub fn at_once(&self, login: &Login) -> Option<Resolved> {
        let Evidence::OpenId {
            openid,
            unionid,
            session_key,
            data,
            snapshot,
        } = &login.evidence
        else {
            return None;
        };
        if data.is_some() && session_key.is_none() && !snapshot {
            return None;
        }
        let mut climb = self.climb(login, openid.clone());
        if *snapshot {
            // Openid and unionid are virtual and shared: no evidence (`docs/wechat.md` §5).
            climb.reason = Some(Reason::SnapshotUser);
            return Some(end(climb));
        }
        climb.provided(unionid.as_ref());
        if let (Some(data), Some(key)) = (data, session_key) {
            climb.decrypted(data, key, Method::DecryptedEventKey, login.occurred_at);
        }
        if let (Some(key), true) = (session_key, climb.claims.is_empty()) {
            climb.keep(key, login.occurred_at, false);
        }
        Some(end(climb))
    }

    /// Resolves the rest; waits at most for the inline budget unless `since` tells that the event
    /// is deferred already. `attempt` counts from 0.
    ///
    /// # Errors
    /// The memory is not available.
    pub async fn resolve(
        &self,
        login: &Login,
        attempt: u32,
        since: Option<Millis>,
    ) -> Result<Resolved, MemoryFault> {
        if let Some(resolved) = self.at_once(login) {
            return Ok(resolved);
        }
        match &login.evidence {
            Evidence::Code { code, data } => {
                self.by_code(login, code, data.as_ref(), attempt, since)
                    .await
            }
            Evidence::OpenId {
                openid,
                unionid,
                data,
                ..
            } => {
                let mut climb = self.climb(login, openid.clone());
                climb.provided(unionid.as_ref());
                let Some(data) = data else {
                    return Ok(end(climb));
                };
                self.by_held_key(climb, data, since).await
            }
        }
    }

    fn climb<'a>(&'a self, login: &'a Login, openid: OpenId) -> Climb<'a> {
        Climb::new(login, openid, &self.apps, &self.keys)
    }

    async fn by_code(
        &self,
        login: &Login,
        code: &Secret,
        data: Option<&EncryptedData>,
        attempt: u32,
        since: Option<Millis>,
    ) -> Result<Resolved, MemoryFault> {
        let Some(app) = self.apps.get(&login.app) else {
            return Ok(Resolved::Dead(
                DeadReason::UnknownApp,
                "the appid is not configured",
            ));
        };
        if app.kind != AppKind::MiniProgram {
            let detail = "this kind of app exchanges its codes at the gateway: send the openid";
            return Ok(Resolved::Dead(DeadReason::UnsupportedEvidence, detail));
        }
        let exchanged = match self.exchange_in_budget(app, code, login, since).await? {
            Some(exchanged) => exchanged,
            // The request goes on and notes its answer; the next attempt finds it.
            None => Exchanged::Later(None),
        };
        Ok(match exchanged {
            Exchanged::Session(session, at) => self.by_session(login, session, data, at),
            Exchanged::Dead(reason, detail) => Resolved::Dead(reason, detail),
            Exchanged::Later(until) => {
                let now = (self.clock)();
                let backoff = now.plus(backoff_ms(attempt));
                Resolved::Later(Box::new(Later {
                    interim: None,
                    for_key: false,
                    next_at: until.map_or(backoff, |until| until.max(now)),
                    expires_at: login.occurred_at.plus(super::exchange::CODE_LIFE_MS),
                }))
            }
        })
    }

    /// Runs the exchange on a task of its own, so that giving up the wait never loses an answer.
    /// `None` when the budget ended first: while it waited for a slot nothing was sent, later the
    /// request goes on and notes its answer.
    async fn exchange_in_budget(
        &self,
        app: &App,
        code: &Secret,
        login: &Login,
        since: Option<Millis>,
    ) -> Result<Option<Exchanged>, MemoryFault> {
        let budget = since.map_or(self.budget, |_| Duration::MAX);
        let begun = Instant::now();
        let slot = tokio::time::timeout(budget, Arc::clone(&self.slots).acquire_owned());
        let Ok(Ok(slot)) = slot.await else {
            return Ok(None);
        };
        let (exchange, app, code, at) = (
            Arc::clone(&self.exchange),
            app.clone(),
            code.clone(),
            login.occurred_at,
        );
        let task = tokio::spawn(async move {
            let _slot = slot;
            exchange.exchange(&app, &code, at).await
        });
        let left = budget.saturating_sub(begun.elapsed());
        match tokio::time::timeout(left, task).await {
            Err(_) => Ok(None),
            Ok(Ok(exchanged)) => exchanged.map(Some),
            Ok(Err(_)) => Err(MemoryFault("an exchange ended early".to_owned())),
        }
    }

    fn by_session(
        &self,
        login: &Login,
        session: Session,
        data: Option<&EncryptedData>,
        at: Millis,
    ) -> Resolved {
        let mut climb = self.climb(login, session.openid);
        match session.unionid {
            Some(Ok(unionid)) => climb.claim(unionid, Method::Code2Session, at),
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
        end(climb)
    }

    async fn by_held_key(
        &self,
        mut climb: Climb<'_>,
        data: &EncryptedData,
        since: Option<Millis>,
    ) -> Result<Resolved, MemoryFault> {
        let now = (self.clock)();
        let held: HeldKeys = self.memory.held(climb.account.clone()).await?;
        let before = climb.claims.len();
        for sealed in &held.keys {
            let Some(key) = climb.unseal(sealed) else {
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
        if held.keys.is_empty() {
            climb.note(Reason::NoSessionKey);
        }
        let decrypted =
            climb.claims.len() > before || climb.reason == Some(Reason::DecryptedWithoutUnionid);
        let expires_at = since.unwrap_or(now).plus(KEY_WAIT_MS);
        let bound = self
            .apps
            .platform_at(&climb.login.app, climb.login.occurred_at)
            .is_some();
        // Waiting is worth it only if the data could still tell something new.
        let wait = !decrypted && bound && !held.resolved && climb.claims.is_empty();
        if wait && now < expires_at {
            climb.reason = Some(Reason::Deferred);
            return Ok(Resolved::Later(Box::new(Later {
                interim: Some(climb.sighting()),
                for_key: true,
                next_at: expires_at,
                expires_at,
            })));
        }
        Ok(end(climb))
    }
}

fn end(climb: Climb<'_>) -> Resolved {
    Resolved::Facts(Box::new(climb.sighting()))
}

/// Exponential, capped, with jitter over the upper half, so that what failed together does not
/// come back together.
fn backoff_ms(attempt: u32) -> i64 {
    let full = (BACKOFF_MS << attempt.min(10)).min(LONGEST_BACKOFF_MS);
    rand::rng().random_range(full / 2..=full)
}
