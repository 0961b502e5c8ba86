//! What a test or an operator does to the simulated WeChat, and what it counted.

use super::api::Api;
use super::component::Component;
use super::faults::{FaultError, Faults};
use super::limits::Limits;
use super::scope::Scope;
use super::simulator::{LoginError, Simulator, lock};
use super::stats::Stats;
use super::tokens::Family;
use super::trouble::Trouble;
use super::world::AppNo;

impl Simulator {
    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = lock(&self.counts).clone();
        stats.count_until(self.now());
        {
            let codes = lock(&self.codes);
            stats.codes = codes.stats.clone();
            stats.codes.remembered = codes.len() as u64;
        }
        let now = self.now();
        let quotas = lock(&self.quotas);
        let tokens = lock(&self.tokens);
        for (number, app) in self.world.numbers().zip(self.world.sim_apps()) {
            let apis = stats.apps.get_mut(app.id.as_str()).into_iter().flatten();
            for (path, api) in apis {
                if let Some(at) = Api::at(path) {
                    (api.used_this_minute, api.used_today) = quotas.used(number, at, now);
                }
            }
            if let Some(of_app) = tokens.stats.get(&number) {
                stats.tokens.insert(app.id.to_string(), *of_app);
            }
        }
        stats
    }

    /// The faults in force everywhere.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults_in(Scope::default()).unwrap_or_default()
    }

    /// Those set for exactly this scope, if there are any.
    #[must_use]
    pub fn faults_in(&self, scope: Scope) -> Option<Faults> {
        lock(&self.controls).faults.exactly(scope).cloned()
    }

    /// Puts other faults in force everywhere, from the next request on.
    ///
    /// # Errors
    /// [`FaultError::Value`] names what is out of bounds.
    pub fn set_faults(&self, faults: Faults) -> Result<(), FaultError> {
        self.set_faults_in(Scope::default(), Some(faults))
    }

    /// Puts other faults in force in a scope, where they replace those of wider ones; `None` takes
    /// them back.
    ///
    /// # Errors
    /// As [`Simulator::set_faults`].
    pub fn set_faults_in(&self, scope: Scope, faults: Option<Faults>) -> Result<(), FaultError> {
        faults.iter().try_for_each(Faults::check)?;
        lock(&self.controls).faults.set(scope, faults);
        Ok(())
    }

    /// The limits set for exactly this scope, if there are any.
    #[must_use]
    pub fn limits_in(&self, scope: Scope) -> Option<Limits> {
        lock(&self.controls).limits.exactly(scope).copied()
    }

    /// Sets how often each app may call each API in the scope; `None` takes it back.
    pub fn set_limits_in(&self, scope: Scope, limits: Option<Limits>) {
        lock(&self.controls).limits.set(scope, limits);
    }

    /// Something goes wrong with an app, in general or with one API, or is put right.
    ///
    /// # Errors
    /// [`LoginError::UnknownApp`].
    pub fn set_trouble(
        &self,
        app: AppNo,
        api: Option<Api>,
        trouble: Trouble,
        on: bool,
    ) -> Result<(), LoginError> {
        self.known(app, 0)?;
        lock(&self.controls).troubles.set(app, api, trouble, on);
        Ok(())
    }

    /// The third-party platform, from now on; `None` for none.
    pub fn set_component(&self, component: Option<Component>) {
        lock(&self.controls).component = component;
    }

    /// Kills the app's tokens of a family before their time: 40001 for whoever uses one.
    ///
    /// # Errors
    /// [`LoginError::UnknownApp`].
    pub fn revoke_tokens(&self, app: AppNo, family: Family) -> Result<(), LoginError> {
        self.known(app, 0)?;
        lock(&self.tokens).revoke(app, family);
        Ok(())
    }
}
