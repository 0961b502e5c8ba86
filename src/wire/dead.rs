//! Dead letters: the original record and why it came to nothing, so that it can be redriven.
//!
//! No secret stands in plain in one: a value that came unsealed is sealed whole, in bytes, so that
//! it stays within 64 KiB of the original. The reason's detail names fields, never values.
//! A letter that is redriven goes back with its key, headers and bytes, sealed whole if it was, and
//! says how often that happened and when its first record came.

use super::event::{Headers, Kind, kind, pair};
use super::whole::{self, Whole};
use super::{FieldError, LoginWire, recorded_at};
use crate::bus::{Record, Stored};
use crate::model::{DeadReason, Millis};
use std::sync::Arc;

/// Longest detail, in bytes; the headers must fit into the topic's 64 KiB above the original.
const MAX_DETAIL: usize = 1024;
const PREFIX: &str = "dlq_";
const REDRIVES: &str = "dlq_redrives";
/// On the login topic only: the letter's place on the dead letter topic.
const FROM: &str = "dlq_place";

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
    /// ([`crate::seal::PublicKey::seal_bytes`]); it is called only for what came unsealed. A value
    /// that is sealed whole already stays as it is, for the place that it was sealed for: whoever
    /// can open it hands it over open.
    ///
    /// # Errors
    /// What `seal` answers: a dead letter that cannot be sealed must not go out.
    pub fn to_record<E>(
        &self,
        topic: &Arc<str>,
        seal: impl FnOnce(&[u8], &[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Record, E> {
        let origin = self.record;
        let own = Whole {
            topic: self.topic.to_owned(),
            partition: origin.partition,
            offset: origin.offset,
        };
        let (place, sealed, value) = match (&origin.value, Whole::of(&origin.headers)) {
            (Some(value), Some(Ok(before))) => (before, true, Some(value.clone())),
            (Some(value), _) if !is_sealed(value, &origin.headers) => {
                let value = seal(&own.aad(), value)?;
                (own, true, Some(value))
            }
            (value, _) => (own, false, value.clone()),
        };
        let mut headers = self.headers();
        headers.extend(place.headers(sealed));
        Ok(Record {
            topic: Arc::clone(topic),
            key: origin.key.clone(),
            value,
            headers,
            partition: None,
        })
    }

    /// The original's headers and ours; what an earlier death left is replaced, but for the number of
    /// redrives.
    fn headers(&self) -> Headers {
        let origin = self.record;
        let mut headers = others(&origin.headers);
        let end = (0..=self.detail.len().min(MAX_DETAIL))
            .rev()
            .find(|i| self.detail.is_char_boundary(*i));
        headers.extend([
            pair("dlq_reason", self.reason.word()),
            pair("dlq_detail", &self.detail[..end.unwrap_or(0)]),
            pair("dlq_attempts", &self.attempts.to_string()),
            pair("dlq_at", &self.at.to_string()),
            pair("dlq_timestamp", &recorded_at(origin).0.to_string()),
        ]);
        let redrives = redrives(&origin.headers);
        if redrives > 0 {
            headers.push(pair(REDRIVES, &redrives.to_string()));
        }
        headers
    }
}

/// The headers that are not a dead letter's.
fn others(headers: &[(String, Vec<u8>)]) -> Headers {
    let own = headers.iter().filter(|(n, _)| !n.starts_with(PREFIX));
    own.cloned().collect()
}

/// How often the record was redriven.
fn redrives(headers: &[(String, Vec<u8>)]) -> u32 {
    whole::number(headers, REDRIVES).unwrap_or(0)
}

/// The letter that a record of the login topic was redriven from, by its place on the dead letter
/// topic.
#[must_use]
pub fn redriven_from(headers: &[(String, Vec<u8>)]) -> Option<(u32, i64)> {
    let (partition, offset) = whole::text(headers, FROM).ok()?.split_once('/')?;
    Some((partition.parse().ok()?, offset.parse().ok()?))
}

/// A dead letter read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grave {
    /// Why; `None` for a reason of another version.
    pub reason: Option<DeadReason>,
    /// More of why.
    pub detail: String,
    /// Where the original stood; of a value that was sealed whole before it died again and did not
    /// open: for which place it is sealed.
    pub origin: Whole,
    /// Attempts made.
    pub attempts: u32,
    /// Time of the first record, by which a redriven one is judged.
    pub timestamp: Millis,
    /// How often it was redriven before it died this time.
    pub redrives: u32,
    /// Whether the value is sealed whole; it opens with [`Whole::aad`] of `origin`.
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
        let headers = &record.headers;
        Ok(Self {
            reason: DeadReason::from_word(whole::text(headers, "dlq_reason")?),
            detail: whole::text(headers, "dlq_detail")?.to_owned(),
            origin: Whole::place(headers)?,
            attempts: whole::number(headers, "dlq_attempts")?,
            timestamp: Millis(whole::number(headers, "dlq_timestamp")?),
            redrives: redrives(headers),
            sealed: Whole::of(headers).is_some(),
            headers: others(headers),
        })
    }

    /// The headers of the record that redrives the letter at `place` of the dead letter topic: the
    /// original's, the first record's time, and the count, which this very letter has added to `before`.
    /// A value sealed whole stays so, and is told with the place that it was sealed for.
    #[must_use]
    pub fn redriven(&self, place: (u32, i64), before: u32) -> Headers {
        let redrives = self.redrives.saturating_add(before).saturating_add(1);
        let mut headers = self.headers.clone();
        headers.extend([
            pair("dlq_timestamp", &self.timestamp.0.to_string()),
            pair(REDRIVES, &redrives.to_string()),
            pair(FROM, &format!("{}/{}", place.0, place.1)),
        ]);
        if self.sealed {
            headers.extend(self.origin.headers(true));
        }
        headers
    }
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

#[cfg(test)]
mod tests {
    use super::super::event::header;
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

    fn on_topic(record: Record, timestamp: i64) -> Stored {
        Stored {
            timestamp,
            partition: 0,
            offset: 7,
            key: record.key,
            value: record.value,
            headers: record.headers,
        }
    }

    fn named<'a>(headers: &'a Headers, name: &str) -> Vec<&'a [u8]> {
        let all = headers.iter().filter(|(n, _)| n == name);
        all.map(|(_, value)| value.as_slice()).collect()
    }

    #[test]
    fn graves_read_back_and_redrive_with_their_first_time() {
        let first = stored(
            Some("junk"),
            vec![pair("traceparent", "00-1"), pair("dlq_sealed", "0")],
        );
        let dead = bury(&first);
        let sealed = dead.value.clone();
        let grave = Grave::parse(&on_topic(dead, 5_000)).expect("grave");
        assert_eq!(grave.reason, Some(DeadReason::InvalidField));
        let origin = &grave.origin;
        assert_eq!(
            (origin.partition, origin.offset, grave.attempts),
            (3, 41, 2)
        );
        assert!(grave.sealed);
        assert_eq!(
            (&grave.headers, grave.redrives),
            (&vec![pair("traceparent", "00-1")], 0)
        );
        let headers = grave.redriven((0, 7), 0);
        assert_eq!(
            Whole::of(&headers),
            Some(Ok(grave.origin.clone())),
            "still sealed"
        );
        assert_eq!(redriven_from(&headers), Some((0, 7)));
        assert_eq!(named(&headers, "traceparent"), [b"00-1"]);
        let mut again = stored(None, headers);
        (again.value, again.timestamp) = (sealed.clone(), 9_000);
        assert_eq!(recorded_at(&again), Millis(1_000));

        // Nobody could open it: it stays sealed for its first place.
        let twice = bury(&again);
        assert_eq!(twice.value, sealed);
        let grave = Grave::parse(&on_topic(twice, 9_500)).expect("grave");
        assert_eq!((grave.redrives, grave.timestamp), (1, Millis(1_000)));
        assert_eq!((grave.origin.offset, grave.sealed), (41, true));

        // Somebody could: it is sealed for the place of this death.
        again.offset = 90;
        again.headers = Whole::unsaid(&again.headers);
        again.value = Some(b"junk".to_vec());
        let twice = bury(&again);
        for name in ["dlq_timestamp", "dlq_redrives", "dlq_offset", "dlq_sealed"] {
            assert_eq!(named(&twice.headers, name).len(), 1, "{name}");
        }
        assert!(named(&twice.headers, FROM).is_empty());
        let value = twice.value.clone().expect("a value");
        assert!(value.starts_with(b"unilink/dlq/v1\0wechat.logins\x003\x0090|"));
        let grave = Grave::parse(&on_topic(twice, 9_500)).expect("grave");
        assert_eq!((grave.redrives, grave.origin.offset), (1, 90));
        assert_eq!(named(&grave.redriven((1, 2), 0), REDRIVES), [b"2"]);
        assert_eq!(named(&grave.redriven((1, 2), 3), REDRIVES), [b"5"]);
    }

    #[test]
    fn what_came_sealed_is_redriven_without_a_place() {
        let dead = bury(&stored(Some(SEALED), vec![]));
        let grave = Grave::parse(&on_topic(dead, 5_000)).expect("grave");
        let headers = grave.redriven((0, 7), 0);
        assert_eq!(Whole::of(&headers), None);
        assert!(named(&headers, "dlq_offset").is_empty());
    }

    #[test]
    fn a_record_without_our_headers_is_no_grave() {
        let error = Grave::parse(&stored(None, vec![])).expect_err("no grave");
        assert_eq!(error.field, "dlq_reason");
    }
}
