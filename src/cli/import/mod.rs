//! `unilink import`: a table of accounts becomes events on the login topic.

mod file;
mod publish;
mod survey;

use super::Failure;
use super::assemble::Operating;
use super::confirm::Consent;
use super::export::FormatArg;
use super::operator::{Operator, OperatorArgs};
use super::progress::{Progress, grouped, until_signalled};
use crate::cli::shown::say_line;
use crate::config::Config;
use crate::store::Audit;
use crate::wire::Signer;
use clap::Args;
use file::Table;
use publish::{Done, Publishing};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use survey::Survey;

/// Options of `import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The table, or - for stdin. Its first line (of CSV) names the columns: appid, openid, first_seen_at
    /// (RFC 3339, or milliseconds), and, where known, unionid, platform, external_id. What `export` writes
    /// is taken as it is
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// [default: what FILE ends in (.ndjson, .jsonl), else csv]
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatArg>,
    /// Look through the table, say what would be imported, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave bad lines out instead of importing nothing
    #[arg(long)]
    skip_bad: bool,
    /// Begin with this line of the file (the first is 1): how an interrupted import goes on
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from_line: u64,
    /// Accounts a second, so that live logins are not held up; 0: as fast as the bus takes them
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    rate: u32,
    /// Progress and result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    operator: OperatorArgs,
}

/// Imports.
///
/// # Errors
/// A line is bad, nobody agreed, bus or store fail, or it was stopped: the text says how to go on.
pub async fn run(config: Config, args: ImportArgs) -> Result<(), Failure> {
    let operating = Operating::open(config).await?;
    let apps = &operating.parts.apps;
    let named = (args.file != Path::new("-")).then_some(args.file.as_path());
    let format = FormatArg::or_of(args.format, named);
    let table = Table::open(named, format)?;
    let progress = Progress::new(args.json);
    let now = (operating.parts.clock)();
    let survey = survey::survey(&table, args.from_line, apps, now, &progress)?;
    survey.tell_bad();
    if survey.bad > 0 && !args.skip_bad {
        return Err(Failure::Failed(format!(
            "{} lines are bad, and nothing was imported: correct them, or leave them out with --skip-bad",
            grouped(survey.bad)
        )));
    }
    if args.dry_run || survey.good == 0 {
        say(&args, &survey, None);
        return Ok(());
    }
    let operator = args.operator.operator()?;
    args.consent.to(&survey.plan("it would import"))?;
    imported(&operating, &args, &table, &survey, &operator, &progress).await
}

async fn imported(
    operating: &Operating,
    args: &ImportArgs,
    table: &Table,
    survey: &Survey,
    operator: &Operator,
    progress: &Progress,
) -> Result<(), Failure> {
    let parts = &operating.parts;
    let key = parts.keys.operators.last().ok_or_else(|| {
        Failure::Failed("the key file holds no operator's key to sign imports with".to_owned())
    })?;
    let stop = until_signalled()?;
    let begun = audit(args, operator, "import begun", survey.good, (parts.clock)());
    // Whoever cannot be named does nothing.
    operating.store.audit(&begun).await.map_err(|error| {
        Failure::Failed(format!(
            "{error}. Nothing was imported: what cannot be noted is not done"
        ))
    })?;
    let publishing = Publishing {
        bus: &*parts.bus,
        topics: &parts.topics(),
        signer: &Signer::new(&key.id, &key.key),
        apps: &parts.apps,
        rate: args.rate,
        now: (parts.clock)(),
    };
    progress.begin("accounts", 0, survey.good);
    let went = |n| progress.went(n, &[]);
    let (done, error) = publishing.all(table, args.from_line, &stop, went).await;
    progress.finish();
    let word = match (&error, done.stopped) {
        (Some(_), _) => "import failed",
        (None, true) => "import stopped",
        (None, false) => "import",
    };
    let ended = audit(args, operator, word, done.accounts, (parts.clock)());
    let noted = operating.store.audit(&ended).await;
    let imported = format!(
        "{} of {} accounts",
        grouped(done.accounts),
        grouped(survey.good)
    );
    if let Some(error) = error {
        let on = resume(args, &done);
        return Err(Failure::Failed(format!(
            "{error}. {imported} were imported; go on with: {on}"
        )));
    }
    if done.stopped {
        let on = resume(args, &done);
        return Err(Failure::Failed(format!(
            "stopped: {imported} were imported; go on with: {on}"
        )));
    }
    if done.accounts != survey.good {
        return Err(Failure::Failed(format!(
            "{imported} were imported: the file changed meanwhile; run the same command again, which \
             changes nothing of what is there"
        )));
    }
    noted.map_err(|e| {
        Failure::Failed(format!("{imported} were imported; that was not noted: {e}"))
    })?;
    say(args, survey, Some(&done));
    Ok(())
}

