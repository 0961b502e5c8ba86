//! `unilink conflicts`: claims that link nobody because something stands against them, and what an
//! operator says about them.

mod bulk;
mod list;
mod moved;
mod resolve;
mod show;

use super::Failure;
use super::deed::DeedArgs;
use crate::config::Config;
use clap::{Args, Subcommand};
use std::num::NonZeroU32;

/// What to do about contested claims.
#[derive(Debug, Subcommand)]
pub enum ConflictsCommand {
    /// Count contested claims by what stands against them, and list them
    List(ListArgs),
    /// Show all claims of an account, and what stands against each
    Show(ShowArgs),
    /// Decide about a claim, or about all contested claims that a filter finds
    Resolve(ResolveArgs),
    /// An app changed its platform, and its binding was entered late: reject what was filed under the old
    /// platform from then on. A replay of those logins then files it under the new one
    Move(MoveArgs),
}

/// Which contested claims.
#[derive(Debug, Clone, Args)]
pub struct FilterArgs {
    /// Of this app
    #[arg(long, value_name = "APPID")]
    pub app: Option<String>,
    /// In this platform
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<String>,
    /// Contested for this reason (other_unionid, same_app, shared_unionid, …)
    #[arg(long, value_name = "REASON")]
    pub why: Option<String>,
    /// Made at this moment or later, 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

impl FilterArgs {
    /// Whether nothing is asked for.
    fn is_none(&self) -> bool {
        self.words().is_empty()
    }

    /// What is asked for, in words.
    fn words(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("app", &self.app),
            ("platform", &self.platform),
            ("why", &self.why),
            ("since", &self.since),
        ];
        let asked = all.into_iter();
        asked
            .filter_map(|(name, word)| Some((name, word.clone()?)))
            .collect()
    }
}

/// Options of `conflicts list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// List so many of them
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// JSON
    #[arg(long)]
    json: bool,
}

/// Options of `conflicts show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The account, APPID:OPENID
    #[arg(value_name = "ACCOUNT")]
    account: String,
    /// JSON
    #[arg(long)]
    json: bool,
}

/// Options of `conflicts resolve`.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    #[command(flatten)]
    verdict: VerdictArgs,
    /// One claim: the account, APPID:OPENID, the platform, and the unionid that it claims there
    #[arg(value_names = ["ACCOUNT", "PLATFORM", "UNIONID"], num_args = 0..=3)]
    claim: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Decisions a second, at most, where there are many
    #[arg(long, value_name = "N", default_value = "100")]
    rate: NonZeroU32,
    /// Agree that accounts come together that are apart now, as the plan says
    #[arg(long)]
    allow_links: bool,
    #[command(flatten)]
    deed: DeedArgs,
}

/// Options of `conflicts move`.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// The app
    #[arg(long, value_name = "APPID")]
    app: String,
    /// The platform that it left
    #[arg(long, value_name = "PLATFORM")]
    from_platform: String,
    /// When it left: the `since` of its new binding, 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME")]
    since: String,
    /// Decisions a second, at most
    #[arg(long, value_name = "N", default_value = "100")]
    rate: NonZeroU32,
    /// Agree that accounts come together that are apart now, as the plan says
    #[arg(long)]
    allow_links: bool,
    #[command(flatten)]
    deed: DeedArgs,
}

/// What is decided.
#[derive(Debug, Clone, Copy, Args)]
#[group(required = true, multiple = false)]
pub struct VerdictArgs {
    /// The claim goes before all others. It still joins no two openids of one app
    #[arg(long)]
    accept: bool,
    /// The claim does not link
    #[arg(long)]
    reject: bool,
    /// Take an earlier word about the claim back
    #[arg(long)]
    withdraw: bool,
}

/// Does it.
///
/// # Errors
/// Wrong use, or it could not be done; the text says what was.
pub async fn run(config: Config, command: ConflictsCommand) -> Result<(), Failure> {
    match command {
        ConflictsCommand::List(args) => list::run(config, args).await,
        ConflictsCommand::Show(args) => show::run(config, args).await,
        ConflictsCommand::Resolve(args) => resolve::run(config, args).await,
        ConflictsCommand::Move(args) => moved::run(config, args).await,
    }
}
