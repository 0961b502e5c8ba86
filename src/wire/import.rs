//! What an imported table says of an account, as an event on the login topic (`unilink.import.v1`):
//! flat JSON, signed ([`super::operator`]). Unlike a login it may be years old, and the earliest time
//! names the user: therefore the signature.

use super::decision::{account, not_ahead, signed};
use super::event::{event_id, id, json, types};
use super::field::{FieldError, read};
use super::{Signer, Time, Topics};
use crate::bus::Record;
use crate::model::{Account, EventId, ExternalId, Import, Millis, PlatformId, UnionId, UnionKey};
use serde::{Deserialize, Serialize};

/// WeChat began in January 2011; an earlier time is most often one in seconds.
const FIRST: Millis = Millis(1_293_840_000_000);
/// An app has had a handful of platforms.
const MAX_CLAIMS: usize = 32;

/// An account as a table has it.
#[derive(Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "import v1")]
pub struct ImportWire {
    /// The id of this event: a hash of all the rest, so that a table that is imported twice is the
    /// same events.
    #[schemars(length(min = 1, max = 128))]
    id: String,
    /// When the account was first seen; 2011 or later.
    first_seen_at: Time,
    /// The account.
    appid: String,
    /// The account.
    openid: String,
    /// Its unionids, each in a platform of the app's.
    #[schemars(length(max = 32))]
    claims: Vec<ClaimedWire>,
    /// The company's own id for the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external_id: Option<String>,
}

/// A unionid in its platform.
#[derive(Clone, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct ClaimedWire {
    /// The platform.
    platform: String,
    /// The unionid.
    unionid: String,
}

impl ImportWire {
    /// Reads an import's value; `recorded_at` is the record's time ([`super::recorded_at`]).
    ///
    /// # Errors
    /// [`FieldError`] names the field and the remedy.
    pub fn parse(bytes: &[u8], recorded_at: Millis) -> Result<Import, FieldError> {
        let wire: Self = read(bytes)?;
        check_time(wire.first_seen_at.0, recorded_at)?;
        if wire.claims.len() > MAX_CLAIMS {
            let problem = format!("has more than {MAX_CLAIMS} entries");
            return Err(FieldError::invalid("claims", problem));
        }
        let union = |claimed: &ClaimedWire| {
            if claimed.unionid == wire.openid {
                let problem = "is the openid: leave it out if there is none";
                return Err(FieldError::invalid("claims.unionid", problem));
            }
            Ok(UnionKey {
                platform: id("claims.platform", PlatformId::parse(&claimed.platform))?,
                unionid: id("claims.unionid", UnionId::parse(&claimed.unionid))?,
            })
        };
        let external = wire.external_id.as_deref().map(ExternalId::parse);
        Ok(Import {
            cause: id("id", EventId::parse(&wire.id))?,
            account: account(("appid", &wire.appid), ("openid", &wire.openid))?,
            first_seen_at: wire.first_seen_at.0,
            unions: wire.claims.iter().map(union).collect::<Result<_, _>>()?,
            external_id: external.map(|e| id("external_id", e)).transpose()?,
        })
    }

    /// The signed record of an import, under the account's key.
    #[must_use]
    pub fn to_record(import: &Import, topics: &Topics, source: &str, signer: &Signer) -> Record {
        let claimed = |union: &UnionKey| ClaimedWire {
            platform: union.platform.as_str().to_owned(),
            unionid: union.unionid.as_str().to_owned(),
        };
        let wire = Self {
            id: import.cause.as_str().to_owned(),
            first_seen_at: Time(import.first_seen_at),
            appid: import.account.app.as_str().to_owned(),
            openid: import.account.openid.as_str().to_owned(),
            claims: import.unions.iter().map(claimed).collect(),
            external_id: import.external_id.as_ref().map(|e| e.as_str().to_owned()),
        };
        signed(
            types::IMPORT,
            &wire.id,
            wire.first_seen_at,
            &import.account,
            json(&wire, 384),
            (topics, source, signer),
        )
    }
}

/// Whether an account can have been first seen then.
///
/// # Errors
/// [`FieldError`] names `first_seen_at`.
pub fn check_time(at: Millis, now: Millis) -> Result<(), FieldError> {
    not_ahead("first_seen_at", Time(at), now)?;
    if at < FIRST {
        let problem = "lies before 2011, when WeChat began: write it as RFC 3339 or in \
                       milliseconds since 1970";
        return Err(FieldError::invalid("first_seen_at", problem));
    }
    Ok(())
}