/// The command that goes on where this one ended.
fn resume(args: &ImportArgs, done: &Done) -> String {
    let mut words = vec!["unilink import".to_owned(), quoted(&args.file)];
    match args.format {
        Some(FormatArg::Csv) => words.push("--format csv".to_owned()),
        Some(FormatArg::Ndjson) => words.push("--format ndjson".to_owned()),
        None => {}
    }
    if args.skip_bad {
        words.push("--skip-bad".to_owned());
    }
    words.push(format!("--from-line {}", done.next_line));
    if args.rate != 1_000 {
        words.push(format!("--rate {}", args.rate));
    }
    words.join(" ")
}

/// A file's name as a shell takes it.
fn quoted(file: &Path) -> String {
    let name = file.display().to_string();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./+=@:,".contains(&b);
    match name.bytes().all(plain) {
        true => name,
        false => format!("'{}'", name.replace('\'', r"'\''")),
    }
}

fn audit(
    args: &ImportArgs,
    operator: &Operator,
    action: &str,
    accounts: u64,
    at: crate::model::Millis,
) -> Audit {
    let file = args.file.file_name().unwrap_or(args.file.as_os_str());
    let mut detail = BTreeMap::from([("file".to_owned(), file.to_string_lossy().into_owned())]);
    if args.from_line > 1 {
        detail.insert("from_line".to_owned(), args.from_line.to_string());
    }
    Audit {
        at,
        author: operator.author.clone(),
        action: action.to_owned(),
        note: operator.note.clone(),
        detail,
        counts: BTreeMap::from([("accounts".to_owned(), accounts)]),
    }
}

/// The result: what would be imported, or was.
fn say(args: &ImportArgs, survey: &Survey, done: Option<&Done>) {
    if args.json {
        let imported = done.map_or(0, |done| done.accounts);
        say_line!(
            "{}",
            json!({"imported": imported, "good": survey.good, "bad": survey.bad,
                "with_unionid": survey.with_unionid, "erasures": survey.erasures,
                "by_app": survey.by_app})
        );
        return;
    }
    match done {
        Some(_) => say_line!("{}", survey.plan("imported")),
        None => say_line!("{}", survey.plan("it would import")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ImportArgs,
    }

    #[test]
    fn what_goes_on_is_the_same_command_from_a_later_line() {
        let done = Done {
            next_line: 41,
            ..Done::default()
        };
        for (typed, on) in [
            (
                vec!["x", "a.csv", "--yes"],
                "unilink import a.csv --from-line 41",
            ),
            (
                vec![
                    "x",
                    "it's.txt",
                    "--format",
                    "ndjson",
                    "--skip-bad",
                    "--rate",
                    "0",
                ],
                r"unilink import 'it'\''s.txt' --format ndjson --skip-bad --from-line 41 --rate 0",
            ),
        ] {
            let line = Line::parse_from(typed);
            assert_eq!(resume(&line.args, &done), on);
        }
    }
}
