//! Makes the records that leave the worker, and keeps those that come back to it later.

use super::item::{End, Head, Item};
use crate::bus::{Record, Stored, partition_of};
use crate::model::{DeadReason, Fact, Millis, News, Reason, SightingResult};
use crate::seal::{Keys, OpenError};
use crate::store::Buried;
use crate::wire::{self, Context, DeadLetter, LinkedLogin, Topics, Whole};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Formats, topics and keys for the records of one store.
#[derive(Clone)]
pub struct Records {
    inner: Arc<Inner>,
}

struct Inner {
    topics: Topics,
    epoch: u32,
    source: String,
    partitions: u32,
    keys: Arc<Keys>,
}

/// A record as it waits in the store, sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    timestamp: i64,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Records {
    /// For these topics, `partitions` of the login topic, a store's epoch, and a name for this
    /// installation (`ce_source`).
    #[must_use]
    pub fn new(
        topics: Topics,
        partitions: u32,
        epoch: u32,
        source: String,
        keys: Arc<Keys>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                topics,
                epoch,
                source,
                partitions,
                keys,
            }),
        }
    }

    /// The record that tells a piece of news, and the partition whose outbox it goes through: that
    /// of its account on `account-links`.
    #[must_use]
    pub fn news(&self, news: &News) -> (u32, Record) {
        let key = wire::account_of(news).key();
        let partition = partition_of(key.as_bytes(), self.inner.partitions);
        (partition, self.told(|context| wire::record(news, context)))
    }

    /// The record of a tombstone that is known by its hash alone.
    #[must_use]
    pub fn buried(&self, stone: &Buried) -> Record {
        self.told(|context| {
            let (erased_at, revision) = (stone.erased_at, stone.revision);
            wire::register::buried(&stone.mac, erased_at, revision, &stone.own_ids, context)
        })
    }

    /// The dead letter of a record.
    #[must_use]
    pub fn dead(
        &self,
        record: &Stored,
        reason: DeadReason,
        detail: &str,
        attempts: u32,
        at: Millis,
    ) -> Record {
        let (topics, keys) = (&self.inner.topics, &self.inner.keys);
        let open = self.unwrapped(record);
        let letter = DeadLetter {
            record: open.as_ref().unwrap_or(record),
            topic: &topics.logins,
            reason,
            detail,
            attempts,
            at,
        };
        let public = keys.hpke.current();
        letter
            .to_record(&topics.dlq, |aad, value| public.seal_bytes(aad, value))
            .unwrap_or_else(|error| {
                // Sealing fails only where the system has no randomness. The letter still tells
                // where its original stands; what it held must not go out in plain.
                tracing::error!(%error, "a dead letter goes out without its value");
                let bare = Stored {
                    value: None,
                    ..record.clone()
                };
                let never = |_: &[u8], _: &[u8]| Ok::<_, std::convert::Infallible>(Vec::new());
                let letter = DeadLetter {
                    record: &bare,
                    ..letter
                };
                match letter.to_record(&topics.dlq, never) {
                    Ok(record) => record,
                    Err(none) => match none {},
                }
            })
    }

    /// A redriven record that is sealed whole, open, so that it is sealed for the place of this death;
    /// or one that only says that it is sealed. `None`: it stays as it is, perhaps because its key is
    /// missing, which may come back.
    fn unwrapped(&self, record: &Stored) -> Option<Stored> {
        let value = record.value.as_ref()?;
        let place = Whole::of(&record.headers)?.ok();
        let hpke = &self.inner.keys.hpke;
        let value = match place.map(|place| hpke.open_bytes(&place.aad(), value)) {
            Some(Err(OpenError::UnknownKey)) => return None,
            Some(Ok(open)) => open.to_vec(),
            Some(Err(_)) | None => value.clone(),
        };
        Some(Stored {
            value: Some(value),
            headers: Whole::unsaid(&record.headers),
            ..record.clone()
        })
    }

    /// The `linked-logins` record of a login, if that topic is on.
    #[must_use]
    pub fn linked_login(
        &self,
        head: &Head,
        item: &Item,
        result: &SightingResult,
    ) -> Option<Record> {
        let reason = match &item.end {
            End::Facts(fact) => match fact.as_ref() {
                // Claims that do not show as a unionid are contested.
                Fact::Sighting(s) if !s.claims.is_empty() => Some(Reason::Contested),
                Fact::Sighting(s) => s.reason,
                _ => None,
            },
            _ => None,
        };
        let login = LinkedLogin {
            id: &head.id,
            occurred_at: head.occurred_at,
            clamped: head.clamped,
            account: item.account()?,
            attributes: head.attributes.as_deref(),
            result,
            reason,
        };
        self.told(|context| login.to_record(context))
    }

    fn told<T>(&self, tell: impl FnOnce(&Context<'_>) -> T) -> T {
        let ring = &self.inner.keys.ring;
        let mac = |purpose: &'static str, data: &[u8]| ring.mac(purpose, data);
        tell(&Context {
            epoch: self.inner.epoch,
            topics: &self.inner.topics,
            source: &self.inner.source,
            mac: &mac,
        })
    }

    /// A record sealed for rest, to come back later.
    #[must_use]
    pub fn keep(&self, record: &Stored) -> Vec<u8> {
        let kept = Kept {
            timestamp: record.timestamp,
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
        };
        let bytes = zeroize::Zeroizing::new(postcard::to_stdvec(&kept).unwrap_or_default());
        let id = place_id(record.partition, record.offset);
        // Fails only for texts past 64 GiB; a record has at most some MiB.
        self.inner
            .keys
            .ring
            .seal("deferred", &id, &bytes)
            .unwrap_or_default()
    }

    /// A kept record, as it was; `None` if the ring has no key for it.
    #[must_use]
    pub fn recover(&self, place: (u32, i64), sealed: &[u8]) -> Option<Stored> {
        let id = place_id(place.0, place.1);
        let bytes = self.inner.keys.ring.open("deferred", &id, sealed).ok()?;
        let kept: Kept = postcard::from_bytes(&bytes).ok()?;
        Some(Stored {
            partition: place.0,
            offset: place.1,
            timestamp: kept.timestamp,
            key: kept.key,
            value: kept.value,
            headers: kept.headers,
        })
    }
}

fn place_id(partition: u32, offset: i64) -> [u8; 12] {
    let mut id = [0; 12];
    id[..4].copy_from_slice(&partition.to_be_bytes());
    id[4..].copy_from_slice(&offset.to_be_bytes());
    id
}
