//! `unilink app`: the apps, and whether WeChat is asked about them.

use super::Failure;
use super::assemble::Operating;
use super::confirm::Consent;
use super::name::configured;
use super::operator::{Operator, OperatorArgs};
use super::progress::{Progress, grouped};
use crate::cli::shown::say_line;
use crate::config::Config;
use crate::model::{AppId, AppKind, Millis};
use crate::store::{Audit, Operate, Pause, State, Which};
use clap::{Args, Subcommand};
use serde_json::json;
use std::collections::BTreeMap;

/// Accounts read at once.
const PAGE: usize = 5_000;

/// What to do with apps.
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// Show the apps: which are paused, what waits for WeChat, how many accounts have no unionid
    List(ListArgs),
    /// Ask WeChat nothing about an app until it is resumed: all workers heed it within seconds
    Pause(PauseArgs),
    /// Ask WeChat about an app again; what waits is tried at once
    Resume(ResumeArgs),
}

/// Options of `app list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// One JSON object an app
    #[arg(long)]
    json: bool,
}

/// Options of `app pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// The app
    #[arg(value_name = "APPID", value_parser = app)]
    app: AppId,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Options of `app resume`.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// The app
    #[arg(value_name = "APPID", value_parser = app)]
    app: AppId,
    #[command(flatten)]
    operator: OperatorArgs,
}

fn app(text: &str) -> Result<AppId, String> {
    AppId::parse(text).map_err(|e| e.to_string())
}

/// Does it.
///
/// # Errors
/// The store cannot be used, the app is not there, or nobody agreed.
pub async fn run(config: Config, command: AppCommand) -> Result<(), Failure> {
    let operating = Operating::open(config).await?;
    match command {
        AppCommand::List(args) => list(&operating, &args).await,
        AppCommand::Pause(args) => pause(&operating, &args).await,
        AppCommand::Resume(args) => resume(&operating, &args).await,
    }
}

async fn pause(operating: &Operating, args: &PauseArgs) -> Result<(), Failure> {
    let (store, app) = (&operating.store, &args.app);
    configured("APPID", app, &operating.parts.apps)?;
    let operator = args.operator.operator()?;
    if operator.note.trim().is_empty() {
        let why = "say why for those who find it paused: add --note TEXT";
        return Err(Failure::Usage(why.to_owned()));
    }
    let waiting = store.deferred_by_app().await.map_err(Failure::failed)?;
    let waiting = waiting.get(app).copied().unwrap_or(0);
    args.consent.to(&format!(
        "WeChat is asked nothing about {app} until `unilink app resume {app}`. Logins with an openid go \
         on with what needs no WeChat; {} questions wait; codes die within five minutes, and only \
         a new login brings another",
        grouped(waiting)
    ))?;
    let now = (operating.parts.clock)();
    noted(&**store, "app pause", app, &operator, now).await?;
    let pause = Pause {
        app: app.clone(),
        at: now,
        author: operator.author,
        note: operator.note,
    };
    match store.pause(&pause).await.map_err(Failure::failed)? {
        true => say_line!("{app} is paused"),
        false => say_line!("{app} was paused before; that stands (`unilink app list`)"),
    }
    Ok(())
}

async fn resume(operating: &Operating, args: &ResumeArgs) -> Result<(), Failure> {
    let (store, app) = (&operating.store, &args.app);
    let operator = args.operator.operator()?;
    let paused = store.paused().await.map_err(Failure::failed)?;
    if paused.iter().any(|pause| pause.app == *app) {
        let now = (operating.parts.clock)();
        noted(&**store, "app resume", app, &operator, now).await?;
        store.resume(app).await.map_err(Failure::failed)?;
        say_line!("{app} is resumed: workers ask WeChat about it again within seconds");
        return Ok(());
    }
    configured("APPID", app, &operating.parts.apps)?;
    say_line!("{app} is not paused");
    Ok(())
}

