//! What a failed call to WeChat leaves behind: why it failed, and whether its code may be spent.
//!
//! Promise: no text of these types carries a secret or an identifier. They keep no error of the
//! HTTP client, whose texts can hold the query and thereby the AppSecret.

use super::body::BodyFault;
use super::codes::Action;
use std::fmt;

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CallFailure {
    /// WeChat answered with an error code, which asks for this.
    Api(Action),
    /// No answer in time. The outcome is unknown: the request may have reached WeChat.
    Timeout,
    /// The connection died after the request may have left, before an answer. As unknown.
    Lost,
    /// No connection was made: the request has certainly not been sent.
    Connect,
    /// A status other than 2xx; WeChat reports its own errors with 200 (`docs/wechat.md` §1).
    Http(u16),
    /// A 2xx whose body is empty, cut off, too long, or not the JSON it should be.
    Broken,
}

/// How far a request came: what the caller needs to know before it sends a single-use code again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sent {
    /// It never left: the code is untouched.
    Never,
    /// It may have taken effect, and what it bought may be lost (`docs/wechat.md` §3.1). If WeChat
    /// calls the code used afterwards, this call may be what used it.
    Maybe,
    /// It was answered: refused by WeChat with a code, or before WeChat looked at it.
    Answered,
}

impl CallFailure {
    /// How far the request came.
    #[must_use]
    pub fn sent(self) -> Sent {
        match self {
            Self::Connect => Sent::Never,
            Self::Api(_) => Sent::Answered,
            // A gateway that gave up waiting (408, 5xx) may have passed the request on before;
            // every other status refuses the request itself.
            Self::Http(status) if status != 408 && status < 500 => Sent::Answered,
            Self::Timeout | Self::Lost | Self::Http(_) | Self::Broken => Sent::Maybe,
        }
    }

    /// What the failure asks of the caller: WeChat's own word, else [`Action::Transient`]
    /// (`docs/wechat.md` §2). A redirection means that `base_url` is wrong (§1: http answers 301);
    /// another 4xx is [`Action::Unknown`].
    #[must_use]
    pub fn action(self) -> Action {
        match self {
            Self::Api(action) => action,
            Self::Http(300..=399) => Action::Configuration,
            Self::Http(status) if status != 408 && status != 429 && status < 500 => Action::Unknown,
            Self::Timeout | Self::Lost | Self::Connect | Self::Http(_) | Self::Broken => {
                Action::Transient
            }
        }
    }

    /// The word for metric labels and messages; every error of WeChat's own has its action's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Api(action) => action.word(),
            Self::Timeout => "timeout",
            Self::Lost => "lost",
            Self::Connect => "connect",
            Self::Http(_) => "http_status",
            Self::Broken => "broken_body",
        }
    }
}

/// A failed call to WeChat. Free of secrets and identifiers, in every field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallError {
    /// Why it failed.
    pub kind: CallFailure,
    /// WeChat's code, if it answered with one.
    pub errcode: Option<i64>,
    /// WeChat's request id, sanitised to hex digits and dashes. Operators can query WeChat with it
    /// for seven days (`docs/wechat.md` §1).
    pub rid: Option<String>,
    /// What exactly went wrong, where the kind does not say it: for the operator.
    pub detail: Option<String>,
}

impl CallError {
    /// How far the request came.
    #[must_use]
    pub fn sent(&self) -> Sent {
        self.kind.sent()
    }

    /// What the failure asks of the caller.
    #[must_use]
    pub fn action(&self) -> Action {
        self.kind.action()
    }

    pub(super) fn of(kind: CallFailure) -> Self {
        Self {
            kind,
            errcode: None,
            rid: None,
            detail: None,
        }
    }

    pub(super) fn broken(fault: BodyFault) -> Self {
        Self {
            detail: Some(fault.to_string()),
            ..Self::of(CallFailure::Broken)
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            CallFailure::Api(action) => write!(
                f,
                "WeChat answered errcode {} ({})",
                self.errcode.unwrap_or_default(),
                action.word()
            )?,
            CallFailure::Timeout => f.write_str("WeChat did not answer in time")?,
            CallFailure::Lost => f.write_str("the connection died before WeChat answered")?,
            CallFailure::Connect => f.write_str("no connection to WeChat")?,
            CallFailure::Http(status) => write!(f, "WeChat answered HTTP status {status}")?,
            CallFailure::Broken => f.write_str("WeChat's answer cannot be read")?,
        }
        if let Some(rid) = &self.rid {
            write!(f, ", rid {rid}")?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_connection_leaves_a_code_untouched() {
        for (kind, sent, action) in [
            (CallFailure::Connect, Sent::Never, Action::Transient),
            (CallFailure::Timeout, Sent::Maybe, Action::Transient),
            (CallFailure::Lost, Sent::Maybe, Action::Transient),
            (CallFailure::Broken, Sent::Maybe, Action::Transient),
            (CallFailure::Http(500), Sent::Maybe, Action::Transient),
            (CallFailure::Http(504), Sent::Maybe, Action::Transient),
            (CallFailure::Http(408), Sent::Maybe, Action::Transient),
            (CallFailure::Http(429), Sent::Answered, Action::Transient),
            (CallFailure::Http(412), Sent::Answered, Action::Unknown),
            (
                CallFailure::Http(301),
                Sent::Answered,
                Action::Configuration,
            ),
            (
                CallFailure::Api(Action::CodeDead),
                Sent::Answered,
                Action::CodeDead,
            ),
        ] {
            assert_eq!((kind.sent(), kind.action()), (sent, action), "{kind:?}");
        }
    }
}
