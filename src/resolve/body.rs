//! Reading the bodies of WeChat's answers, which are not always the JSON they should be
//! (`docs/wechat.md` §1).
//!
//! Promises: what strict JSON accepts is read as strict JSON reads it; what it refuses is read
//! once more after a repair (invalid UTF-8 replaced, raw control bytes inside strings escaped);
//! nothing panics, and no fault repeats a byte of the body.

use serde_json::{Map, Value};
use std::net::IpAddr;
use zeroize::Zeroizing;

/// Largest body read, in bytes. An identity answer has under 1 KiB; a batch of 100 users about 50,
/// and remarks and tags may make it several times that; 10,000 followers have about 300.
pub const MAX_BODY: usize = 1024 * 1024;
/// Shortest and longest request id believed; the usual one has 26 characters.
const RID_LENGTH: std::ops::RangeInclusive<usize> = 8..=64;

/// Why a body cannot be used. Never carries a piece of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// Nothing, or nothing but white space.
    #[error("empty")]
    Empty,
    /// Longer than [`MAX_BODY`].
    #[error("longer than {MAX_BODY} bytes")]
    TooLarge,
    /// No JSON, even after the repair.
    #[error("not JSON")]
    NotJson,
    /// JSON, but no object.
    #[error("not a JSON object")]
    NotObject,
    /// `errcode` is neither an integer nor the text of one.
    #[error("errcode is not a number")]
    Errcode,
    /// The field named is missing though the call succeeded, or is not what it should be.
    #[error("field {0} is missing or not what it should be")]
    Field(&'static str),
    /// The connection ended inside the body.
    #[error("cut off")]
    Cut,
}

/// An answer's fields. Those nobody asks for are ignored.
pub struct Body {
    fields: Map<String, Value>,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body(…)")
    }
}

impl Body {
    /// Reads a body whatever its content type said.
    ///
    /// # Errors
    /// [`BodyFault`] when it is empty, too large, or no JSON object even after the repair.
    pub fn parse(bytes: &[u8]) -> Result<Self, BodyFault> {
        if bytes.len() > MAX_BODY {
            return Err(BodyFault::TooLarge);
        }
        if bytes.trim_ascii().is_empty() {
            return Err(BodyFault::Empty);
        }
        let value = serde_json::from_slice(bytes)
            .or_else(|_| serde_json::from_str(&repair(bytes)))
            .map_err(|_| BodyFault::NotJson)?;
        match value {
            Value::Object(fields) => Ok(Self { fields }),
            _ => Err(BodyFault::NotObject),
        }
    }

    /// The error that the body reports; `None` for success (no `errcode`, or 0).
    ///
    /// # Errors
    /// [`BodyFault::Errcode`] when `errcode` is neither an integer nor the text of one: an answer
    /// that may be an error must not pass as a success.
    pub fn errcode(&self) -> Result<Option<i64>, BodyFault> {
        let code = match self.fields.get("errcode") {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_i64(),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        match code {
            Some(0) => Ok(None),
            Some(code) => Ok(Some(code)),
            None => Err(BodyFault::Errcode),
        }
    }

    /// The request id that operators query WeChat with: a top-level `rid`, or the one in `errmsg`.
    /// Only hex digits and dashes come through, so that nothing else can travel into a log.
    #[must_use]
    pub fn rid(&self) -> Option<String> {
        let text = |name| self.fields.get(name).and_then(Value::as_str);
        let in_message = || text("errmsg")?.split_once("rid:").map(|(_, rest)| rest);
        let rest = text("rid").or_else(in_message)?.trim_start();
        let end = rest
            .find(|c| !matches!(c, '0'..='9' | 'a'..='f' | '-'))
            .unwrap_or(rest.len());
        RID_LENGTH.contains(&end).then(|| rest[..end].to_owned())
    }

    /// Takes a text out, trimmed. Absent, null and `""` are alike (`docs/wechat.md` §1).
    ///
    /// # Errors
    /// [`BodyFault::Field`] when the field holds anything but a text.
    pub fn take_text(&mut self, name: &'static str) -> Result<Option<String>, BodyFault> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) if text.trim().len() == text.len() => Ok(Some(text)),
            Some(Value::String(text)) => Ok(Some(Zeroizing::new(text).trim().to_owned())),
            Some(_) => Err(BodyFault::Field(name)),
        }
    }

