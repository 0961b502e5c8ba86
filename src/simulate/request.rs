//! A request as it reaches WeChat, over HTTP or straight from a test.

use super::api::{Api, Verb};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// A request. An empty field counts as a missing one. It has no `Debug`: its fields are secrets.
pub struct Request {
    pub(super) api: Api,
    pub(super) verb: Verb,
    pub(super) fields: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
    /// Where it comes from: some apps refuse addresses.
    pub(super) from: IpAddr,
}

impl Request {
    /// A request with the API's own method and these query fields, from this machine.
    pub fn new<K: Into<String>, V: Into<String>>(
        api: Api,
        fields: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let fields = fields.into_iter().map(|(k, v)| (k.into(), v.into()));
        Self {
            api,
            verb: api.verb(),
            fields: fields.collect(),
            body: Vec::new(),
            from: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// With this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A field of the query; "" if it is not there.
    pub(super) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The login code, if the API takes one and it is there.
    pub(super) fn code(&self) -> Option<&str> {
        let code = self.field(self.api.code_field()?);
        (!code.is_empty()).then_some(code)
    }

    /// The JSON of a POST (`docs/wechat.md` §1).
    ///
    /// # Errors
    /// 44002 empty, 47001 no JSON object, 40033 `\uXXXX` in it.
    pub(super) fn json(&self) -> Result<Value, i32> {
        if self.body.is_empty() {
            return Err(44002);
        }
        let json: Value = serde_json::from_slice(&self.body).map_err(|_| 47001)?;
        if !json.is_object() {
            return Err(47001);
        }
        if has_unicode_escape(&self.body) {
            return Err(40033);
        }
        Ok(json)
    }
}

/// Whether valid JSON holds an escape of the form `\uXXXX`.
fn has_unicode_escape(json: &[u8]) -> bool {
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'\\' && bytes.next() == Some(&b'u') {
            return true;
        }
    }
    false
}

/// The query of a code exchange, for [`super::Simulator::exchange`].
#[derive(Clone, Copy, Default)]
pub struct Params<'a> {
    /// `appid`.
    pub appid: &'a str,
    /// `secret`.
    pub secret: &'a str,
    /// `js_code`, or `code`.
    pub code: &'a str,
    /// `grant_type`, which must be `authorization_code`.
    pub grant_type: &'a str,
}

impl Params<'_> {
    pub(super) fn request(&self, api: Api) -> Request {
        let fields = [
            ("appid", self.appid),
            ("secret", self.secret),
            (api.code_field().unwrap_or("code"), self.code),
            ("grant_type", self.grant_type),
        ];
        Request::new(api, fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_judged_as_wechat_judges_them() {
        let json = |body: &str| {
            let request = Request::new(Api::StableToken, [("", "")]).with_body(body);
            request.json().map(|_| ())
        };
        assert_eq!(json(""), Err(44002));
        assert_eq!(json("grant_type=x"), Err(47001));
        assert_eq!(json("[]"), Err(47001));
        assert_eq!(json("{\"a\":\"\\u4e2d\"}"), Err(40033));
        assert_eq!(
            json("{\"a\":\"\\\\u4e2d\"}"),
            Ok(()),
            "an escaped backslash"
        );
        assert_eq!(json("{\"a\":\"中\\n\"}"), Ok(()));
    }
}
