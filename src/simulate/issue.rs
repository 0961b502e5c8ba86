//! The two APIs that give out app tokens (`docs/wechat.md` §4).

use super::answer::Body;
use super::gate::Call;
use super::simulator::{Simulator, lock};
use super::tokens::{AppToken, Rules, Tokens};
use super::world::AppNo;
use crate::model::Millis;

impl Simulator {
    pub(super) fn token_rules(&self) -> Rules {
        let life_ms = self.settings.token_life_ms;
        Rules {
            life_ms,
            // A token that lives shortly must not be in its last minutes from the beginning.
            overlap_ms: self.settings.token_overlap_ms.min(life_ms / 2),
            forced_voids_at_once: self.settings.forced_voids_at_once,
        }
    }

    /// `GET /cgi-bin/token`.
    pub(super) fn token(&self, call: &Call, app: AppNo, real: bool) -> Result<Body, i32> {
        if call.request.field("grant_type") != "client_credential" {
            return Err(40002);
        }
        let (rules, now) = (self.token_rules(), self.now());
        let token = self.with_tokens(real, |tokens| Ok(tokens.plain(app, rules, now)))?;
        Ok(self.token_body(&token, now))
    }

    /// `POST /cgi-bin/stable_token`.
    pub(super) fn stable_token(&self, call: &Call, app: AppNo, real: bool) -> Result<Body, i32> {
        let json = call.request.json()?;
        if json["grant_type"] != "client_credential" {
            return Err(40002);
        }
        let force = match &json["force_refresh"] {
            serde_json::Value::Null => false,
            force => force.as_bool().ok_or(47001)?,
        };
        let (rules, now) = (self.token_rules(), self.now());
        let token = self.with_tokens(real, |tokens| tokens.stable(app, force, rules, now))?;
        Ok(self.token_body(&token, now))
    }

    /// On the tokens themselves, or on a copy that is then forgotten.
    fn with_tokens(
        &self,
        real: bool,
        issue: impl FnOnce(&mut Tokens) -> Result<AppToken, i32>,
    ) -> Result<AppToken, i32> {
        let mut tokens = lock(&self.tokens);
        if real {
            return issue(&mut tokens);
        }
        issue(&mut tokens.clone())
    }

    /// `now` is when it was issued: a clock that has moved on since would cut a whole second off.
    fn token_body(&self, token: &AppToken, now: Millis) -> Body {
        let left = token.expires.since(now) / 1_000;
        Body::new()
            .text("access_token", &token.text(&self.signers.app))
            .number("expires_in", left)
    }
}
