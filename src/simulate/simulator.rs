//! What WeChat remembers, without HTTP: sessions, codes, tokens, faults, counters. What it answers is
//! in `gate` and the files it names. [`super::server`] carries it over HTTP; demos, tests and
//! benchmarks call it directly.

use super::code;
use super::codes::Codes;
use super::component::Component;
use super::crypto::{Encrypted, Keyed};
use super::faults::Faults;
use super::limits::{Limits, Quotas};
use super::recent::Recent;
use super::scope::Scoped;
use super::session::{MAX_PEOPLE, Manner, Session, Sessions};
use super::settings::Settings;
use super::stats::Stats;
use super::tokens::Tokens;
use super::trouble::Troubles;
use super::world::{AppNo, World};
use crate::model::Millis;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How long the tries of a request without a code are counted, in ms.
const ATTEMPTS_MS: i64 = 10 * 60_000;

/// Tells the time. Tests move it.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// Why nobody can log in so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The world has no such app.
    #[error("unknown appid")]
    UnknownApp,
    /// People are numbered from 0.
    #[error("person must be below {MAX_PEOPLE}")]
    NoSuchPerson,
    /// Too much was changed by hand.
    #[error("too many changes are remembered")]
    Full,
}

/// The keys behind what the simulator gives out.
pub(super) struct Signers {
    pub(super) code: Keyed,
    pub(super) user: Keyed,
    pub(super) refresh: Keyed,
    pub(super) app: Keyed,
    pub(super) pay: Keyed,
}

impl Signers {
    fn new(seed: u64) -> Self {
        Self {
            code: Keyed::new(seed, "code"),
            user: Keyed::new(seed, "user_token"),
            refresh: Keyed::new(seed, "refresh_token"),
            app: Keyed::new(seed, "app_token"),
            pay: Keyed::new(seed, "payment"),
        }
    }
}

/// What is set from outside.
#[derive(Default)]
pub(super) struct Controls {
    pub(super) faults: Scoped<Faults>,
    pub(super) limits: Scoped<Limits>,
    pub(super) troubles: Troubles,
    pub(super) component: Option<Component>,
}

/// The simulated WeChat.
pub struct Simulator {
    pub(super) world: World,
    pub(super) settings: Settings,
    clock: Clock,
    pub(super) signers: Signers,
    nonce: AtomicU32,
    pub(super) sessions: Mutex<Sessions>,
    pub(super) codes: Mutex<Codes>,
    pub(super) tokens: Mutex<Tokens>,
    /// Ends of renewed user tokens, and the newest token of each grant, in ms since the epoch.
    pub(super) renewals: Mutex<Recent<Millis>>,
    pub(super) attempts: Mutex<Recent<u16>>,
    pub(super) quotas: Mutex<Quotas>,
    /// Who follows although the world says otherwise, or the reverse.
    pub(super) follows: Mutex<FxHashMap<(AppNo, u64), bool>>,
    pub(super) counts: Mutex<Stats>,
    pub(super) controls: Mutex<Controls>,
}

/// A panic elsewhere must not stop the simulator: all states behind the locks are valid.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Simulator {
    /// A WeChat for `world` at the time that `clock` tells.
    #[must_use]
    pub fn new(world: World, settings: Settings, clock: Clock) -> Self {
        let life = settings.code_life_ms.max(settings.web_code_life_ms);
        let generation = (!settings.remember_codes).then_some(life);
        let now = clock();
        let codes = Codes::new(generation, settings.kill_grace_ms, now);
        let controls = Controls {
            limits: settings.limits(),
            ..Controls::default()
        };
        Self {
            signers: Signers::new(world.seed()),
            renewals: Mutex::new(Recent::new(settings.refresh_token_life_ms, now)),
            attempts: Mutex::new(Recent::new(ATTEMPTS_MS, now)),
            world,
            settings,
            clock,
            nonce: AtomicU32::new(0),
            sessions: Mutex::default(),
            codes: Mutex::new(codes),
            tokens: Mutex::default(),
            quotas: Mutex::default(),
            follows: Mutex::default(),
            counts: Mutex::default(),
            controls: Mutex::new(controls),
        }
    }

    /// The world it plays in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The simulated time.
    #[must_use]
    pub fn now(&self) -> Millis {
        (self.clock)()
    }

    /// `wx.login`: a new session, whose key kills the one before (`docs/wechat.md` §3.3).
    ///
    /// # Errors
    /// [`LoginError`]: app or person are not of this world.
    pub fn login(&self, app: AppNo, person: u64, manner: Manner) -> Result<Session, LoginError> {
        self.known(app, person)?;
        let epoch = lock(&self.sessions).next(person, app);
        lock(&self.counts).logins += 1;
        let at = self.now();
        Ok(Session {
            person,
            app,
            epoch,
            manner,
            at,
        })
    }

    pub(super) fn known(&self, app: AppNo, person: u64) -> Result<(), LoginError> {
        if self.world.app(app).is_none() {
            return Err(LoginError::UnknownApp);
        }
        if person >= MAX_PEOPLE {
            return Err(LoginError::NoSuchPerson);
        }
        Ok(())
    }

    /// A new code of the session; it lives from the session's beginning.
    #[must_use]
    pub fn code(&self, session: &Session) -> String {
        code::write(&self.signers.code, session, self.next_nonce())
    }

    pub(super) fn next_nonce(&self) -> u32 {
        self.nonce.fetch_add(1, Ordering::Relaxed)
    }

    /// The session's key, as a back end that exchanged the code itself holds it.
    #[must_use]
    pub fn session_key(&self, session: &Session) -> String {
        self.world
            .session_key(session.person, session.app, session.epoch)
    }

    /// `wx.getUserInfo`: encrypted under the person's current session key in the app.
    ///
    /// # Errors
    /// [`LoginError`]: app or person are not of this world.
    pub fn encrypted_data(&self, app: AppNo, person: u64) -> Result<Encrypted, LoginError> {
        self.known(app, person)?;
        let epoch = lock(&self.sessions).current(person, app);
        Ok(self.world.encrypted(person, app, epoch, self.now()))
    }

    /// The same, fetched while `session` was the current one.
    #[must_use]
    pub fn encrypted_in(&self, session: &Session) -> Encrypted {
        let Session {
            person, app, epoch, ..
        } = *session;
        self.world.encrypted(person, app, epoch, self.now())
    }

    /// Spends a code behind the client's back; its next exchange answers that it was used.
    pub fn spend_elsewhere(&self, code: &str) {
        let key = code::key(&self.signers.code, code);
        let now = self.now();
        lock(&self.codes).spend_elsewhere(key, now);
    }

    /// The client was killed just now: see [`Settings::kill_grace_ms`].
    pub fn note_kill(&self) {
        let now = self.now();
        lock(&self.codes).note_kill(now);
    }
}
