//! Looking through a table before anything of it goes.

use super::file::Table;
use crate::cli::Failure;
use crate::cli::progress::{Progress, grouped};
use crate::model::{Apps, Millis};
use crate::tables::Faulty;
use std::collections::BTreeMap;

/// Bad lines that are told one by one.
const TOLD: usize = 20;
/// Rows between two looks at the progress.
const LOOK: u64 = 10_000;

/// What a table holds.
#[derive(Default)]
pub struct Survey {
    /// Rows that can be imported.
    pub good: u64,
    /// Those of them with a unionid.
    pub with_unionid: u64,
    /// Those of them whose account was erased before.
    pub erasures: u64,
    /// Good rows by app.
    pub by_app: BTreeMap<String, u64>,
    /// Rows that cannot.
    pub bad: u64,
    told: Vec<(u64, Faulty)>,
}

/// Reads all of it.
///
/// # Errors
/// It cannot be read, or its columns are none of ours.
pub fn survey(
    table: &Table,
    from_line: u64,
    apps: &Apps,
    now: Millis,
    progress: &Progress,
) -> Result<Survey, Failure> {
    let mut survey = Survey::default();
    let mut reader = table.reader()?;
    progress.begin("bytes looked at", 0, table.bytes);
    while let Some((line, row)) =
        (reader.next(from_line, apps, now)).map_err(|e| table.failed(e))?
    {
        match row {
            Ok(row) => {
                survey.good += 1;
                survey.with_unionid += u64::from(!row.import.unions.is_empty());
                survey.erasures += u64::from(row.erased.is_some());
                let app = row.import.account.app.as_str();
                match survey.by_app.get_mut(app) {
                    Some(count) => *count += 1,
                    None => drop(survey.by_app.insert(app.to_owned(), 1)),
                }
            }
            Err(faulty) => {
                survey.bad += 1;
                if survey.told.len() < TOLD {
                    survey.told.push((line, faulty));
                }
            }
        }
        if (survey.good + survey.bad).is_multiple_of(LOOK) {
            let live = [("good lines", survey.good), ("bad lines", survey.bad)];
            progress.went(table.read_so_far()?, &live);
        }
    }
    progress.finish();
    Ok(survey)
}

impl Survey {
    /// Tells the first bad lines, on stderr.
    pub fn tell_bad(&self) {
        for (line, faulty) in &self.told {
            eprintln!("line {line}: {faulty}");
        }
        let more = self.bad.saturating_sub(self.told.len() as u64);
        if more > 0 {
            eprintln!("and {} more bad lines", grouped(more));
        }
    }

    /// What is, or would be, imported.
    pub fn plan(&self, verb: &str) -> String {
        let apps = self.by_app.iter();
        let apps: Vec<String> = apps
            .map(|(app, n)| format!("{app} {}", grouped(*n)))
            .collect();
        let mut text = format!("{verb} {} accounts", grouped(self.good));
        if !apps.is_empty() {
            text.push_str(&format!(" ({})", apps.join(", ")));
        }
        text.push_str(&format!(", {} with a unionid", grouped(self.with_unionid)));
        if self.erasures > 0 {
            let erasures = grouped(self.erasures);
            text.push_str(&format!(
                "; {erasures} of them with the erasure that came before"
            ));
        }
        if self.bad > 0 {
            text.push_str(&format!("; {} bad lines left out", grouped(self.bad)));
        }
        text
    }
}
