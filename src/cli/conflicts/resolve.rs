//! `unilink conflicts resolve`: an operator's word about a claim.

use super::bulk::Bulk;
use super::list::Filter;
use super::{ResolveArgs, VerdictArgs};
use crate::cli::Failure;
use crate::cli::deed::{Carried, Judge};
use crate::cli::name;
use crate::cli::office::{Office, people};
use crate::cli::shown::{
    against_words, claim_line, outlook_lines, outlook_summary, people_lines, say, say_refused,
};
use crate::cli::word::{Agreed, latest, ruling_of, stands};
use crate::config::Config;
use crate::link::{Outlook, against};
use crate::model::{ClaimKey, ClaimRow, ClaimStatus, ClaimVerdict, Fact, View};
use std::fmt::Write;
use tokio_util::sync::CancellationToken;

impl VerdictArgs {
    fn verdict(self) -> Option<ClaimVerdict> {
        match self {
            Self { accept: true, .. } => Some(ClaimVerdict::Accept),
            Self { reject: true, .. } => Some(ClaimVerdict::Reject),
            _ => None,
        }
    }
}

/// The word for it in the audit.
fn word(verdict: Option<ClaimVerdict>) -> &'static str {
    verdict.map_or("withdraw", crate::cli::shown::verdict_word)
}

/// Decides about one claim, or about all that a filter finds.
pub(super) async fn run(config: Config, args: ResolveArgs) -> Result<(), Failure> {
    match &args.claim[..] {
        [account, platform, unionid] if args.filter.is_none() => {
            let key = ClaimKey {
                account: name::account("ACCOUNT", account)?,
                union: name::union(platform, unionid)?,
            };
            one(config, args, key).await
        }
        [] if !args.filter.is_none() => many(config, args).await,
        _ => Err(Failure::Usage(
            "say which: one claim, ACCOUNT PLATFORM UNIONID; or all that --app, --platform, --why and \
             --since find, which `unilink conflicts list` shows with the same"
                .to_owned(),
        )),
    }
}

async fn many(config: Config, args: ResolveArgs) -> Result<(), Failure> {
    let filter = Filter::of(&args.filter, &config)?;
    let verdict = args.verdict.verdict();
    args.deed.wait()?;
    if !args.deed.dry_run {
        args.deed.judge()?;
    }
    let office = Office::open(config).await?;
    let (claims, more) = filter.open(&office, verdict).await?;
    let mut detail = vec![("ruling", word(verdict).to_owned())];
    detail.extend(args.filter.words());
    let bulk = Bulk {
        claims,
        more,
        verdict,
        allow_links: args.allow_links,
        rate: args.rate,
        action: "conflicts resolve",
        detail,
    };
    bulk.run(&office, &args.deed).await
}

async fn one(config: Config, args: ResolveArgs, key: ClaimKey) -> Result<(), Failure> {
    let verdict = args.verdict.verdict();
    let wait = args.deed.wait()?;
    let operator = match args.deed.dry_run {
        true => None,
        false => Some(args.deed.judge()?),
    };
    let office = Office::open(config).await?;
    let ruling = ruling_of(&key, verdict);
    let view = office.around(std::slice::from_ref(&key.account)).await?;
    if stands(&view, &ruling) {
        say(already(verdict));
        return Ok(());
    }
    claimed(&view, &key, verdict)?;
    let (before, changes) = office
        .plan(&[Fact::Decision(latest(ruling.clone())?)])
        .await?;
    let outlook = Outlook::of(&before, &changes);
    say(&outlook_lines(&outlook));
    // To link is what the others are for.
    let links = args.allow_links || verdict != Some(ClaimVerdict::Reject);
    let refused = refuse(&outlook, links);
    let Some(operator) = operator else {
        say_refused(refused);
        return Ok(());
    };
    refused?;
    args.deed.consent.to(&outlook_summary(&outlook))?;
    let judge = Judge::new(&office, operator, wait)?;
    let mut carried = Carried::default();
    let agreed = Agreed::to(&outlook, links);
    let decided = judge
        .decide(
            vec![ruling],
            &agreed,
            &mut carried,
            &CancellationToken::new(),
        )
        .await;
    let detail = [("ruling", word(verdict)), ("app", key.account.app.as_str())];
    let counts = [("decisions", carried.given), ("shown", carried.shown)];
    judge.audit("conflicts resolve", &detail, &counts).await?;
    decided?;
    report(&office, &key, verdict).await
}

fn already(verdict: Option<ClaimVerdict>) -> &'static str {
    match verdict {
        Some(ClaimVerdict::Accept) => "It is accepted already.\n",
        Some(ClaimVerdict::Reject) => "It is rejected already.\n",
        None => "No word stands about it: there is nothing to withdraw.\n",
    }
}

fn find<'v>(view: &'v View, key: &ClaimKey) -> Option<&'v ClaimRow> {
    let mut claims = view.claims.get(&key.account)?.iter();
    claims.find(|claim| claim.key == *key)
}

/// A mistyped name would be ruled about for good. A word that stands can always be taken back.
fn claimed(view: &View, key: &ClaimKey, verdict: Option<ClaimVerdict>) -> Result<(), Failure> {
    if verdict.is_none() || find(view, key).is_some() {
        return Ok(());
    }
    Err(Failure::Failed(
        "the account has no such claim: `unilink conflicts show ACCOUNT` lists those that it has"
            .to_owned(),
    ))
}

fn refuse(outlook: &Outlook, links: bool) -> Result<(), Failure> {
    let joined = outlook.joined().len();
    if joined == 0 || links {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{joined} users would be joined of several that are apart now (JOINED above), since fewer claims \
         contradict each other then: reject their claims first, or add --allow-links if they are the \
         same people"
    )))
}

/// What became of it.
async fn report(
    office: &Office,
    key: &ClaimKey,
    verdict: Option<ClaimVerdict>,
) -> Result<(), Failure> {
    let view = office.around(std::slice::from_ref(&key.account)).await?;
    let mut text = "Done. The claim:\n".to_owned();
    let claim = find(&view, key);
    if let Some(claim) = claim {
        writeln!(text, "  {}", claim_line(claim)).map_err(Failure::failed)?;
        if let Some(why) = against(&view, claim) {
            writeln!(text, "    because {}", against_words(&why)).map_err(Failure::failed)?;
        }
    }
    text.push_str(&people_lines(
        "Now",
        &people(&view, &[key.account.clone()].into()),
    ));
    say(&text);
    let status = claim.map(|claim| claim.status);
    let contested = matches!(status, Some(ClaimStatus::Contested(_)));
    if verdict == Some(ClaimVerdict::Accept) && contested {
        say(
            "It is accepted and links nobody all the same: accepting overrules neither two openids of \
             one app, nor a never-merge, nor another accepted claim.\n",
        );
    }
    Ok(())
}