/// The id of an import's event: the same whenever the same is imported, and nobody can tell the openid
/// from it.
#[must_use]
pub fn import_id(
    account: &Account,
    first_seen_at: Millis,
    unions: &[UnionKey],
    external_id: Option<&ExternalId>,
) -> String {
    let (key, at) = (account.key(), first_seen_at.0.to_be_bytes());
    let mut parts: Vec<&[u8]> = vec![b"import", key.as_bytes(), &at];
    parts.push(external_id.map_or(b"", |e| e.as_str().as_bytes()));
    for union in unions {
        parts.push(union.platform.as_str().as_bytes());
        parts.push(union.unionid.as_str().as_bytes());
    }
    format!("import-{}", event_id(&parts))
}

/// The id of the erasure that an import repeats: the account's life began after it.
#[must_use]
pub fn erasure_id(account: &Account, erased_at: Millis) -> String {
    let (key, at) = (account.key(), erased_at.0.to_be_bytes());
    let parts: [&[u8]; 3] = [b"import erasure", key.as_bytes(), &at];
    format!("import-{}", event_id(&parts))
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, OperatorKeys, kind};
    use super::*;

    const NOW: Millis = Millis(1_800_000_000_000);

    #[test]
    fn what_makes_no_sense_names_the_field() {
        let good = r#"{"id":"i","first_seen_at":"2020-01-31T08:00:00Z","appid":"wx1","openid":"oA",
            "claims":[{"platform":"main","unionid":"uA"}],"external_id":"x"}"#;
        let parse = |text: &str| ImportWire::parse(text.as_bytes(), NOW);
        assert!(parse(good).is_ok());
        for (from, to, field) in [
            ("oA", "undefined", "openid"),
            ("uA", "null", "claims.unionid"),
            ("uA", "oA", "claims.unionid"),
            ("main", "", "claims.platform"),
            ("wx1", "wx:1", "appid"),
            ("2020-01-31", "2010-12-31", "first_seen_at"),
            ("2020-01-31", "2099-12-31", "first_seen_at"),
            ("2020-01-31T08:00:00Z", "soon", "first_seen_at"),
            (r#""x""#, r#""""#, "external_id"),
            (r#""id":"i""#, r#""id":"""#, "id"),
            (r#""openid":"oA","#, "", "openid"),
            (r#""openid""#, r#""nickname":"n","openid""#, "nickname"),
        ] {
            let error = parse(&good.replace(from, to)).expect_err(to);
            assert_eq!(error.field, field, "{error}");
        }
    }

    #[test]
    fn the_same_row_is_the_same_event() {
        let account = |key| Account::from_key(key).expect("valid");
        let union = |p, u| UnionKey {
            platform: PlatformId::parse(p).expect("valid"),
            unionid: UnionId::parse(u).expect("valid"),
        };
        let external = ExternalId::parse("x").expect("valid");
        let (a, seen) = (account("wx1:oA"), Millis(1_500_000_000_000));
        let one = import_id(&a, seen, &[union("main", "uA")], None);
        assert_eq!(one, import_id(&a, seen, &[union("main", "uA")], None));
        assert!(!one.contains("oA") && one.len() <= 128);
        let others = [
            import_id(&account("wx1:oB"), seen, &[union("main", "uA")], None),
            import_id(&a, seen.plus(1), &[union("main", "uA")], None),
            import_id(&a, seen, &[union("main", "uB")], None),
            import_id(&a, seen, &[], None),
            import_id(&a, seen, &[union("main", "uA")], Some(&external)),
            erasure_id(&a, seen),
        ];
        assert!(!others.contains(&one));
        assert_ne!(erasure_id(&a, seen), erasure_id(&a, seen.plus(1)));
    }

    #[test]
    fn the_record_is_signed_under_the_accounts_key() {
        let signer = Signer::new("ops", &[1; 32]);
        let public = signer.public();
        let keys = OperatorKeys::parse([public.as_str()]).expect("keys");
        let import = Import {
            cause: EventId::parse("i").expect("valid"),
            account: Account::from_key("wx1:oA").expect("valid"),
            first_seen_at: NOW.plus(-5_000),
            unions: vec![],
            external_id: None,
        };
        let record = ImportWire::to_record(&import, &Topics::default(), "unilink", &signer);
        assert_eq!(record.key, b"wx1:oA");
        assert_eq!(kind(&record.headers), Some(Kind::Import));
        let value = record.value.expect("value");
        assert!(keys.verify(types::IMPORT, &value, &record.headers).is_ok());
        assert!(
            keys.verify(types::ERASURE, &value, &record.headers)
                .is_err()
        );
        assert_eq!(ImportWire::parse(&value, NOW), Ok(import));
    }
}
