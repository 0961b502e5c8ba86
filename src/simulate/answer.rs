//! Requests and answers of the code exchanges as WeChat writes them (`docs/wechat.md` §1 and §3):
//! compact JSON with `\/` for slashes, as `text/plain`, errors with an `rid`.

use super::code::CodeKey;
use std::fmt::Write as _;

/// `Content-Type` of `/sns/*`.
const PLAIN: &str = "text/plain";
/// What the gateways in front of WeChat send when they fail.
const HTML: &str = "text/html; charset=gbk";

/// An API of the simulator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Api {
    /// `GET /sns/jscode2session`, for mini programs.
    Code2Session,
    /// `GET /sns/oauth2/access_token`, for all other kinds of app.
    Oauth,
}

impl Api {
    /// Its path.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Code2Session => "/sns/jscode2session",
            Self::Oauth => "/sns/oauth2/access_token",
        }
    }
}

/// The query of a code exchange. An empty value counts as a missing one.
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
    pub(super) fn plain(body: impl Into<Vec<u8>>) -> Self {
        Self::of(200, PLAIN, body)
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

/// A flat JSON object, one string or number at a time.
pub(super) struct Body(String);

impl Body {
    pub(super) fn new() -> Self {
        Self(String::with_capacity(192))
    }

    fn name(&mut self, name: &str) {
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        let _ = write!(self.0, r#""{name}":"#); // cannot fail
    }

    /// Adds a text that needs no escape but for its slashes. A control byte goes out raw.
    pub(super) fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        let _ = write!(self.0, r#""{}""#, value.replace('/', r"\/"));
        self
    }

    /// Adds a number.
    pub(super) fn number(mut self, name: &str, value: i64) -> Self {
        self.name(name);
        let _ = write!(self.0, "{value}");
        self
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// The texts of the errors; clients must not depend on them.
fn message(errcode: i32) -> &'static str {
    match errcode {
        -1 => "system error",
        40002 => "invalid grant_type",
        40013 => "invalid appid",
        40029 => "invalid code",
        40125 => "invalid appsecret",
        40163 => "code been used",
        40226 => "code blocked",
        41002 => "appid missing",
        41004 => "appsecret missing",
        41008 => "missing code",
        42003 => "code expired",
        43001 => "require GET method",
        45011 => "api minute-quota reach limit, must slower, retry next minute",
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
}

/// An error's body.
pub(super) fn error(errcode: i32, style: &ErrorStyle) -> String {
    let [a, b, c] = style.rid;
    let bell = if style.control_byte { "\u{14}" } else { "" };
    let text = message(errcode);
    let errmsg = format!("{text}{bell}, rid: {a:08x}-{b:08x}-{c:08x}");
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

    #[test]
    fn bodies_are_compact_and_escape_slashes() {
        let body = Body::new().text("session_key", "a/b==").number("n", -1);
        assert_eq!(body.end(), r#"{"session_key":"a\/b==","n":-1}"#);
        let mut style = ErrorStyle {
            as_string: false,
            control_byte: false,
            rid: [1, 2, 0xffff_ffff],
        };
        assert_eq!(
            error(40029, &style),
            r#"{"errcode":40029,"errmsg":"invalid code, rid: 00000001-00000002-ffffffff"}"#
        );
        style.as_string = true;
        style.control_byte = true;
        let odd = error(40029, &style);
        assert!(odd.starts_with(r#"{"errcode":"40029""#) && odd.contains('\u{14}'));
    }
}
