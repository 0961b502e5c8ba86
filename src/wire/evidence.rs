//! From a login's wire form to the model: whether the fields make sense together.

use super::event::id;
use super::field::FieldError;
use super::login::LoginWire;
use crate::model::{
    AppId, EncryptedData, EventId, Evidence, ExternalId, InvalidId, Login, Millis, OpenId, Payment,
    RawData, Secret, UnionId, UserToken,
};
use std::sync::Arc;

/// The earliest time names the user, so gateways may tell only of the last 30 days, in
/// milliseconds before the record's own time.
const MAX_AGE: i64 = 30 * 24 * 3_600_000;
/// Clocks of gateways may be this far ahead of the bus's, in milliseconds.
const MAX_AHEAD: i64 = 5 * 60_000;
/// Longest of each in bytes; real codes have 32 to 128, session keys and ivs 24 (`docs/wechat.md`
/// §3, §9), encrypted data a few hundred.
const MAX_CODE: usize = 512;
const MAX_KEY: usize = 64;
const MAX_DATA: usize = 64 * 1024;
const MAX_RAW: usize = 16 * 1024;
const MAX_SOURCE: usize = 128;
const MAX_TOKEN: usize = 512;
const MAX_SCOPE: usize = 256;
const MAX_TRADE: usize = 64;
const MAX_ATTRIBUTES: usize = 16 * 1024;
/// Deeper JSON breaks parsers of those who read `linked-logins`.
const MAX_DEPTH: usize = 32;
/// Room for all secrets at their limits, in base64.
const MAX_SEALED: usize = 256 * 1024;

/// How strictly a login is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// At the intake, where somebody can still correct it: what would be lost is refused.
    Strict,
    /// On the topic, where it is too late: times are clamped, placeholders marked, what is not used
    /// ignored. What is contradictory or malformed is refused here too.
    Lenient,
}

/// What checking brings to light.
struct Checked {
    id: EventId,
    app: AppId,
    at: Millis,
    clamped: bool,
    openid: Option<OpenId>,
    unionid: Option<Result<UnionId, ()>>,
    external_id: Option<ExternalId>,
}

impl LoginWire {
    /// Checks what can be seen; what may stand inside `sealed` is not missed.
    /// `recorded_at` is the time of the record, or now where there is none yet.
    ///
    /// # Errors
    /// [`FieldError`] names the field and the remedy.
    pub fn check(&self, recorded_at: Millis, mode: Mode) -> Result<(), FieldError> {
        self.checked(recorded_at, mode).map(drop)
    }

    /// Makes a login of it. Secrets must have been put back before.
    ///
    /// # Errors
    /// As [`LoginWire::check`], and if it is still sealed.
    pub fn into_login(self, recorded_at: Millis, mode: Mode) -> Result<Login, FieldError> {
        if self.sealed.is_some() {
            return Err(FieldError::invalid("sealed", "must be opened first"));
        }
        let seen = self.checked(recorded_at, mode)?;
        let data = encrypted_data(self.encrypted_data, self.iv, self.raw_data, self.signature);
        let evidence = match (self.code, seen.openid) {
            (Some(code), _) => Evidence::Code { code, data },
            (None, Some(openid)) => Evidence::OpenId {
                openid,
                unionid: seen.unionid,
                session_key: self.session_key,
                data,
                token: user_token(self.access_token, self.scope),
                payment: payment(self.transaction_id, self.mch_id, self.out_trade_no),
                snapshot: self.is_snapshotuser == Some(true),
            },
            (None, None) => return Err(no_evidence()),
        };
        Ok(Login {
            id: seen.id,
            occurred_at: seen.at,
            clamped: seen.clamped,
            app: seen.app,
            evidence,
            source: self.source,
            external_id: seen.external_id,
            attributes: self.attributes.map(|a| Arc::from(a.get())),
        })
    }