    /// Takes an integer out, also one that stands as a text (`docs/wechat.md` §1, §5).
    ///
    /// # Errors
    /// [`BodyFault::Field`] when the field holds anything else.
    pub fn take_number(&mut self, name: &'static str) -> Result<Option<i64>, BodyFault> {
        let wrong = BodyFault::Field(name);
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().is_empty() => Ok(None),
            Some(Value::String(text)) => text.trim().parse().map(Some).map_err(|_| wrong),
            Some(Value::Number(number)) => number.as_i64().map(Some).ok_or(wrong),
            Some(_) => Err(wrong),
        }
    }

    /// Takes a flag out: WeChat writes 1 and 0; absent is no.
    ///
    /// # Errors
    /// [`BodyFault::Field`] when the field holds anything else.
    pub fn take_flag(&mut self, name: &'static str) -> Result<bool, BodyFault> {
        if let Some(Value::Bool(flag)) = self.fields.get(name) {
            return Ok(*flag);
        }
        match self.take_number(name)? {
            None | Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(_) => Err(BodyFault::Field(name)),
        }
    }

    /// Takes a list of objects out.
    ///
    /// # Errors
    /// [`BodyFault::Field`] when the field is missing or holds anything else.
    pub fn take_list(&mut self, name: &'static str) -> Result<Vec<Self>, BodyFault> {
        let Some(Value::Array(items)) = self.fields.remove(name) else {
            return Err(BodyFault::Field(name));
        };
        let object = |item| match item {
            Value::Object(fields) => Ok(Self { fields }),
            _ => Err(BodyFault::Field(name)),
        };
        items.into_iter().map(object).collect()
    }

    /// Takes an object out; `None` if there is none.
    ///
    /// # Errors
    /// [`BodyFault::Field`] when the field holds anything else.
    pub fn take_object(&mut self, name: &'static str) -> Result<Option<Self>, BodyFault> {
        match self.fields.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(fields)) => Ok(Some(Self { fields })),
            // PHP's way to write an empty one.
            Some(Value::Array(items)) if items.is_empty() => Ok(None),
            Some(_) => Err(BodyFault::Field(name)),
        }
    }

    /// Takes a list of texts out; none if it is not there.
    ///
    /// # Errors
    /// [`BodyFault::Field`] when the field holds anything else.
    pub fn take_texts(&mut self, name: &'static str) -> Result<Vec<String>, BodyFault> {
        let items = match self.fields.remove(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(BodyFault::Field(name)),
        };
        let text = |item| match item {
            Value::String(text) => Ok(text.trim().to_owned()),
            _ => Err(BodyFault::Field(name)),
        };
        items.into_iter().map(text).collect()
    }

    /// The address that `errmsg` names (40164, `docs/wechat.md` §2). Nothing else comes through.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        let message = self.fields.get("errmsg").and_then(Value::as_str)?;
        let words = message.split(|c: char| c.is_whitespace() || c == ',');
        words.filter_map(|word| word.parse().ok()).next()
    }
}

