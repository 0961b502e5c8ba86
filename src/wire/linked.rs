//! `account.linked` v1: an account with its user, and enough of its claims to rebuild a store.
//! One twin for writing and reading.

use super::event::{event_id, id};
use super::field::{FieldError, read};
use super::{Time, decision};
use crate::model::{
    AccountRow, ClaimKey, ClaimRow, ClaimStatus, EventId, ExternalId, LinkMethod, Linked, Method,
    Millis, PlatformId, Reason, UnionId, UnionKey, UserId, Why,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use uuid::Uuid;

/// Claims shown at most. An account with more has so many unionids that none of them links.
const MAX_CLAIMS: usize = 32;

/// The value of a record on `account-links`.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(title = "account.linked v1")]
pub struct LinkedWire<'a> {
    /// The same whenever the same revision is told.
    #[schemars(with = "String", extend("format" = "uuid"))]
    pub event_id: Uuid,
    /// The app.
    #[serde(borrow)]
    pub appid: Cow<'a, str>,
    /// The person in it.
    #[serde(borrow)]
    pub openid: Cow<'a, str>,
    /// The user.
    #[schemars(with = "String", extend("format" = "uuid"))]
    pub user_id: Uuid,
    /// The user before this revision, if there was another.
    #[schemars(with = "Option<String>")]
    pub previous_user_id: Option<Uuid>,
    /// Platform of the app's newest binding.
    pub platform: Option<Cow<'a, str>>,
    /// The active unionid in it.
    pub unionid: Option<Cow<'a, str>>,
    /// The account's claims, active ones first; at most 32.
    #[serde(borrow)]
    #[schemars(length(max = 32))]
    pub claims: Vec<ClaimWire<'a>>,
    /// How many there are.
    pub claims_total: usize,
    /// Rebuilds of the store so far. Newer is the larger (`epoch`, `revision`).
    pub epoch: u32,
    /// Counts the account's changes from 1.
    pub revision: u64,
    /// How the unionid was learnt; `merge` if only an older binding's claim joins the account to
    /// others; `none` while unresolved.
    #[schemars(extend("enum" = super::schema::link_methods()))]
    pub method: Cow<'a, str>,
    /// Why the account is unresolved; null if it is not.
    #[schemars(extend("enum" = super::schema::reasons()))]
    pub reason: Option<Cow<'a, str>>,
    /// The time of the event that it was learnt from; null where it follows from the claims.
    pub reason_at: Option<Time>,
    /// The login event that caused this revision.
    #[serde(borrow)]
    pub cause: Cow<'a, str>,
    /// The company's own id for the person, as last given.
    pub external_id: Option<Cow<'a, str>>,
    /// The time of the event that gave it.
    pub external_id_at: Option<Time>,
    /// Latest erasure before this life, in milliseconds; 0 if never erased.
    pub generation: i64,
    /// Smallest event time of this life.
    pub first_seen_at: Time,
    /// When this revision was made.
    pub linked_at: Time,
}

/// One claim of an account.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(inline)]
pub struct ClaimWire<'a> {
    /// The platform.
    #[serde(borrow)]
    pub platform: Cow<'a, str>,
    /// The unionid.
    #[serde(borrow)]
    pub unionid: Cow<'a, str>,
    /// The strongest method it was learnt by.
    #[schemars(extend("enum" = super::schema::claim_methods()))]
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// For `decrypted`: whose session key it was. A key from the event could be forged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["exchange", "event", null]))]
    pub key_from: Option<Cow<'a, str>>,
    /// Its smallest time: that of a login, or the nearest moment at which the app was bound to the platform.
    pub time: Time,
    /// Whether it links.
    #[schemars(extend("enum" = ["active", "contested"]))]
    #[serde(borrow)]
    pub status: Cow<'a, str>,
    /// Why it is contested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = super::schema::whys()))]
    pub why: Option<Cow<'a, str>>,
}

