//! Asking about people: with the user's own token (`docs/wechat.md` §5), or with the app's (§3.3, §7, §8).

use super::{Client, union_id};
use crate::model::{OpenId, Payment, Secret, UnionId, UserToken};
use crate::resolve::body::{Body, BodyFault};
use crate::resolve::codes::Api;
use crate::resolve::failure::CallError;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::Method;
use serde::Serialize;
use sha2::Sha256;

/// Most people of one `batchget` (`docs/wechat.md` §7).
pub const MAX_BATCH: usize = 100;

/// A unionid as it came; `Err` for what is none.
type Union = Option<Result<UnionId, ()>>;

/// What `sns/userinfo` tells that matters here.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Whom it is about.
    pub openid: OpenId,
    /// The person in the platform.
    pub unionid: Union,
}

/// What `cgi-bin/user/info` tells that matters here.
#[derive(Debug, Clone)]
pub struct Follower {
    /// Whom it is about.
    pub openid: OpenId,
    /// Whether they follow the account: of others nothing is told.
    pub subscribed: bool,
    /// The person in the platform.
    pub unionid: Union,
}

#[derive(Serialize)]
struct Batch<'a> {
    user_list: Vec<Wanted<'a>>,
}

#[derive(Serialize)]
struct Wanted<'a> {
    openid: &'a str,
}

impl Client {
    /// `sns/userinfo`, with the user's own token.
    ///
    /// # Errors
    /// [`CallError`]; a refused token asks for a new OAuth round.
    pub async fn profile(&self, openid: &OpenId, token: &UserToken) -> Result<Profile, CallError> {
        let query = [
            ("access_token", token.access_token.expose()),
            ("openid", openid.as_str()),
            ("lang", "zh_CN"),
        ];
        let path = "/sns/userinfo";
        let mut body = self
            .call(Api::SnsUserinfo, Method::GET, path, &query, None)
            .await?;
        let (openid, unionid) = person(&mut body).map_err(CallError::broken)?;
        Ok(Profile { openid, unionid })
    }

    /// `cgi-bin/user/info` about one person.
    ///
    /// # Errors
    /// [`CallError`]; 40003: no openid of this account.
    pub async fn follower(&self, openid: &OpenId, token: &Secret) -> Result<Follower, CallError> {
        let query = [
            ("access_token", token.expose()),
            ("openid", openid.as_str()),
            ("lang", "zh_CN"),
        ];
        let path = "/cgi-bin/user/info";
        let mut body = self
            .call(Api::UserInfo, Method::GET, path, &query, None)
            .await?;
        follower(&mut body).map_err(CallError::broken)
    }

    /// `cgi-bin/user/info/batchget` about up to [`MAX_BATCH`] people, in no order. One openid that
    /// is none fails them all with 40003.
    ///
    /// # Errors
    /// [`CallError`], about the batch as a whole.
    pub async fn followers(
        &self,
        openids: &[OpenId],
        token: &Secret,
    ) -> Result<Vec<Follower>, CallError> {
        let wanted = openids.iter().map(|openid| Wanted {
            openid: openid.as_str(),
        });
        let batch = Batch {
            user_list: wanted.collect(),
        };
        let json = serde_json::to_vec(&batch).unwrap_or_default();
        let query = [("access_token", token.expose())];
        let path = "/cgi-bin/user/info/batchget";
        let mut body = self
            .call(Api::UserInfo, Method::POST, path, &query, Some(json))
            .await?;
        let list = body.take_list("user_info_list");
        let list = list.map_err(CallError::broken)?;
        let read = |mut body| follower(&mut body).map_err(CallError::broken);
        list.into_iter().map(read).collect()
    }

    /// `wxa/getpaidunionid`: the unionid of somebody who has just paid.
    ///
    /// # Errors
    /// [`CallError`]; 89300: no such payment, or more than five minutes ago.
    pub async fn paid(
        &self,
        openid: &OpenId,
        payment: &Payment,
        token: &Secret,
    ) -> Result<Union, CallError> {
        let mut query = vec![
            ("access_token", token.expose()),
            ("openid", openid.as_str()),
        ];
        match payment {
            Payment::Transaction(number) => query.push(("transaction_id", number.expose())),
            Payment::Order {
                mch_id,
                out_trade_no,
            } => {
                query.push(("mch_id", mch_id.expose()));
                query.push(("out_trade_no", out_trade_no.expose()));
            }
        }
        let path = "/wxa/getpaidunionid";
        let mut body = self
            .call(Api::PaidUnionid, Method::GET, path, &query, None)
            .await?;
        let unionid = body.take_text("unionid").map_err(CallError::broken)?;
        Ok(unionid.map(|text| union_id(&text, openid.as_str())))
    }

    /// `wxa/checksession`: whether the session key is the person's newest.
    ///
    /// # Errors
    /// [`CallError`]; 87009: it is not.
    pub async fn check_session(
        &self,
        openid: &OpenId,
        session_key: &Secret,
        token: &Secret,
    ) -> Result<(), CallError> {
        let signature = session_signature(session_key);
        let query = [
            ("access_token", token.expose()),
            ("openid", openid.as_str()),
            ("signature", &signature),
            ("sig_method", "hmac_sha256"),
        ];
        let path = "/wxa/checksession";
        self.call(Api::CheckSession, Method::GET, path, &query, None)
            .await
            .map(drop)
    }
}

/// Lower hex of HMAC-SHA256 over nothing, under the key's base64 text as it is (`docs/wechat.md` §3.3).
fn session_signature(session_key: &Secret) -> String {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(session_key.expose().as_bytes()) else {
        return String::new(); // HMAC takes keys of any length
    };
    hex::encode(mac.finalize().into_bytes())
}

fn person(body: &mut Body) -> Result<(OpenId, Union), BodyFault> {
    let openid = body.take_text("openid")?.unwrap_or_default();
    let unionid = body.take_text("unionid")?;
    let unionid = unionid.map(|text| union_id(&text, &openid));
    let openid = OpenId::parse(&openid).map_err(|_| BodyFault::Field("openid"))?;
    Ok((openid, unionid))
}

fn follower(body: &mut Body) -> Result<Follower, BodyFault> {
    let (openid, unionid) = person(body)?;
    Ok(Follower {
        openid,
        unionid,
        subscribed: body.take_flag("subscribe")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_keyed_with_the_text_of_the_key() {
        // HMAC-SHA256 over an empty message, as `openssl dgst -sha256 -hmac KEY` computes it.
        let key = Secret::new("o0q0otL8aEzpcZL/FT9WsQ==".to_owned());
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).expect("any length");
        mac.update(br#"{"foo":"bar"}"#);
        let hex = hex::encode(mac.finalize().into_bytes());
        let page = "654571f79995b2ce1e149e53c0a33dc39c0a74090db514261454e8dbe432aa0b";
        assert_eq!(hex, page, "the vector of docs/wechat.md §3.3");
        assert_eq!(session_signature(&key).len(), 64);
        assert_ne!(session_signature(&key), page);
    }
}
