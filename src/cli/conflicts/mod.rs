//! `unilink conflicts`: claims that link nobody because something stands against them, and what an
//! operator says about them.

mod list;
mod resolve;
mod show;

use super::Failure;
use super::deed::DeedArgs;
use crate::config::Config;
use clap::{Args, Subcommand};

/// What to do about contested claims.
#[derive(Debug, Subcommand)]
pub enum ConflictsCommand {
    /// Count contested claims by what stands against them, and list them
    List(ListArgs),
    /// Show all claims of an account, and what stands against each
    Show(ShowArgs),
    /// Decide about a claim
    Resolve(ResolveArgs),
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
    /// The account that claims, APPID:OPENID
    #[arg(value_name = "ACCOUNT")]
    account: String,
    /// The platform that it claims the unionid in
    #[arg(value_name = "PLATFORM")]
    platform: String,
    /// The unionid that it claims
    #[arg(value_name = "UNIONID")]
    unionid: String,
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
    }
}
