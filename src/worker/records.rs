//! Makes the records that leave the worker, and keeps those that come back to it later.

use super::item::{Head, Item};
use crate::bus::{Record, Stored, partition_of};
use crate::model::{DeadReason, Fact, Millis, News, SightingResult};
use crate::seal::Keys;
use crate::wire::{self, Context, Grave, LinkedLogin, Topics};
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
    pub fn new(topics: Topics, partitions: u32, epoch: u32, source: String, keys: Arc<Keys>) -> Self {
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
        let ring = &self.inner.keys.ring;
        let mac = |purpose: &'static str, data: &[u8]| ring.mac(purpose, data);
        let context = Context {
            epoch: self.inner.epoch,
            topics: &self.inner.topics,
            source: &self.inner.source,
            mac: &mac,
        };
        let key = wire::account_of(news).key();
        (
            partition_of(key.as_bytes(), self.inner.partitions),
            wire::record(news, &context),
        )
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
        let grave = Grave {
            topics: &self.inner.topics,
            keys: &self.inner.keys.hpke,
        };
        grave.bury(record, reason, detail, attempts, at)
    }

    /// The `linked-logins` record of a login, if that topic is on.
    #[must_use]
    pub fn linked_login(&self, head: &Head, item: &Item, result: &SightingResult) -> Option<Record> {
        let topic = self.inner.topics.linked_logins.as_ref()?;
        let reason = match &item.end {
            super::item::End::Facts(fact) => match fact.as_ref() {
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
            user: result.user,
            unionid: result.unionid.as_ref(),
            reason: reason.filter(|_| result.unionid.is_none()),
        };
        Some(login.record(topic, &self.inner.source))
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
        self.inner.keys.ring.seal("deferred", &id, &bytes).unwrap_or_default()
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
