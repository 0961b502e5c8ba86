//! `unilink export`: the account → user table of the store, as a file.

use super::Failure;
use super::assemble::Operating;
use super::name::configured;
use super::progress::{Progress, grouped, until_signalled};
use crate::cli::shown::say_line;
use crate::config::Config;
use crate::model::AppId;
use crate::store::{State, Which};
use crate::tables::{Format, Writer};
use clap::{Args, ValueEnum};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Accounts read at once.
const PAGE: usize = 1_000;

/// How tables are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// Comma-separated, with a header row
    Csv,
    /// A JSON object a line
    Ndjson,
}

impl FormatArg {
    /// The format given, else the one that the file's name ends in, else CSV.
    pub fn or_of(given: Option<Self>, file: Option<&Path>) -> Format {
        let ending = file.and_then(|file| file.extension()?.to_str());
        match (given, ending) {
            (Some(Self::Ndjson), _) | (None, Some("ndjson" | "jsonl")) => Format::Ndjson,
            (Some(Self::Csv), _) | (None, _) => Format::Csv,
        }
    }
}

/// Options of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Only the accounts of this app
    #[arg(long, value_name = "APPID", value_parser = app)]
    app: Option<AppId>,
    /// [default: what FILE ends in (.ndjson, .jsonl), else csv]
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatArg>,
    /// Write to this file, which is there once it is whole; else to stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn app(text: &str) -> Result<AppId, String> {
    AppId::parse(text).map_err(|e| e.to_string())
}

/// Exports.
///
/// # Errors
/// The store cannot be read, the file cannot be written, or it was stopped.
pub async fn run(config: Config, args: ExportArgs) -> Result<(), Failure> {
    if let Some(app) = &args.app {
        configured("--app", app, &config.apps())?;
    }
    let format = FormatArg::or_of(args.format, args.out.as_deref());
    let operating = Operating::open(config).await?;
    let Some(out) = &args.out else {
        let stdout = BufWriter::new(std::io::stdout());
        let written = written(&operating, &args, format, stdout).await;
        // Whoever read our output has left (`export | head`): that is no failure.
        return match written {
            Err(Trouble::Io(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map(drop).map_err(Trouble::failure),
        };
    };
    let named = |e: std::io::Error| Failure::Failed(format!("{}: {e}", out.display()));
    let dir = match out.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    // For its owner only: it holds identifiers.
    let mut file = NamedTempFile::new_in(dir).map_err(named)?;
    let to = BufWriter::with_capacity(1 << 20, file.as_file_mut());
    let count = written(&operating, &args, format, to).await;
    let count = count.map_err(Trouble::failure)?;
    file.as_file().sync_all().map_err(named)?;
    file.persist(out).map_err(|e| named(e.error))?;
    say_line!("{} accounts in {}", grouped(count), out.display());
    Ok(())
}

/// Why it was not written to its end.
enum Trouble {
    Io(std::io::Error),
    Other(Failure),
}

impl Trouble {
    fn failure(self) -> Failure {
        match self {
            Self::Io(error) => Failure::failed(error),
            Self::Other(failure) => failure,
        }
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Other(failure)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

/// Writes all accounts, a page at a time; how many.
async fn written(
    operating: &Operating,
    args: &ExportArgs,
    format: Format,
    to: impl Write,
) -> Result<u64, Trouble> {
    let (store, apps) = (&operating.store, &operating.parts.apps);
    let stop = until_signalled()?;
    let mut writer = Writer::new(to, format, store.identity().epoch)?;
    let which = Which {
        app: args.app.clone(),
        state: State::Any,
    };
    let totals = store.totals().await.map_err(Failure::failed)?;
    let progress = Progress::new(false);
    progress.begin("accounts", 0, totals.accounts);
    let (mut count, mut after) = (0, 0);
    loop {
        let page = store.browse(&which, after, PAGE).await;
        let page = page.map_err(Failure::failed)?;
        for (_, found) in &page.found {
            writer.row(found, apps)?;
        }
        count += page.found.len() as u64;
        progress.went(count, &[]);
        if stop.is_cancelled() {
            let why = "stopped: nothing was written; run the same command again".to_owned();
            return Err(Failure::Failed(why).into());
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    progress.finish();
    writer.end()?.flush()?;
    Ok(count)
}
