//! What a user granted on a page, a website or in a mobile app: user tokens that say so themselves,
//! and the profile (`docs/wechat.md` §5, §6).

use super::answer::Body;
use super::code;
use super::crypto::Keyed;
use super::dice::{mix, unit};
use super::gate::Call;
use super::identify::Who;
use super::session::Session;
use super::simulator::{Simulator, lock};
use crate::model::{AppKind, Millis};
use serde::{Deserialize, Serialize};

/// Length of what stands before the signed part of a user token, as of real ones.
const HEAD: usize = 3;
const NICKNAMES: [&str; 4] = ["Band", "张三", "🌸 小雨", "O'Neil & Söhne"];

/// What a user agreed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Scope {
    /// Nothing was asked: the openid alone.
    #[serde(rename = "snsapi_base")]
    Base,
    /// The profile.
    #[serde(rename = "snsapi_userinfo")]
    UserInfo,
    /// A website's login.
    #[serde(rename = "snsapi_login")]
    Login,
}

impl Scope {
    /// As WeChat writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Base => "snsapi_base",
            Self::UserInfo => "snsapi_userinfo",
            Self::Login => "snsapi_login",
        }
    }
}

/// What an exchange of the gateway's own gave it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// The user's token.
    pub access_token: String,
    /// What renews it.
    pub refresh_token: String,
    /// Who; virtual on a snapshot page.
    pub openid: String,
    /// What was agreed to.
    pub scope: Scope,
}

/// The user token of a grant given at `session.at`.
fn write_token(keyed: &Keyed, session: &Session) -> String {
    format!(
        "{}_{}",
        60 + session.person % 40,
        code::write(keyed, session, 0)
    )
}

/// Reads a user token back; `None` if it was never given out.
pub(super) fn read_token(keyed: &Keyed, text: &str) -> Option<Session> {
    let grant = code::read(keyed, text.get(HEAD..)?)?;
    (write_token(keyed, &grant) == text).then_some(grant)
}

/// Names a grant where its renewals are remembered.
fn renewal(session: &Session, purpose: u64) -> u64 {
    let at = u64::try_from(session.at.0).unwrap_or(0);
    let (app, epoch) = (u64::from(session.app.0), u64::from(session.epoch));
    mix(&[purpose, session.person, app, epoch, at])
}

const TOKEN: u64 = 1;
const NEWEST: u64 = 2;

impl Simulator {
    /// The scope of a login: websites have one of their own, and only official accounts can ask for
    /// nothing.
    #[must_use]
    pub fn scope(&self, session: &Session) -> Scope {
        match self.world.app(session.app).map(|a| a.kind) {
            Some(AppKind::Website) => Scope::Login,
            Some(AppKind::OfficialAccount) if !session.manner.unionid => Scope::Base,
            _ => Scope::UserInfo,
        }
    }

    /// What a gateway holds that exchanged the session's code itself, now. The code is not spent.
    #[must_use]
    pub fn grant(&self, session: &Session) -> Grant {
        let now = Session {
            at: self.now(),
            ..*session
        };
        Grant {
            access_token: write_token(&self.signers.user, &now),
            refresh_token: code::write(&self.signers.refresh, &now, 0),
            openid: self.granted_openid(session),
            scope: self.scope(session),
        }
    }

    /// The same, exchanged at the session's beginning.
    #[must_use]
    pub fn grant_then(&self, session: &Session) -> Grant {
        Grant {
            access_token: write_token(&self.signers.user, session),
            refresh_token: code::write(&self.signers.refresh, session, 0),
            openid: self.granted_openid(session),
            scope: self.scope(session),
        }
    }

    fn granted_openid(&self, session: &Session) -> String {
        let (person, app) = (session.person, session.app);
        if session.manner.snapshot {
            return self.world.snapshot_text(person, app).0;
        }
        self.world.openid_text(person, app)
    }

    /// The unionid behind a grant, for whom the app may know it (§6).
    fn granted_unionid(&self, session: &Session) -> Option<String> {
        let (person, app) = (session.person, session.app);
        if session.manner.snapshot {
            return Some(self.world.snapshot_text(person, app).1);
        }
        let unionid = self.world.unionid_text(person, app);
        unionid.filter(|_| self.world.bound(app, self.now()) && self.scope(session) != Scope::Base)
    }

