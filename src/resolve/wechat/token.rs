//! Getting an app's own access token (`docs/wechat.md` §4).

use super::Client;
use crate::model::{AppId, Secret};
use crate::resolve::body::BodyFault;
use crate::resolve::codes::Api;
use crate::resolve::failure::CallError;
use reqwest::Method;
use serde::Serialize;
use std::time::Duration;

/// Longest life believed; WeChat says at most 7,200 s.
const MAX_LIFE: u64 = 7_200;

/// A token as WeChat issued it.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The token.
    pub token: Secret,
    /// How long it lives.
    pub life: Duration,
}

#[derive(Serialize)]
struct Wanted<'a> {
    grant_type: &'static str,
    appid: &'a str,
    secret: &'a str,
}

impl Client {
    /// `cgi-bin/stable_token`: the same token to all who ask, a new one shortly before its end.
    /// Never forced: that would end a token that others hold.
    ///
    /// # Errors
    /// [`CallError`]; 40001 and 40125 mean a wrong AppSecret here.
    pub async fn stable_token(&self, app: &AppId, secret: &Secret) -> Result<Issued, CallError> {
        let wanted = Wanted {
            grant_type: "client_credential",
            appid: app.as_str(),
            secret: secret.expose(),
        };
        let body = serde_json::to_vec(&wanted).unwrap_or_default();
        let path = "/cgi-bin/stable_token";
        self.issued(Method::POST, path, &[], Some(body)).await
    }

    /// `cgi-bin/token`: a new token with each call, which ends the one before it.
    ///
    /// # Errors
    /// As [`Client::stable_token`].
    pub async fn plain_token(&self, app: &AppId, secret: &Secret) -> Result<Issued, CallError> {
        let query = [
            ("grant_type", "client_credential"),
            ("appid", app.as_str()),
            ("secret", secret.expose()),
        ];
        self.issued(Method::GET, "/cgi-bin/token", &query, None)
            .await
    }

    async fn issued(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<Issued, CallError> {
        let mut body = self.call(Api::AppToken, method, path, query, body).await?;
        let missing = |field| CallError::broken(BodyFault::Field(field));
        let token = body.take_text("access_token").ok().flatten();
        let token = token.ok_or_else(|| missing("access_token"))?;
        let life = body.take_number("expires_in").ok().flatten();
        let life = life.and_then(|s| u64::try_from(s).ok()).filter(|s| *s > 0);
        let life = life.ok_or_else(|| missing("expires_in"))?;
        Ok(Issued {
            token: Secret::new(token),
            life: Duration::from_secs(life.min(MAX_LIFE)),
        })
    }
}
