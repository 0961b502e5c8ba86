//! What is posted to `/v1/erasures`: the erasure of one account, asked for by whoever has a key of the
//! intake. It becomes an [`super::ErasureWire`].

use super::Time;
use super::decision::account;
use super::event::id;
use super::field::{FieldError, read};
use crate::model::{Erasure, EventId, Millis};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// One erasure.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "erasure request v1")]
pub struct ErasureRequest {
    /// The id of this event; made if it is not given. Repeating it does no harm.
    #[serde(default)]
    #[schemars(length(min = 1, max = 128))]
    id: Option<String>,
    /// The account.
    appid: String,
    /// The account.
    openid: String,
    /// Events of the account up to this time have no effect any more; now, if it is not given. It may
    /// not lie ahead.
    #[serde(default)]
    erased_at: Option<Time>,
    /// Which accounts a user has stands in the database, which the intake does not have.
    #[serde(default)]
    #[schemars(skip)]
    user_id: Option<IgnoredAny>,
}

impl ErasureRequest {
    /// Reads one, at `now`; `made` is its id if it brings none.
    ///
    /// # Errors
    /// [`FieldError`] names the field and the remedy.
    pub fn parse(bytes: &[u8], now: Millis, made: &str) -> Result<Erasure, FieldError> {
        let request: Self = read(bytes)?;
        if request.user_id.is_some() {
            let problem =
                "cannot be looked up here: send the accounts, or use `unilink user erase`";
            return Err(FieldError::invalid("user_id", problem));
        }
        let erased_at = request.erased_at.map_or(now, |time| time.0);
        // An erasure of the future would swallow logins to come.
        if erased_at > now {
            let problem = "lies ahead: leave it out to erase up to now";
            return Err(FieldError::invalid("erased_at", problem));
        }
        Ok(Erasure {
            account: account(("appid", &request.appid), ("openid", &request.openid))?,
            erased_at,
            cause: id("id", EventId::parse(request.id.as_deref().unwrap_or(made)))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    fn parse(text: &str) -> Result<Erasure, FieldError> {
        ErasureRequest::parse(text.as_bytes(), NOW, "made")
    }

    #[test]
    fn what_is_left_out_is_now_and_made() {
        let erasure = parse(r#"{"appid":"wx1","openid":"oA"}"#).expect("valid");
        assert_eq!((erasure.erased_at, erasure.cause.as_str()), (NOW, "made"));
        let earlier =
            r#"{"id":"e1","appid":"wx1","openid":"oA","erased_at":"2026-01-31T08:00:00Z"}"#;
        let erasure = parse(earlier).expect("valid");
        assert_eq!(erasure.cause.as_str(), "e1");
        assert_eq!(erasure.erased_at.to_string(), "2026-01-31T08:00:00.000Z");
    }

    #[test]
    fn what_is_wrong_names_the_field() {
        for (text, field) in [
            (r#"{"openid":"oA"}"#.to_owned(), "appid"),
            (
                r#"{"appid":"wx1","openid":"undefined"}"#.to_owned(),
                "openid",
            ),
            (
                r#"{"appid":"wx1","openid":"oA","unionid":"u"}"#.to_owned(),
                "unionid",
            ),
            (
                r#"{"appid":"wx1","openid":"oA","user_id":"x"}"#.to_owned(),
                "user_id",
            ),
            (r#"{"appid":"wx1","openid":"oA","id":""}"#.to_owned(), "id"),
            (
                format!(
                    r#"{{"appid":"wx1","openid":"oA","erased_at":"{}"}}"#,
                    NOW.plus(1)
                ),
                "erased_at",
            ),
            (
                r#"{"appid":"wx1","openid":"oA","erased_at":"today"}"#.to_owned(),
                "erased_at",
            ),
        ] {
            assert_eq!(parse(&text).expect_err(field).field, field, "{text}");
        }
    }
}
