//! A row of an imported table: its fields by name, and the account that it tells of.

use crate::model::{
    Account, AppId, Apps, EventId, ExternalId, Import, InvalidId, Millis, OpenId, PlatformId,
    UnionId, UnionKey,
};
use crate::wire::import::{check_time, erasure_id, import_id};
use serde::Deserialize;

/// The columns that are read.
pub const READ: [&str; 8] = [
    "appid",
    "openid",
    "unionid",
    "platform",
    "first_seen_at",
    "external_id",
    "claims",
    "generation",
];
/// The columns of an export that follow from the others, or begin anew.
const IGNORED: [&str; 6] = [
    "user_id",
    "method",
    "reason",
    "linked_at",
    "revision",
    "epoch",
];
/// Those that have to be there.
const NEEDED: [&str; 3] = ["appid", "openid", "first_seen_at"];

/// What is wrong with a row. Holds no value of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faulty {
    /// The column; empty if the whole row is wrong.
    pub field: &'static str,
    /// What is wrong, and the remedy.
    pub problem: String,
}

impl Faulty {
    pub(super) fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self {
            field,
            problem: problem.into(),
        }
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.problem);
        }
        write!(f, "{} {}", self.field, self.problem)
    }
}

/// What a row comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The account.
    pub import: Import,
    /// The erasure that its life began after, with the id of the event that repeats it.
    pub erased: Option<(Millis, EventId)>,
}

/// Which column stands where.
#[derive(Debug, Clone)]
pub struct Columns {
    /// For each column of the file, the place of its name in [`READ`].
    places: Vec<Option<usize>>,
}

/// The fields of a row, as [`READ`] names them. An empty one is absent.
pub type Fields = [Option<String>; READ.len()];

impl Columns {
    /// Reads the header.
    ///
    /// # Errors
    /// A column is unknown, stands twice, or is missing; the text names it.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut places = Vec::new();
        for name in names {
            let name = name.trim().trim_start_matches('\u{feff}');
            let place = place(name)?;
            if place.is_some() && places.contains(&place) {
                return Err(format!("column {name} stands twice"));
            }
            places.push(place);
        }
        let has = |name: &str| places.contains(&READ.iter().position(|known| *known == name));
        match NEEDED.iter().find(|name| !has(name)) {
            Some(missing) => Err(format!(
                "there is no column {missing}: the first line must name the columns ({})",
                READ.join(", ")
            )),
            None => Ok(Self { places }),
        }
    }

    /// The fields of a row with these columns.
    #[must_use]
    pub fn fields<'a>(&self, values: impl IntoIterator<Item = &'a str>) -> Fields {
        let mut fields = Fields::default();
        for (place, value) in self.places.iter().zip(values) {
            let value = value.trim();
            if let (Some(place), false) = (place, value.is_empty()) {
                fields[*place] = Some(value.to_owned());
            }
        }
        fields
    }
}

/// Where a column's value goes; `None`: it is known and left aside.
pub(super) fn place(name: &str) -> Result<Option<usize>, String> {
    match READ.iter().position(|known| *known == name) {
        Some(place) => Ok(Some(place)),
        None if IGNORED.contains(&name) => Ok(None),
        // A name is no value; a file without a header would show its first row.
        None if name.len() <= 20 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
            Err(format!(
                "there is no column {name:?}: there are {}",
                READ.join(", ")
            ))
        }
        None => Err(format!(
            "a column has a name that is none: the first line must name the columns ({})",
            READ.join(", ")
        )),
    }
}

/// A claim in the column `claims`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Claimed {
    platform: String,
    unionid: String,
}

