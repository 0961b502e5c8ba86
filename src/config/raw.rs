//! The file as it is written: one serde twin per section, with the defaults. Nothing is checked
//! here beyond names and types; these structs hold unresolved secrets, so none has a `Debug`.

use figment::value::Dict;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The sections that are one table each. Its defaults also tell which environment variables exist.
#[derive(Serialize, Default)]
pub(super) struct Sections {
    pub store: Store,
    pub bus: Bus,
    pub topics: Topics,
    pub intake: Intake,
    pub worker: Worker,
    pub api: Api,
    pub wechat: WeChat,
    pub identity: Identity,
    pub seal: Seal,
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    /// Which default it has depends on the bus.
    pub url: Option<String>,
    pub connections: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: None,
            connections: 8,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Bus {
    /// Which default it has depends on the store.
    pub url: Option<String>,
    pub group: String,
    pub replication: i64,
    /// For librdkafka, as it is written: dotted names may be tables here.
    pub kafka: Dict,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            url: None,
            group: "unilink".into(),
            replication: -1,
            kafka: Dict::new(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Topics {
    pub logins: String,
    pub account_links: String,
    pub user_merges: String,
    pub registers: String,
    pub link_conflicts: String,
    pub linked_logins: String,
    pub dlq: String,
    pub logins_partitions: u64,
    pub logins_days: u64,
    pub link_conflicts_days: u64,
    pub linked_logins_days: u64,
    pub dlq_days: u64,
    pub tombstone_days: u64,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            logins: "wechat.logins".into(),
            account_links: "wechat.account-links".into(),
            user_merges: "wechat.user-merges".into(),
            registers: "wechat.registers".into(),
            link_conflicts: "wechat.link-conflicts".into(),
            linked_logins: String::new(),
            dlq: "wechat.logins.dlq".into(),
            logins_partitions: 4,
            logins_days: 14,
            link_conflicts_days: 90,
            linked_logins_days: 14,
            dlq_days: 30,
            tombstone_days: 30,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Intake {
    pub listen: String,
    pub keys: Vec<String>,
    pub max_body: u64,
    pub max_events: u64,
    pub max_in_flight: u64,
    pub rate: u64,
    pub require_sealed: bool,
    pub cloud_run: bool,
    pub signer: Signer,
}

/// No signer is two empty texts, so that the defaults show the table and variables can set it.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Signer {
    pub id: String,
    pub key: String,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            keys: Vec::new(),
            max_body: 1 << 20,
            max_events: 1_000,
            max_in_flight: 256,
            rate: 0,
            require_sealed: false,
            cloud_run: false,
            signer: Signer::default(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Worker {
    pub name: Option<String>,
    pub listen: String,
    pub batch: u64,
    pub inline_budget: String,
    pub in_flight: u64,
    pub deferred_per_app: u64,
    pub http_per_app: u64,
    pub http_total: u64,
    pub poll: String,
    pub stuck_after: String,
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            name: None,
            listen: "127.0.0.1:8082".into(),
            batch: 1_000,
            inline_budget: "1s".into(),
            in_flight: 16_384,
            deferred_per_app: 100_000,
            http_per_app: 16,
            http_total: 64,
            poll: "20ms".into(),
            stuck_after: "2m".into(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Api {
    pub listen: String,
    pub keys: Vec<String>,
    pub max_in_flight: u64,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8081".into(),
            keys: Vec::new(),
            max_in_flight: 256,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WeChat {
    pub base_url: String,
    pub timeout: String,
    pub connect_timeout: String,
    pub per_minute: BTreeMap<String, u64>,
}

impl Default for WeChat {
    fn default() -> Self {
        Self {
            base_url: "https://api.weixin.qq.com".into(),
            timeout: "5s".into(),
            connect_timeout: "2s".into(),
            per_minute: BTreeMap::new(),
        }
    }
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Identity {
    pub namespace: Option<String>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Seal {
    pub key_file: Option<String>,
    pub seal_to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Platform {
    pub id: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct App {
    pub appid: String,
    pub kind: crate::model::AppKind,
    pub secret: Option<String>,
    pub token: Option<String>,
    pub component: Option<String>,
    #[serde(default)]
    pub platforms: Vec<Binding>,
    pub push: Option<Push>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Push {
    pub token: String,
    pub encoding_aes_key: Option<String>,
    pub mode: Option<super::push::Mode>,
    pub erase_on: Option<Vec<super::push::EraseOn>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Binding {
    pub id: String,
    #[serde(default, deserialize_with = "time")]
    pub since: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Component {
    pub appid: String,
    pub access_token_file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Operator {
    pub id: String,
    pub key: String,
}

/// A time in quotes, or a bare TOML date-time, which arrives as a table of one private key.
fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Time {
        Text(String),
        Toml {
            #[serde(rename = "$__toml_private_datetime")]
            text: String,
        },
    }
    match Time::deserialize(from) {
        Ok(Time::Text(text) | Time::Toml { text }) => Ok(Some(text)),
        Err(_) => Err(serde::de::Error::custom(
            "a time such as \"2026-01-31T00:00:00Z\" is wanted",
        )),
    }
}
