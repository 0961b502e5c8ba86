//! What long work came to, for people and for scripts.

use super::progress::grouped;
use crate::replay::counts::{AppCounts, ByWord, Counts, sum};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use uuid::Uuid;

/// What work came to.
pub struct Outcome<'a> {
    /// The command's word.
    pub kind: &'static str,
    /// What was gone through.
    pub unit: &'static str,
    /// The job, if it was one.
    pub job: Option<Uuid>,
    /// Whether it was a dry run.
    pub dry: bool,
    /// Whether questions were asked, and not just counted.
    pub asked: bool,
    /// The numbers.
    pub counts: &'a Counts,
    /// How long this process took.
    pub seconds: f64,
}

impl Outcome<'_> {
    /// Prints it. Who reads no longer is no failure.
    pub fn print(&self, json: bool) {
        let text = if json {
            format!("{}\n", self.json())
        } else {
            self.text()
        };
        std::io::stdout().lock().write_all(text.as_bytes()).ok();
    }

    fn json(&self) -> Value {
        let mut counts = json!(self.counts);
        counts["total"] = json!(self.counts.total());
        json!({
            "command": self.kind,
            "job": self.job,
            "dry_run": self.dry,
            "seconds": (self.seconds * 10.0).round() / 10.0,
            "counts": counts,
        })
    }

    fn text(&self) -> String {
        let counts = self.counts;
        let mut text = format!(
            "{} {}: {} {} in {:.1} s\n",
            self.kind,
            match (self.dry, &self.job) {
                (true, _) => "(dry run, nothing was changed)".to_owned(),
                (false, Some(job)) => job.to_string(),
                (false, None) => String::new(),
            },
            grouped(counts.records),
            self.unit,
            self.seconds
        );
        let mut line = |what: &str, said: String| {
            if !said.is_empty() {
                text.push_str(&format!("  {what:18} {said}\n"));
            }
        };
        if counts.operator_events > 0 {
            line("operators' events", grouped(counts.operator_events));
        }
        line("unreadable", words(&counts.unreadable));
        for (app, of_app) in &counts.apps {
            text.push_str(&self.app_text(app, of_app));
        }
        text.push_str(&self.advice());
        text
    }

    fn app_text(&self, app: &str, of_app: &AppCounts) -> String {
        let would = |done: &'static str, would: &'static str| if self.dry { would } else { done };
        let mut lines = vec![format!("{app}: {} logins", grouped(of_app.logins))];
        for (what, n) in [
            (
                would("newly linked", "would be linked"),
                of_app.newly_linked,
            ),
            (would("merged", "would be merged"), of_app.merged),
            (would("contested", "would be contested"), of_app.contested),
            (would("new accounts", "would be new"), of_app.new_accounts),
            ("linked", of_app.linked),
            ("left aside", of_app.left_aside),
            ("code not answered", of_app.unanswered),
            ("erased since", of_app.void),
        ] {
            if n > 0 || what.ends_with("newly linked") || what.ends_with("be linked") {
                lines.push(format!("  {what:18} {}", grouped(n)));
            }
        }
        for (what, by_word) in [
            ("still unresolved", &of_app.unresolved),
            ("dead", &of_app.dead),
            ("not asked", &of_app.not_asked),
            ("calls", &of_app.calls),
        ] {
            if sum(by_word) > 0 {
                lines.push(format!("  {what:18} {}", words(by_word)));
            }
        }
        if of_app.askable > 0 {
            lines.push(format!(
                "  WeChat may know    at most {} accounts, for at most {}",
                grouped(of_app.askable),
                words(&of_app.would_call)
            ));
        }
        lines.into_iter().map(|line| format!("{line}\n")).collect()
    }

    /// What to do next.
    fn advice(&self) -> String {
        let total = self.counts.total();
        let mut advice = String::new();
        let possible = total.not_asked.get("possible").copied().unwrap_or(0);
        if !self.asked && total.askable > 0 {
            advice.push_str(
                "calls are counted for accounts, once each; user_info in hundreds (one that WeChat \
                 calls invalid costs its batch some more), and an app_token every two hours beside.\n\
                 --ask asks them now and remembers the answers for a day: the same command without \
                 --dry-run then does what it says\n",
            );
        }
        if sum(&total.not_asked) > possible {
            advice.push_str(
                "what was not asked (a quota, a refusal, no answer) is asked by another run, once its \
                 cause is mended; what is linked by now changes nothing then\n",
            );
        }
        if total.unanswered > 0 {
            advice.push_str(
                "codes are never sent again: those that were not answered are resolved by their \
                 people's next login\n",
            );
        }
        advice
    }
}

/// For the audit.
#[must_use]
pub fn counted_words(counts: &Counts) -> BTreeMap<String, u64> {
    let total = counts.total();
    [
        ("records", counts.records),
        ("newly_linked", total.newly_linked),
        ("merged", total.merged),
        ("contested", total.contested),
        ("not_asked", sum(&total.not_asked)),
        ("calls", sum(&total.calls)),
    ]
    .map(|(word, n)| (word.to_owned(), n))
    .into()
}

/// `not_following 20,000, no_unionid 3`, the most first.
fn words(by_word: &ByWord) -> String {
    let mut words: Vec<_> = by_word.iter().filter(|(_, n)| **n > 0).collect();
    words.sort_by_key(|(word, n)| (std::cmp::Reverse(**n), (*word).clone()));
    let words = words
        .iter()
        .map(|(word, n)| format!("{word} {}", grouped(**n)));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AppId, Reason};

    #[test]
    fn a_person_reads_what_became_of_it_and_what_to_do_next() {
        let app = AppId::parse("wx1").expect("valid");
        let mut counts = Counts {
            records: 1_500,
            ..Counts::default()
        };
        for _ in 0..3 {
            counts.login_of(&app).unresolved(Reason::NotFollowing);
        }
        counts.of(&app).unanswered = 2;
        counts.of(&app).not_asked.insert("quota".into(), 7);
        let mut outcome = Outcome {
            kind: "replay",
            unit: "records",
            job: Some(Uuid::nil()),
            dry: false,
            asked: true,
            counts: &counts,
            seconds: 1.0,
        };
        let text = outcome.text();
        for said in [
            "1,500 records",
            "newly linked       0",
            "not_following 3",
            "quota 7",
            "another run",
            "next login",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        outcome.dry = true;
        assert!(outcome.text().contains("nothing was changed"));
        assert_eq!(outcome.json()["counts"]["total"]["not_asked"]["quota"], 7);
    }
}
