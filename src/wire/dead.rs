//! Dead letters: the original record and why it came to nothing, so that it can be redriven.
//!
//! No secret stands in plain in one: a value that came unsealed is sealed whole, in bytes, so that
//! it stays within 64 KiB of the original. The reason's detail names fields, never values.

use super::LoginWire;
use super::event::{Headers, Kind, header, kind, pair};
use super::{FieldError, recorded_at};
use crate::bus::{Record, Stored};
use crate::model::{DeadReason, Millis};
use std::sync::Arc;

/// Longest detail, in bytes; the headers must fit into the topic's 64 KiB above the original.
const MAX_DETAIL: usize = 1024;
const AAD: &[u8] = b"unilink/dlq/v1\0";
const PREFIX: &str = "dlq_";

/// A record that comes to nothing.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// The record.
    pub record: &'a Stored,
    /// The topic it stands on.
    pub topic: &'a str,
    /// Why.
    pub reason: DeadReason,
    /// More of why, for operators; must hold no value of the record.
    pub detail: &'a str,
    /// Attempts made.
    pub attempts: u32,
    /// Now.
    pub at: Millis,
}

impl DeadLetter<'_> {
    /// The record for the dead letter topic. `seal` gets associated data and plaintext
    /// ([`crate::seal::PublicKey::seal_bytes`]); it is called only for what came unsealed.
    ///
    /// # Errors
    /// What `seal` answers: a dead letter that cannot be sealed must not go out.
    pub fn to_record<E>(
        &self,
        topic: &Arc<str>,
        seal: impl FnOnce(&[u8], &[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Record, E> {
        let origin = self.record;
        let mut headers = self.headers();
        let value = match &origin.value {
            Some(value) if !is_sealed(value, &origin.headers) => {
                headers.push(pair("dlq_sealed", "1"));
                let aad = aad(self.topic, origin.partition, origin.offset);
                Some(seal(&aad, value)?)
            }
            other => other.clone(),
        };
        Ok(Record {
            topic: Arc::clone(topic),
            key: origin.key.clone(),
            value,
            headers,
            partition: None,
        })
    }

    /// The original's headers and ours; what an earlier death left is replaced.
    fn headers(&self) -> Headers {
        let origin = self.record;
        let own = origin
            .headers
            .iter()
            .filter(|(n, _)| !n.starts_with(PREFIX));
        let mut headers: Headers = own.cloned().collect();
        let end = (0..=self.detail.len().min(MAX_DETAIL))
            .rev()
            .find(|i| self.detail.is_char_boundary(*i));
        headers.extend([
            pair("dlq_reason", self.reason.word()),
            pair("dlq_detail", &self.detail[..end.unwrap_or(0)]),
            pair("dlq_topic", self.topic),
            pair("dlq_partition", &origin.partition.to_string()),
            pair("dlq_offset", &origin.offset.to_string()),
            pair("dlq_attempts", &self.attempts.to_string()),
            pair("dlq_at", &self.at.to_string()),
            pair("dlq_timestamp", &recorded_at(origin).0.to_string()),
        ]);
        headers
    }
}

/// A dead letter read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grave {
    /// Why; `None` for a reason of another version.
    pub reason: Option<DeadReason>,
    /// More of why.
    pub detail: String,
    /// Where the original stood.
    pub topic: String,
    /// See `topic`.
    pub partition: u32,
    /// See `topic`.
    pub offset: i64,
    /// Attempts made.
    pub attempts: u32,
    /// Time of the first record, by which a redriven one is judged.
    pub timestamp: Millis,
    /// Whether the value is sealed whole; it opens with [`Grave::aad`].
    pub sealed: bool,
    /// The original's headers.
    pub headers: Headers,
}

impl Grave {
    /// Reads the headers of a record on the dead letter topic.
    ///
    /// # Errors
    /// [`FieldError`] names the header that is missing or wrong.
    pub fn parse(record: &Stored) -> Result<Self, FieldError> {
        let text = |name: &str| {
            let value = header(&record.headers, name);
            let value = value.and_then(|v| std::str::from_utf8(v).ok());
            value.ok_or_else(|| FieldError::invalid(name, "is missing: not a dead letter"))
        };
        let own = record
            .headers
            .iter()
            .filter(|(n, _)| !n.starts_with(PREFIX));
        Ok(Self {
            reason: DeadReason::from_word(text("dlq_reason")?),
            detail: text("dlq_detail")?.to_owned(),
            topic: text("dlq_topic")?.to_owned(),
            partition: number("dlq_partition", text("dlq_partition")?)?,
            offset: number("dlq_offset", text("dlq_offset")?)?,
            attempts: number("dlq_attempts", text("dlq_attempts")?)?,
            timestamp: Millis(number("dlq_timestamp", text("dlq_timestamp")?)?),
            sealed: header(&record.headers, "dlq_sealed") == Some(b"1"),
            headers: own.cloned().collect(),
        })
    }

    /// The associated data of a value sealed whole (`docs/sealing.md`).
    #[must_use]
    pub fn aad(&self) -> Vec<u8> {
        aad(&self.topic, self.partition, self.offset)
    }

    /// The headers of the record that redrives it: the original's, and the first record's time.
    #[must_use]
    pub fn redriven(&self) -> Headers {
        let mut headers = self.headers.clone();
        headers.push(pair("dlq_timestamp", &self.timestamp.0.to_string()));
        headers
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, FieldError> {
    let parsed = text.parse();
    parsed.map_err(|_| FieldError::invalid(name, "must be a number: not a dead letter"))
}

/// Whether all secrets of a value are inside `sealed`: only a login that reads as one can tell.
fn is_sealed(value: &[u8], headers: &[(String, Vec<u8>)]) -> bool {
    let Ok(login) = LoginWire::parse(value) else {
        return false;
    };
    let blob = |s: &String| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        s.starts_with("v1.") && s.bytes().all(plain)
    };
    kind(headers) == Some(Kind::Login)
        && !login.has_plain_secrets()
        && login.sealed.as_ref().is_none_or(blob)
}

fn aad(topic: &str, partition: u32, offset: i64) -> Vec<u8> {
    let (partition, offset) = (partition.to_string(), offset.to_string());
    let parts = [topic.as_bytes(), partition.as_bytes(), offset.as_bytes()];
    [AAD, &parts.join(&0)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn stored(value: Option<&str>, headers: Headers) -> Stored {
        Stored {
            partition: 3,
            offset: 41,
            timestamp: 1_000,
            key: b"key".to_vec(),
            value: value.map(|v| v.as_bytes().to_vec()),
            headers,
        }
    }

    fn bury(record: &Stored) -> Record {
        let letter = DeadLetter {
            record,
            topic: "wechat.logins",
            reason: DeadReason::InvalidField,
            detail: "`iv` is missing",
            attempts: 2,
            at: Millis(2_000),
        };
        let seal = |aad: &[u8], plain: &[u8]| {
            Ok::<_, Infallible>([aad, b"|", &vec![b'#'; plain.len()]].concat())
        };
        letter.to_record(&"dlq".into(), seal).expect("seals")
    }

    const SEALED: &str =
        r#"{"id":"e","occurred_at":"x","appid":"wx1","openid":"oA","sealed":"v1.k.AA"}"#;

    #[test]
    fn what_came_unsealed_is_sealed_whole() {
        let other = vec![pair("ce_type", super::super::event::types::ERASURE)];
        for (value, headers, sealed) in [
            (SEALED.to_owned(), vec![], false),
            (SEALED.replace(r#","sealed":"v1.k.AA""#, ""), vec![], false),
            (SEALED.replace("v1.k.AA", "my secret"), vec![], true),
            (
                SEALED.replace(r#""sealed""#, r#""code":"c","sealed""#),
                vec![],
                true,
            ),
            (SEALED.replace('}', ""), vec![], true),
            (SEALED.to_owned(), other, true),
            ("code=secret".to_owned(), vec![], true),
        ] {
            let dead = bury(&stored(Some(&value), headers));
            let kept = dead.value.expect("value");
            assert_eq!(
                header(&dead.headers, "dlq_sealed").is_some(),
                sealed,
                "{value}"
            );
            assert_eq!(kept == value.as_bytes(), !sealed, "{value}");
            if sealed {
                assert!(kept.starts_with(b"unilink/dlq/v1\0wechat.logins\x003\x0041|"));
            }
        }
        assert_eq!(bury(&stored(None, vec![])).value, None);
    }

    #[test]
    fn graves_read_back_and_redrive_with_their_first_time() {
        let first = stored(
            Some("junk"),
            vec![pair("traceparent", "00-1"), pair("dlq_sealed", "0")],
        );
        let dead = bury(&first);
        let on_topic = |r: Record, timestamp| Stored {
            timestamp,
            partition: 0,
            offset: 7,
            key: r.key,
            value: r.value,
            headers: r.headers,
        };
        let grave = Grave::parse(&on_topic(dead, 5_000)).expect("grave");
        assert_eq!(grave.reason, Some(DeadReason::InvalidField));
        assert_eq!((grave.partition, grave.offset, grave.attempts), (3, 41, 2));
        assert!(grave.sealed);
        assert_eq!(grave.headers, vec![pair("traceparent", "00-1")]);
        assert_eq!(grave.aad(), b"unilink/dlq/v1\0wechat.logins\x003\x0041");
        let mut again = stored(Some("junk"), grave.redriven());
        again.timestamp = 9_000;
        assert_eq!(recorded_at(&again), Millis(1_000));
        let twice = bury(&again);
        assert_eq!(header(&twice.headers, "dlq_timestamp"), Some(&b"1000"[..]));
        let named = |n: &&(String, Vec<u8>)| n.0 == "dlq_timestamp";
        assert_eq!(twice.headers.iter().filter(named).count(), 1);
    }

    #[test]
    fn a_record_without_our_headers_is_no_grave() {
        let error = Grave::parse(&stored(None, vec![])).expect_err("no grave");
        assert_eq!(error.field, "dlq_reason");
    }
}
