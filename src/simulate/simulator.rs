//! What WeChat remembers, without HTTP: sessions, codes, faults, counters. What it decides about a
//! code is in `exchange`.
//! [`super::server`] carries it over HTTP; demos, tests and benchmarks call it directly.

use super::code;
use super::codes::Codes;
use super::crypto::{Encrypted, Keyed};
use super::faults::{FaultError, Faults};
use super::session::{MAX_PEOPLE, Manner, Session, Sessions};
use super::stats::Stats;
use super::world::{AppNo, World};
use crate::model::Millis;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tells the time. Tests move it.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// Where WeChat's behaviour is unknown or a test wants more, a setting chooses.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Life of a code from `wx.login` or an in-WeChat page, in ms (`docs/wechat.md` §3.1, §5).
    pub code_life_ms: i64,
    /// Life of a website's or mobile app's code, in ms.
    pub web_code_life_ms: i64,
    /// Share of used codes answered 40029 instead of 40163; both are seen.
    pub used_as_invalid: f64,
    /// Share of expired codes answered 40029 instead of 42003.
    pub expired_as_invalid: f64,
    /// Remember codes for good, not only for their life: for tests that look for resends.
    pub remember_codes: bool,
    /// An answer written so many ms before a kill may not have been seen.
    pub kill_grace_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            code_life_ms: 5 * 60_000,
            web_code_life_ms: 10 * 60_000,
            used_as_invalid: 0.2,
            expired_as_invalid: 0.2,
            remember_codes: false,
            kill_grace_ms: 2_000,
        }
    }
}

/// Why nobody can log in so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The world has no such app.
    #[error("unknown appid")]
    UnknownApp,
    /// People are numbered from 0.
    #[error("person must be below {MAX_PEOPLE}")]
    NoSuchPerson,
}

/// The simulated WeChat.
pub struct Simulator {
    pub(super) world: World,
    pub(super) settings: Settings,
    clock: Clock,
    pub(super) signer: Keyed,
    nonce: AtomicU32,
    sessions: Mutex<Sessions>,
    pub(super) codes: Mutex<Codes>,
    pub(super) counts: Mutex<Stats>,
    pub(super) faults: Mutex<Faults>,
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
        let codes = Codes::new(generation, settings.kill_grace_ms, clock());
        Self {
            signer: Keyed::new(world.seed(), "code"),
            world,
            settings,
            clock,
            nonce: AtomicU32::new(0),
            sessions: Mutex::default(),
            codes: Mutex::new(codes),
            counts: Mutex::default(),
            faults: Mutex::default(),
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

    fn known(&self, app: AppNo, person: u64) -> Result<(), LoginError> {
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
        let nonce = self.nonce.fetch_add(1, Ordering::Relaxed);
        code::write(&self.signer, session, nonce)
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
        let key = code::key(&self.signer, code);
        let now = self.now();
        lock(&self.codes).spend_elsewhere(key, now);
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = lock(&self.counts).clone();
        let codes = lock(&self.codes);
        stats.codes = codes.stats.clone();
        stats.codes.remembered = codes.len() as u64;
        stats
    }

    /// The faults in force.
    #[must_use]
    pub fn faults(&self) -> Faults {
        lock(&self.faults).clone()
    }

    /// Puts other faults in force, from the next request on.
    ///
    /// # Errors
    /// [`FaultError::Value`] names what is out of bounds.
    pub fn set_faults(&self, faults: Faults) -> Result<(), FaultError> {
        faults.check()?;
        *lock(&self.faults) = faults;
        Ok(())
    }

    /// The client was killed just now: see [`Settings::kill_grace_ms`].
    pub fn note_kill(&self) {
        let now = self.now();
        lock(&self.codes).note_kill(now);
    }
}