/// Reads a row's fields.
pub(super) fn imported(fields: &Fields, apps: &Apps, now: Millis) -> Result<Imported, Faulty> {
    let [
        app,
        openid,
        unionid,
        platform,
        seen,
        external,
        claims,
        generation,
    ] = fields;
    let app = id("appid", app.as_deref(), AppId::parse)?;
    if apps.get(&app).is_none() {
        return Err(Faulty::new(
            "appid",
            "is not configured: add it to [[apps]]",
        ));
    }
    let openid = id("openid", openid.as_deref(), OpenId::parse)?;
    let account = Account { app, openid };
    let first_seen_at = time("first_seen_at", seen.as_deref(), now)?;
    let given = (unionid.as_deref(), platform.as_deref(), claims.as_deref());
    let unions = unions(&account, given, apps)?;
    let external = external.as_deref().map(ExternalId::parse).transpose();
    let external_id = external.map_err(|e| wrong("external_id", e))?;
    let erased = generation.as_deref().filter(|text| *text != "0");
    let erased = erased
        .map(|text| time("generation", Some(text), now))
        .transpose()?;
    if erased.is_some_and(|at| at >= first_seen_at) {
        return Err(Faulty::new("generation", "lies after first_seen_at"));
    }
    let cause = import_id(&account, first_seen_at, &unions, external_id.as_ref());
    let erased = erased.map(|at| Ok((at, event("generation", &erasure_id(&account, at))?)));
    let import = Import {
        cause: event("appid", &cause)?,
        account,
        first_seen_at,
        unions,
        external_id,
    };
    let stray = import
        .stray(apps)
        .map(|union| union.platform.as_str().to_owned());
    if let Some(platform) = stray {
        let problem = format!("{platform} is none of the app's: add it to [[apps.platforms]]");
        return Err(Faulty::new("platform", problem));
    }
    Ok(Imported {
        import,
        erased: erased.transpose()?,
    })
}

/// The unionids: those of `claims`, else the one of `unionid` in `platform`, else in the app's newest.
fn unions(
    account: &Account,
    (unionid, platform, claims): (Option<&str>, Option<&str>, Option<&str>),
    apps: &Apps,
) -> Result<Vec<UnionKey>, Faulty> {
    let platform = platform.map(|text| id("platform", Some(text), PlatformId::parse));
    let platform = platform.transpose()?;
    let platform = platform.or_else(|| apps.newest_platform(&account.app).cloned());
    let mut unions = Vec::new();
    if let Some(unionid) = unionid {
        let unionid = id("unionid", Some(unionid), UnionId::parse)?;
        let missing = "stands for nothing: its app has no platform; add [[apps.platforms]]";
        let platform = platform.ok_or_else(|| Faulty::new("unionid", missing))?;
        unions.push(UnionKey { platform, unionid });
    }
    let all = claims.map_or(Ok(Vec::new()), serde_json::from_str::<Vec<Claimed>>);
    let wanted = "must be a JSON array of objects with platform and unionid";
    for claim in all.map_err(|_| Faulty::new("claims", wanted))? {
        let union = UnionKey {
            platform: id("claims", Some(&claim.platform), PlatformId::parse)?,
            unionid: id("claims", Some(&claim.unionid), UnionId::parse)?,
        };
        let other = |known: &UnionKey| known.platform == union.platform && *known != union;
        if unions.iter().any(other) {
            let problem = "names two unionids of one platform; leave out the wrong one";
            return Err(Faulty::new("claims", problem));
        }
        if !unions.contains(&union) {
            unions.push(union);
        }
    }
    if unions
        .iter()
        .any(|u| u.unionid.as_str() == account.openid.as_str())
    {
        let problem = "is the openid: leave it empty if there is none";
        return Err(Faulty::new("unionid", problem));
    }
    unions.sort();
    Ok(unions)
}

fn id<T>(
    field: &'static str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, InvalidId>,
) -> Result<T, Faulty> {
    let text = text.ok_or_else(|| Faulty::new(field, "is missing"))?;
    parse(text).map_err(|e| wrong(field, e))
}

fn event(field: &'static str, text: &str) -> Result<EventId, Faulty> {
    EventId::parse(text).map_err(|e| wrong(field, e))
}

fn wrong(field: &'static str, why: InvalidId) -> Faulty {
    Faulty::new(field, why.to_string())
}

