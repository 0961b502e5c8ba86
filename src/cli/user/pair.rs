//! `unilink user never-merge` and `allow-merge`: an operator's word about two accounts.

use super::PairArgs;
use crate::cli::Failure;
use crate::cli::deed::{Carried, Judge};
use crate::cli::name::account;
use crate::cli::office::{Office, people};
use crate::cli::shown::{outlook_lines, outlook_summary, people_lines, say, say_refused};
use crate::cli::word::{Agreed, latest, stands};
use crate::config::Config;
use crate::link::Outlook;
use crate::model::{Account, Fact, Ruling, View};
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

/// Decides.
pub(super) async fn run(config: Config, args: PairArgs, never: bool) -> Result<(), Failure> {
    let (a, b) = (account("A", &args.a)?, account("B", &args.b)?);
    if a == b {
        let why = "A and B are the same account: a pair has two";
        return Err(Failure::Usage(why.to_owned()));
    }
    let wait = args.deed.wait()?;
    let operator = match args.deed.dry_run {
        true => None,
        false => Some(args.deed.judge()?),
    };
    let office = Office::open(config).await?;
    let both = [a.clone(), b.clone()];
    let view = office.around(&both).await?;
    let (a, b) = (a.clone().min(b.clone()), a.max(b));
    let ruling = Ruling::Pair { a, b, never };
    if stands(&view, &ruling) {
        say(already(never));
        return Ok(());
    }
    seen(&view, &both)?;
    let outlook = plan(&office, &ruling).await?;
    say(&outlook_lines(&outlook));
    let refused = refuse(&outlook, never && !args.allow_links);
    let Some(operator) = operator else {
        say_refused(refused);
        return Ok(());
    };
    refused?;
    args.deed.consent.to(&outlook_summary(&outlook))?;
    let judge = Judge::new(&office, operator, wait)?;
    let agreed = Agreed::to(&outlook, !never || args.allow_links);
    let mut carried = Carried::default();
    let decided = judge
        .decide(
            vec![ruling],
            &agreed,
            &mut carried,
            &CancellationToken::new(),
        )
        .await;
    let counts = [("decisions", carried.given), ("shown", carried.shown)];
    judge.audit(action(never), &[], &counts).await?;
    decided?;
    report(&office, &both, never).await
}

fn action(never: bool) -> &'static str {
    match never {
        true => "user never-merge",
        false => "user allow-merge",
    }
}

fn already(never: bool) -> &'static str {
    match never {
        true => "It stands already that they are never one user.\n",
        false => "Nothing stands about these two: they may be one user.\n",
    }
}

/// A mistyped name would be ruled about for good.
fn seen(view: &View, both: &[Account; 2]) -> Result<(), Failure> {
    let unseen = both.iter().filter(|a| !view.accounts.contains_key(*a));
    match unseen.count() {
        0 => Ok(()),
        n => Err(Failure::Failed(format!(
            "{n} of the two accounts was never seen, or is erased: there is nothing to decide about"
        ))),
    }
}

async fn plan(office: &Office, ruling: &Ruling) -> Result<Outlook, Failure> {
    let word = latest(ruling.clone())?;
    let (view, changes) = office.plan(&[Fact::Decision(word)]).await?;
    Ok(Outlook::of(&view, &changes))
}

fn refuse(outlook: &Outlook, links_refused: bool) -> Result<(), Failure> {
    match outlook.joined().len() {
        n if n > 0 && links_refused => Err(Failure::Usage(format!(
            "{n} users would be joined of several that are apart now (JOINED above), since their claims \
             are no longer contradicted: add --allow-links if they are the same people"
        ))),
        _ => Ok(()),
    }
}

async fn report(office: &Office, both: &[Account; 2], never: bool) -> Result<(), Failure> {
    let view = office.around(both).await?;
    let everybody: BTreeSet<Account> = both.iter().cloned().collect();
    let now = people(&view, &everybody);
    say(&people_lines("Done. Now", &now));
    match never && now.len() == 1 {
        true => Err(Failure::Failed(
            "the decision stands, and the two are still one user: a later decision undid it"
                .to_owned(),
        )),
        false => Ok(()),
    }
}
