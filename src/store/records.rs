//! Records as the outbox holds them: a version byte, then postcard.

use super::StoreError;
use crate::bus::Record;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::sync::Arc;

/// How records are written; the first byte of each row.
const FORMAT: u8 = 1;

/// A record, borrowed: bytes go through serde as bytes, not one by one.
#[derive(Serialize, Deserialize)]
struct Packed<'a> {
    topic: &'a str,
    #[serde(borrow)]
    key: Bytes<'a>,
    value: Option<Bytes<'a>>,
    headers: Vec<(&'a str, Bytes<'a>)>,
    partition: Option<u32>,
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Bytes<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Bytes(bytes))
            }
        }
        from.deserialize_bytes(Borrowed)
    }
}

/// Records as a row holds them.
pub(super) fn encode(records: &[Record]) -> Result<Vec<u8>, StoreError> {
    let packed: Vec<Packed<'_>> = records
        .iter()
        .map(|r| Packed {
            topic: &r.topic,
            key: Bytes(&r.key),
            value: r.value.as_deref().map(Bytes),
            headers: (r.headers.iter())
                .map(|(name, value)| (name.as_str(), Bytes(value)))
                .collect(),
            partition: r.partition,
        })
        .collect();
    postcard::to_extend(&packed, vec![FORMAT])
        .map_err(|_| StoreError::Corrupt("records that cannot be encoded".into()))
}

/// The records of a row, or nothing if they are not what [`encode`] makes.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<Record>> {
    let (&FORMAT, packed) = bytes.split_first()? else {
        return None;
    };
    let packed: Vec<Packed<'_>> = postcard::from_bytes(packed).ok()?;
    let mut topic: Arc<str> = Arc::from("");
    let records = packed.into_iter().map(|p| {
        if *topic != *p.topic {
            topic = Arc::from(p.topic);
        }
        Record {
            topic: Arc::clone(&topic),
            key: p.key.0.to_vec(),
            value: p.value.map(|v| v.0.to_vec()),
            headers: (p.headers.into_iter())
                .map(|(name, value)| (name.to_owned(), value.0.to_vec()))
                .collect(),
            partition: p.partition,
        }
    });
    Some(records.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(topic: &str, value: Option<&[u8]>) -> Record {
        Record {
            topic: Arc::from(topic),
            key: b"k".to_vec(),
            value: value.map(<[u8]>::to_vec),
            headers: vec![("ce_type".into(), b"x".to_vec())],
            partition: Some(3),
        }
    }

    #[test]
    fn records_round_trip() {
        let records = vec![
            record("a", Some(b"1")),
            record("a", None),
            record("b", Some(&[0, 255])),
        ];
        let bytes = encode(&records).expect("encodes");
        assert_eq!(decode(&bytes), Some(records));
    }

    #[test]
    fn what_encode_did_not_make_is_refused() {
        let bytes = encode(&[record("a", Some(b"1"))]).expect("encodes");
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None, "cut short");
        assert_eq!(decode(&[&[FORMAT + 1], &bytes[1..]].concat()), None);
        assert_eq!(decode(&[]), None);
    }
}
