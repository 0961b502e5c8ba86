//! `register` v1: operators' decisions and erasure tombstones, kept on the compacted topic
//! `registers` so that a rebuild does not forget them. The key is an HMAC of what it is about; a
//! tombstone holds no identifier at all.

use super::event::{Context, ce, event_id, id, json, keyed, types};
use super::field::{FieldError, read};
use super::{Time, decision};
use crate::bus::Record;
use crate::model::{
    ClaimKey, ClaimVerdict, Millis, NeverPair, PlatformId, Ruled, Tombstone, UnionId, UnionKey,
    UserId,
};
use decision::{Word, account};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// HMAC purpose of a ruling on a claim, over `appid:openid`, 0, platform, 0, unionid.
pub const CLAIM: &str = "register/claim";
/// HMAC purpose of a ruling on a pair, over the keys of both with 0 between.
pub const PAIR: &str = "register/pair";
/// HMAC purpose of a tombstone, over `appid:openid`. A store that files tombstones under the same
/// purpose can take them back from `registers` without knowing the account.
pub const TOMBSTONE: &str = "tombstone";

/// The value of a record on `registers`.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schemars(title = "register v1")]
enum RegisterWire {
    /// A ruling on a claim.
    Claim {
        /// The account that claims.
        appid: String,
        /// The account that claims.
        openid: String,
        /// What it claims.
        platform: String,
        /// What it claims.
        unionid: String,
        #[serde(flatten)]
        ruled: RuledWire,
    },
    /// A ruling on a pair of accounts.
    Pair {
        /// The smaller account.
        appid: String,
        /// The smaller account.
        openid: String,
        /// The larger account.
        other_appid: String,
        /// The larger account.
        other_openid: String,
        #[serde(flatten)]
        ruled: RuledWire,
    },
    /// What stays of an erased account.
    Tombstone {
        /// Events up to this time are without effect.
        erased_at: Time,
        /// Every own id the account ever had, oldest first.
        #[schemars(with = "Vec<String>")]
        own_ids: Vec<Uuid>,
        /// The last revision published, the null's included.
        revision: u64,
    },
}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
struct RuledWire {
    /// The standing word.
    ruling: Word,
    /// When it was given.
    decided_at: Time,
    /// By whom.
    author: String,
    /// Why.
    note: String,
}

/// A register read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Register {
    /// A ruling on a claim.
    Claim(ClaimKey, Ruled),
    /// A ruling on a pair.
    Pair(NeverPair, Ruled),
    /// A tombstone; whose it is only the record's key tells, as an HMAC.
    Tombstone {
        /// Events up to this time are without effect.
        erased_at: Millis,
        /// Every own id the account ever had, oldest first.
        own_ids: Vec<UserId>,
        /// The last revision published.
        revision: u64,
    },
}

impl Register {
    /// Reads the value of a record on `registers`.
    ///
    /// # Errors
    /// [`FieldError`] if it is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, FieldError> {
        Ok(match read(bytes)? {
            RegisterWire::Claim {
                appid,
                openid,
                platform,
                unionid,
                ruled,
            } => {
                let key = ClaimKey {
                    account: account(("appid", &appid), ("openid", &openid))?,
                    union: UnionKey {
                        platform: id("platform", PlatformId::parse(&platform))?,
                        unionid: id("unionid", UnionId::parse(&unionid))?,
                    },
                };
                Self::Claim(key, ruled.into_ruled())
            }
            RegisterWire::Pair {
                appid,
                openid,
                other_appid,
                other_openid,
                ruled,
            } => {
                let pair = NeverPair {
                    a: account(("appid", &appid), ("openid", &openid))?,
                    b: account(
                        ("other_appid", &other_appid),
                        ("other_openid", &other_openid),
                    )?,
                };
                Self::Pair(pair, ruled.into_ruled())
            }
            RegisterWire::Tombstone {
                erased_at,
                own_ids,
                revision,
            } => Self::Tombstone {
                erased_at: erased_at.0,
                own_ids: own_ids.into_iter().map(UserId).collect(),
                revision,
            },
        })
    }
}

