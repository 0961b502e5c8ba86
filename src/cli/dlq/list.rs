//! `unilink dlq list`: how many letters of which reason and app, and the newest.

use super::{FilterArgs, failed};
use crate::cli::Failure;
use crate::cli::progress::{Progress, grouped};
use crate::cli::shown::say_line;
use crate::dlq::{Desk, Letter, Place};
use crate::model::Millis;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Apps of one reason that are counted apart: appids of dead letters can be anything.
const APPS: usize = 1_000;

/// Options of `dlq list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Show so many of the newest letters
    #[arg(short = 'n', long = "newest", value_name = "N", default_value_t = 20)]
    newest: usize,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Letters of one reason and app.
#[derive(Default)]
struct Row {
    letters: u64,
    redriven: u64,
    under_way: u64,
    last: Option<Millis>,
}

/// What was found.
#[derive(Default)]
struct Found {
    rows: BTreeMap<(&'static str, String), Row>,
    newest: BTreeMap<(Millis, Place), Letter>,
    strange: u64,
}

/// Lists.
///
/// # Errors
/// Bus or store do not answer.
pub async fn run(desk: &Desk, args: &ListArgs) -> Result<(), Failure> {
    let filter = args.filter.filter(&[], (desk.clock)());
    let held = desk.held().await.map_err(failed)?;
    let total = held.iter().map(|r| r.to - r.from).sum::<i64>();
    let progress = Progress::new(args.json);
    progress.begin("dead letters", 0, total.unsigned_abs());
    let (mut found, mut read) = (Found::default(), 0);
    for mut range in held {
        while let Some((letters, records)) = desk.page(&mut range).await.map_err(failed)? {
            read += records;
            found.strange += records - letters.len() as u64;
            for letter in letters.into_iter().filter(|l| filter.takes(l)) {
                found.take(letter, args.newest);
            }
            progress.went(read, &[]);
        }
    }
    progress.finish();
    if args.json {
        say_line!("{}", found.json());
    } else {
        found.print();
    }
    Ok(())
}

impl Found {
    fn take(&mut self, letter: Letter, newest: usize) {
        let app = letter.app.as_ref().map_or("?", |app| app.as_str());
        let mut key = (letter.reason(), app.to_owned());
        if self.rows.len() >= APPS && !self.rows.contains_key(&key) {
            key.1 = "(others)".to_owned();
        }
        let row = self.rows.entry(key).or_default();
        row.letters += 1;
        row.redriven += u64::from(went(&letter));
        row.under_way += u64::from(under_way(&letter));
        row.last = row.last.max(Some(letter.at));
        self.newest.insert((letter.at, letter.place), letter);
        if self.newest.len() > newest {
            self.newest.pop_first();
        }
    }

    fn total(&self, of: impl Fn(&Row) -> u64) -> u64 {
        self.rows.values().map(of).sum()
    }

    fn print(&self) {
        let (letters, redriven) = (self.total(|r| r.letters), self.total(|r| r.redriven));
        say_line!(
            "{} dead letters, {} redriven",
            grouped(letters),
            grouped(redriven)
        );
        let begun = self.total(|r| r.under_way);
        if begun > 0 {
            say_line!(
                "{} more were begun by a redrive that runs, or did not end",
                grouped(begun)
            );
        }
        if self.strange > 0 {
            say_line!(
                "{} records are no dead letters of ours",
                grouped(self.strange)
            );
        }
        if letters == 0 {
            return;
        }
        let head = ["reason", "app", "letters", "redriven", "newest"].map(str::to_owned);
        let rows = self.rows.iter().map(|((reason, app), row)| {
            let last = row.last.map(|at| at.to_string()).unwrap_or_default();
            let (letters, redriven) = (grouped(row.letters), grouped(row.redriven));
            [(*reason).to_owned(), app.clone(), letters, redriven, last]
        });
        say_line!("");
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
        if self.newest.is_empty() {
            return;
        }
        let head = ["place", "died", "reason", "app", "event", "redrives"].map(str::to_owned);
        let rows = self.newest.values().rev().map(|letter| {
            let again = if went(letter) { ", went back" } else { "" };
            [
                letter.place.to_string(),
                letter.at.to_string(),
                letter.reason().to_owned(),
                word(letter.app.as_ref()),
                word(letter.event.as_ref()),
                format!("{}{again}", letter.redrives()),
            ]
        });
        say_line!("");
        table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|((reason, app), row)| {
            json!({"reason": reason, "app": (app != "?").then_some(app), "letters": row.letters,
                "redriven": row.redriven, "under_way": row.under_way,
                "newest": row.last.map(|at| at.to_string())})
        });
        let newest = self.newest.values().rev().map(|letter| {
            json!({"place": letter.place.to_string(), "died_at": letter.at.to_string(),
                "reason": letter.reason(), "detail": letter.grave.detail,
                "app": letter.app.as_ref().map(ToString::to_string),
                "event": letter.event.as_ref().map(|id| id.as_str()),
                "redrives": letter.redrives(), "redriven": went(letter),
                "under_way": under_way(letter)})
        });
        json!({"letters": self.total(|r| r.letters), "redriven": self.total(|r| r.redriven),
            "under_way": self.total(|r| r.under_way), "strange": self.strange,
            "by_reason_and_app": rows.collect::<Vec<_>>(), "newest": newest.collect::<Vec<_>>()})
    }
}

fn went(letter: &Letter) -> bool {
    letter.redriven.as_ref().is_some_and(|one| one.times > 0)
}

fn under_way(letter: &Letter) -> bool {
    letter.redriven.as_ref().is_some_and(|one| one.under_way)
}

fn word(of: Option<&impl ToString>) -> String {
    of.map_or_else(|| "?".to_owned(), ToString::to_string)
}

/// Prints columns side by side.
fn table<const N: usize>(rows: &[[String; N]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        say_line!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
