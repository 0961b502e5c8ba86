//! `unilink user erase`: a person is erased, account by account, with one moment for all of them: that
//! of the consent. Exactly these accounts are erased; whoever is linked to somebody by then because a
//! contradiction has gone is not followed.

use super::EraseArgs;
use crate::cli::Failure;
use crate::cli::assemble::SOURCE;
use crate::cli::deed::Judge;
use crate::cli::name::{Who, configured, who};
use crate::cli::office::{Found, Office};
use crate::cli::operator::Operator;
use crate::cli::shown::{account_line, outlook_lines, say};
use crate::cli::word::event_id;
use crate::config::Config;
use crate::link::Outlook;
use crate::model::{Account, Erasure, Fact, Keys, Millis, View};
use crate::wire::ErasureWire;
use std::collections::BTreeSet;

/// Erases.
pub(super) async fn run(config: Config, args: EraseArgs) -> Result<(), Failure> {
    let named = who("WHO", &args.who)?;
    let alone = match (&named, args.account_only) {
        (Who::Account(account), true) => Some(account.clone()),
        (Who::User(_), true) => {
            let why = "--account-only erases one account: name it as APPID:OPENID";
            return Err(Failure::Usage(why.to_owned()));
        }
        (_, false) => None,
    };
    let wait = args.deed.wait()?;
    let operator = match args.deed.dry_run {
        true => None,
        false => Some(args.deed.operator.operator()?),
    };
    let office = Office::open(config).await?;
    let Some(accounts) = accounts(&office, &named, alone.as_ref()).await? else {
        return Ok(());
    };
    say(&plan_lines(&office, &accounts).await?);
    let Some(operator) = operator else {
        return Ok(());
    };
    let summary = format!(
        "{} accounts would be erased for good: what is stored of them goes, and nothing that they did \
         up to now has any effect again",
        accounts.len()
    );
    args.deed.consent.to(&summary)?;
    let erased_at = office.now();
    let again = self::accounts(&office, &named, alone.as_ref()).await?;
    if again.as_ref() != Some(&accounts) {
        let why =
            "the user has other accounts by now than were shown: nothing was done. Look again";
        return Err(Failure::Failed(why.to_owned()));
    }
    carry_out(&office, (operator, wait), &accounts, erased_at).await
}

type Accounts = BTreeSet<Account>;

/// Whose accounts; `None` if there is nobody, which is said.
async fn accounts(
    office: &Office,
    named: &Who,
    alone: Option<&Account>,
) -> Result<Option<Accounts>, Failure> {
    let found = office.find(named).await?;
    // Somebody who was never seen can be erased, but not in an app that there never was: that is a slip of
    // the pen, and the person whose request it is would stay.
    if let (Found::Unknown, Who::Account(account)) = (&found, named) {
        configured("WHO", &account.app, &office.parts.apps)?;
    }
    if let Some(account) = alone {
        return Ok(Some([account.clone()].into()));
    }
    match (found, named) {
        (Found::User(_, accounts), _) => {
            let accounts = accounts.into_iter().map(|found| found.row.account);
            Ok(Some(accounts.collect()))
        }
        (Found::Erased(None), _) => {
            say(
                "That user id is of an erased account. Others of the person have another id: name \
                 one of them, APPID:OPENID, if there are any.\n",
            );
            Ok(None)
        }
        (Found::Erased(Some(_)) | Found::Unknown, Who::Account(account)) => {
            Ok(Some([account.clone()].into()))
        }
        (Found::Erased(Some(_)) | Found::Unknown, Who::User(_)) => {
            Err(Failure::Failed("there is no such user".to_owned()))
        }
    }
}

async fn plan_lines(office: &Office, accounts: &Accounts) -> Result<String, Failure> {
    let facts = facts(accounts, office.now())?;
    let facts: Vec<Fact> = facts.into_iter().map(Fact::Erasure).collect();
    let (view, changes) = office.plan(&facts).await?;
    let mut text = "These accounts would be erased:\n".to_owned();
    for account in accounts {
        text.push_str(&account_line(account));
        if !view.accounts.contains_key(account) {
            text.push_str(
                "    nothing is stored of it: logins of it up to now would have no effect\n",
            );
        }
    }
    let outlook = Outlook::of(&view, &changes);
    let others =
        |people: &[crate::link::Person]| people.iter().any(|p| !p.accounts.is_subset(accounts));
    if others(&outlook.before) || others(&outlook.after) {
        text.push_str("Others would change with it, and stay:\n");
        text.push_str(&outlook_lines(&outlook));
    }
    Ok(text)
}

fn facts(accounts: &Accounts, erased_at: Millis) -> Result<Vec<Erasure>, Failure> {
    let erasures = accounts.iter().map(|account| {
        Ok(Erasure {
            account: account.clone(),
            erased_at,
            cause: event_id()?,
        })
    });
    erasures.collect()
}

async fn carry_out(
    office: &Office,
    (operator, wait): (Operator, std::time::Duration),
    accounts: &Accounts,
    erased_at: Millis,
) -> Result<(), Failure> {
    let judge = Judge::new(office, operator, wait)?;
    let topics = office.parts.topics();
    let erasures = facts(accounts, erased_at)?;
    let records = erasures
        .iter()
        .map(|erasure| ErasureWire::to_record(erasure, &topics, SOURCE, &judge.signer));
    let keys = Keys {
        accounts: accounts.clone(),
        unionids: BTreeSet::new(),
    };
    let before = office.view(&keys).await?;
    let published = judge.publish(records.collect()).await;
    if published.is_err() {
        say(
            "If the user is gone by the next try, erase each of the accounts above by itself, with \
             --account-only.\n",
        );
    }
    published?;
    let left = |view: &View| {
        accounts
            .iter()
            .filter(|a| !is_gone(view, a, erased_at))
            .count()
    };
    let done = judge
        .until(async || Ok(left(&office.view(&keys).await?) == 0))
        .await?;
    let view = office.view(&keys).await?;
    let gone = accounts.len() - left(&view);
    let counts = [("accounts", accounts.len() as u64), ("erased", gone as u64)];
    judge.audit("user erase", &[], &counts).await?;
    if !done {
        return Err(Failure::Failed(format!(
            "queued, not done: {gone} of {} accounts are erased; the erasures stand on the topic, and \
             no worker took all of them within {}s. A worker obeys them once it comes to them",
            accounts.len(),
            wait.as_secs()
        )));
    }
    say(&format!(
        "Done: {gone} accounts are erased, up to {erased_at}.\n"
    ));
    let unseen = accounts.iter();
    let unseen = unseen.filter(|a| !before.accounts.contains_key(*a)).count();
    if unseen > 0 {
        say(&format!("Nothing had been stored of {unseen} of them.\n"));
    }
    let back = accounts.iter().filter(|a| view.accounts.contains_key(*a));
    for account in back {
        say(&format!(
            "{} has logged in again since: a new user.\n",
            account.key()
        ));
    }
    Ok(())
}

/// Whether the account's life up to then is over.
fn is_gone(view: &View, account: &Account, erased_at: Millis) -> bool {
    let stone = view.tombstones.get(account);
    let row = view.accounts.get(account);
    stone.is_some_and(|stone| stone.erased_at >= erased_at)
        && row.is_none_or(|row| row.generation >= erased_at)
}
