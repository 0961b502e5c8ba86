//! Records as librdkafka has them, and the relay's position as the metadata of a group's offset.

use super::catalog::Placed;
use crate::bus::{Record, RelayPosition, Stored};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::util::IntoOpaque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use uuid::Uuid;

/// What a header is called whose name is no text.
const UNREADABLE: &str = "unreadable";
/// The form of the metadata.
const FORM: &str = "u1";

/// A record that was read.
pub fn stored(message: &BorrowedMessage<'_>) -> Stored {
    Stored {
        partition: u32::try_from(message.partition()).unwrap_or(0),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().unwrap_or(0),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().map(<[u8]>::to_vec),
        headers: message.headers().map(headers).unwrap_or_default(),
    }
}

/// The client library panics at a header whose name is not UTF-8. Anybody who may write to the
/// topic could stop every worker with one, so the panic ends here.
fn headers<H: Headers>(headers: &H) -> Vec<(String, Vec<u8>)> {
    let owned = |header: Header<'_, &[u8]>| {
        let value = header.value.unwrap_or_default().to_vec();
        (header.key.to_owned(), value)
    };
    let all = || headers.iter().map(owned).collect();
    catch_unwind(AssertUnwindSafe(all)).unwrap_or_else(|_| {
        let one = |index| catch_unwind(AssertUnwindSafe(|| owned(headers.get(index))));
        let unreadable = |_| (UNREADABLE.to_owned(), Vec::new());
        (0..headers.count())
            .map(|index| one(index).unwrap_or_else(unreadable))
            .collect()
    })
}

/// A record to be written, and what its delivery is told with.
pub fn outgoing<O: IntoOpaque>(placed: &Placed, opaque: O) -> BaseRecord<'_, Vec<u8>, Vec<u8>, O> {
    let record = &placed.record;
    let mut base = BaseRecord::with_opaque_to(&record.topic, opaque)
        .partition(placed.partition)
        .key(&record.key);
    if let Some(value) = &record.value {
        base = base.payload(value);
    }
    if let Some(headers) = owned_headers(record) {
        base = base.headers(headers);
    }
    base
}

/// The headers of a record to be written; none of their names holds a zero byte.
fn owned_headers(record: &Record) -> Option<OwnedHeaders> {
    if record.headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(record.headers.len());
    let insert = |headers: OwnedHeaders, (key, value): &(String, Vec<u8>)| {
        let value = Some(value.as_slice());
        headers.insert(Header { key, value })
    };
    Some(record.headers.iter().fold(empty, insert))
}

/// What goes beside the sequence, which is the offset.
pub fn metadata(relay: &RelayPosition) -> String {
    let (store, row) = (relay.store.simple(), relay.row.simple());
    format!("{FORM} {store} {row} {}", relay.inline)
}

/// The relay's position; `None` if the metadata is gone (Kafka's own tool removes it) or is none of ours.
pub fn relay(offset: i64, metadata: &str) -> Option<RelayPosition> {
    let mut words = metadata.split(' ');
    if words.next() != Some(FORM) {
        return None;
    }
    let relay = RelayPosition {
        seq: u64::try_from(offset).ok()?,
        store: Uuid::try_parse(words.next()?).ok()?,
        row: Uuid::try_parse(words.next()?).ok()?,
        inline: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(relay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relays_position_comes_back() {
        for (seq, inline) in [(0, -1), (7, 3), (1 << 60, i64::MAX)] {
            let position = RelayPosition {
                store: Uuid::from_u128(u128::MAX / 3),
                seq,
                row: Uuid::from_u128(9),
                inline,
            };
            let text = metadata(&position);
            assert!(text.is_ascii() && text.len() < 120);
            assert_eq!(relay(seq.cast_signed(), &text), Some(position));
            assert_eq!(relay(-1, &text), None);
            assert_eq!(relay(1, &format!("{text} 1")), None);
            assert_eq!(relay(1, &text[..text.len() / 2]), None);
        }
        assert_eq!(relay(5, ""), None);
    }

    #[test]
    fn a_header_without_a_readable_name_stops_nobody() {
        struct Bad;
        impl Headers for Bad {
            fn count(&self) -> usize {
                3
            }
            fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
                assert!(index != 1, "as the client library does");
                let value = (index == 0).then_some(&b"v"[..]);
                (index < 3).then_some(Header { key: "k", value })
            }
        }
        let want = [("k", "v"), ("unreadable", ""), ("k", "")];
        let want = want.map(|(k, v)| (k.to_owned(), v.as_bytes().to_vec()));
        assert_eq!(headers(&Bad), want);
    }
}
