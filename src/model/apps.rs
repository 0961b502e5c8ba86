//! The company's apps and the platforms they are bound to, as configured.

use super::{AppId, Millis, PlatformId, Secret};
use rustc_hash::FxHashMap;
use std::path::PathBuf;

/// What sort of app WeChat registered; it decides which code exchange applies.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AppKind {
    /// Mini program or mini game: `sns/jscode2session`.
    MiniProgram,
    /// Official account's web pages: OAuth.
    OfficialAccount,
    /// Mobile app: OAuth.
    MobileApp,
    /// Website: OAuth by QR code.
    Website,
}

/// From `since` on, the app's unionids are those of `platform`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The platform.
    pub platform: PlatformId,
    /// First moment of the binding.
    pub since: Millis,
}

/// A binding and how long it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound<'a> {
    /// The platform.
    pub platform: &'a PlatformId,
    since: Millis,
    before: Option<Millis>,
}

impl Bound<'_> {
    /// The moment of this binding that is nearest to `at`.
    #[must_use]
    pub fn nearest(&self, at: Millis) -> Millis {
        let last = self.before.map_or(at, |before| before.plus(-1));
        at.min(last).max(self.since)
    }
}

/// One configured app.
#[derive(Clone, Debug)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Its kind.
    pub kind: AppKind,
    /// AppSecret, where the app exchanges codes or gets its token here.
    pub secret: Option<Secret>,
    /// Where its access token comes from.
    pub token: TokenSource,
    /// The third-party platform that exchanges its codes, instead of the AppSecret.
    pub component: Option<Component>,
    /// Its bindings, oldest first.
    pub bindings: Vec<Binding>,
}

/// Where an app's access token comes from (`docs/wechat.md` §4).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum TokenSource {
    /// `cgi-bin/stable_token`, with the AppSecret.
    #[default]
    Stable,
    /// `cgi-bin/token`, with the AppSecret: each call ends the token before it.
    Plain,
    /// A file that somebody else keeps fresh: a token centre that was there before, or the
    /// third-party platform that manages the app.
    File(PathBuf),
}

/// A third-party platform that may act for the app (`docs/wechat.md` §3.2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Component {
    /// Its own appid.
    pub id: AppId,
    /// A file with its `component_access_token`, kept fresh by whoever receives its tickets.
    pub token_file: PathBuf,
}

impl App {
    /// Whether its login codes can be exchanged: with its AppSecret, or by its third-party platform.
    #[must_use]
    pub fn exchanges_codes(&self) -> bool {
        self.component.is_some() || self.secret.is_some()
    }

    /// Whether an access token for the app can be had.
    #[must_use]
    pub fn has_token(&self) -> bool {
        matches!(self.token, TokenSource::File(_)) || self.secret.is_some()
    }
}

/// All configured apps.
#[derive(Clone, Debug, Default)]
pub struct Apps {
    by_id: FxHashMap<AppId, App>,
}

impl Apps {
    /// Takes the apps in; bindings are brought into order.
    #[must_use]
    pub fn new(apps: Vec<App>) -> Self {
        let by_id = apps
            .into_iter()
            .map(|mut app| {
                app.bindings.sort_by_key(|b| b.since);
                (app.id.clone(), app)
            })
            .collect();
        Self { by_id }
    }

    /// The app, if it is configured.
    #[must_use]
    pub fn get(&self, id: &AppId) -> Option<&App> {
        self.by_id.get(id)
    }

    /// Every app, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &App> {
        self.by_id.values()
    }

    /// The binding that holds at `at`.
    #[must_use]
    pub fn bound_at(&self, id: &AppId, at: Millis) -> Option<Bound<'_>> {
        let bindings = &self.by_id.get(id)?.bindings;
        let holds = bindings.iter().rposition(|b| b.since <= at)?;
        Some(Bound {
            platform: &bindings[holds].platform,
            since: bindings[holds].since,
            before: bindings.get(holds + 1).map(|next| next.since),
        })
    }

    /// The platform that gives the app's unionids their meaning at `at`.
    #[must_use]
    pub fn platform_at(&self, id: &AppId, at: Millis) -> Option<&PlatformId> {
        Some(self.bound_at(id, at)?.platform)
    }

    /// The platform of the newest binding.
    #[must_use]
    pub fn newest_platform(&self, id: &AppId) -> Option<&PlatformId> {
        Some(&self.by_id.get(id)?.bindings.last()?.platform)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_is_that_of_the_binding_at_the_time() {
        let id = AppId::parse("wx1").expect("valid");
        let platform = |p: &str| PlatformId::parse(p).expect("valid");
        let binding = |p, since| Binding {
            platform: platform(p),
            since: Millis(since),
        };
        let apps = Apps::new(vec![App {
            id: id.clone(),
            kind: AppKind::MiniProgram,
            secret: None,
            token: TokenSource::default(),
            component: None,
            bindings: vec![binding("new", 200), binding("old", 100)],
        }]);
        assert_eq!(apps.bound_at(&id, Millis(99)), None);
        let old = apps.bound_at(&id, Millis(199)).expect("bound");
        let new = apps.bound_at(&id, Millis(200)).expect("bound");
        assert_eq!(
            (old.platform, new.platform),
            (&platform("old"), &platform("new"))
        );
        assert_eq!(apps.newest_platform(&id), Some(&platform("new")));
        let nearest =
            |bound: Bound<'_>| [0, 100, 150, 199, 200, 900].map(|at| bound.nearest(Millis(at)).0);
        assert_eq!(nearest(old), [100, 100, 150, 199, 199, 199]);
        assert_eq!(nearest(new), [200, 200, 200, 200, 200, 900]);
    }
}
