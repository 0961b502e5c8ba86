//! `unilink backfill`: accounts of an app that have no unionid.

use super::Failure;
use super::assemble::{Operating, Tools};
use super::jobs::{job_named, list, relay, say};
use super::name;
use super::progress::grouped;
use super::work::{Made, Work};
use super::work_args::WorkArgs;
use crate::cli::shown::say_line;
use crate::config::Config;
use crate::model::{App, AppId, AppKind, EventId};
use crate::replay::Source;
use crate::replay::accounts::AccountSource;
use crate::replay::followers::FollowerSource;
use crate::replay::spec::{Accounts, Spec, What};
use crate::store::{State, Which};
use clap::Args;
use std::sync::Arc;

/// The word of its jobs.
const KIND: &str = "backfill";
/// Accounts that are counted at once.
const PAGE: usize = 5_000;

/// Options of `backfill`.
#[derive(Debug, Args)]
pub struct BackfillArgs {
    /// The app
    #[arg(long, value_name = "APPID", required_unless_present_any = ["resume", "list"])]
    app: Option<String>,
    /// Afterwards go through the list of everybody who follows the official account, and take in those
    /// who never logged in
    #[arg(long)]
    followers: bool,
    #[command(flatten)]
    work: WorkArgs,
}

/// Backfills.
///
/// # Errors
/// Wrong use, services that are away, or it was told to stop.
pub async fn run(config: Config, args: BackfillArgs) -> Result<(), Failure> {
    let work = &args.work;
    fits(&args)?;
    if !work.list {
        work.operator.operator()?;
    }
    if let Some(named) = &args.app {
        name::app("--app", named, &config.apps())?;
    }
    let operating = Operating::open(config).await?;
    if work.list {
        return list(&operating, KIND, work.json).await;
    }
    let (job, spec) = match &work.resume {
        Some(id) => {
            let (job, spec) = job_named(&operating, KIND, id).await?;
            (Some(job), spec)
        }
        None => match begun(&operating, &args).await? {
            Some(spec) => (None, spec),
            None => return Ok(()),
        },
    };
    let What::Accounts(accounts) = &spec.what else {
        return Err(Failure::failed("the job is no backfill"));
    };
    let app = app_of(&operating, &accounts.app)?;
    say(work, &plan(accounts, work));
    say(work, relay(&operating, work).await);
    let lists = accounts.followers && (!work.dry_run || work.ask);
    let here = &operating;
    let source = move |tools: &Tools, made: Made| source(here, &app, lists, tools, made);
    let work = Work {
        kind: KIND,
        unit: "accounts",
        operating: &operating,
        args: work,
        spec,
        job,
        source: &source,
    };
    work.run().await
}

/// Whether what is given fits together.
fn fits(args: &BackfillArgs) -> Result<(), Failure> {
    let work = &args.work;
    let chosen = args.app.is_some() || args.followers || work.fresh();
    let wrong = if work.resume.is_some() && chosen {
        "--resume goes on with what was begun: leave --app, --followers, --dry-run, --no-ask and \
         --again away"
    } else if work.no_ask {
        "a backfill does nothing but ask: leave --no-ask away"
    } else {
        return Ok(());
    };
    Err(Failure::Usage(wrong.to_owned()))
}

/// What is to be done; `None`: nobody can be asked, and that was said.
async fn begun(operating: &Operating, args: &BackfillArgs) -> Result<Option<Spec>, Failure> {
    let (asks, again) = args.work.asking()?;
    let app = app_of(operating, args.app.as_deref().unwrap_or_default())?;
    check_followers(&app, args.followers)?;
    let total = unresolved(operating, &app.id).await?;
    if !asked_about(&app) {
        hastened(operating, &app, total, &args.work).await?;
        return Ok(None);
    }
    let what = What::Accounts(Accounts {
        app: app.id.to_string(),
        followers: args.followers,
        total,
    });
    Ok(Some(Spec { what, asks, again }))
}