    fn checked(&self, recorded_at: Millis, mode: Mode) -> Result<Checked, FieldError> {
        self.check_lengths()?;
        self.check_attributes()?;
        self.check_together()?;
        let (at, clamped) = self.time(recorded_at, mode)?;
        let openid = self.openid.as_deref().map(str::trim).map(OpenId::parse);
        let external = self.external_id.as_deref().map(ExternalId::parse);
        Ok(Checked {
            id: id("id", EventId::parse(&self.id))?,
            app: id("appid", AppId::parse(&self.appid))?,
            at,
            clamped,
            openid: openid.map(|parsed| id("openid", parsed)).transpose()?,
            unionid: self.checked_unionid(mode)?,
            external_id: external
                .map(|parsed| id("external_id", parsed))
                .transpose()?,
        })
    }

    fn check_lengths(&self) -> Result<(), FieldError> {
        let len = |s: &Option<Secret>| s.as_ref().map_or(0, |s| s.expose().len());
        let text = |s: &Option<String>| s.as_ref().map_or(0, String::len);
        for (field, length, max) in [
            ("code", len(&self.code), MAX_CODE),
            ("session_key", len(&self.session_key), MAX_KEY),
            ("encryptedData", len(&self.encrypted_data), MAX_DATA),
            ("iv", len(&self.iv), MAX_KEY),
            ("rawData", len(&self.raw_data), MAX_RAW),
            ("signature", len(&self.signature), MAX_KEY),
            ("access_token", len(&self.access_token), MAX_TOKEN),
            ("scope", text(&self.scope), MAX_SCOPE),
            ("transaction_id", text(&self.transaction_id), MAX_TRADE),
            ("mch_id", text(&self.mch_id), MAX_TRADE),
            ("out_trade_no", text(&self.out_trade_no), MAX_TRADE),
            ("source", text(&self.source), MAX_SOURCE),
            ("sealed", text(&self.sealed), MAX_SEALED),
        ] {
            if length > max {
                return Err(FieldError::invalid(
                    field,
                    format!("is longer than {max} bytes"),
                ));
            }
        }
        if self.source.iter().any(|s| s.chars().any(char::is_control)) {
            return Err(FieldError::invalid("source", "has control characters"));
        }
        Ok(())
    }

    fn check_attributes(&self) -> Result<(), FieldError> {
        let Some(text) = self.attributes.as_ref().map(|a| a.get()) else {
            return Ok(());
        };
        let problem = if !text.starts_with('{') {
            "must be a JSON object".to_owned()
        } else if text.len() > MAX_ATTRIBUTES {
            format!("is longer than {MAX_ATTRIBUTES} bytes")
        } else if depth(text) > MAX_DEPTH {
            format!("is nested deeper than {MAX_DEPTH} levels")
        } else {
            return Ok(());
        };
        Err(FieldError::invalid("attributes", problem))
    }

    /// A code xor an openid; pairs whole; nothing beside a code that only its exchange can know.
    fn check_together(&self) -> Result<(), FieldError> {
        if self.code.is_some() && self.openid.is_some() {
            let problem = "contradicts `openid`: send the code, or the openid it was exchanged for";
            return Err(FieldError::contradictory("code", problem));
        }
        if self.code.is_some() {
            for (field, given) in [
                ("unionid", self.unionid.is_some()),
                ("session_key", self.session_key.is_some()),
                ("is_snapshotuser", self.is_snapshotuser == Some(true)),
                ("access_token", self.access_token.is_some()),
                ("scope", self.scope.is_some()),
                ("transaction_id", self.transaction_id.is_some()),
                ("out_trade_no", self.out_trade_no.is_some()),
            ] {
                if given {
                    let problem = "contradicts `code`: only its exchange tells; send it with the `openid` instead";
                    return Err(FieldError::contradictory(field, problem));
                }
            }
        }
        whole("mch_id", &self.mch_id, "out_trade_no", &self.out_trade_no)?;
        if self.sealed.is_some() {
            return Ok(());
        }
        if self.code.is_none() && self.openid.is_none() {
            return Err(no_evidence());
        }
        whole("encryptedData", &self.encrypted_data, "iv", &self.iv)?;
        whole("rawData", &self.raw_data, "signature", &self.signature)
    }

