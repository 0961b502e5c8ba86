//! What holds everywhere, for one API, for one app, or for one API of one app.

use super::api::Api;
use super::world::AppNo;
use rustc_hash::FxHashMap;

/// What a setting is for; the default is everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Scope {
    /// One app, or all.
    pub app: Option<AppNo>,
    /// One API, or all.
    pub api: Option<Api>,
}

/// Values by scope. The narrowest one holds, and it holds alone; an app is narrower than an API.
#[derive(Clone, Default)]
pub(super) struct Scoped<T> {
    everywhere: T,
    somewhere: FxHashMap<Scope, T>,
}

impl<T: Clone + Default> Scoped<T> {
    /// What is set for exactly this scope.
    pub(super) fn exactly(&self, scope: Scope) -> Option<&T> {
        if scope == Scope::default() {
            return Some(&self.everywhere);
        }
        self.somewhere.get(&scope)
    }

    /// Sets it; `None` takes back what was set, so that the wider scope holds again.
    pub(super) fn set(&mut self, scope: Scope, value: Option<T>) {
        match value {
            value if scope == Scope::default() => self.everywhere = value.unwrap_or_default(),
            Some(value) => {
                self.somewhere.insert(scope, value);
            }
            None => {
                self.somewhere.remove(&scope);
            }
        }
    }

    /// What holds for an API of an app (`None`: of an app that does not exist).
    pub(super) fn holds(&self, app: Option<AppNo>, api: Api) -> &T {
        let api = Some(api);
        let scopes = [
            Scope { app, api },
            Scope { app, api: None },
            Scope { app: None, api },
        ];
        let found = scopes.iter().find_map(|scope| self.somewhere.get(scope));
        found.unwrap_or(&self.everywhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_narrowest_scope_holds() {
        let (app, api) = (Some(AppNo(1)), Some(Api::Token));
        let mut scoped = Scoped::default();
        let held = |s: &Scoped<u8>| {
            [
                s.holds(app, Api::Token),
                s.holds(app, Api::Follower),
                s.holds(None, Api::Token),
                s.holds(None, Api::Follower),
            ]
            .map(|v| *v)
        };
        scoped.set(Scope::default(), Some(1));
        scoped.set(Scope { app: None, api }, Some(2));
        scoped.set(Scope { app, api: None }, Some(3));
        scoped.set(Scope { app, api }, Some(4));
        assert_eq!(held(&scoped), [4, 3, 2, 1]);
        scoped.set(Scope { app, api }, None);
        assert_eq!(held(&scoped), [3, 3, 2, 1]);
        scoped.set(Scope::default(), None);
        assert_eq!(scoped.exactly(Scope::default()), Some(&0));
    }
}