/// RFC 3339, or milliseconds since 1970.
fn time(field: &'static str, text: Option<&str>, now: Millis) -> Result<Millis, Faulty> {
    let text = text.ok_or_else(|| Faulty::new(field, "is missing"))?;
    let at = Millis::parse_rfc3339(text).or_else(|| text.parse().ok().map(Millis));
    let wanted = "must be a time: RFC 3339 with an offset (2026-01-31T08:00:00Z), or milliseconds \
                  since 1970";
    let at = at.ok_or_else(|| Faulty::new(field, wanted))?;
    check_time(at, now).map_err(|e| Faulty::new(field, e.problem))?;
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{App, AppKind, Binding, TokenSource};

    const NOW: Millis = Millis(1_800_000_000_000);

    fn apps() -> Apps {
        let app = |id: &str, platforms: &[(&str, i64)]| App {
            id: AppId::parse(id).expect("valid"),
            kind: AppKind::MiniProgram,
            secret: None,
            token: TokenSource::default(),
            component: None,
            bindings: (platforms.iter())
                .map(|(platform, since)| Binding {
                    platform: PlatformId::parse(platform).expect("valid"),
                    since: Millis(*since),
                })
                .collect(),
        };
        Apps::new(vec![
            app("wx1", &[("old", 0), ("main", 1_600_000_000_000)]),
            app("wx2", &[]),
        ])
    }

    fn read(row: [&str; 8]) -> Result<Imported, Faulty> {
        let columns = Columns::of(READ).expect("columns");
        imported(&columns.fields(row), &apps(), NOW)
    }

    const GOOD: [&str; 8] = ["wx1", "oA", "uA", "", "2020-01-31T08:00:00Z", "x1", "", ""];

    fn with(changes: &[(usize, &'static str)]) -> [&'static str; 8] {
        let mut row = GOOD;
        for (at, value) in changes {
            row[*at] = value;
        }
        row
    }

    #[test]
    fn a_row_is_an_account_with_its_unionids() {
        let good = read(GOOD).expect("good");
        let union = |p: &str, u: &str| UnionKey {
            platform: PlatformId::parse(p).expect("valid"),
            unionid: UnionId::parse(u).expect("valid"),
        };
        assert_eq!(
            good.import.unions,
            [union("main", "uA")],
            "in the newest platform"
        );
        assert_eq!(good.import.first_seen_at, Millis(1_580_457_600_000));
        assert_eq!(good.erased, None);
        let ms = read(with(&[(4, "1580457600000")])).expect("good");
        assert_eq!(ms, good, "the same event");
        let old = read(with(&[(3, "old")])).expect("good");
        assert_eq!(old.import.unions, [union("old", "uA")]);
        let both = r#"[{"platform":"main","unionid":"uA"},{"platform":"old","unionid":"uO"}]"#;
        let both = read(with(&[(6, both)])).expect("good");
        assert_eq!(
            both.import.unions,
            [union("main", "uA"), union("old", "uO")]
        );
        let again = read(with(&[(7, "1580457500000")])).expect("good");
        assert_eq!(
            again.erased.map(|(at, _)| at),
            Some(Millis(1_580_457_500_000))
        );
        let none = read(with(&[(0, "wx2"), (2, "")])).expect("no platform is needed");
        assert!(none.import.unions.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_and_not_repeated() {
        let two = r#"[{"platform":"main","unionid":"uSECRET"}]"#;
        for (changes, field) in [
            (vec![(0, "")], "appid"),
            (vec![(0, "wx9SECRET")], "appid"),
            (vec![(1, "")], "openid"),
            (vec![(1, "undefined")], "openid"),
            (vec![(1, "o SECRET")], "openid"),
            (vec![(2, "NULL")], "unionid"),
            (vec![(2, "oA")], "unionid"),
            (vec![(0, "wx2")], "unionid"),
            (vec![(3, "SECRET")], "platform"),
            (vec![(4, "")], "first_seen_at"),
            (vec![(4, "1580457600")], "first_seen_at"),
            (vec![(4, "2099-01-31T08:00:00Z")], "first_seen_at"),
            (vec![(4, "31.1.2020")], "first_seen_at"),
            (vec![(6, "SECRET")], "claims"),
            (vec![(6, two)], "claims"),
            (vec![(7, "2020-01-31T08:00:00Z")], "generation"),
        ] {
            let error = read(with(&changes)).expect_err(field);
            assert_eq!(error.field, field, "{changes:?}: {error}");
            // A platform's name is configuration.
            assert!(
                field == "platform" || !error.to_string().contains("SECRET"),
                "{error}"
            );
        }
    }

    #[test]
    fn headers_name_the_columns() {
        assert!(Columns::of(["\u{feff}appid", "openid", "first_seen_at", "user_id"]).is_ok());
        for (names, said) in [
            (
                vec!["appid", "openid", "first_seen_at", "nickname"],
                "nickname",
            ),
            (
                vec!["appid", "openid", "first_seen_at", "appid"],
                "appid stands twice",
            ),
            (vec!["appid", "openid"], "no column first_seen_at"),
            (vec!["wx1", "oA", "2020-01-31"], "first line"),
        ] {
            let error = Columns::of(names).expect_err(said);
            assert!(error.contains(said), "{error}");
            assert!(!error.contains("oA"));
        }
    }
}