impl<'a> LinkedWire<'a> {
    /// The twin of a change.
    #[must_use]
    pub fn of(linked: &'a Linked, epoch: u32) -> Self {
        let row = &linked.row;
        let (reason, reason_at) = reason(linked);
        let external = row.external.as_ref();
        Self {
            event_id: revision_id(row, epoch),
            appid: row.account.app.as_str().into(),
            openid: row.account.openid.as_str().into(),
            user_id: row.user.0,
            previous_user_id: linked.previous_user.map(|user| user.0),
            platform: linked.platform.as_ref().map(|p| p.as_str().into()),
            unionid: linked.unionid.as_ref().map(|u| u.as_str().into()),
            claims: shown(&linked.claims),
            claims_total: linked.claims.len(),
            epoch,
            revision: row.revision,
            method: link_word(linked.method).into(),
            reason,
            reason_at,
            cause: row.cause.as_str().into(),
            external_id: external.map(|(_, id)| id.as_str().into()),
            external_id_at: external.map(|(at, _)| Time(*at)),
            generation: row.generation.0,
            first_seen_at: Time(row.first_seen_at),
            linked_at: Time(row.linked_at),
        }
    }

    /// The change again. A claim's verdict is not told here but in `registers`, and its cause not
    /// at all: the revision's stands for it. Contested claims count as reported.
    ///
    /// # Errors
    /// [`FieldError`] for a value that this module would not write.
    pub fn to_linked(&self) -> Result<Linked, FieldError> {
        let account = decision::account(("appid", &self.appid), ("openid", &self.openid))?;
        let cause = id("cause", EventId::parse(&self.cause))?;
        let external = self.external_id.as_deref().map(ExternalId::parse);
        let external = external
            .map(|parsed| id("external_id", parsed))
            .transpose()?;
        let platform = self.platform.as_deref().map(PlatformId::parse);
        let unionid = self.unionid.as_deref().map(UnionId::parse);
        let claim = |wire: &ClaimWire<'_>| wire.to_row(&account, &cause);
        let claims = self
            .claims
            .iter()
            .map(claim)
            .collect::<Result<Vec<_>, _>>()?;
        let reason = self.reason_at.zip(self.reason.as_deref());
        let reason = reason.map(|(at, word)| {
            known("reason", Reason::from_word(word)).map(|reason| (at.0, reason))
        });
        let mut linked = Linked {
            row: AccountRow {
                generation: Millis(self.generation),
                first_seen_at: self.first_seen_at.0,
                user: UserId(self.user_id),
                revision: self.revision,
                external: self.external_id_at.map(|t| t.0).zip(external),
                reason: reason.transpose()?,
                cause,
                linked_at: self.linked_at.0,
                account,
            },
            previous_user: self.previous_user_id.map(UserId),
            platform: platform.map(|parsed| id("platform", parsed)).transpose()?,
            unionid: unionid.map(|parsed| id("unionid", parsed)).transpose()?,
            method: LinkMethod::None,
            claims,
        };
        linked.claims.sort_by(|a, b| a.key.cmp(&b.key));
        linked.method = link_method(&self.method, &linked)?;
        Ok(linked)
    }
}

impl<'a> ClaimWire<'a> {
    fn of(row: &'a ClaimRow) -> Self {
        let (method, key_from) = method_words(row.method);
        let (status, why) = match row.status {
            ClaimStatus::Active => ("active", None),
            ClaimStatus::Contested(why) => ("contested", Some(why.word().into())),
        };
        Self {
            platform: row.key.union.platform.as_str().into(),
            unionid: row.key.union.unionid.as_str().into(),
            method: method.into(),
            key_from: key_from.map(Cow::from),
            time: Time(row.at),
            status: status.into(),
            why,
        }
    }

    fn to_row(
        &self,
        account: &crate::model::Account,
        cause: &EventId,
    ) -> Result<ClaimRow, FieldError> {
        let union = UnionKey {
            platform: id("claims.platform", PlatformId::parse(&self.platform))?,
            unionid: id("claims.unionid", UnionId::parse(&self.unionid))?,
        };
        let status = match (&*self.status, self.why.as_deref()) {
            ("active", None) => ClaimStatus::Active,
            ("contested", Some(why)) => {
                ClaimStatus::Contested(known("claims.why", Why::from_word(why))?)
            }
            _ => {
                return Err(FieldError::invalid(
                    "claims.status",
                    "is none that is known",
                ));
            }
        };
        let method = method_of(&self.method, self.key_from.as_deref());
        Ok(ClaimRow {
            key: ClaimKey {
                account: account.clone(),
                union,
            },
            at: self.time.0,
            method: known("claims.method", method)?,
            cause: cause.clone(),
            status,
            verdict: None,
            reported: status != ClaimStatus::Active,
        })
    }
}