    /// The answer of an OAuth exchange.
    pub(super) fn oauth_body(&self, call: &Call, session: &Session) -> Body {
        let grant = self.grant(session);
        let kept_back = unit(mix(&[call.subject, 5])) < self.settings.oauth_without_unionid;
        let shown = session.manner.snapshot || (session.manner.unionid && !kept_back);
        let unionid = self.granted_unionid(session).filter(|_| shown);
        let body = Body::new()
            .text("access_token", &grant.access_token)
            .number("expires_in", self.settings.user_token_life_ms / 1_000)
            .text("refresh_token", &grant.refresh_token)
            .text("openid", &grant.openid)
            .text("scope", grant.scope.word());
        let body = if session.manner.snapshot {
            body.number("is_snapshotuser", 1)
        } else {
            body
        };
        body.some("unionid", unionid.as_deref())
    }

    /// When a user token ends.
    pub(super) fn user_token_ends(&self, grant: &Session) -> Millis {
        let renewed = lock(&self.renewals).get(renewal(grant, TOKEN));
        renewed.unwrap_or_else(|| grant.at.plus(self.settings.user_token_life_ms))
    }

    /// `sns/oauth2/refresh_token`: the same token for longer, or a new one if it has ended.
    pub(super) fn refreshed(&self, who: &Who, real: bool) -> Result<Body, i32> {
        let grant = who.grant.ok_or(40030)?;
        let now = self.now();
        let newest = lock(&self.renewals).get(renewal(&grant, NEWEST));
        let mut token = Session {
            at: newest.unwrap_or(grant.at),
            ..grant
        };
        if self.user_token_ends(&token) <= now {
            token.at = now;
        }
        if real {
            let mut renewals = lock(&self.renewals);
            let ends = now.plus(self.settings.user_token_life_ms);
            renewals.set(renewal(&grant, NEWEST), token.at, now);
            renewals.set(renewal(&token, TOKEN), ends, now);
        }
        Ok(Body::new()
            .text("access_token", &write_token(&self.signers.user, &token))
            .number("expires_in", self.settings.user_token_life_ms / 1_000)
            .text(
                "refresh_token",
                &code::write(&self.signers.refresh, &grant, 0),
            )
            .text("openid", &self.granted_openid(&grant))
            .text("scope", self.scope(&grant).word()))
    }

    fn check_openid(&self, call: &Call, who: &Who) -> Result<Session, i32> {
        let grant = who.grant.ok_or(40014)?;
        match call.request.field("openid") {
            "" => Err(41009),
            openid if openid == self.granted_openid(&grant) => Ok(grant),
            _ => Err(40003),
        }
    }

    /// `sns/auth`.
    pub(super) fn user_checked(&self, call: &Call, who: &Who) -> Result<Body, i32> {
        self.check_openid(call, who)?;
        Ok(Body::fine())
    }

    /// `sns/userinfo`. That a user is a snapshot's is not told here (§5).
    pub(super) fn user_shown(&self, call: &Call, who: &Who) -> Result<Body, i32> {
        let grant = self.check_openid(call, who)?;
        if self.scope(&grant) == Scope::Base {
            return Err(48001);
        }
        let unionid = self.granted_unionid(&grant);
        let head = "https://thirdwx.qlogo.cn/mmopen/vi_32/head/132";
        Ok(Body::new()
            .text("openid", &self.granted_openid(&grant))
            .bytes("nickname", &self.nickname(grant.person))
            .number("sex", 0)
            .text("language", "")
            .text("city", "")
            .text("province", "")
            .text("country", "")
            .text("headimgurl", head)
            .texts("privilege", &[])
            .some("unionid", unionid.as_deref()))
    }

    /// Some people's names are no JSON: control bytes, half a character (§1).
    fn nickname(&self, person: u64) -> Vec<u8> {
        let draw = mix(&[self.world.seed(), person, 0x71c4]);
        if unit(draw) >= self.settings.odd_nicknames {
            let name = NICKNAMES.get(usize::try_from(draw % 4).unwrap_or(0));
            return name.copied().unwrap_or_default().into();
        }
        match mix(&[draw]) % 3 {
            0 => b"bell\x07".to_vec(),
            1 => b"\x14cut here\x14".to_vec(),
            _ => b"half \xe5\xbc".to_vec(),
        }
    }
}