    fn time(&self, recorded_at: Millis, mode: Mode) -> Result<(Millis, bool), FieldError> {
        let wrong = |problem| Err(FieldError::invalid("occurred_at", problem));
        let Some(at) = Millis::parse_rfc3339(&self.occurred_at) else {
            return wrong(
                "must be a time as RFC 3339 writes it, with an offset (2026-01-31T08:00:00Z)",
            );
        };
        let (first, last) = (recorded_at.plus(-MAX_AGE), recorded_at.plus(MAX_AHEAD));
        match mode {
            Mode::Strict if at < first => wrong("lies more than 30 days back"),
            Mode::Strict if at > last => wrong("lies more than 5 minutes ahead"),
            _ => {
                let kept = at.clamp(first, last);
                Ok((kept, kept != at))
            }
        }
    }

    /// White space around is WeChat's own doing (`docs/wechat.md` §7).
    fn checked_unionid(&self, mode: Mode) -> Result<Option<Result<UnionId, ()>>, FieldError> {
        let Some(text) = self.unionid.as_deref().map(str::trim) else {
            return Ok(None);
        };
        let openid = self.openid.as_deref().map(str::trim);
        let parsed = UnionId::parse(text);
        let problem = match parsed {
            Ok(_) if openid == Some(text) => {
                "is the openid: leave it out if there is none".to_owned()
            }
            Ok(unionid) => return Ok(Some(Ok(unionid))),
            Err(why @ (InvalidId::Placeholder | InvalidId::Empty)) if mode == Mode::Strict => {
                format!("{why}: leave it out if there is none")
            }
            Err(InvalidId::Placeholder | InvalidId::Empty) => return Ok(Some(Err(()))),
            Err(why) => return Err(FieldError::invalid("unionid", why.to_string())),
        };
        match mode {
            Mode::Strict => Err(FieldError::invalid("unionid", problem)),
            Mode::Lenient => Ok(Some(Err(()))),
        }
    }
}

fn whole<T>(
    one: &str,
    first: &Option<T>,
    other: &str,
    second: &Option<T>,
) -> Result<(), FieldError> {
    match (first, second) {
        (Some(_), None) => Err(FieldError::invalid(
            other,
            format!("is missing: `{one}` needs it"),
        )),
        (None, Some(_)) => Err(FieldError::invalid(
            one,
            format!("is missing: `{other}` came without it"),
        )),
        _ => Ok(()),
    }
}

fn no_evidence() -> FieldError {
    FieldError::invalid(
        "code",
        "is missing, and so is `openid`: one of them must say who logged in",
    )
}

/// `rawData` without `encryptedData` holds no identifier, so it is no evidence and goes unused.
fn encrypted_data(
    data: Option<Secret>,
    iv: Option<Secret>,
    raw: Option<Secret>,
    signature: Option<Secret>,
) -> Option<EncryptedData> {
    let raw = raw.zip(signature);
    let (data, iv) = data.zip(iv)?;
    let raw = raw.map(|(data, signature)| RawData { data, signature });
    Some(EncryptedData { data, iv, raw })
}

fn user_token(access_token: Option<Secret>, scope: Option<String>) -> Option<UserToken> {
    access_token.map(|access_token| UserToken {
        access_token,
        scope,
    })
}

/// WeChat's own number goes before the merchant's.
fn payment(
    transaction: Option<String>,
    mch_id: Option<String>,
    out_trade_no: Option<String>,
) -> Option<Payment> {
    if let Some(transaction) = transaction {
        return Some(Payment::Transaction(Secret::new(transaction)));
    }
    let (mch_id, out_trade_no) = mch_id.zip(out_trade_no)?;
    Some(Payment::Order {
        mch_id: Secret::new(mch_id),
        out_trade_no: Secret::new(out_trade_no),
    })
}