/// Reads the value of a record on `account-links`.
///
/// # Errors
/// [`FieldError`] if it is not one.
pub fn parse_linked(bytes: &[u8]) -> Result<LinkedWire<'_>, FieldError> {
    read(bytes)
}

/// The word for a method, and whose session key it was.
pub(super) fn method_words(method: Method) -> (&'static str, Option<&'static str>) {
    match method {
        Method::Decrypted => ("decrypted", Some("exchange")),
        Method::DecryptedEventKey => ("decrypted", Some("event")),
        other => (other.word(), None),
    }
}

fn method_of(word: &str, key_from: Option<&str>) -> Option<Method> {
    match (word, key_from) {
        ("decrypted", Some("exchange")) => Some(Method::Decrypted),
        ("decrypted", Some("event")) => Some(Method::DecryptedEventKey),
        ("decrypted" | "decrypted_event_key", _) | (_, Some(_)) => None,
        (word, None) => Method::from_word(word),
    }
}

fn link_word(method: LinkMethod) -> &'static str {
    match method {
        LinkMethod::By(method) => method_words(method).0,
        LinkMethod::Operator => Method::Operator.word(),
        LinkMethod::Merge => "merge",
        LinkMethod::None => "none",
    }
}

/// The inverse of [`link_word`]; whose session key it was stands with the active claim.
fn link_method(word: &str, linked: &Linked) -> Result<LinkMethod, FieldError> {
    let newest = |claim: &&ClaimRow| {
        claim.status == ClaimStatus::Active
            && Some(&claim.key.union.platform) == linked.platform.as_ref()
            && Some(&claim.key.union.unionid) == linked.unionid.as_ref()
    };
    match word {
        "merge" => Ok(LinkMethod::Merge),
        "none" => Ok(LinkMethod::None),
        "operator" => Ok(LinkMethod::Operator),
        "decrypted" => {
            let claim = linked.claims.iter().find(newest);
            known("claims", claim.map(|c| LinkMethod::By(c.method)))
        }
        other => known("method", Method::from_word(other).map(LinkMethod::By)),
    }
}

fn known<T>(field: &str, value: Option<T>) -> Result<T, FieldError> {
    value.ok_or_else(|| FieldError::invalid(field, "is none that is known"))
}

fn shown(claims: &[ClaimRow]) -> Vec<ClaimWire<'_>> {
    let active = |claim: &&ClaimRow| claim.status == ClaimStatus::Active;
    let (first, rest) = (
        claims.iter().filter(active),
        claims.iter().filter(|c| !active(c)),
    );
    let mut shown = Vec::with_capacity(claims.len().min(MAX_CLAIMS));
    shown.extend(first.chain(rest).take(MAX_CLAIMS).map(ClaimWire::of));
    shown
}

/// Why the account is unresolved: every claim contested goes before what the last event lacked.
fn reason(linked: &Linked) -> (Option<Cow<'static, str>>, Option<Time>) {
    if linked.method != LinkMethod::None {
        return (None, None);
    }
    let contested = |claim: &ClaimRow| claim.status != ClaimStatus::Active;
    let all = !linked.claims.is_empty() && linked.claims.iter().all(contested);
    match linked.row.reason {
        _ if all => (Some(Reason::Contested.word().into()), None),
        Some((at, reason)) => (Some(reason.word().into()), Some(Time(at))),
        None => (Some(Reason::NoUnionid.word().into()), None),
    }
}

fn revision_id(row: &AccountRow, epoch: u32) -> Uuid {
    event_id(&[
        b"account.linked",
        row.account.key().as_bytes(),
        &epoch.to_be_bytes(),
        &row.revision.to_be_bytes(),
    ])
}
