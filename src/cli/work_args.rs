//! How long work is done, as it is said on the command line: alike for replays and backfills.

use super::Failure;
use super::operator::OperatorArgs;
use crate::replay::spec::Spec;
use crate::resolve::book::Manner;
use clap::Args;

/// How the work is done, on the command line.
#[derive(Debug, Clone, Args)]
pub struct WorkArgs {
    /// Change nothing, and say what would become of it and what WeChat would be asked, at most
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: do ask WeChat, and remember its answers for a day
    #[arg(long, requires = "dry_run")]
    pub ask: bool,
    /// Ask WeChat nothing
    #[arg(long, conflicts_with = "ask")]
    pub no_ask: bool,
    /// Ask also what WeChat answered to a dry run or a job within the last day
    #[arg(long, conflicts_with = "no_ask")]
    pub again: bool,
    /// Go through at most N records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Make at most N calls a minute of each API for each app, beside those of the workers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub calls: Option<u32>,
    /// Do not rest between batches for the sake of live logins
    #[arg(long)]
    pub full_speed: bool,
    /// Progress on stderr and the result on stdout as JSON
    #[arg(long)]
    pub json: bool,
    /// Go on with a job that was stopped or killed; its id, or the beginning of it
    #[arg(long, value_name = "ID")]
    pub resume: Option<String>,
    /// With --resume: go on at once, although another process holds the job (for half a minute after it
    /// was killed); if it lives, it ends
    #[arg(long, requires = "resume")]
    pub take_over: bool,
    /// Show the jobs there are
    #[arg(long, conflicts_with_all = ["dry_run", "no_ask", "again", "rate", "calls", "full_speed", "resume"])]
    pub list: bool,
    #[command(flatten)]
    pub operator: OperatorArgs,
}

impl WorkArgs {
    /// How WeChat is asked, as it was given.
    ///
    /// # Errors
    /// Wrong use: what is asked for excludes each other.
    pub fn asking(&self) -> Result<(bool, bool), Failure> {
        if self.again && self.dry_run && !self.ask {
            let why = "--again asks WeChat: add --ask, or leave it away";
            return Err(Failure::Usage(why.to_owned()));
        }
        Ok((!self.no_ask, self.again))
    }

    /// Whether something is given that a job that has begun cannot change.
    pub fn fresh(&self) -> bool {
        self.dry_run || self.no_ask || self.again
    }

    /// How fast, as it was given: what is gone on with as it is told must not be faster.
    pub fn pace(&self) -> String {
        let number = |name: &str, of: Option<u32>| of.map(|n| format!(" --{name} {n}"));
        let full = self.full_speed.then(|| " --full-speed".to_owned());
        let all = [number("rate", self.rate), number("calls", self.calls), full];
        all.into_iter().flatten().collect()
    }

    /// How WeChat is asked.
    pub fn manner(&self, spec: &Spec) -> Manner {
        match (spec.asks, self.dry_run && !self.ask) {
            (false, _) => Manner::Left,
            (true, true) => Manner::Counted,
            (true, false) => Manner::Asked { again: spec.again },
        }
    }
}
