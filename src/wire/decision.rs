//! Operators' decisions and erasures on the login topic (`unilink.decision.v1`,
//! `unilink.erasure.v1`): flat JSON, signed ([`super::operator`]).

use super::event::{ce, id, json, keyed, pair, types};
use super::field::{FieldError, read};
use super::operator::{SIGNATURE, Signer, check_words};
use super::{Time, Topics};
use crate::bus::Record;
use crate::model::{
    Account, AppId, ClaimVerdict, Decision, Erasure, EventId, Millis, OpenId, PlatformId, Ruling,
    UnionId, UnionKey,
};
use serde::{Deserialize, Serialize};

/// The latest time wins, so one from the future would win for ever; and an erasure of the future
/// would swallow logins to come. Milliseconds ahead of the record's own time.
const MAX_AHEAD: i64 = 5 * 60_000;
/// What an operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub(super) enum Word {
    /// The claim goes before all others.
    Accept,
    /// The claim does not link.
    Reject,
    /// An earlier word about the claim is taken back.
    Withdraw,
    /// The two accounts are never one user.
    NeverMerge,
    /// `never_merge` is taken back.
    AllowMerge,
}

impl Word {
    pub(super) fn of_claim(verdict: Option<ClaimVerdict>) -> Self {
        match verdict {
            Some(ClaimVerdict::Accept) => Self::Accept,
            Some(ClaimVerdict::Reject) => Self::Reject,
            None => Self::Withdraw,
        }
    }

    pub(super) fn of_pair(never: bool) -> Self {
        if never {
            Self::NeverMerge
        } else {
            Self::AllowMerge
        }
    }
}

/// A decision: about a claim (`platform`, `unionid`) or about a pair (`other_appid`,
/// `other_openid`).
#[derive(Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "decision v1",
    extend("oneOf" = [
        {
            "required": ["platform", "unionid"],
            "properties": {"ruling": {"enum": ["accept", "reject", "withdraw"]}, "other_appid": {"type": "null"}, "other_openid": {"type": "null"}}
        },
        {
            "required": ["other_appid", "other_openid"],
            "properties": {"ruling": {"enum": ["never_merge", "allow_merge"]}, "platform": {"type": "null"}, "unionid": {"type": "null"}}
        }
    ])
)]
pub struct DecisionWire {
    /// The id of this event.
    #[schemars(length(min = 1, max = 128))]
    id: String,
    /// When; of several decisions about the same the latest counts.
    decided_at: Time,
    /// Who decides.
    #[schemars(length(min = 1, max = 128))]
    author: String,
    /// Why, in the operator's words.
    #[schemars(length(max = 1024))]
    note: String,
    /// What is decided.
    ruling: Word,
    /// The account whose claim it is, or one of the pair.
    appid: String,
    /// The account whose claim it is, or one of the pair.
    openid: String,
    /// The claim's platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    /// The claim's unionid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unionid: Option<String>,
    /// The other of the pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other_appid: Option<String>,
    /// The other of the pair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other_openid: Option<String>,
}

impl DecisionWire {
    /// Reads a decision's value; `recorded_at` is the record's time ([`super::recorded_at`]).
    ///
    /// # Errors
    /// [`FieldError`] names the field and the remedy.
    pub fn parse(bytes: &[u8], recorded_at: Millis) -> Result<Decision, FieldError> {
        let wire: Self = read(bytes)?;
        not_ahead("decided_at", wire.decided_at, recorded_at)?;
        check_words(&wire.author, &wire.note)?;
        let cause = id("id", EventId::parse(&wire.id))?;
        let ruling = wire.ruling()?;
        Ok(Decision {
            ruling,
            at: wire.decided_at.0,
            author: wire.author,
            note: wire.note,
            cause,
        })
    }

    /// The signed record of a decision, under the key of its (first) account.
    #[must_use]
    pub fn to_record(
        decision: &Decision,
        topics: &Topics,
        source: &str,
        signer: &Signer,
    ) -> Record {
        let (account, wire) = Self::of(decision);
        signed(
            types::DECISION,
            &wire.id,
            wire.decided_at,
            account,
            json(&wire, 512),
            (topics, source, signer),
        )
    }

    fn of(decision: &Decision) -> (&Account, Self) {
        let (account, word) = match &decision.ruling {
            Ruling::Claim {
                account, verdict, ..
            } => (account, Word::of_claim(*verdict)),
            Ruling::Pair { a, never, .. } => (a, Word::of_pair(*never)),
        };
        let mut wire = Self {
            id: decision.cause.as_str().to_owned(),
            decided_at: Time(decision.at),
            author: decision.author.clone(),
            note: decision.note.clone(),
            ruling: word,
            appid: account.app.as_str().to_owned(),
            openid: account.openid.as_str().to_owned(),
            platform: None,
            unionid: None,
            other_appid: None,
            other_openid: None,
        };
        match &decision.ruling {
            Ruling::Claim { union, .. } => {
                wire.platform = Some(union.platform.as_str().to_owned());
                wire.unionid = Some(union.unionid.as_str().to_owned());
            }
            Ruling::Pair { b, .. } => {
                wire.other_appid = Some(b.app.as_str().to_owned());
                wire.other_openid = Some(b.openid.as_str().to_owned());
            }
        }
        (account, wire)
    }

