//! `unilink user explain`: which claims make two accounts one user, or why they are not one.

use super::ExplainArgs;
use crate::cli::Failure;
use crate::cli::name::account;
use crate::cli::office::Office;
use crate::cli::shown::{ClaimJson, against_words, claim_line, ruled_words, say, say_json};
use crate::config::Config;
use crate::link::{Explained, against, explain};
use crate::model::{Account, ClaimRow, PlatformId, View, present};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Explains.
pub(super) async fn run(config: Config, args: ExplainArgs) -> Result<(), Failure> {
    let (a, b) = (account("A", &args.a)?, account("B", &args.b)?);
    if a == b {
        let why = "A and B are the same account: name two";
        return Err(Failure::Usage(why.to_owned()));
    }
    let office = Office::open(config).await?;
    let view = office.around(&[a.clone(), b.clone()]).await?;
    let told = explain(&view, &a, &b);
    if args.json {
        say_json(&as_json(&view, &told, [&a, &b]));
        return Ok(());
    }
    let text = match &told.path {
        Some(path) => joined(&view, path, [&a, &b]),
        None => apart(&office, &view, &told, [&a, &b]),
    };
    say(&text.map_err(Failure::failed)?);
    Ok(())
}

fn as_json(view: &View, told: &Explained<'_>, [a, b]: [&Account; 2]) -> Value {
    let claims = |path: &Option<Vec<&ClaimRow>>| {
        let path = path.as_ref();
        path.map(|path| path.iter().map(|c| ClaimJson::of(c)).collect::<Vec<_>>())
    };
    let user = |of: &Account| view.accounts.get(of).map(|row| row.user.to_string());
    json!({
        "one_user": told.path.is_some(),
        "user_ids": [user(a), user(b)],
        "path": claims(&told.path),
        "but_for": claims(&told.but_for),
        "never_merge": told.never.map(|ruled| json!({
            "author": ruled.author, "at": ruled.at.to_string(), "note": ruled.note,
        })),
    })
}

fn joined(
    view: &View,
    path: &[&ClaimRow],
    [a, b]: [&Account; 2],
) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    if let Some(row) = view.accounts.get(a) {
        writeln!(text, "One user, {}, because:", row.user)?;
    }
    for claim in path {
        writeln!(text, "  {}", claim.key.account.key())?;
        writeln!(text, "    {}", claim_line(claim))?;
    }
    let steps = path.len() / 2;
    if steps > 1 {
        writeln!(
            text,
            "{steps} unionids lead from {} to {}.",
            a.key(),
            b.key()
        )?;
    }
    Ok(text)
}

fn apart(
    office: &Office,
    view: &View,
    told: &Explained<'_>,
    accounts: [&Account; 2],
) -> Result<String, std::fmt::Error> {
    let mut text = "Not one user:\n".to_owned();
    for account in accounts {
        standing(&mut text, office, view, account)?;
    }
    if let Some(ruled) = told.never {
        writeln!(
            text,
            "They are never to be one user, by {}",
            ruled_words(ruled)
        )?;
    }
    if let Some(path) = &told.but_for {
        text.push_str("Claims lead from one to the other, but some of them link nobody:\n");
        for claim in path {
            writeln!(text, "  {}", claim.key.account.key())?;
            writeln!(text, "    {}", claim_line(claim))?;
            if let Some(why) = against(view, claim) {
                writeln!(text, "    because {}", against_words(&why))?;
            }
        }
        return Ok(text);
    }
    let [a, b] = accounts.map(|account| platforms(view, account));
    match a.is_disjoint(&b) && !a.is_empty() && !b.is_empty() {
        true => text.push_str(
            "Their claims are in different platforms, where unionids cannot be compared.\n",
        ),
        false => text.push_str("No claims lead from one to the other.\n"),
    }
    Ok(text)
}

/// Where one of the two stands.
fn standing(
    text: &mut String,
    office: &Office,
    view: &View,
    account: &Account,
) -> Result<(), std::fmt::Error> {
    let Some(row) = view.accounts.get(account) else {
        let gone = view.tombstones.get(account);
        let how = gone.map_or("never seen".to_owned(), |stone| {
            format!("erased, up to {}", stone.erased_at)
        });
        return writeln!(text, "  {}  {how}", account.key());
    };
    let claims = view.claims.get(account).map_or(&[][..], Vec::as_slice);
    let reason = present(row, claims, &office.parts.apps).reason;
    let reason = reason.map_or(String::new(), |why| format!(", unresolved: {why}"));
    writeln!(text, "  {}  user {}{reason}", account.key(), row.user)
}

fn platforms<'v>(view: &'v View, account: &Account) -> BTreeSet<&'v PlatformId> {
    let claims = view.claims.get(account).into_iter().flatten();
    claims.map(|claim| &claim.key.union.platform).collect()
}
