//! The APIs in one table: path, method, what the caller shows, whose apps they serve. The router,
//! the checks and the counters all read it.

use crate::model::AppKind;
use serde::{Deserialize, Serialize};

/// An API of the simulator. In JSON it is its path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Api {
    /// `sns/jscode2session` (`docs/wechat.md` §3.1).
    Code2Session,
    /// The same for a third-party platform (§3.2).
    ComponentCode2Session,
    /// `sns/oauth2/access_token` (§5).
    Oauth,
    /// The same for a third-party platform.
    ComponentOauth,
    /// `sns/oauth2/refresh_token` (§5).
    OauthRefresh,
    /// `sns/auth`: is the user token good? (§5)
    OauthCheck,
    /// `sns/userinfo` (§5).
    OauthUser,
    /// `cgi-bin/token` (§4).
    Token,
    /// `cgi-bin/stable_token` (§4).
    StableToken,
    /// `cgi-bin/user/info` (§7).
    Follower,
    /// `cgi-bin/user/info/batchget` (§7).
    FollowerBatch,
    /// `cgi-bin/user/get` (§7).
    FollowerList,
    /// `wxa/getpaidunionid` (§8).
    PaidUnionid,
    /// `wxa/checksession` (§3.3).
    CheckSession,
    /// `wxa/resetusersessionkey` (§3.3).
    ResetSession,
}

/// How a request is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// With the query alone.
    Get,
    /// With a JSON body.
    Post,
    /// Not as any API wants it.
    Other,
}

/// What the caller shows, which also tells the app.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Credential {
    /// `appid` and `secret` in the query.
    Secret,
    /// The same in the JSON body.
    SecretInBody,
    /// `appid`, `component_appid` and `component_access_token`.
    Component,
    /// `appid` and `refresh_token`.
    RefreshToken,
    /// A user's `access_token` (§5).
    UserToken,
    /// An app's `access_token` (§4).
    AppToken,
}

/// Whose apps an API serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Serves {
    Mini,
    Pages,
    Official,
    MiniAndOfficial,
}

struct Row(&'static str, Verb, Credential, Serves);

impl Api {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Code2Session,
        Self::ComponentCode2Session,
        Self::Oauth,
        Self::ComponentOauth,
        Self::OauthRefresh,
        Self::OauthCheck,
        Self::OauthUser,
        Self::Token,
        Self::StableToken,
        Self::Follower,
        Self::FollowerBatch,
        Self::FollowerList,
        Self::PaidUnionid,
        Self::CheckSession,
        Self::ResetSession,
    ];

    #[rustfmt::skip]
    const fn row(self) -> Row {
        use Credential::{AppToken, Component, RefreshToken, Secret, SecretInBody, UserToken};
        use Serves::{Mini, MiniAndOfficial, Official, Pages};
        use Verb::{Get, Post};
        match self {
            Self::Code2Session => Row("/sns/jscode2session", Get, Secret, Mini),
            Self::ComponentCode2Session => Row("/sns/component/jscode2session", Get, Component, Mini),
            Self::Oauth => Row("/sns/oauth2/access_token", Get, Secret, Pages),
            Self::ComponentOauth => Row("/sns/oauth2/component/access_token", Get, Component, Official),
            Self::OauthRefresh => Row("/sns/oauth2/refresh_token", Get, RefreshToken, Pages),
            Self::OauthCheck => Row("/sns/auth", Get, UserToken, Pages),
            Self::OauthUser => Row("/sns/userinfo", Get, UserToken, Pages),
            Self::Token => Row("/cgi-bin/token", Get, Secret, MiniAndOfficial),
            Self::StableToken => Row("/cgi-bin/stable_token", Post, SecretInBody, MiniAndOfficial),
            Self::Follower => Row("/cgi-bin/user/info", Get, AppToken, Official),
            Self::FollowerBatch => Row("/cgi-bin/user/info/batchget", Post, AppToken, Official),
            Self::FollowerList => Row("/cgi-bin/user/get", Get, AppToken, Official),
            Self::PaidUnionid => Row("/wxa/getpaidunionid", Get, AppToken, Mini),
            Self::CheckSession => Row("/wxa/checksession", Get, AppToken, Mini),
            Self::ResetSession => Row("/wxa/resetusersessionkey", Get, AppToken, Mini),
        }
    }

    /// Its path.
    #[must_use]
    pub fn path(self) -> &'static str {
        self.row().0
    }

    /// The API of a path.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|api| api.path() == path)
    }

    /// How it wants to be asked.
    #[must_use]
    pub fn verb(self) -> Verb {
        self.row().1
    }

    pub(super) fn credential(self) -> Credential {
        self.row().2
    }

    pub(super) fn serves(self, kind: AppKind) -> bool {
        let mini = kind == AppKind::MiniProgram;
        let official = kind == AppKind::OfficialAccount;
        match self.row().3 {
            Serves::Mini => mini,
            Serves::Pages => !mini,
            Serves::Official => official,
            Serves::MiniAndOfficial => mini || official,
        }
    }

    /// Whether it gives out app tokens (§4).
    pub(super) fn gives_tokens(self) -> bool {
        matches!(self, Self::Token | Self::StableToken)
    }

    /// The parameter that carries the login code, if it exchanges codes.
    pub(super) fn code_field(self) -> Option<&'static str> {
        match self {
            Self::Code2Session | Self::ComponentCode2Session => Some("js_code"),
            Self::Oauth | Self::ComponentOauth => Some("code"),
            _ => None,
        }
    }

    /// `Content-Type` of its answers: `/sns/*` say text, the others JSON with an odd parameter
    /// (`docs/wechat.md` §1).
    pub(super) fn content_type(self) -> &'static str {
        if self.path().starts_with("/sns/") {
            "text/plain"
        } else {
            "application/json; encoding=utf-8"
        }
    }
}

impl From<Api> for &'static str {
    fn from(api: Api) -> Self {
        api.path()
    }
}

impl TryFrom<String> for Api {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        Self::at(&path).ok_or_else(|| format!("there is no API at {path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_is_found_at_its_path_and_only_there() {
        for api in Api::ALL {
            assert_eq!(Api::at(api.path()), Some(api));
            let json = serde_json::to_string(&api).unwrap();
            assert_eq!(serde_json::from_str::<Api>(&json).unwrap(), api);
        }
        assert!(serde_json::from_str::<Api>("\"/cgi-bin/tokens\"").is_err());
    }
}