/// What cannot be noted is not done.
async fn noted(
    store: &dyn Operate,
    action: &str,
    app: &AppId,
    operator: &Operator,
    at: Millis,
) -> Result<(), Failure> {
    let entry = Audit {
        at,
        author: operator.author.clone(),
        action: action.to_owned(),
        note: operator.note.clone(),
        detail: BTreeMap::from([("app".to_owned(), app.to_string())]),
        counts: BTreeMap::new(),
    };
    let noted = store.audit(&entry).await;
    noted.map_err(|e| {
        Failure::Failed(format!(
            "{e}. Nothing was done: what cannot be noted is not"
        ))
    })
}

/// An app as it is shown.
#[derive(Default)]
struct Row {
    kind: Option<AppKind>,
    pause: Option<Pause>,
    waiting: u64,
    unresolved: u64,
}

async fn list(operating: &Operating, args: &ListArgs) -> Result<(), Failure> {
    let store = &*operating.store;
    // Also those that are not configured any more: a pause of one would be found by nobody.
    let mut rows: BTreeMap<AppId, Row> = BTreeMap::new();
    for app in operating.parts.apps.iter() {
        rows.entry(app.id.clone()).or_default().kind = Some(app.kind);
    }
    for pause in store.paused().await.map_err(Failure::failed)? {
        let row = rows.entry(pause.app.clone()).or_default();
        row.pause = Some(pause);
    }
    for (app, waiting) in store.deferred_by_app().await.map_err(Failure::failed)? {
        rows.entry(app).or_default().waiting = waiting;
    }
    unresolved(store, &mut rows, args.json).await?;
    for (app, row) in &rows {
        match args.json {
            true => say_line!("{}", row.json(app)),
            false => say_line!("{}", row.text(app)),
        }
    }
    Ok(())
}

/// Counts the accounts without a unionid.
async fn unresolved(
    store: &dyn Operate,
    rows: &mut BTreeMap<AppId, Row>,
    json: bool,
) -> Result<(), Failure> {
    let which = Which {
        app: None,
        state: State::Unresolved,
    };
    let progress = Progress::new(json);
    let totals = store.totals().await.map_err(Failure::failed)?;
    progress.begin("accounts", 0, totals.unresolved_by_reason.values().sum());
    let (mut after, mut count) = (0, 0);
    loop {
        let page = store.browse(&which, after, PAGE).await;
        let page = page.map_err(Failure::failed)?;
        count += page.found.len() as u64;
        progress.went(count, &[]);
        for (_, found) in page.found {
            rows.entry(found.row.account.app).or_default().unresolved += 1;
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    progress.finish();
    Ok(())
}

impl Row {
    fn kind(&self) -> Option<&'static str> {
        self.kind.map(|kind| match kind {
            AppKind::MiniProgram => "mini_program",
            AppKind::OfficialAccount => "official_account",
            AppKind::MobileApp => "mobile_app",
            AppKind::Website => "website",
        })
    }

    fn json(&self, app: &AppId) -> serde_json::Value {
        let pause = self.pause.as_ref().map(
            |pause| json!({"at": pause.at.to_string(), "author": pause.author, "note": pause.note}),
        );
        json!({"app": app.as_str(), "kind": self.kind(), "configured": self.kind.is_some(),
            "paused": pause, "waiting": self.waiting, "unresolved": self.unresolved})
    }

    fn text(&self, app: &AppId) -> String {
        let (kind, waiting) = (
            self.kind().unwrap_or("not configured"),
            grouped(self.waiting),
        );
        let unresolved = grouped(self.unresolved);
        let mut line = format!("{app} ({kind}): {waiting} waiting, {unresolved} without a unionid");
        if let Some(Pause {
            at, author, note, ..
        }) = &self.pause
        {
            let note = note.replace(char::is_control, " ");
            line.push_str(&format!("; PAUSED since {at} by {author}: {note}"));
        }
        line
    }
}
