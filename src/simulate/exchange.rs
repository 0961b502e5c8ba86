//! What WeChat decides about a login code: the checks in its order, the spending, the answer
//! (`docs/wechat.md` §3.1, §3.2, §5).

use super::answer::Body;
use super::api::Api;
use super::code;
use super::gate::Call;
use super::session::Session;
use super::simulator::{Simulator, lock};
use super::world::AppNo;
use crate::model::AppKind;

impl Simulator {
    /// Exchanges the code of a caller who may; it is spent if this is for `real`.
    pub(super) fn exchanged(&self, call: &Call, app: AppNo, real: bool) -> Result<Body, i32> {
        let code = call.request.code().ok_or(41008)?;
        if call.request.field("grant_type") != "authorization_code" {
            return Err(40002);
        }
        let session = code::read(&self.signers.code, code).ok_or(40029)?;
        if session.app != app {
            return Err(40029);
        }
        self.spend(call, &session, real)?;
        Ok(match call.api() {
            Api::Code2Session | Api::ComponentCode2Session => self.session_body(&session),
            _ => self.oauth_body(call, &session),
        })
    }

    fn spend(&self, call: &Call, session: &Session, real: bool) -> Result<(), i32> {
        let key = call.key.ok_or(41008)?;
        let now = self.now();
        let mut codes = lock(&self.codes);
        if codes.is_spent(key) {
            return Err(call.either(self.settings.used_as_invalid, 40163, 40029));
        }
        if now.since(session.at) > self.code_life(session.app) {
            return Err(call.either(self.settings.expired_as_invalid, 42003, 40029));
        }
        if self.world.blocked(session.person) {
            return Err(40226);
        }
        if real {
            codes.spend(key);
        }
        Ok(())
    }

    fn code_life(&self, app: AppNo) -> i64 {
        match self.world.app(app).map(|a| a.kind) {
            Some(AppKind::Website | AppKind::MobileApp) => self.settings.web_code_life_ms,
            _ => self.settings.code_life_ms,
        }
    }

    fn session_body(&self, session: &Session) -> Body {
        let (person, app) = (session.person, session.app);
        let shown = session.manner.unionid && self.world.bound(app, self.now());
        let unionid = self.world.unionid_text(person, app).filter(|_| shown);
        Body::new()
            .text("session_key", &self.session_key(session))
            .text("openid", &self.world.openid_text(person, app))
            .some("unionid", unionid.as_deref())
    }
}
