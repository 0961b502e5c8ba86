//! What all records share: topics' names, kinds of event, CloudEvents attributes in headers.

use super::{FieldError, Time};
use crate::bus::{Record, Stored};
use crate::model::Millis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use uuid::Uuid;

/// Headers in their order, as [`Record`] has them.
pub type Headers = Vec<(String, Vec<u8>)>;

/// `ce_type` of what stands on the login topic, and of what we tell.
pub mod types {
    /// A login; also what a record without `ce_type` is.
    pub const LOGIN: &str = "unilink.login.v1";
    /// An operator's decision.
    pub const DECISION: &str = "unilink.decision.v1";
    /// The erasure of one account.
    pub const ERASURE: &str = "unilink.erasure.v1";
    /// What an imported table says of one account.
    pub const IMPORT: &str = "unilink.import.v1";
    /// A new revision of an account.
    pub const LINKED: &str = "unilink.account.linked.v1";
    /// An own id is not the current id of its user.
    pub const MERGED: &str = "unilink.user.merged.v1";
    /// A claim became contested.
    pub const CONFLICT: &str = "unilink.link.conflict.v1";
    /// A login with its user.
    pub const LINKED_LOGIN: &str = "unilink.linked-login.v1";
    /// An operator's decision or a tombstone, kept.
    pub const REGISTER: &str = "unilink.register.v1";
}

/// In what namespace deterministic event ids are made (UUIDv5). Public and fixed: never change it.
const EVENT_IDS: Uuid = Uuid::from_u128(0x6f0c_9c1e_5a37_4d0b_9b1d_3f5e_72c8_41aa);

/// The topics' names, as configuration has them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// Login events, decisions, erasures, imports.
    pub logins: Arc<str>,
    /// Accounts with their users, compacted.
    pub account_links: Arc<str>,
    /// Ids that are not current, compacted.
    pub user_merges: Arc<str>,
    /// Decisions and tombstones, compacted.
    pub registers: Arc<str>,
    /// Contested claims.
    pub link_conflicts: Arc<str>,
    /// Logins with their users; off unless named.
    pub linked_logins: Option<Arc<str>>,
    /// Dead letters.
    pub dlq: Arc<str>,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            logins: "wechat.logins".into(),
            account_links: "wechat.account-links".into(),
            user_merges: "wechat.user-merges".into(),
            registers: "wechat.registers".into(),
            link_conflicts: "wechat.link-conflicts".into(),
            linked_logins: None,
            dlq: "wechat.logins.dlq".into(),
        }
    }
}

/// What turning news into records takes, besides the news.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Rebuilds of the store so far.
    pub epoch: u32,
    /// Where records go.
    pub topics: &'a Topics,
    /// `ce_source`: a URI reference that names this installation.
    pub source: &'a str,
    /// [`crate::seal::Ring::mac`], for the keys of `registers`.
    pub mac: &'a (dyn Fn(&'static str, &[u8]) -> [u8; 32] + Sync),
}

/// What a record of the login topic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A login.
    Login,
    /// A decision; believed only with an operator's signature.
    Decision,
    /// An erasure; believed only with an operator's signature.
    Erasure,
    /// A row of an imported table; believed only with an operator's signature.
    Import,
}

/// What a record of the login topic is, by its `ce_type`; `None` for a type that is none of ours.
#[must_use]
pub fn kind(headers: &[(String, Vec<u8>)]) -> Option<Kind> {
    let Some(word) = header(headers, "ce_type") else {
        return Some(Kind::Login);
    };
    match std::str::from_utf8(word).ok()? {
        types::LOGIN => Some(Kind::Login),
        types::DECISION => Some(Kind::Decision),
        types::ERASURE => Some(Kind::Erasure),
        types::IMPORT => Some(Kind::Import),
        _ => None,
    }
}

/// The last header of that name, as Kafka's `lastHeader` has it.
#[must_use]
pub fn header<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a [u8]> {
    let found = headers.iter().rev().find(|(n, _)| n == name);
    found.map(|(_, value)| value.as_slice())
}

/// The time by which a record of the login topic is judged: its own timestamp, or, for a redriven
/// dead letter, that of its first record (`dlq_timestamp`), if that is earlier.
#[must_use]
pub fn recorded_at(record: &Stored) -> Millis {
    let first = header(&record.headers, "dlq_timestamp")
        .and_then(|v| std::str::from_utf8(v).ok()?.parse::<i64>().ok());
    Millis(first.map_or(record.timestamp, |first| first.min(record.timestamp)))
}

/// CloudEvents attributes of a value, in Kafka's binary mode.
pub(super) fn ce(ty: &str, id: &str, source: &str, time: Time) -> Headers {
    let time = time.text();
    let pairs = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", source),
        ("ce_type", ty),
        ("ce_time", time.as_str()),
        ("content-type", "application/json"),
    ];
    let mut headers = Headers::with_capacity(pairs.len() + 1);
    headers.extend(pairs.map(|(name, value)| pair(name, value)));
    headers
}

pub(super) fn pair(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}

/// An event id that is the same whenever the same is told: UUIDv5 over the parts.
pub(super) fn event_id(parts: &[&[u8]]) -> Uuid {
    Uuid::new_v5(&EVENT_IDS, &parts.join(&0))
}

/// A record whose key chooses its partition.
pub(super) fn keyed(topic: &Arc<str>, key: Vec<u8>, value: Vec<u8>, headers: Headers) -> Record {
    Record {
        topic: Arc::clone(topic),
        key,
        value: Some(value),
        headers,
        partition: None,
    }
}

/// Writes a twin. Cannot fail: the twins have texts for keys, and a `Vec` takes every byte.
pub(super) fn json<T: Serialize>(twin: &T, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    let written = serde_json::to_writer(&mut out, twin);
    debug_assert!(written.is_ok(), "a twin that does not serialise");
    out
}

/// An identifier of the model, or which field is wrong.
pub(super) fn id<T>(
    field: &str,
    parsed: Result<T, crate::model::InvalidId>,
) -> Result<T, FieldError> {
    parsed.map_err(|why| FieldError::invalid(field, why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_the_last_ce_type() {
        assert_eq!(kind(&[]), Some(Kind::Login));
        let headers = [
            pair("ce_type", types::LOGIN),
            pair("ce_type", types::ERASURE),
        ];
        assert_eq!(kind(&headers), Some(Kind::Erasure));
        assert_eq!(kind(&[pair("ce_type", "com.example.other")]), None);
        assert_eq!(kind(&[("ce_type".into(), vec![0xff])]), None);
    }

    #[test]
    fn a_redriven_record_is_judged_by_its_first_time_but_never_later() {
        let mut record = Stored {
            partition: 0,
            offset: 0,
            timestamp: 1_000,
            key: vec![],
            value: None,
            headers: vec![pair("dlq_timestamp", "400")],
        };
        assert_eq!(recorded_at(&record), Millis(400));
        record.headers = vec![pair("dlq_timestamp", "4000")];
        assert_eq!(recorded_at(&record), Millis(1_000));
        record.headers = vec![pair("dlq_timestamp", "x")];
        assert_eq!(recorded_at(&record), Millis(1_000));
    }
}
