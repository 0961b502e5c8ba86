//! `unilink conflicts show`: all claims of an account, and what stands against each.

use super::ShowArgs;
use crate::cli::Failure;
use crate::cli::name::account;
use crate::cli::office::Office;
use crate::cli::shown::{ClaimJson, against_words, claim_line, say, say_json};
use crate::config::Config;
use crate::link::against;
use crate::model::{Account, View};
use serde_json::json;
use std::fmt::Write;

/// Shows.
pub(super) async fn run(config: Config, args: ShowArgs) -> Result<(), Failure> {
    let account = account("ACCOUNT", &args.account)?;
    let office = Office::open(config).await?;
    let view = office.around(std::slice::from_ref(&account)).await?;
    if args.json {
        let claims = view.claims.get(&account).into_iter().flatten();
        let claims = claims.map(|claim| {
            let against = against(&view, claim).map(|why| against_words(&why));
            json!({"claim": ClaimJson::of(claim), "against": against})
        });
        let claims: Vec<_> = claims.collect();
        let user = view.accounts.get(&account).map(|row| row.user.to_string());
        say_json(&json!({"user_id": user, "claims": claims}));
        return Ok(());
    }
    say(&text(&view, &account).map_err(Failure::failed)?);
    Ok(())
}

fn text(view: &View, account: &Account) -> Result<String, std::fmt::Error> {
    let Some(row) = view.accounts.get(account) else {
        return Ok(match view.tombstones.get(account) {
            Some(stone) => format!("Erased, up to {}.\n", stone.erased_at),
            None => "That account was never seen.\n".to_owned(),
        });
    };
    let mut text = String::new();
    writeln!(text, "{}  user {}", account.key(), row.user)?;
    let claims = view.claims.get(account).map_or(&[][..], Vec::as_slice);
    if claims.is_empty() {
        text.push_str("  It claims no unionid.\n");
    }
    for claim in claims {
        writeln!(text, "  {}", claim_line(claim))?;
        if let Some(why) = against(view, claim) {
            writeln!(text, "    because {}", against_words(&why))?;
        }
    }
    Ok(text)
}
