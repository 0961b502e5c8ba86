//! `unilink user split`: accounts that do not belong to the others of their user.

use super::SplitArgs;
use crate::cli::Failure;
use crate::cli::deed::{Carried, Judge};
use crate::cli::name::{account, who};
use crate::cli::office::{Found, Office, people};
use crate::cli::shown::{outlook_lines, outlook_summary, people_lines, say, say_refused};
use crate::cli::word::{Agreed, ruling_of};
use crate::config::Config;
use crate::link::Outlook;
use crate::model::{Account, ClaimKey, ClaimVerdict, Ruling, UserId};
use std::collections::BTreeSet;
use std::fmt::Write;
use tokio_util::sync::CancellationToken;

/// Who is parted from whom.
struct Sides {
    user: UserId,
    apart: BTreeSet<Account>,
    rest: BTreeSet<Account>,
}

/// Splits.
pub(super) async fn run(config: Config, args: SplitArgs) -> Result<(), Failure> {
    let named = who("WHO", &args.who)?;
    let apart = args.accounts.iter().map(|text| account("--accounts", text));
    let apart: BTreeSet<Account> = apart.collect::<Result<_, _>>()?;
    let wait = args.deed.wait()?;
    let operator = match args.deed.dry_run {
        true => None,
        false => Some(args.deed.judge()?),
    };
    let office = Office::open(config).await?;
    let sides = sides(office.find(&named).await?, apart)?;
    let (view, (rejected, outlook)) = office.split((&sides.apart, &sides.rest)).await?;
    say(&plan_lines(&rejected, &outlook)?);
    let agreed = Agreed::to(&outlook, args.allow_links);
    let can = office.in_turn(view.asked, rulings(&rejected), &agreed);
    let refused = refuse(&outlook, args.allow_links, can.await?);
    let Some(operator) = operator else {
        say_refused(refused);
        return Ok(());
    };
    refused?;
    let n = rejected.len();
    let summary = format!(
        "{n} claims would be rejected; {}",
        outlook_summary(&outlook)
    );
    args.deed.consent.to(&summary)?;
    let judge = Judge::new(&office, operator, wait)?;
    carry_out(&judge, &sides, rejected, &agreed).await
}

/// The decisions that a split is made of.
fn rulings(rejected: &BTreeSet<ClaimKey>) -> impl Iterator<Item = Ruling> {
    let keys = rejected.iter();
    keys.map(|key| ruling_of(key, Some(ClaimVerdict::Reject)))
}

fn sides(found: Found, apart: BTreeSet<Account>) -> Result<Sides, Failure> {
    let (user, accounts) = match found {
        Found::User(user, accounts) => (user, accounts),
        Found::Erased(_) => return Err(Failure::Failed("that user is erased".to_owned())),
        Found::Unknown => {
            let why = "there is no such user: `unilink user show` finds one by an account";
            return Err(Failure::Failed(why.to_owned()));
        }
    };
    let members: BTreeSet<Account> = accounts.into_iter().map(|f| f.row.account).collect();
    let strange = apart.difference(&members).count();
    if strange > 0 {
        return Err(Failure::Usage(format!(
            "--accounts: {strange} of them are no accounts of that user; `unilink user show` lists them"
        )));
    }
    let rest: BTreeSet<Account> = members.difference(&apart).cloned().collect();
    if rest.is_empty() {
        let why = "--accounts names all accounts of that user: leave out those that stay";
        return Err(Failure::Usage(why.to_owned()));
    }
    Ok(Sides { user, apart, rest })
}

fn plan_lines(rejected: &BTreeSet<ClaimKey>, outlook: &Outlook) -> Result<String, Failure> {
    let mut text = "These claims would be rejected:\n".to_owned();
    for key in rejected {
        writeln!(text, "  {}", words(key)).map_err(Failure::failed)?;
    }
    text.push_str(&outlook_lines(outlook));
    Ok(text)
}

/// A claim as `conflicts resolve` takes it.
fn words(key: &ClaimKey) -> String {
    let union = &key.union;
    let (platform, unionid) = (union.platform.as_str(), union.unionid.as_str());
    format!("{} {platform} {unionid}", key.account.key())
}

/// `in_turn`: its decisions can be given one after the other.
fn refuse(outlook: &Outlook, allowed: bool, in_turn: bool) -> Result<(), Failure> {
    let joined = outlook.joined().len();
    if joined > 0 && !allowed {
        return Err(Failure::Usage(format!(
            "{joined} users would be joined of several that are apart now (JOINED above), since their \
             claims are no longer contradicted: reject those first (`unilink conflicts resolve --reject`), \
             or add --allow-links if they are the same people"
        )));
    }
    if !in_turn {
        let why = "whichever claim were rejected first, users would be joined for a while who are apart in \
                   the end: reject what others claim on these unionids first (`unilink conflicts resolve \
                   --reject`), and afterwards withdraw it";
        return Err(Failure::Usage(why.to_owned()));
    }
    Ok(())
}

async fn carry_out(
    judge: &Judge<'_>,
    sides: &Sides,
    rejected: BTreeSet<ClaimKey>,
    agreed: &Agreed,
) -> Result<(), Failure> {
    let mut carried = Carried::default();
    let decided = judge
        .decide(
            rulings(&rejected).collect(),
            agreed,
            &mut carried,
            &CancellationToken::new(),
        )
        .await;
    let counts = [
        ("accounts", sides.apart.len() as u64),
        ("rejections", carried.given),
        ("shown", carried.shown),
    ];
    judge.audit("user split", &[], &counts).await?;
    decided?;
    let all: Vec<Account> = sides.apart.union(&sides.rest).cloned().collect();
    let view = judge.office.around(&all).await?;
    let everybody: BTreeSet<Account> = all.into_iter().collect();
    let now = people(&view, &everybody);
    say(&people_lines("Done. Now", &now));
    let meets = |set: &BTreeSet<Account>, other: &BTreeSet<Account>| !set.is_disjoint(other);
    let still = now.iter().filter(|p| meets(&p.accounts, &sides.apart));
    if still.clone().any(|p| meets(&p.accounts, &sides.rest)) {
        let why = "all of it was rejected, and some accounts are still one user with the rest: \
                   something was learnt meanwhile. Run the same command again";
        return Err(Failure::Failed(why.to_owned()));
    }
    say(&undo(&rejected, sides)?);
    Ok(())
}

fn undo(rejected: &BTreeSet<ClaimKey>, sides: &Sides) -> Result<String, Failure> {
    let mut text = format!(
        "The rejections stand: a later login with the same unionid does not bring them back to {}, nor \
         does a replay. To undo it:\n",
        sides.user
    );
    for key in rejected {
        let claim = words(key);
        writeln!(
            text,
            "  unilink conflicts resolve --withdraw {claim} --note WHY"
        )
        .map_err(Failure::failed)?;
    }
    Ok(text)
}
