//! Answers as WeChat writes them (`docs/wechat.md` §1): compact JSON with `\/` for slashes, errors
//! with an `rid`, `Content-Type` by API.

use super::code::CodeKey;
use std::net::IpAddr;

/// What the gateways in front of WeChat send when they fail.
const HTML: &str = "text/html; charset=gbk";

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What the client sees.
    pub action: Action,
    /// The code to report as answered once the reply is wholly written.
    pub(super) delivers: Option<CodeKey>,
}

/// What the client sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// An HTTP response.
    Respond {
        /// Its status.
        status: u16,
        /// Its `Content-Type`.
        content_type: &'static str,
        /// Its body, not always JSON.
        body: Vec<u8>,
    },
    /// Nothing, until the client gives up.
    Silence,
    /// The connection is closed.
    Cut,
}

impl Reply {
    pub(super) fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self::of(200, content_type, body)
    }

    pub(super) fn html(status: u16, body: &str) -> Self {
        Self::of(status, HTML, body)
    }

    fn of(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self::bare(Action::Respond {
            status,
            content_type,
            body: body.into(),
        })
    }

    pub(super) fn bare(action: Action) -> Self {
        Self {
            action,
            delivers: None,
        }
    }
}

/// A JSON object in the making. Bytes and not text: WeChat's are not always UTF-8.
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(192))
    }

    /// `"errcode":0,"errmsg":"ok"`, which some APIs put into their successes.
    pub(super) fn fine() -> Self {
        Self::new().number("errcode", 0).text("errmsg", "ok")
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { b'{' } else { b',' });
        self.0.push(b'"');
        self.0.extend(name.bytes());
        self.0.extend(b"\":");
    }

    /// Adds a text that needs no escape but for its slashes. A control byte goes out raw.
    pub(super) fn text(self, name: &str, value: &str) -> Self {
        self.bytes(name, value.as_bytes())
    }

    /// The same for what need not be UTF-8.
    pub(super) fn bytes(mut self, name: &str, value: &[u8]) -> Self {
        self.name(name);
        self.string(value);
        self
    }

    fn string(&mut self, value: &[u8]) {
        self.0.push(b'"');
        for byte in value {
            if *byte == b'/' {
                self.0.push(b'\\');
            }
            self.0.push(*byte);
        }
        self.0.push(b'"');
    }

    /// Adds a text if there is one.
    pub(super) fn some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// Adds a number.
    pub(super) fn number(mut self, name: &str, value: i64) -> Self {
        self.name(name);
        self.0.extend(value.to_string().bytes());
        self
    }

    /// Adds a list of texts.
    pub(super) fn texts(mut self, name: &str, values: &[String]) -> Self {
        self.name(name);
        self.0.push(b'[');
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                self.0.push(b',');
            }
            self.string(value.as_bytes());
        }
        self.0.push(b']');
        self
    }

    /// Adds a list of objects.
    pub(super) fn bodies(mut self, name: &str, values: Vec<Self>) -> Self {
        self.name(name);
        let values: Vec<_> = values.into_iter().map(Self::end).collect();
        self.0.push(b'[');
        self.0.extend(values.join(&b','));
        self.0.push(b']');
        self
    }

    /// Adds an object.
    pub(super) fn body(mut self, name: &str, value: Self) -> Self {
        self.name(name);
        self.0.extend(value.end());
        self
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        if self.0.is_empty() {
            self.0.push(b'{');
        }
        self.0.push(b'}');
        self.0
    }
}

