//! What is not fixed about the simulated WeChat.

use super::limits::{Limits, documented};
use super::scope::Scoped;

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
    /// Life of an app token, in ms (`docs/wechat.md` §4).
    pub token_life_ms: i64,
    /// How long an app token outlives its successor's birth, in ms; at most half its life.
    pub token_overlap_ms: i64,
    /// Whether a forced refresh voids the token before it at once, or leaves it the overlap (§4
    /// does not say for sure).
    pub forced_voids_at_once: bool,
    /// Life of a user token, in ms (§5).
    pub user_token_life_ms: i64,
    /// Life of a refresh token, in ms.
    pub refresh_token_life_ms: i64,
    /// Share of wrong secrets that token APIs answer with 40001 instead of 40125.
    pub wrong_secret_as_credential: f64,
    /// Share of texts that are no token answered 40001 instead of 40014.
    pub bad_token_as_credential: f64,
    /// Share of OAuth exchanges that keep a unionid back which `sns/userinfo` then shows (§5 lists
    /// it as optional).
    pub oauth_without_unionid: f64,
    /// Share of people whose nickname is no JSON (§1).
    pub odd_nicknames: f64,
    /// Share of followers whose unionid comes with a leading space, as in the official sample (§7).
    pub spaced_unionids: f64,
    /// People numbered below this are in `cgi-bin/user/get`.
    pub people: u64,
    /// Whether the limits that WeChat documents hold to begin with.
    pub documented_limits: bool,
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
            token_life_ms: 7_200_000,
            token_overlap_ms: 5 * 60_000,
            forced_voids_at_once: true,
            user_token_life_ms: 7_200_000,
            refresh_token_life_ms: 30 * 86_400_000,
            wrong_secret_as_credential: 0.2,
            bad_token_as_credential: 0.5,
            oauth_without_unionid: 0.0,
            odd_nicknames: 0.05,
            spaced_unionids: 0.05,
            people: 10_000,
            documented_limits: true,
        }
    }
}

impl Settings {
    /// The limits to begin with.
    pub(super) fn limits(&self) -> Scoped<Limits> {
        if self.documented_limits {
            documented()
        } else {
            Scoped::default()
        }
    }
}
