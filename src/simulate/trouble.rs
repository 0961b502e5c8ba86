//! What can be wrong with an app at WeChat, until somebody there puts it right (`docs/wechat.md` §2,
//! "configuration").

use super::api::{Api, Credential};
use super::world::AppNo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Something wrong with an app.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The secret was changed at WeChat: 40125, or 40001 from a token API.
    WrongSecret,
    /// The secret is frozen: 40243.
    SecretFrozen,
    /// The caller's address is not on the list: 40164, from token APIs. Mini programs were once
    /// exempt (§2); here whoever is set to it has it.
    RefusedAddress,
    /// An administrator must confirm the caller's address: 89503, from token APIs.
    UnconfirmedAddress,
    /// The account is frozen or deregistered: 50002, from every API.
    Frozen,
    /// 48004: from all APIs with an app token, or from the one named.
    Banned,
    /// 48001, as of an account that is not verified: likewise.
    NoPermission,
}

/// Who has which trouble, with one API or in general.
#[derive(Default)]
pub(super) struct Troubles(BTreeSet<(AppNo, Option<Api>, Trouble)>);

impl Troubles {
    pub(super) fn set(&mut self, app: AppNo, api: Option<Api>, trouble: Trouble, on: bool) {
        if on {
            self.0.insert((app, api, trouble));
        } else {
            self.0.remove(&(app, api, trouble));
        }
    }

    fn has(&self, app: AppNo, api: Api, trouble: Trouble) -> bool {
        self.0.contains(&(app, None, trouble)) || self.0.contains(&(app, Some(api), trouble))
    }

    /// Before anything is looked at.
    pub(super) fn of_account(&self, app: AppNo, api: Api) -> Result<(), i32> {
        if self.has(app, api, Trouble::Frozen) {
            return Err(50002);
        }
        Ok(())
    }

    /// Where the secret counts; `true` if it was changed.
    pub(super) fn of_secret(&self, app: AppNo, api: Api) -> Result<bool, i32> {
        if self.has(app, api, Trouble::SecretFrozen) {
            return Err(40243);
        }
        Ok(self.has(app, api, Trouble::WrongSecret))
    }

    /// Where tokens are given out.
    pub(super) fn of_address(&self, app: AppNo, api: Api) -> Result<(), i32> {
        if !api.gives_tokens() {
            return Ok(());
        }
        if self.has(app, api, Trouble::RefusedAddress) {
            return Err(40164);
        }
        if self.has(app, api, Trouble::UnconfirmedAddress) {
            return Err(89503);
        }
        Ok(())
    }

    /// Once the caller is known.
    pub(super) fn of_permission(&self, app: AppNo, api: Api) -> Result<(), i32> {
        let by_token = api.credential() == Credential::AppToken;
        let has = |trouble| {
            self.0.contains(&(app, Some(api), trouble))
                || (by_token && self.0.contains(&(app, None, trouble)))
        };
        if has(Trouble::Banned) {
            return Err(48004);
        }
        if has(Trouble::NoPermission) {
            return Err(48001);
        }
        Ok(())
    }
}
