//! The third-party platform that apps authorised, if there is one (`docs/wechat.md` §3.2).

use super::world::AppNo;
use crate::model::Millis;
use std::collections::BTreeSet;

/// A third-party platform. It has no `Debug`: its token is a secret.
#[derive(Clone)]
pub struct Component {
    /// Its `component_appid`.
    pub appid: String,
    /// The `component_access_token` that is good now.
    pub token: String,
    /// When it ends: then 42006.
    pub expires: Option<Millis>,
    /// The apps that authorised it (61003 for others); `None` for all.
    pub apps: Option<BTreeSet<AppNo>>,
}

impl Component {
    pub(super) fn serves(&self, app: AppNo) -> bool {
        self.apps.as_ref().is_none_or(|apps| apps.contains(&app))
    }
}
