//! Who asks: the checks of credentials, in WeChat's order, and what is wrong with the app
//! (`docs/wechat.md` §2 to §5).

use super::api::{Api, Credential};
use super::code;
use super::gate::Call;
use super::oauth;
use super::request::Request;
use super::session::Session;
use super::simulator::{Simulator, lock};
use super::tokens::AppToken;
use super::world::AppNo;

/// A caller who showed the right thing.
pub(super) struct Who {
    pub(super) app: AppNo,
    /// Behind a user token or a refresh token: what the user agreed to, and when.
    pub(super) grant: Option<Session>,
}

impl Simulator {
    /// The app that a request is about, before anything is checked.
    pub(super) fn app_of(&self, request: &Request) -> Option<AppNo> {
        let token = request.field("access_token");
        match request.api.credential() {
            Credential::AppToken => Some(AppToken::read(&self.signers.app, token)?.app),
            Credential::UserToken => Some(oauth::read_token(&self.signers.user, token)?.app),
            Credential::SecretInBody => {
                let json = request.json().ok()?;
                self.world.number(json["appid"].as_str()?)
            }
            _ => self.world.number(request.field("appid")),
        }
    }

    /// Checks the caller.
    pub(super) fn identify(&self, call: &Call, real: bool) -> Result<Who, i32> {
        let request = &call.request;
        let api = request.api;
        let mut grant = None;
        let app = match api.credential() {
            Credential::Secret => {
                let app = self.registered(api, request.field("appid"))?;
                self.check_secret(call, app, request.field("secret"))?;
                app
            }
            Credential::SecretInBody => {
                let json = request.json()?;
                let field = |name: &str| json[name].as_str().unwrap_or("");
                let app = self.registered(api, field("appid"))?;
                self.check_secret(call, app, field("secret"))?;
                app
            }
            Credential::Component => {
                let app = self.registered(api, request.field("appid"))?;
                self.check_component(call, app)?;
                app
            }
            Credential::RefreshToken => {
                let app = self.registered(api, request.field("appid"))?;
                grant = Some(self.check_refresh(request, app)?);
                app
            }
            Credential::UserToken => {
                let session = self.check_user_token(call)?;
                grant = Some(session);
                self.served(api, session.app)?
            }
            Credential::AppToken => {
                let token = self.check_app_token(call, real)?;
                self.served(api, token.app)?
            }
        };
        let controls = lock(&self.controls);
        controls.troubles.of_address(app, api)?;
        controls.troubles.of_permission(app, api)?;
        Ok(Who { app, grant })
    }

    /// The app of an appid, if the API is for its kind.
    fn registered(&self, api: Api, appid: &str) -> Result<AppNo, i32> {
        if appid.is_empty() {
            return Err(41002);
        }
        let number = self.world.number(appid).ok_or(40013)?;
        let app = self.world.app(number).ok_or(40013)?;
        if !api.serves(app.kind) {
            return Err(40013);
        }
        lock(&self.controls).troubles.of_account(number, api)?;
        Ok(number)
    }

    /// The app of a token, if the API is for its kind.
    fn served(&self, api: Api, number: AppNo) -> Result<AppNo, i32> {
        let app = self.world.app(number).ok_or(40014)?;
        lock(&self.controls).troubles.of_account(number, api)?;
        if !api.serves(app.kind) {
            return Err(48001);
        }
        Ok(number)
    }

    fn check_secret(&self, call: &Call, app: AppNo, secret: &str) -> Result<(), i32> {
        if secret.is_empty() {
            return Err(41004);
        }
        let changed = lock(&self.controls).troubles.of_secret(app, call.api())?;
        let right = self.world.app(app).is_some_and(|a| a.secret == secret);
        if changed || !right {
            // Token APIs are seen to say either (`docs/wechat.md` §2, §4).
            let share = if call.api().gives_tokens() {
                self.settings.wrong_secret_as_credential
            } else {
                0.0
            };
            return Err(call.either(share, 40125, 40001));
        }
        Ok(())
    }

    fn check_component(&self, call: &Call, app: AppNo) -> Result<(), i32> {
        let id = call.request.field("component_appid");
        let token = call.request.field("component_access_token");
        if id.is_empty() {
            return Err(41018);
        }
        if token.is_empty() {
            return Err(41021);
        }
        let controls = lock(&self.controls);
        let component = controls.component.as_ref().filter(|c| c.appid == id);
        let component = component.ok_or(40013)?;
        if component.token != token {
            return Err(40001);
        }
        if component.expires.is_some_and(|at| at <= self.now()) {
            return Err(42006);
        }
        if !component.serves(app) {
            return Err(61003);
        }
        Ok(())
    }

    /// A token that is none, or of another sort: both 40001 and 40014 are seen for garbage, and
    /// 48001 for a user's token where an app's belongs (`docs/wechat.md` §2).
    fn foreign_token(&self, call: &Call, other_sort: bool) -> i32 {
        if other_sort {
            return 48001;
        }
        call.either(self.settings.bad_token_as_credential, 40014, 40001)
    }

    fn check_app_token(&self, call: &Call, real: bool) -> Result<AppToken, i32> {
        let text = call.request.field("access_token");
        if text.is_empty() {
            return Err(41001);
        }
        let Some(token) = AppToken::read(&self.signers.app, text) else {
            let of_user = oauth::read_token(&self.signers.user, text).is_some();
            return Err(self.foreign_token(call, of_user));
        };
        let now = self.now();
        let mut tokens = lock(&self.tokens);
        if call.token_dies && real {
            tokens.revoke(token.app, token.family);
        }
        tokens.check(&token, now)?;
        Ok(token)
    }

    fn check_user_token(&self, call: &Call) -> Result<Session, i32> {
        let text = call.request.field("access_token");
        if text.is_empty() {
            return Err(41001);
        }
        let Some(grant) = oauth::read_token(&self.signers.user, text) else {
            let of_app = AppToken::read(&self.signers.app, text).is_some();
            return Err(self.foreign_token(call, of_app));
        };
        if self.user_token_ends(&grant) <= self.now() {
            return Err(42001);
        }
        Ok(grant)
    }

    fn check_refresh(&self, request: &Request, app: AppNo) -> Result<Session, i32> {
        if request.field("grant_type") != "refresh_token" {
            return Err(40002);
        }
        let text = request.field("refresh_token");
        let grant = code::read(&self.signers.refresh, text).ok_or(40030)?;
        if grant.app != app {
            return Err(40030);
        }
        if self.now().since(grant.at) > self.settings.refresh_token_life_ms {
            return Err(42002);
        }
        Ok(grant)
    }
}