/// Accounts without a unionid, and, if it `lists` them, the followers.
fn source(
    operating: &Operating,
    app: &App,
    lists: bool,
    tools: &Tools,
    made: Made,
) -> Result<Box<dyn Source>, Failure> {
    let parts = &operating.parts;
    let job = (made.job).map_or_else(|| "dry-run".to_owned(), |job| job.to_string());
    let cause = EventId::parse(&format!("{KIND}-{job}")).map_err(Failure::failed)?;
    let (id, progress) = (app.id.clone(), made.progress);
    let store = Arc::clone(&operating.store);
    let walk = AccountSource::new(store, id, cause.clone(), progress.clone());
    if !lists {
        return Ok(Box::new(walk));
    }
    Ok(Box::new(FollowerSource {
        first: Some(Box::new(walk)),
        ground: Arc::clone(&tools.ground),
        asking: Arc::clone(tools.resolver.ladder.asking()),
        caller: Arc::clone(&tools.resolver.caller),
        keys: Arc::clone(&parts.keys),
        app: app.clone(),
        cause,
        clock: Arc::clone(&parts.clock),
        progress,
        page: None,
        stop: made.stop,
    }))
}

fn app_of(operating: &Operating, name: &str) -> Result<App, Failure> {
    let id = AppId::parse(name).ok();
    let app = id.and_then(|id| operating.parts.apps.get(&id));
    app.cloned()
        .ok_or_else(|| Failure::Failed(format!("{name} is not configured any more")))
}

/// Whether WeChat can be asked about an account of the app by its openid (`docs/wechat.md` §7).
fn asked_about(app: &App) -> bool {
    app.kind == AppKind::OfficialAccount && app.has_token() && !app.bindings.is_empty()
}

fn check_followers(app: &App, followers: bool) -> Result<(), Failure> {
    if followers && app.kind != AppKind::OfficialAccount {
        return Err(Failure::Usage(format!(
            "--followers: {} is no official account, and only these have followers; leave it away",
            app.id
        )));
    }
    Ok(())
}

/// How many accounts of the app have no unionid.
async fn unresolved(operating: &Operating, app: &AppId) -> Result<u64, Failure> {
    let which = Which {
        app: Some(app.clone()),
        state: State::Unresolved,
    };
    let (mut count, mut place) = (0, Some(0));
    while let Some(after) = place {
        let page = operating.store.browse(&which, after, PAGE).await;
        let page = page.map_err(Failure::failed)?;
        count += u64::try_from(page.found.len()).unwrap_or(0);
        place = page.next;
    }
    Ok(count)
}

/// Nobody can be asked: what waits is tried now, and the rest waits for its people.
async fn hastened(
    operating: &Operating,
    app: &App,
    total: u64,
    work: &WorkArgs,
) -> Result<(), Failure> {
    let why = if app.bindings.is_empty() {
        "the app is in no platform: bind it, and add [[apps.platforms]]"
    } else if app.kind == AppKind::OfficialAccount {
        "the app has no secret and no token to ask with: configure one"
    } else {
        "of this kind of app WeChat tells nothing about an openid alone"
    };
    let tried = if work.dry_run {
        0
    } else {
        let parts = &operating.parts;
        let tried = parts.store.hasten(&app.id, (parts.clock)()).await;
        tried.map_err(Failure::failed)?
    };
    if work.json {
        let told = serde_json::json!({
            "command": KIND, "app": app.id.as_str(), "dry_run": work.dry_run,
            "unresolved": total, "asked": 0, "hastened": tried, "why": why,
        });
        say_line!("{told}");
        return Ok(());
    }
    say_line!(
        "{}: {} accounts have no unionid, and nobody is asked about them: {why}.\n{} logins that wait \
         are tried at once. `unilink replay --app {0}` looks at what stored logins bring; the others get \
         theirs at their people's next login",
        app.id,
        grouped(total),
        grouped(tried),
    );
    Ok(())
}

/// What will be done, beforehand.
fn plan(accounts: &Accounts, work: &WorkArgs) -> String {
    let name = if work.dry_run { "dry run" } else { KIND };
    let (app, total) = (&accounts.app, accounts.total);
    let batches = total.div_ceil(100);
    let list = match (accounts.followers, work.dry_run && !work.ask) {
        (false, _) => "",
        (true, false) => {
            "; then the list of followers, by user_get, and those of it that are not linked"
        }
        (true, true) => {
            "; the list of followers is read only with --ask: one user_get for 10,000 of them, and one \
             user_info for 100 of those that are not linked"
        }
    };
    format!(
        "{name}: {} accounts of {app} without a unionid, at most {} calls of user_info{list}",
        grouped(total),
        grouped(batches)
    )
}
