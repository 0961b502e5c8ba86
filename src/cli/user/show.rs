//! `unilink user show`: a user as the store has it.

use super::ShowArgs;
use crate::api::UserView;
use crate::cli::Failure;
use crate::cli::name::{Who, union, who};
use crate::cli::office::{Found, Office};
use crate::cli::shown::{claim_line, say, say_json};
use crate::config::Config;
use crate::model::{ClaimStatus, Keys, LinkMethod, Millis, UnionKey, UserId, present};
use crate::store::FoundAccount;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Claims on a unionid that are shown where none of them links.
const MOST: usize = 32;

enum Asked {
    Who(Who),
    Unionid(UnionKey),
}

/// Shows.
pub(super) async fn run(config: Config, args: ShowArgs) -> Result<(), Failure> {
    let asked = match (&args.who, args.unionid.as_deref()) {
        (Some(text), None) => Asked::Who(who("WHO", text)?),
        (None, Some([platform, unionid])) => Asked::Unionid(union(platform, unionid)?),
        _ => {
            let why = "say whom: a user id, APPID:OPENID, or --unionid PLATFORM UNIONID";
            return Err(Failure::Usage(why.to_owned()));
        }
    };
    let office = Office::open(config).await?;
    let (found, by) = match &asked {
        Asked::Who(Who::User(id)) => (office.find(&Who::User(*id)).await?, Some(*id)),
        Asked::Who(who) => (office.find(who).await?, None),
        Asked::Unionid(union) => match office.store.find_unionid(union).await {
            Err(error) => return Err(Failure::failed(error)),
            Ok(Some(user)) => (office.find(&Who::User(user)).await?, None),
            Ok(None) if args.json => (Found::Unknown, None),
            Ok(None) => return unlinked(&office, union).await,
        },
    };
    match args.json {
        true => say_json(&as_json(&office, &found, by)?),
        false => say(&as_text(&office, &found, by)?),
    }
    Ok(())
}

/// A unionid that links nobody: who claims it, and what became of that.
async fn unlinked(office: &Office, union: &UnionKey) -> Result<(), Failure> {
    let keys = Keys {
        accounts: BTreeSet::new(),
        unionids: [union.clone()].into(),
    };
    let view = office.view(&keys).await?;
    let Some(read) = view.unionids.get(union) else {
        say("No account ever claimed this unionid.\n");
        return Ok(());
    };
    let mut text = "No claim on this unionid links:\n".to_owned();
    for claim in read.claims.iter().take(MOST) {
        writeln!(text, "  {}", claim.key.account.key()).map_err(Failure::failed)?;
        writeln!(text, "    {}", claim_line(claim)).map_err(Failure::failed)?;
    }
    if read.truncated || read.claims.len() > MOST {
        text.push_str("  and more\n");
    }
    say(&text);
    Ok(())
}

fn as_json(office: &Office, found: &Found, by: Option<UserId>) -> Result<Value, Failure> {
    let parts = &office.parts;
    let epoch = parts.store.identity().epoch;
    Ok(match found {
        Found::User(user, accounts) => {
            let merged = by.is_some_and(|id| id != *user);
            let view = UserView::of(*user, accounts, &parts.apps, epoch);
            let mut value = serde_json::to_value(view).map_err(Failure::failed)?;
            value["state"] = if merged { "merged" } else { "current" }.into();
            value
        }
        Found::Erased(at) => json!({"state": "erased", "erased_at": at.map(|at| at.to_string())}),
        Found::Unknown => json!({"state": "unknown"}),
    })
}

fn as_text(office: &Office, found: &Found, by: Option<UserId>) -> Result<String, Failure> {
    match found {
        Found::Unknown => {
            Ok("Nobody: it was never published, and no login of it was seen.\n".into())
        }
        Found::Erased(None) => Ok("Erased.\n".into()),
        Found::Erased(Some(at)) => Ok(format!("Erased: what it did up to {at} has no effect.\n")),
        Found::User(user, accounts) => {
            user_text(office, *user, accounts, by).map_err(Failure::failed)
        }
    }
}

fn user_text(
    office: &Office,
    user: UserId,
    accounts: &[FoundAccount],
    by: Option<UserId>,
) -> Result<String, std::fmt::Error> {
    let mut text = format!("user {user}\n");
    if let Some(old) = by.filter(|id| *id != user) {
        writeln!(text, "  {old} was merged into it")?;
    }
    let since = accounts.iter().map(|found| found.row.first_seen_at).min();
    let since = since.unwrap_or_default();
    writeln!(text, "  first seen {since}, accounts: {}", accounts.len())?;
    for found in accounts {
        account_text(&mut text, office, found)?;
    }
    Ok(text)
}

fn account_text(
    text: &mut String,
    office: &Office,
    found: &FoundAccount,
) -> Result<(), std::fmt::Error> {
    let row = &found.row;
    writeln!(text, "\n{}", row.account.key())?;
    write!(text, "  first seen {}", row.first_seen_at)?;
    write!(text, ", revision {}", row.revision)?;
    if let Some((_, id)) = &row.external {
        write!(text, ", external id {}", id.as_str())?;
    }
    if row.generation > Millis(0) {
        write!(text, ", erased before at {}", row.generation)?;
    }
    let shown = present(row, &found.claims, &office.parts.apps);
    match (shown.method, shown.reason) {
        (LinkMethod::None, reason) => {
            let reason = reason.map_or("no_unionid", |reason| reason.word());
            writeln!(text, "\n  unresolved: {reason}")?;
        }
        (method, _) => writeln!(text, "\n  linked: {}", method.shown())?,
    }
    // What links comes first.
    let contested = |claim: &&crate::model::ClaimRow| claim.status != ClaimStatus::Active;
    let mut claims: Vec<_> = found.claims.iter().collect();
    claims.sort_by_key(contested);
    for claim in claims {
        writeln!(text, "  {}", claim_line(claim))?;
    }
    Ok(())
}