    fn ruling(&self) -> Result<Ruling, FieldError> {
        let account = account(("appid", &self.appid), ("openid", &self.openid))?;
        match self.ruling {
            Word::Accept => self.claim(account, Some(ClaimVerdict::Accept)),
            Word::Reject => self.claim(account, Some(ClaimVerdict::Reject)),
            Word::Withdraw => self.claim(account, None),
            Word::NeverMerge => self.pair(account, true),
            Word::AllowMerge => self.pair(account, false),
        }
    }

    fn claim(&self, account: Account, verdict: Option<ClaimVerdict>) -> Result<Ruling, FieldError> {
        absent(
            "other_appid",
            self.other_appid.as_ref(),
            "is about a pair; this ruling is about a claim",
        )?;
        absent(
            "other_openid",
            self.other_openid.as_ref(),
            "is about a pair; this ruling is about a claim",
        )?;
        let platform = present("platform", self.platform.as_deref())?;
        let unionid = present("unionid", self.unionid.as_deref())?;
        let union = UnionKey {
            platform: id("platform", PlatformId::parse(platform))?,
            unionid: id("unionid", UnionId::parse(unionid))?,
        };
        Ok(Ruling::Claim {
            account,
            union,
            verdict,
        })
    }

    fn pair(&self, one: Account, never: bool) -> Result<Ruling, FieldError> {
        absent(
            "platform",
            self.platform.as_ref(),
            "is about a claim; this ruling is about a pair",
        )?;
        absent(
            "unionid",
            self.unionid.as_ref(),
            "is about a claim; this ruling is about a pair",
        )?;
        let app = present("other_appid", self.other_appid.as_deref())?;
        let openid = present("other_openid", self.other_openid.as_deref())?;
        let other = account(("other_appid", app), ("other_openid", openid))?;
        if one == other {
            let problem = "is the same account: a pair has two";
            return Err(FieldError::contradictory("other_openid", problem));
        }
        let (a, b) = if one < other {
            (one, other)
        } else {
            (other, one)
        };
        Ok(Ruling::Pair { a, b, never })
    }
}

/// The erasure of one account.
#[derive(Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "erasure v1")]
pub struct ErasureWire {
    /// The id of this event.
    #[schemars(length(min = 1, max = 128))]
    id: String,
    /// Events of the account up to this time have no effect any more.
    erased_at: Time,
    /// The account.
    appid: String,
    /// The account.
    openid: String,
}

impl ErasureWire {
    /// Reads an erasure's value; `recorded_at` is the record's time ([`super::recorded_at`]).
    ///
    /// # Errors
    /// [`FieldError`] names the field and the remedy.
    pub fn parse(bytes: &[u8], recorded_at: Millis) -> Result<Erasure, FieldError> {
        let wire: Self = read(bytes)?;
        not_ahead("erased_at", wire.erased_at, recorded_at)?;
        Ok(Erasure {
            account: account(("appid", &wire.appid), ("openid", &wire.openid))?,
            erased_at: wire.erased_at.0,
            cause: id("id", EventId::parse(&wire.id))?,
        })
    }

    /// The signed record of an erasure, under the account's key.
    #[must_use]
    pub fn to_record(erasure: &Erasure, topics: &Topics, source: &str, signer: &Signer) -> Record {
        let wire = Self {
            id: erasure.cause.as_str().to_owned(),
            erased_at: Time(erasure.erased_at),
            appid: erasure.account.app.as_str().to_owned(),
            openid: erasure.account.openid.as_str().to_owned(),
        };
        signed(
            types::ERASURE,
            &wire.id,
            wire.erased_at,
            &erasure.account,
            json(&wire, 256),
            (topics, source, signer),
        )
    }
}

pub(super) fn signed(
    ty: &str,
    event: &str,
    at: Time,
    account: &Account,
    value: Vec<u8>,
    (topics, source, signer): (&Topics, &str, &Signer),
) -> Record {
    let mut headers = ce(ty, event, source, at);
    headers.push(pair(SIGNATURE, &signer.sign(ty, &value)));
    keyed(&topics.logins, account.key().into_bytes(), value, headers)
}

pub(super) fn account(
    (app_field, app): (&str, &str),
    (openid_field, openid): (&str, &str),
) -> Result<Account, FieldError> {
    Ok(Account {
        app: id(app_field, AppId::parse(app))?,
        openid: id(openid_field, OpenId::parse(openid))?,
    })
}

