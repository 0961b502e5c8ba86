//! `unilink user`: who somebody is and why, and what an operator may say about it.

mod erase;
mod explain;
mod pair;
mod show;
mod split;

use super::Failure;
use super::deed::DeedArgs;
use crate::config::Config;
use clap::{Args, Subcommand};

/// What to do about a user.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Show a user with its accounts and their claims
    Show(ShowArgs),
    /// Say which claims make two accounts one user, or why they are not one
    Explain(ExplainArgs),
    /// Part accounts from the rest of their user, by rejecting those of their claims that join them
    Split(SplitArgs),
    /// Decide that two accounts are never one user
    NeverMerge(PairArgs),
    /// Take an earlier `never-merge` back
    AllowMerge(PairArgs),
    /// Erase a person: all accounts that are one user now. Events up to this moment have no effect any
    /// more, also when they are replayed; a later login starts a new user
    Erase(EraseArgs),
}

/// Options of `user show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A user id, also one that was merged into another, or APPID:OPENID
    #[arg(value_name = "WHO")]
    who: Option<String>,
    /// Whose accounts claim this unionid
    #[arg(long, num_args = 2, value_names = ["PLATFORM", "UNIONID"])]
    unionid: Option<Vec<String>>,
    /// JSON, with accounts as the look-ups have them
    #[arg(long)]
    json: bool,
}

/// Options of `user explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// An account, APPID:OPENID
    #[arg(value_name = "A")]
    a: String,
    /// Another account
    #[arg(value_name = "B")]
    b: String,
    /// JSON
    #[arg(long)]
    json: bool,
}

/// Options of `user split`.
#[derive(Debug, Args)]
pub struct SplitArgs {
    /// A user id, or one of its accounts, APPID:OPENID
    #[arg(value_name = "WHO")]
    who: String,
    /// The accounts that do not belong to the others, APPID:OPENID, with commas between
    #[arg(long, value_name = "ACCOUNTS", value_delimiter = ',', required = true)]
    accounts: Vec<String>,
    /// Agree that accounts come together that are apart now, as the plan says
    #[arg(long)]
    allow_links: bool,
    #[command(flatten)]
    deed: DeedArgs,
}

/// Options of `user never-merge` and `user allow-merge`.
#[derive(Debug, Args)]
pub struct PairArgs {
    /// An account, APPID:OPENID
    #[arg(value_name = "A")]
    a: String,
    /// Another account
    #[arg(value_name = "B")]
    b: String,
    /// Agree that accounts come together that are apart now, as the plan says
    #[arg(long)]
    allow_links: bool,
    #[command(flatten)]
    deed: DeedArgs,
}

/// Options of `user erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// A user id, or one of its accounts, APPID:OPENID
    #[arg(value_name = "WHO")]
    who: String,
    /// Erase this account alone and leave the others of its user as they are
    #[arg(long)]
    account_only: bool,
    #[command(flatten)]
    deed: DeedArgs,
}

/// Does it.
///
/// # Errors
/// Wrong use, or it could not be done; the text says what was.
pub async fn run(config: Config, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::Show(args) => show::run(config, args).await,
        UserCommand::Explain(args) => explain::run(config, args).await,
        UserCommand::Split(args) => split::run(config, args).await,
        UserCommand::NeverMerge(args) => pair::run(config, args, true).await,
        UserCommand::AllowMerge(args) => pair::run(config, args, false).await,
        UserCommand::Erase(args) => erase::run(config, args).await,
    }
}