impl RuledWire {
    fn of(ruled: &Ruled, ruling: Word) -> Self {
        Self {
            ruling,
            decided_at: Time(ruled.at),
            author: ruled.author.clone(),
            note: ruled.note.clone(),
        }
    }

    fn into_ruled(self) -> Ruled {
        let verdict = match self.ruling {
            Word::Accept => Some(ClaimVerdict::Accept),
            // For a pair, `Some(Reject)` means never.
            Word::Reject | Word::NeverMerge => Some(ClaimVerdict::Reject),
            Word::Withdraw | Word::AllowMerge => None,
        };
        Ruled {
            verdict,
            at: self.decided_at.0,
            author: self.author,
            note: self.note,
        }
    }
}

/// The key of a ruling on a claim.
#[must_use]
pub fn claim_key(key: &ClaimKey, cx: &Context<'_>) -> String {
    let account = key.account.key();
    let union = [key.union.platform.as_str(), key.union.unionid.as_str()];
    hex::encode((cx.mac)(
        CLAIM,
        [&account, union[0], union[1]].join("\0").as_bytes(),
    ))
}

/// The key of a ruling on a pair.
#[must_use]
pub fn pair_key(pair: &NeverPair, cx: &Context<'_>) -> String {
    hex::encode((cx.mac)(
        PAIR,
        [pair.a.key(), pair.b.key()].join("\0").as_bytes(),
    ))
}

pub(super) fn claim(key: &ClaimKey, ruled: &Ruled, cx: &Context<'_>) -> Record {
    let wire = RegisterWire::Claim {
        appid: key.account.app.as_str().to_owned(),
        openid: key.account.openid.as_str().to_owned(),
        platform: key.union.platform.as_str().to_owned(),
        unionid: key.union.unionid.as_str().to_owned(),
        ruled: RuledWire::of(ruled, Word::of_claim(ruled.verdict)),
    };
    kept(claim_key(key, cx), ruled.at, &wire, cx)
}

pub(super) fn pair(pair: &NeverPair, ruled: &Ruled, cx: &Context<'_>) -> Record {
    let never = ruled.verdict == Some(ClaimVerdict::Reject);
    let wire = RegisterWire::Pair {
        appid: pair.a.app.as_str().to_owned(),
        openid: pair.a.openid.as_str().to_owned(),
        other_appid: pair.b.app.as_str().to_owned(),
        other_openid: pair.b.openid.as_str().to_owned(),
        ruled: RuledWire::of(ruled, Word::of_pair(never)),
    };
    kept(pair_key(pair, cx), ruled.at, &wire, cx)
}

pub(super) fn tombstone(tombstone: &Tombstone, cx: &Context<'_>) -> Record {
    let mac = (cx.mac)(TOMBSTONE, tombstone.account.key().as_bytes());
    let (erased_at, revision) = (tombstone.erased_at, tombstone.revision);
    buried(&mac, erased_at, revision, &tombstone.own_ids, cx)
}

/// The record of a tombstone that is known by its hash alone.
#[must_use]
pub fn buried(
    mac: &[u8; 32],
    erased_at: Millis,
    revision: u64,
    own_ids: &[UserId],
    cx: &Context<'_>,
) -> Record {
    let wire = RegisterWire::Tombstone {
        erased_at: Time(erased_at),
        own_ids: own_ids.iter().map(|user| user.0).collect(),
        revision,
    };
    kept(hex::encode(mac), erased_at, &wire, cx)
}

/// The hash in the key of a tombstone's record.
#[must_use]
pub fn mac_in(key: &[u8]) -> Option<[u8; 32]> {
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut mac = [0; 32];
    let (pairs, rest) = key.as_chunks::<2>();
    if pairs.len() != mac.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in mac.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(mac)
}

fn kept(key: String, at: Millis, wire: &RegisterWire, cx: &Context<'_>) -> Record {
    let value = json(wire, 384);
    let event = event_id(&[b"register", key.as_bytes(), &value]).to_string();
    let headers = ce(types::REGISTER, &event, cx.source, Time(at));
    keyed(&cx.topics.registers, key.into_bytes(), value, headers)
}

pub(super) fn schema() -> schemars::Schema {
    schemars::schema_for!(RegisterWire)
}
