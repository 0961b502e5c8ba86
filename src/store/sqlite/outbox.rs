//! The outbox: all records of a batch for one partition in one row, numbered without gaps in
//! commit order.

use super::SqliteStore;
use super::rows::{blob16, corrupt, count, expect_rows, get, int, len};
use crate::bus::Record;
use crate::sqlite::{Insert, Select, Tx, Val};
use crate::store::{OutboxRow, StoreError};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// How records are written; the first byte of each row.
const FORMAT: u8 = 1;
/// Relayed rows that pile up before they are deleted, in a transaction that is made anyway.
const PRUNE_AFTER: u64 = 16;
/// Rows of one reading, however small they are.
const READ_ROWS: i64 = 256;

const HEADS: Insert = Insert {
    head: "INSERT INTO heads (partition, seq) VALUES",
    columns: 2,
    tail: "ON CONFLICT (partition) DO UPDATE SET seq = heads.seq + 1",
};
const READ_HEADS: Select = Select {
    head: "SELECT partition, seq FROM heads WHERE partition IN (",
    columns: 1,
    tail: ")",
};
const ROWS: Insert = Insert {
    head: "INSERT INTO outbox (partition, seq, row, records) VALUES",
    columns: 4,
    tail: "",
};

/// How far the partitions were relayed, as told by the relay since this process began. It decides
/// only what may be deleted, so losing it costs nothing.
#[derive(Default)]
pub(super) struct Marks(Mutex<BTreeMap<u32, Mark>>);

/// How far one partition was relayed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    /// Rows up to this one are published.
    pub seq: u64,
    /// Rows below this one are deleted.
    pub pruned: u64,
    /// Input records below this one will not be handled again.
    pub inline_below: i64,
}

impl Marks {
    /// Notes what the relay tells. Marks only go forward.
    pub(super) fn note(&self, partition: u32, seq: u64, inline_below: i64) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = marks.entry(partition).or_default();
        mark.seq = mark.seq.max(seq);
        mark.inline_below = mark.inline_below.max(inline_below);
    }

    /// All marks.
    pub(super) fn all(&self) -> BTreeMap<u32, Mark> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn pruned(&self, partition: u32, below: u64) {
        let mut marks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = marks.get_mut(&partition) {
            mark.pruned = mark.pruned.max(below);
        }
    }
}

impl SqliteStore {
    /// Appends rows, at most one per partition.
    pub(super) async fn write_outbox(
        &self,
        tx: &mut Tx<'_>,
        rows: &[(u32, Vec<u8>)],
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let first = rows.iter().flat_map(|(p, _)| [(*p).into(), Val::Int(1)]);
        let first: Vec<Val> = first.collect();
        let touched = tx.insert(&HEADS, first).await?;
        expect_rows("heads", rows.len(), touched)?;
        let keys = rows.iter().map(|(p, _)| (*p).into()).collect();
        let mut seqs = BTreeMap::new();
        for row in tx.many(&READ_HEADS, keys).await? {
            seqs.insert(super::rows::small(&row, 0)?, count(&row, 1)?);
        }
        let mut values = Vec::with_capacity(rows.len() * ROWS.columns);
        for (partition, records) in rows {
            values.extend([
                (*partition).into(),
                int(seqs.get(partition).copied().unwrap_or_default()),
                Val::Blob(Uuid::new_v4().as_bytes().to_vec()),
                Val::Blob(records.clone()),
            ]);
        }
        let touched = tx.insert(&ROWS, values).await?;
        expect_rows("outbox rows", rows.len(), touched)?;
        self.prune_outbox(tx, PRUNE_AFTER).await
    }

    /// Deletes relayed rows where at least `worth` have piled up. The newest relayed one stays: it
    /// tells this store from a restored one.
    pub(super) async fn prune_outbox(&self, tx: &mut Tx<'_>, worth: u64) -> Result<(), StoreError> {
        for (partition, mark) in self.relayed.all() {
            if mark.seq.saturating_sub(mark.pruned) <= worth {
                continue;
            }
            tx.exec(
                "DELETE FROM outbox WHERE partition = ? AND seq < ?",
                vec![partition.into(), int(mark.seq)],
            )
            .await?;
            // Should this transaction fail, the next prune of the partition deletes these too.
            self.relayed.pruned(partition, mark.seq);
        }
        Ok(())
    }

    pub(super) async fn read_outbox(
        &self,
        partition: u32,
        after: u64,
        bytes: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        // The running sum reads lengths only, never the records of rows that are not wanted.
        let rows = self
            .file
            .all(
                "SELECT o.seq, o.row, o.records FROM (SELECT seq, sum(n) OVER (ORDER BY seq) - n \
                 AS before FROM (SELECT seq, length(records) AS n FROM outbox \
                 WHERE partition = ?1 AND seq > ?2 ORDER BY seq LIMIT ?4)) w \
                 CROSS JOIN outbox o ON o.partition = ?1 AND o.seq = w.seq \
                 WHERE w.before < max(?3, 1) ORDER BY o.seq",
                vec![partition.into(), int(after), len(bytes), READ_ROWS.into()],
            )
            .await?;
        let rows = rows.iter().map(|row| {
            Ok(OutboxRow {
                seq: count(row, 0)?,
                row: Uuid::from_bytes(blob16(row, 1)?),
                records: decode(get(row, 2)?).ok_or_else(|| corrupt(row, 2))?,
            })
        });
        rows.collect()
    }

    pub(super) async fn read_outbox_row(
        &self,
        partition: u32,
        seq: u64,
    ) -> Result<Option<Uuid>, StoreError> {
        let sql = "SELECT row FROM outbox WHERE partition = ? AND seq = ?";
        let rows = self.file.all(sql, vec![partition.into(), int(seq)]).await?;
        let id = rows.first().map(|row| blob16(row, 0)).transpose()?;
        Ok(id.map(Uuid::from_bytes))
    }

    pub(super) async fn read_outbox_head(&self, partition: u32) -> Result<u64, StoreError> {
        let sql = "SELECT seq FROM heads WHERE partition = ?";
        let rows = self.file.all(sql, vec![partition.into()]).await?;
        let seq = rows.first().map(|row| count(row, 0)).transpose()?;
        Ok(seq.unwrap_or_default())
    }
}

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
fn decode(bytes: &[u8]) -> Option<Vec<Record>> {
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
