//! The simulated company as the product is configured with it.

use super::world::{SimApp, World};
use crate::model::{App, AppKind, Binding, Secret, TokenSource};
use std::fmt::Write as _;

impl World {
    /// The apps as the product is configured with them, secrets included.
    #[must_use]
    pub fn apps(&self) -> Vec<App> {
        let binding = |app: &SimApp| {
            let platform = self.platforms.get(app.platform?)?.id.clone();
            let since = app.bound_since;
            Some(Binding { platform, since })
        };
        let app = |app: &SimApp| App {
            id: app.id.clone(),
            kind: app.kind,
            secret: Some(Secret::new(app.secret.clone())),
            token: TokenSource::default(),
            component: None,
            bindings: binding(app).into_iter().collect(),
        };
        self.sim_apps().iter().map(app).collect()
    }

    /// The same as text for `unilink.toml`: `[[platforms]]` and `[[apps]]`.
    #[must_use]
    pub fn toml(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for platform in &self.platforms {
            let _ = writeln!(text, "[[platforms]]\nid = \"{}\"\n", platform.id.as_str());
        }
        for app in self.sim_apps() {
            let (id, secret) = (&app.id, &app.secret);
            let kind = kind_word(app.kind);
            let _ = writeln!(
                text,
                "[[apps]]\nappid = \"{id}\"\nkind = \"{kind}\"\nsecret = \"{secret}\""
            );
            if let Some(platform) = app.platform.and_then(|p| self.platforms.get(p)) {
                let (id, since) = (platform.id.as_str(), app.bound_since);
                let _ = writeln!(
                    text,
                    "[[apps.platforms]]\nid = \"{id}\"\nsince = \"{since}\""
                );
            }
            text.push('\n');
        }
        text
    }
}

fn kind_word(kind: AppKind) -> &'static str {
    match kind {
        AppKind::MiniProgram => "mini_program",
        AppKind::OfficialAccount => "official_account",
        AppKind::MobileApp => "mobile_app",
        AppKind::Website => "website",
    }
}