/// How deep a valid JSON text is nested.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::super::FieldKind::{self, Contradictory, Invalid};
    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    fn login(rest: &str) -> LoginWire {
        let at = NOW.plus(-1000);
        let json = format!(r#"{{"id":"e","appid":"wx1","occurred_at":"{at}",{rest}}}"#);
        LoginWire::parse(json.as_bytes()).expect("shape")
    }

    fn refused(rest: &str, mode: Mode) -> (String, FieldKind) {
        let error = login(rest).into_login(NOW, mode).expect_err(rest);
        (error.field, error.kind)
    }

    #[test]
    fn fields_that_do_not_go_together_are_refused_in_either_mode() {
        let long = |n: usize| "x".repeat(n);
        for (rest, field, kind) in [
            (
                r#""openid":"oA","code":"c""#.to_owned(),
                "code",
                Contradictory,
            ),
            (
                r#""code":"c","unionid":"uA""#.to_owned(),
                "unionid",
                Contradictory,
            ),
            (
                r#""code":"c","session_key":"k""#.to_owned(),
                "session_key",
                Contradictory,
            ),
            (
                r#""code":"c","is_snapshotuser":1"#.to_owned(),
                "is_snapshotuser",
                Contradictory,
            ),
            (r#""openid":"""#.to_owned(), "code", Invalid),
            (r#""openid":"undefined""#.to_owned(), "openid", Invalid),
            (
                r#""openid":"oA","iv":"i""#.to_owned(),
                "encryptedData",
                Invalid,
            ),
            (
                r#""openid":"oA","encryptedData":"d""#.to_owned(),
                "iv",
                Invalid,
            ),
            (
                r#""openid":"oA","rawData":"d""#.to_owned(),
                "signature",
                Invalid,
            ),
            (
                r#""openid":"oA","signature":"d""#.to_owned(),
                "rawData",
                Invalid,
            ),
            (
                r#""openid":"oA","attributes":[]"#.to_owned(),
                "attributes",
                Invalid,
            ),
            (
                format!(
                    r#""openid":"oA","attributes":{{"a":{}{}}}"#,
                    "[".repeat(32),
                    "]".repeat(32)
                ),
                "attributes",
                Invalid,
            ),
            (
                format!(r#""openid":"oA","attributes":{{"a":"{}"}}"#, long(16_384)),
                "attributes",
                Invalid,
            ),
            (format!(r#""code":"{}""#, long(513)), "code", Invalid),
            (
                format!(r#""openid":"oA","unionid":"{}""#, long(65)),
                "unionid",
                Invalid,
            ),
            (
                format!(r#""openid":"oA","source":"{}""#, long(129)),
                "source",
                Invalid,
            ),
            (
                format!(r#""openid":"oA","session_key":"{}""#, long(65)),
                "session_key",
                Invalid,
            ),
            (
                format!(
                    r#""openid":"oA","encryptedData":"{}","iv":"i""#,
                    long(65_537)
                ),
                "encryptedData",
                Invalid,
            ),
            (
                r#""openid":"oA","sealed":"v1.k.AA""#.to_owned(),
                "sealed",
                Invalid,
            ),
        ] {
            for mode in [Mode::Strict, Mode::Lenient] {
                assert_eq!(refused(&rest, mode), (field.to_owned(), kind), "{rest:.80}");
            }
        }
    }

    #[test]
    fn placeholders_and_tokens_are_refused_early_and_borne_late() {
        for unionid in ["oA", " oA", "undefined", "NULL", "000", " "] {
            let rest = format!(r#""openid":"oA","unionid":"{unionid}""#);
            assert_eq!(refused(&rest, Mode::Strict), ("unionid".into(), Invalid));
            let login = login(&rest)
                .into_login(NOW, Mode::Lenient)
                .expect("lenient");
            let Evidence::OpenId { unionid, .. } = login.evidence else {
                panic!("an openid")
            };
            assert_eq!(unionid, Some(Err(())));
        }
    }

    #[test]
    fn a_token_and_a_payment_come_with_an_openid() {
        let openid = |rest: &str| {
            let text = format!(r#""openid":"oA",{rest}"#);
            let login = login(&text).into_login(NOW, Mode::Strict).expect("login");
            match login.evidence {
                Evidence::OpenId { token, payment, .. } => (token, payment),
                Evidence::Code { .. } => panic!("an openid"),
            }
        };
        for (scope, reads) in [
            ("snsapi_base", false),
            ("snsapi_base, snsapi_userinfo", true),
            ("snsapi_login", true),
            ("", true),
        ] {
            let (token, _) = openid(&format!(r#""access_token":"t","scope":"{scope}""#));
            assert_eq!(token.expect("a token").reads_profile(), reads, "{scope}");
        }
        assert!(openid(r#""scope":"snsapi_base""#).0.is_none());
        let (_, payment) = openid(r#""mch_id":"1","out_trade_no":"2""#);
        assert!(matches!(payment, Some(Payment::Order { .. })));
        let (_, payment) = openid(r#""mch_id":"1","out_trade_no":"2","transaction_id":"3""#);
        let Some(Payment::Transaction(number)) = payment else {
            panic!("WeChat's own number")
        };
        assert_eq!(number.expose(), "3");
        let half = r#""openid":"oA","mch_id":"1""#;
        assert_eq!(
            refused(half, Mode::Lenient),
            ("out_trade_no".into(), Invalid)
        );
        for field in ["access_token", "scope", "transaction_id", "out_trade_no"] {
            let rest = format!(r#""code":"c","{field}":"t""#);
            assert_eq!(refused(&rest, Mode::Lenient), (field.into(), Contradictory));
        }
    }

    #[test]
    fn times_out_of_bounds_are_refused_early_and_clamped_late() {
        for (offset, want) in [
            (-MAX_AGE - 1, -MAX_AGE),
            (MAX_AHEAD + 1, MAX_AHEAD),
            (-MAX_AGE, -MAX_AGE),
            (MAX_AHEAD, MAX_AHEAD),
        ] {
            let mut wire = login(r#""openid":"oA""#);
            wire.occurred_at = NOW.plus(offset).to_string();
            let clamped = offset != want;
            assert_eq!(wire.check(NOW, Mode::Strict).is_err(), clamped);
            let login = wire.into_login(NOW, Mode::Lenient).expect("lenient");
            assert_eq!(
                (login.occurred_at, login.clamped),
                (NOW.plus(want), clamped)
            );
        }
        let mut wire = login(r#""openid":"oA""#);
        wire.occurred_at = "2026-01-31 08:00".into();
        assert_eq!(
            wire.check(NOW, Mode::Lenient).expect_err("time").field,
            "occurred_at"
        );
    }

    #[test]
    fn what_may_be_sealed_is_not_missed() {
        assert!(
            login(r#""sealed":"v1.k.AA""#)
                .check(NOW, Mode::Strict)
                .is_ok()
        );
        assert!(
            login(r#""openid":"oA","iv":"i","sealed":"v1.k.AA""#)
                .check(NOW, Mode::Strict)
                .is_ok()
        );
    }

    #[test]
    fn evidence_reaches_the_model() {
        let rest = r#""openid":" oA","unionid":" uA","session_key":"k","encryptedData":"d","iv":"i",
            "rawData":"r","signature":"s","is_snapshotuser":true,"external_id":"x1","attributes":{"a": 1}"#;
        let login = login(rest).into_login(NOW, Mode::Strict).expect("valid");
        assert_eq!(login.attributes.as_deref(), Some(r#"{"a": 1}"#));
        let Evidence::OpenId {
            openid,
            unionid,
            session_key,
            data,
            snapshot,
            ..
        } = login.evidence
        else {
            panic!("an openid")
        };
        assert_eq!(openid.as_str(), "oA");
        assert_eq!(unionid, Some(UnionId::parse("uA").map_err(|_| ())));
        assert_eq!(session_key.expect("key").expose(), "k");
        assert_eq!(
            data.expect("data").raw.expect("raw").signature.expose(),
            "s"
        );
        assert!(snapshot);
    }

    #[test]
    fn depth_counts_brackets_outside_texts() {
        assert_eq!(depth(r#"{"a":[[]],"b":"[[[[\"[[[["}"#), 3);
        assert_eq!(depth(r"{}"), 1);
    }
}
