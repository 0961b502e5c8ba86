//! Names of accounts, users and unionids as operators type them. What is wrong is said without
//! repeating it: it may be an identifier, and errors are kept in logs.

use super::Failure;
use crate::model::{
    Account, AppId, Apps, InvalidId, Millis, PlatformId, UnionId, UnionKey, UserId,
};
use uuid::Uuid;

/// Somebody, by a user id or by one of their accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A user id, current or not.
    User(UserId),
    /// An account.
    Account(Account),
}

/// Reads `APPID:OPENID`; `what` names it in the error.
///
/// # Errors
/// Wrong use.
pub fn account(what: &str, text: &str) -> Result<Account, Failure> {
    Account::from_key(text).map_err(|why| wrong(what, "an account, APPID:OPENID", why))
}

/// Reads a user id or an account.
///
/// # Errors
/// Wrong use.
pub fn who(what: &str, text: &str) -> Result<Who, Failure> {
    if text.contains(':') {
        return account(what, text).map(Who::Account);
    }
    let user = Uuid::try_parse(text).map(|id| Who::User(UserId(id)));
    user.map_err(|_| Failure::Usage(format!("{what} is neither a user id nor APPID:OPENID")))
}

/// Reads a platform and a unionid in it.
///
/// # Errors
/// Wrong use.
pub fn union(platform: &str, unionid: &str) -> Result<UnionKey, Failure> {
    Ok(UnionKey {
        platform: self::platform("PLATFORM", platform)?,
        unionid: UnionId::parse(unionid).map_err(|why| wrong("UNIONID", "a unionid", why))?,
    })
}

/// Reads an app that is configured.
///
/// # Errors
/// Wrong use.
pub fn app(what: &str, text: &str, apps: &Apps) -> Result<AppId, Failure> {
    let app = AppId::parse(text).map_err(|why| wrong(what, "an appid", why))?;
    configured(what, &app, apps)?;
    Ok(app)
}

/// An app that is not configured is mistyped: what were said of it would be that all is well.
///
/// # Errors
/// Wrong use; it names those that are.
pub fn configured(what: &str, app: &AppId, apps: &Apps) -> Result<(), Failure> {
    if apps.get(app).is_some() {
        return Ok(());
    }
    let known = apps.iter().map(|app| app.id.as_str());
    Err(missing(what, app.as_str(), known))
}

/// What is named stands nowhere in the configuration.
pub fn missing<'a>(what: &str, named: &str, known: impl Iterator<Item = &'a str>) -> Failure {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    let known = known.join(", ");
    Failure::Usage(format!(
        "{what}: {named} is not configured; there are {known}"
    ))
}

/// Reads a platform.
///
/// # Errors
/// Wrong use.
pub fn platform(what: &str, text: &str) -> Result<PlatformId, Failure> {
    PlatformId::parse(text).map_err(|why| wrong(what, "a platform", why))
}

/// Reads a moment.
///
/// # Errors
/// Wrong use.
pub fn moment(what: &str, text: &str) -> Result<Millis, Failure> {
    Millis::parse_rfc3339(text).ok_or_else(|| {
        let example = "a moment with an offset, such as 2026-01-31T08:00:00Z";
        Failure::Usage(format!("{what} is not {example}"))
    })
}

fn wrong(what: &str, wanted: &str, why: InvalidId) -> Failure {
    Failure::Usage(format!("{what} is not {wanted}: it {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_and_not_repeated() {
        for text in ["oSecret", "wx1:", "wx1:oSe cret", "undefined"] {
            let Err(Failure::Usage(why)) = who("WHO", text) else {
                panic!("{text} is somebody");
            };
            assert!(why.starts_with("WHO is "), "{why}");
            assert!(!why.contains("cret"), "{why}");
        }
        let Err(Failure::Usage(why)) = account("WHO", "oSecret") else {
            panic!("it is an account");
        };
        assert!(why.ends_with("it has no colon between the two"), "{why}");
        let id = "7ba2257c-4fe9-56b9-aa63-d543b6afaf51";
        assert!(matches!(who("WHO", id), Ok(Who::User(_))));
        assert!(matches!(who("WHO", "wx1:oA"), Ok(Who::Account(_))));
        assert!(union("main", "null").is_err() && moment("--since", "yesterday").is_err());
    }
}