pub(super) fn not_ahead(field: &str, at: Time, recorded_at: Millis) -> Result<(), FieldError> {
    if at.0 > recorded_at.plus(MAX_AHEAD) {
        return Err(FieldError::invalid(field, "lies more than 5 minutes ahead"));
    }
    Ok(())
}

pub(super) fn present<'a>(field: &str, value: Option<&'a str>) -> Result<&'a str, FieldError> {
    value.ok_or_else(|| FieldError::invalid(field, "is missing: this ruling needs it"))
}

fn absent(field: &str, value: Option<&String>, problem: &str) -> Result<(), FieldError> {
    match value {
        Some(_) => Err(FieldError::contradictory(field, problem)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, OperatorKeys, kind};
    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    fn decision(ruling: Ruling) -> Decision {
        Decision {
            ruling,
            at: NOW,
            author: "ada@example.com".into(),
            note: "ticket 7".into(),
            cause: EventId::parse("dec-1").expect("id"),
        }
    }

    fn acc(key: &str) -> Account {
        Account::from_key(key).expect("account")
    }

    #[test]
    fn decisions_round_trip_signed() {
        let signer = Signer::new("ops", &[1; 32]);
        let public = signer.public();
        let keys = OperatorKeys::parse([public.as_str()]).expect("keys");
        let union = UnionKey {
            platform: PlatformId::parse("main").expect("platform"),
            unionid: UnionId::parse("uA").expect("unionid"),
        };
        let claim = |verdict| Ruling::Claim {
            account: acc("wx1:oA"),
            union: union.clone(),
            verdict,
        };
        let pair = |never| Ruling::Pair {
            a: acc("wx1:oA"),
            b: acc("wx2:oB"),
            never,
        };
        for ruling in [
            claim(None),
            claim(Some(ClaimVerdict::Accept)),
            claim(Some(ClaimVerdict::Reject)),
            pair(true),
            pair(false),
        ] {
            let decision = decision(ruling);
            let record = DecisionWire::to_record(&decision, &Topics::default(), "unilink", &signer);
            let value = record.value.expect("value");
            assert_eq!(record.key, b"wx1:oA");
            assert_eq!(kind(&record.headers), Some(Kind::Decision));
            assert!(
                keys.verify(types::DECISION, &value, &record.headers)
                    .is_ok()
            );
            assert_eq!(DecisionWire::parse(&value, NOW), Ok(decision));
        }
    }

    #[test]
    fn decisions_that_make_no_sense_name_the_field() {
        let base = format!(
            r#""id":"d","decided_at":"{NOW}","author":"a","note":"","appid":"wx1","openid":"oA""#
        );
        let claim = r#""ruling":"accept","platform":"main","unionid":"uA""#;
        let pair = r#""ruling":"never_merge","other_appid":"wx1","other_openid":"oB""#;
        let parse = |base: &str, rest: &str| {
            DecisionWire::parse(format!("{{{base},{rest}}}").as_bytes(), NOW)
        };
        assert!(parse(&base, claim).is_ok() && parse(&base, pair).is_ok());
        for (base, rest, field) in [
            (base.clone(), claim.replace("uA", "null"), "unionid"),
            (base.clone(), claim.replace("accept", "maybe"), "ruling"),
            (
                base.clone(),
                format!(r#"{claim},"other_appid":"wx2""#),
                "other_appid",
            ),
            (
                base.clone(),
                r#""ruling":"accept","platform":"main""#.into(),
                "unionid",
            ),
            (base.clone(), pair.replace("oB", "oA"), "other_openid"),
            (
                base.clone(),
                format!(r#"{pair},"platform":"main""#),
                "platform",
            ),
            (
                base.replace(r#""author":"a""#, r#""author":" ""#),
                claim.into(),
                "author",
            ),
            (
                base.replace(&NOW.to_string(), &NOW.plus(MAX_AHEAD + 1).to_string()),
                claim.into(),
                "decided_at",
            ),
            (
                base.replace(&NOW.to_string(), "soon"),
                claim.into(),
                "decided_at",
            ),
        ] {
            assert_eq!(
                parse(&base, &rest).expect_err(field).field,
                field,
                "{base},{rest}"
            );
        }
    }

    #[test]
    fn erasures_round_trip() {
        let signer = Signer::new("ops", &[1; 32]);
        let erasure = Erasure {
            account: acc("wx1:oA"),
            erased_at: NOW,
            cause: EventId::parse("er-1").expect("id"),
        };
        let record = ErasureWire::to_record(&erasure, &Topics::default(), "unilink", &signer);
        let value = record.value.expect("value");
        assert_eq!(ErasureWire::parse(&value, NOW), Ok(erasure));
        let late = ErasureWire::parse(&value, NOW.plus(-MAX_AHEAD - 1)).expect_err("ahead");
        assert_eq!(late.field, "erased_at");
    }
}