/// Replaces invalid UTF-8 and escapes the raw control bytes that stand inside strings.
fn repair(bytes: &[u8]) -> Zeroizing<String> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut out = Zeroizing::new(String::with_capacity(text.len() + 64));
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string && c < ' ' {
            // After a backslash only the rest of the escape is missing.
            let start = if escaped { "u" } else { "\\u" };
            out.push_str(start);
            out.push_str(&format!("{:04x}", u32::from(c)));
            escaped = false;
            continue;
        }
        out.push(c);
        match c {
            '"' if !escaped => in_string = !in_string,
            '\\' if in_string && !escaped => {
                escaped = true;
                continue;
            }
            _ => {}
        }
        escaped = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    fn body(bytes: &[u8]) -> Body {
        Body::parse(bytes).expect("readable")
    }

    #[test]
    fn errcode_is_a_number_or_the_text_of_one() {
        let code = |text: &str| body(text.as_bytes()).errcode();
        assert_eq!(code(r#"{"errcode":40029}"#), Ok(Some(40029)));
        assert_eq!(code(r#"{"errcode":"40029"}"#), Ok(Some(40029)));
        assert_eq!(code(r#"{"errcode":" -1 "}"#), Ok(Some(-1)));
        for success in [
            r#"{"errcode":0,"errmsg":"ok"}"#,
            r#"{"errcode":"0"}"#,
            "{}",
            r#"{"errcode":null}"#,
        ] {
            assert_eq!(code(success), Ok(None), "{success}");
        }
        for odd in [
            r#"{"errcode":true}"#,
            r#"{"errcode":""}"#,
            r#"{"errcode":1.5}"#,
            r#"{"errcode":18446744073709551615}"#,
            r#"{"errcode":{}}"#,
        ] {
            assert_eq!(code(odd), Err(BodyFault::Errcode), "{odd}");
        }
    }

    #[test]
    fn absent_null_and_empty_texts_are_alike_and_the_rest_is_trimmed() {
        let mut body = body(br#"{"a":"","b":null,"c":"  ","d":" o6_bmas","e":7}"#);
        for name in ["a", "b", "c", "missing"] {
            assert_eq!(body.take_text(name), Ok(None), "{name}");
        }
        assert_eq!(body.take_text("d"), Ok(Some("o6_bmas".to_owned())));
        assert_eq!(body.take_text("e"), Err(BodyFault::Field("e")));
    }

    #[test]
    fn the_request_id_is_found_in_every_style_and_sanitised() {
        let rid = |text: &str| body(text.as_bytes()).rid();
        let want = Some("60b6d8c5-2a2b3c4d-0f1e2d3c".to_owned());
        for text in [
            r#"{"errcode":40029,"errmsg":"invalid code, rid: 60b6d8c5-2a2b3c4d-0f1e2d3c"}"#,
            r#"{"errcode":40029,"errmsg":"invalid code rid: 60b6d8c5-2a2b3c4d-0f1e2d3c"}"#,
            r#"{"errcode":40029,"errmsg":"hint: [x] rid: 60b6d8c5-2a2b3c4d-0f1e2d3c, y"}"#,
            r#"{"errcode":40029,"rid":"60b6d8c5-2a2b3c4d-0f1e2d3c"}"#,
        ] {
            assert_eq!(rid(text), want, "{text}");
        }
        for text in [
            r#"{"errmsg":"hints: [ req_id: XyZ ]"}"#,
            r#"{"errmsg":"rid: oGZUI0egBJY1zhBYw2KhdUfwVJJE"}"#,
            r#"{"rid":"a1\n2"}"#,
            r#"{"rid":7}"#,
            "{}",
        ] {
            assert_eq!(rid(text), None, "{text}");
        }
    }

    #[test]
    fn control_bytes_and_invalid_utf8_are_repaired() {
        let mut a = body(b"{\"nickname\":\"a\x07b\x14c\nd\",\"openid\":\"oX\"}");
        assert_eq!(
            a.take_text("nickname"),
            Ok(Some("a\u{7}b\u{14}c\nd".to_owned()))
        );
        assert_eq!(a.take_text("openid"), Ok(Some("oX".to_owned())));
        let mut b = body(b"{\"city\":\"\xe5\xb9\",\"q\":\"say \\\"\x01\\\\\",\"openid\":\"oX\"}");
        assert_eq!(b.take_text("openid"), Ok(Some("oX".to_owned())));
        assert_eq!(b.take_text("q"), Ok(Some("say \"\u{1}\\".to_owned())));
        let mut c = body("\u{feff}{\"openid\":\"oX\"}".as_bytes());
        assert_eq!(c.take_text("openid"), Ok(Some("oX".to_owned())));
        let mut e = body(b"{\n\t\"n\": \"\x01\",\r\n\t\"openid\": \"oX\"\n}\n");
        assert_eq!(e.take_text("openid"), Ok(Some("oX".to_owned())));
        let mut d = body(b"{\"n\":\"x\\\x02\"}");
        assert_eq!(d.take_text("n"), Ok(Some("x\u{2}".to_owned())));
    }

    #[test]
    fn what_is_no_object_is_refused_by_cause() {
        let fault = |bytes: &[u8]| Body::parse(bytes).err();
        assert_eq!(fault(b""), Some(BodyFault::Empty));
        assert_eq!(fault(b" \r\n"), Some(BodyFault::Empty));
        assert_eq!(fault(b"<html>"), Some(BodyFault::NotJson));
        assert_eq!(fault(b"{\"openid\":\"o"), Some(BodyFault::NotJson));
        assert_eq!(fault(b"[1]"), Some(BodyFault::NotObject));
        assert_eq!(fault(b"null"), Some(BodyFault::NotObject));
        assert_eq!(fault(&vec![b' '; MAX_BODY + 1]), Some(BodyFault::TooLarge));
        assert_eq!(fault(&vec![b'['; MAX_BODY]), Some(BodyFault::NotJson));
    }

    /// Seeds for the fuzz loop: the shapes of §1 and §3.
    const SAMPLES: [&[u8]; 5] = [
        br#"{"session_key":"tiihtNczf5v6AKRyjwEUhQ==","openid":"oGZUI0egBJY1zhBYw2KhdUfwVJJE"}"#,
        br#"{"errcode":40029,"errmsg":"invalid code, rid: 60b6d8c5-2a2b3c4d-0f1e2d3c"}"#,
        b"{\"nickname\":\"\x07\x14 \\\" \\\\ \\/ \\u5fae\",\"sex\":0,\"privilege\":[],\"tag\":{\"a\":[1,2.5e3]}}",
        "{\"nickname\":\"微信用户\u{1f600}\",\"headimgurl\":\"http:\\/\\/wx.qlogo.cn\\/0\"}".as_bytes(),
        b"{\"city\":\"\xff\xfe\",\"unionid\":\" o6_bmasdasdsad6_2sgVt7hMZOPfL\"}",
    ];

    fn mutated(rng: &mut StdRng) -> Vec<u8> {
        let mut bytes = SAMPLES[rng.random_range(0..SAMPLES.len())].to_vec();
        for _ in 0..rng.random_range(0..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..4) {
                0 => bytes[at] = rng.random(),
                1 => bytes.insert(at, b"\"\\{}[]:,\x00\x1f\x80"[rng.random_range(0..11)]),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        bytes
    }

    #[test]
    fn nothing_panics_and_strict_json_is_read_as_strict_json_reads_it() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut strict, mut repaired) = (0, 0);
        for _ in 0..200_000 {
            let bytes = mutated(&mut rng);
            let read = Body::parse(&bytes);
            match serde_json::from_slice::<Value>(&bytes) {
                Ok(Value::Object(want)) => {
                    strict += 1;
                    assert_eq!(read.as_ref().map(|b| &b.fields).ok(), Some(&want));
                }
                Ok(_) => assert_eq!(read.as_ref().err(), Some(&BodyFault::NotObject)),
                Err(_) => repaired += usize::from(read.is_ok()),
            }
            if let Ok(mut body) = read {
                let _ = (body.errcode(), body.rid(), body.take_text("openid"));
            }
        }
        assert!(strict > 10_000 && repaired > 10_000, "{strict} {repaired}");
    }
}
