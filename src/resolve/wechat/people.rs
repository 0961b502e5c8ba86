//! Asking about people: with the user's own token (`docs/wechat.md` §5), or with the app's (§3.3, §7, §8).

use super::{Client, union_id};
use crate::model::{Millis, OpenId, Payment, Secret, UnionId, UserToken};
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
    /// Since when, if they do.
    pub subscribed_at: Option<Millis>,
    /// The person in the platform.
    pub unionid: Union,
}

/// A page of the list of followers.
#[derive(Debug, Clone)]
pub struct FollowerPage {
    /// How many follow in all.
    pub total: u64,
    /// Those of this page.
    pub openids: Vec<OpenId>,
    /// Where the next page begins; `None`: this was the last.
    pub next: Option<OpenId>,
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

    /// `cgi-bin/user/get`: a page of the followers, from the first or after `after`.
    ///
    /// # Errors
    /// [`CallError`]; 48001: the account may not ask.
    pub async fn follower_page(
        &self,
        after: Option<&OpenId>,
        token: &Secret,
    ) -> Result<FollowerPage, CallError> {
        let query = [
            ("access_token", token.expose()),
            ("next_openid", after.map_or("", OpenId::as_str)),
        ];
        let path = "/cgi-bin/user/get";
        let mut body = self
            .call(Api::UserGet, Method::GET, path, &query, None)
            .await?;
        page(&mut body).map_err(CallError::broken)
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

/// The end of the list is any of: no data, none of it, no next openid (`docs/wechat.md` §7).
fn page(body: &mut Body) -> Result<FollowerPage, BodyFault> {
    let number = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let total = number(body.take_number("total")?);
    let count = number(body.take_number("count")?);
    let mut openids = Vec::new();
    if let Some(mut data) = body.take_object("data")? {
        let texts = data.take_texts("openid")?.into_iter();
        // What is none names nobody.
        openids.extend(texts.filter_map(|text| OpenId::parse(&text).ok()));
    }
    let next = body.take_text("next_openid")?;
    let next = next.filter(|_| count > 0 && !openids.is_empty());
    let next = next.map(|text| OpenId::parse(&text).map_err(|_| BodyFault::Field("next_openid")));
    Ok(FollowerPage {
        total,
        openids,
        next: next.transpose()?,
    })
}

/// In seconds, where it is told.
fn subscribed_at(body: &mut Body) -> Result<Option<Millis>, BodyFault> {
    let at = body.take_number("subscribe_time")?.filter(|at| *at > 0);
    Ok(at.map(|at| Millis(at.saturating_mul(1_000))))
}

fn follower(body: &mut Body) -> Result<Follower, BodyFault> {
    let (openid, unionid) = person(body)?;
    Ok(Follower {
        openid,
        unionid,
        subscribed: body.take_flag("subscribe")?,
        subscribed_at: subscribed_at(body)?,
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