/// The texts of the errors; clients must not depend on them.
fn message(errcode: i32) -> &'static str {
    match errcode {
        -1 => "system error",
        40001 => "invalid credential, access_token is invalid or not latest",
        40002 => "invalid grant_type",
        40003 => "invalid openid",
        40013 => "invalid appid",
        40014 => "invalid access_token",
        40029 => "invalid code",
        40030 => "invalid refresh_token",
        40032 => "invalid openid list size",
        40033 => {
            "invalid charset. please check your request, if include \\\\uxxxx will create fail!"
        }
        40125 => "invalid appsecret",
        40163 => "code been used",
        40226 => "code blocked",
        40243 => "appsecret has been frozen",
        41001 => "access_token missing",
        41002 => "appid missing",
        41004 => "appsecret missing",
        41008 => "missing code",
        41009 => "missing openid",
        41018 => "missing component_appid",
        41021 => "missing component_access_token",
        42001 => "access_token expired",
        42002 => "refresh_token expired",
        42003 => "code expired",
        42006 => "component_access_token expired",
        43001 => "require GET method",
        43002 => "require POST method",
        44002 => "empty post data",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit, must slower, retry next minute",
        47001 => "data format error",
        48001 => "api unauthorized",
        48004 => "api forbidden",
        50002 => "user limited",
        61003 => "component is not authorized by this account",
        87007 => "session_key is not existd or expired",
        87008 => "invalid sig_method",
        87009 => "invalid signature",
        89002 => "open not exists",
        89300 => "invalid trade",
        89503 => "this ip needs to be confirmed by admin",
        _ => "error",
    }
}

/// How an error is written.
pub(super) struct ErrorStyle {
    /// `"40029"` instead of `40029`.
    pub(super) as_string: bool,
    /// Put a raw control byte into `errmsg`.
    pub(super) control_byte: bool,
    /// What the `rid` is made of.
    pub(super) rid: [u32; 3],
    /// Who asked; 40164 says so.
    pub(super) from: IpAddr,
}

/// An error's body.
pub(super) fn error(errcode: i32, style: &ErrorStyle) -> Vec<u8> {
    let [a, b, c] = style.rid;
    let bell = if style.control_byte { "\u{14}" } else { "" };
    let rid = format!("rid: {a:08x}-{b:08x}-{c:08x}");
    let errmsg = if errcode == 40164 {
        let ip = style.from.to_canonical();
        format!("invalid ip {ip} ipv6 ::ffff:{ip}, not in whitelist{bell} {rid}")
    } else {
        format!("{}{bell}, {rid}", message(errcode))
    };
    let body = Body::new();
    let body = if style.as_string {
        body.text("errcode", &errcode.to_string())
    } else {
        body.number("errcode", i64::from(errcode))
    };
    body.text("errmsg", &errmsg).end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: Vec<u8>) -> String {
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn bodies_are_compact_and_escape_slashes() {
        let body = Body::new().text("session_key", "a/b==").number("n", -1);
        assert_eq!(text(body.end()), r#"{"session_key":"a\/b==","n":-1}"#);
        let list = Body::new().bodies("list", vec![Body::fine(), Body::new()]);
        assert_eq!(
            text(list.end()),
            r#"{"list":[{"errcode":0,"errmsg":"ok"},{}]}"#
        );
        let nested = Body::new().body("data", Body::new().texts("openid", &["a".to_owned()]));
        assert_eq!(text(nested.end()), r#"{"data":{"openid":["a"]}}"#);
    }

    #[test]
    fn errors_are_written_as_seen() {
        let mut style = ErrorStyle {
            as_string: false,
            control_byte: false,
            rid: [1, 2, 0xffff_ffff],
            from: IpAddr::from([192, 0, 2, 7]),
        };
        assert_eq!(
            text(error(40029, &style)),
            r#"{"errcode":40029,"errmsg":"invalid code, rid: 00000001-00000002-ffffffff"}"#
        );
        assert_eq!(
            text(error(40164, &style)),
            r#"{"errcode":40164,"errmsg":"invalid ip 192.0.2.7 ipv6 ::ffff:192.0.2.7, not in whitelist rid: 00000001-00000002-ffffffff"}"#
        );
        style.as_string = true;
        style.control_byte = true;
        let odd = text(error(40029, &style));
        assert!(odd.starts_with(r#"{"errcode":"40029""#) && odd.contains('\u{14}'));
    }
}
