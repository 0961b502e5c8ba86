//! What the company is told: each piece of news becomes one record, with flat JSON for a value and
//! CloudEvents attributes in headers.

use super::event::{Context, ce, event_id, json, keyed, pair, types};
use super::linked::{LinkedWire, method_words};
use super::{Time, register};
use crate::bus::Record;
use crate::model::{Account, ClaimRow, EventId, Linked, Millis, News, UserId, Why};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use uuid::Uuid;

/// The record of a piece of news. The same news under the same context give the same bytes.
#[must_use]
pub fn record(news: &News, cx: &Context<'_>) -> Record {
    match news {
        News::Linked(linked) => self::linked(linked, cx),
        News::Unlinked { account, revision } => Record {
            topic: cx.topics.account_links.clone(),
            key: account.key().into_bytes(),
            value: None,
            headers: vec![
                pair("revision", &revision.to_string()),
                pair("epoch", &cx.epoch.to_string()),
            ],
            partition: None,
        },
        News::Merged {
            from,
            into,
            cause,
            at,
            ..
        } => merged(*from, *into, cause, *at, cx),
        News::Unmerged { own, .. } => Record {
            topic: cx.topics.user_merges.clone(),
            key: own.to_string().into_bytes(),
            value: None,
            headers: vec![pair("epoch", &cx.epoch.to_string())],
            partition: None,
        },
        News::Conflict {
            claim,
            why,
            user,
            cause,
            at,
        } => conflict(claim, *why, *user, (cause, *at), cx),
        News::RulingKept(key, ruled) => register::claim(key, ruled, cx),
        News::PairKept(pair, ruled) => register::pair(pair, ruled, cx),
        News::TombstoneKept(tombstone) => register::tombstone(tombstone, cx),
    }
}

/// Whose partition in the outbox the news belongs to: that of this account on `logins`.
#[must_use]
pub fn account_of(news: &News) -> &Account {
    match news {
        News::Linked(linked) => &linked.row.account,
        News::Unlinked { account, .. }
        | News::Merged { account, .. }
        | News::Unmerged { account, .. } => account,
        News::Conflict { claim, .. } => &claim.key.account,
        News::RulingKept(key, _) => &key.account,
        News::PairKept(pair, _) => &pair.a,
        News::TombstoneKept(tombstone) => &tombstone.account,
    }
}

fn linked(linked: &Linked, cx: &Context<'_>) -> Record {
    let wire = LinkedWire::of(linked, cx.epoch);
    let event = wire.event_id.to_string();
    let value = json(&wire, 640 + 160 * wire.claims.len());
    let headers = ce(types::LINKED, &event, cx.source, wire.linked_at);
    let key = linked.row.account.key().into_bytes();
    keyed(&cx.topics.account_links, key, value, headers)
}

/// `user.merged` v1. No identifiers: it outlives erasures.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "user.merged v1")]
pub(super) struct MergedWire<'a> {
    /// An account's own id that is not the current id of its user.
    #[schemars(with = "String", extend("format" = "uuid"))]
    from_user_id: Uuid,
    /// The current id of that user.
    #[schemars(with = "String", extend("format" = "uuid"))]
    into_user_id: Uuid,
    /// The event that caused it.
    #[serde(borrow)]
    cause: Cow<'a, str>,
    /// When.
    merged_at: Time,
}

fn merged(from: UserId, into: UserId, cause: &EventId, at: Millis, cx: &Context<'_>) -> Record {
    let event = event_id(&[
        b"user.merged",
        from.0.as_bytes(),
        into.0.as_bytes(),
        &cx.epoch.to_be_bytes(),
        &at.0.to_be_bytes(),
    ]);
    let wire = MergedWire {
        from_user_id: from.0,
        into_user_id: into.0,
        cause: cause.as_str().into(),
        merged_at: Time(at),
    };
    let headers = ce(types::MERGED, &event.to_string(), cx.source, Time(at));
    let key = from.to_string().into_bytes();
    keyed(&cx.topics.user_merges, key, json(&wire, 256), headers)
}

/// `link.conflict` v1.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "link.conflict v1")]
pub(super) struct ConflictWire<'a> {
    /// The same whenever the same claim is told of.
    #[schemars(with = "String", extend("format" = "uuid"))]
    event_id: Uuid,
    /// The account that claims.
    #[serde(borrow)]
    appid: Cow<'a, str>,
    /// The account that claims.
    #[serde(borrow)]
    openid: Cow<'a, str>,
    /// The user of that account.
    #[schemars(with = "String", extend("format" = "uuid"))]
    user_id: Uuid,
    /// The platform of the claim.
    #[serde(borrow)]
    platform: Cow<'a, str>,
    /// The unionid claimed.
    #[serde(borrow)]
    unionid: Cow<'a, str>,
    /// How the claim was learnt.
    #[serde(borrow)]
    #[schemars(extend("enum" = super::schema::claim_methods()))]
    method: Cow<'a, str>,
    /// For `decrypted`: whose session key it was.
    #[schemars(extend("enum" = ["exchange", "event", null]))]
    key_from: Option<Cow<'a, str>>,
    /// The claim's smallest time.
    time: Time,
    /// Why it is contested.
    #[serde(borrow)]
    #[schemars(with = "String", extend("enum" = super::schema::conflict_whys()))]
    why: Cow<'a, str>,
    /// The event that brought it out.
    #[serde(borrow)]
    cause: Cow<'a, str>,
    /// When it became contested.
    contested_at: Time,
}

fn conflict(
    claim: &ClaimRow,
    why: Why,
    user: UserId,
    (cause, at): (&EventId, Millis),
    cx: &Context<'_>,
) -> Record {
    let (key, account) = (&claim.key, claim.key.account.key());
    let (platform, unionid) = (key.union.platform.as_str(), key.union.unionid.as_str());
    let event = event_id(&[
        b"link.conflict",
        account.as_bytes(),
        platform.as_bytes(),
        unionid.as_bytes(),
        &cx.epoch.to_be_bytes(),
    ]);
    let (method, key_from) = method_words(claim.method);
    let wire = ConflictWire {
        event_id: event,
        appid: key.account.app.as_str().into(),
        openid: key.account.openid.as_str().into(),
        user_id: user.0,
        platform: platform.into(),
        unionid: unionid.into(),
        method: method.into(),
        key_from: key_from.map(Cow::from),
        time: Time(claim.at),
        why: why.word().into(),
        cause: cause.as_str().into(),
        contested_at: Time(at),
    };
    let headers = ce(types::CONFLICT, &event.to_string(), cx.source, Time(at));
    keyed(
        &cx.topics.link_conflicts,
        account.into_bytes(),
        json(&wire, 512),
        headers,
    )
}
