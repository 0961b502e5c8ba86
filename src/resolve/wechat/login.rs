//! Exchanging a login code (`docs/wechat.md` §3.1, §3.2, §5). A code is single-use: once one of these
//! futures has been polled it may be spent, also when the future is dropped.

use super::{Client, union_id};
use crate::model::{AppId, AppKind, OpenId, Secret, UnionId, UserToken};
use crate::resolve::body::{Body, BodyFault};
use crate::resolve::codes::Api;
use crate::resolve::failure::CallError;
use reqwest::Method;

/// Who exchanges the code.
#[derive(Debug, Clone)]
pub enum Credential {
    /// The app itself, with its AppSecret.
    Secret(Secret),
    /// A third-party platform that acts for it.
    Component {
        /// `component_appid`.
        id: AppId,
        /// `component_access_token`.
        token: Secret,
    },
}

/// What a code was exchanged for.
#[derive(Debug, Clone)]
pub struct Session {
    /// The person in the app.
    pub openid: OpenId,
    /// The person in the platform; `Err` when what came is no unionid (a placeholder, the openid).
    /// Absent where WeChat does not tell it (`docs/wechat.md` §6).
    pub unionid: Option<Result<UnionId, ()>>,
    /// A mini program's session key, base64 of 16 bytes.
    pub session_key: Option<Secret>,
    /// The user's token of the other kinds of app.
    pub token: Option<UserToken>,
    /// Whether the ids are virtual: told here alone, not by `sns/userinfo` (`docs/wechat.md` §5).
    pub snapshot: bool,
}

impl Credential {
    /// The API that exchanges codes of this kind of app for this credential.
    #[must_use]
    pub fn api(&self, kind: AppKind) -> Api {
        match (kind, self) {
            (AppKind::MiniProgram, Self::Secret(_)) => Api::Code2Session,
            (_, Self::Secret(_)) => Api::OauthToken,
            (_, Self::Component { .. }) => Self::api_of_component(kind),
        }
    }

    /// The one that a third-party platform's token is shown to.
    pub(in crate::resolve) fn api_of_component(kind: AppKind) -> Api {
        match kind {
            AppKind::MiniProgram => Api::ComponentCode2Session,
            _ => Api::ComponentOauthToken,
        }
    }
}

impl Client {
    /// Exchanges a login code, at the API of the app's kind and credential.
    ///
    /// # Errors
    /// [`CallError`] tells why and, by [`CallError::sent`], whether the code may be spent.
    pub async fn exchange(
        &self,
        app: &AppId,
        kind: AppKind,
        credential: &Credential,
        code: &Secret,
    ) -> Result<Session, CallError> {
        let api = credential.api(kind);
        let (path, code_field) = match api {
            Api::Code2Session => ("/sns/jscode2session", "js_code"),
            Api::ComponentCode2Session => ("/sns/component/jscode2session", "js_code"),
            Api::ComponentOauthToken => ("/sns/oauth2/component/access_token", "code"),
            _ => ("/sns/oauth2/access_token", "code"),
        };
        let mut query = vec![("appid", app.as_str())];
        match credential {
            Credential::Secret(secret) => query.push(("secret", secret.expose())),
            Credential::Component { id, token } => {
                query.push(("component_appid", id.as_str()));
                query.push(("component_access_token", token.expose()));
            }
        }
        query.push((code_field, code.expose()));
        query.push(("grant_type", "authorization_code"));
        let mut body = self.call(api, Method::GET, path, &query, None).await?;
        session(&mut body).map_err(CallError::broken)
    }
}

/// A field of a wrong type must not cost the openid that the code was spent on.
fn session(body: &mut Body) -> Result<Session, BodyFault> {
    let openid = body.take_text("openid")?.unwrap_or_default();
    let unionid = body.take_text("unionid").unwrap_or(Some(String::new()));
    let session_key = body.take_text("session_key").unwrap_or(None);
    let access_token = body.take_text("access_token").unwrap_or(None);
    let scope = body.take_text("scope").unwrap_or(None);
    Ok(Session {
        unionid: unionid.map(|text| union_id(&text, &openid)),
        openid: OpenId::parse(&openid).map_err(|_| BodyFault::Field("openid"))?,
        session_key: session_key.map(Secret::new),
        token: access_token.map(|token| UserToken {
            access_token: Secret::new(token),
            scope,
        }),
        // Whatever is neither absent nor a clear no counts as a yes: a virtual person must not be
        // taken for a real one because of a type.
        snapshot: body.take_flag("is_snapshotuser").unwrap_or(true),
    })
}
