//! Values sealed whole: a record that came unsealed, as it stands on the dead letter topic, and on the
//! login topic again once it is redriven. The headers say for which place it was sealed.

use super::FieldError;
use super::event::{Headers, header, pair};
use std::str::FromStr;

const AAD: &[u8] = b"unilink/dlq/v1\0";
pub(super) const TOPIC: &str = "dlq_topic";
pub(super) const PARTITION: &str = "dlq_partition";
pub(super) const OFFSET: &str = "dlq_offset";
const SEALED: &str = "dlq_sealed";

/// The place that a value was sealed for: where its record stood when it died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The topic.
    pub topic: String,
    /// Its partition.
    pub partition: u32,
    /// The offset in it.
    pub offset: i64,
}

impl Whole {
    /// The place, if the headers say that the value is sealed whole.
    ///
    /// # Errors
    /// They say so, and not for which place: [`FieldError`] names the header.
    #[must_use]
    pub fn of(headers: &[(String, Vec<u8>)]) -> Option<Result<Self, FieldError>> {
        let sealed = header(headers, SEALED) == Some(b"1");
        sealed.then(|| Self::place(headers))
    }

    /// The place that headers name, sealed or not.
    pub(super) fn place(headers: &[(String, Vec<u8>)]) -> Result<Self, FieldError> {
        Ok(Self {
            topic: text(headers, TOPIC)?.to_owned(),
            partition: number(headers, PARTITION)?,
            offset: number(headers, OFFSET)?,
        })
    }

    /// The associated data that the value opens with (`docs/sealing.md`).
    #[must_use]
    pub fn aad(&self) -> Vec<u8> {
        let (partition, offset) = (self.partition.to_string(), self.offset.to_string());
        let parts = [
            self.topic.as_bytes(),
            partition.as_bytes(),
            offset.as_bytes(),
        ];
        [AAD, &parts.join(&0)].concat()
    }

    /// The headers without the word that the value is sealed: for one that is open again, or never was.
    #[must_use]
    pub fn unsaid(headers: &[(String, Vec<u8>)]) -> Headers {
        let others = headers.iter().filter(|(name, _)| name != SEALED);
        others.cloned().collect()
    }

    /// The headers that say it of a value.
    pub(super) fn headers(&self, sealed: bool) -> Headers {
        let mut headers = vec![
            pair(TOPIC, &self.topic),
            pair(PARTITION, &self.partition.to_string()),
            pair(OFFSET, &self.offset.to_string()),
        ];
        if sealed {
            headers.push(pair(SEALED, "1"));
        }
        headers
    }
}

/// A header that a dead letter has.
pub(super) fn text<'a>(
    headers: &'a [(String, Vec<u8>)],
    name: &str,
) -> Result<&'a str, FieldError> {
    let value = header(headers, name).and_then(|v| std::str::from_utf8(v).ok());
    value.ok_or_else(|| FieldError::invalid(name, "is missing: not a dead letter"))
}

/// The same, a number.
pub(super) fn number<T: FromStr>(
    headers: &[(String, Vec<u8>)],
    name: &str,
) -> Result<T, FieldError> {
    let parsed = text(headers, name)?.parse();
    parsed.map_err(|_| FieldError::invalid(name, "must be a number: not a dead letter"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_says_so_is_sealed_and_then_it_names_its_place() {
        let whole = Whole {
            topic: "wechat.logins".into(),
            partition: 3,
            offset: 41,
        };
        assert_eq!(whole.aad(), b"unilink/dlq/v1\0wechat.logins\x003\x0041");
        let headers = whole.headers(true);
        assert_eq!(Whole::of(&headers), Some(Ok(whole.clone())));
        assert_eq!(Whole::of(&whole.headers(false)), None);
        assert_eq!(Whole::of(&Whole::unsaid(&headers)), None);
        for missing in [TOPIC, PARTITION, OFFSET] {
            let some: Headers = (headers.iter().filter(|(n, _)| n != missing).cloned()).collect();
            let error = Whole::of(&some).expect("says so").expect_err(missing);
            assert_eq!(error.field, missing);
        }
        let odd = [pair(SEALED, "1"), pair(TOPIC, "t"), pair(PARTITION, "-1")];
        assert_eq!(
            Whole::of(&odd).expect("says so").expect_err("-1").field,
            PARTITION
        );
    }
}
