//! Progress of long work, all of it shown alike on stderr: a bar on a terminal, a line now and then
//! elsewhere, JSON lines where a script asked for them. The first SIGINT or SIGTERM ends the work after
//! the batch at hand, the second ends it at once.

use super::Failure;
use crate::rebuild::Watch;
use crate::shutdown;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Numbers worth seeing while work goes on: what they count, in words, and how many.
pub type Live<'a> = &'a [(&'static str, u64)];

/// Cancelled by the first signal: what works looks at it between two batches, and says how to go on.
///
/// # Errors
/// The signals cannot be listened to.
pub fn until_signalled() -> Result<CancellationToken, Failure> {
    shutdown::on_signals().map_err(Failure::failed)
}

/// Shows how far work has got.
pub struct Progress {
    json: bool,
    every: Duration,
    shown: Mutex<Shown>,
}

struct Shown {
    out: Box<dyn Write + Send>,
    stage: Option<Stage>,
}

struct Stage {
    what: &'static str,
    /// What was done when it began: an earlier run may have got somewhere.
    from: u64,
    total: u64,
    begun: Instant,
    last: Instant,
    bar: ProgressBar,
}

/// A moment of a stage.
struct Moment<'a> {
    what: &'a str,
    done: u64,
    total: u64,
    per_second: Option<f64>,
    live: Live<'a>,
}

impl Progress {
    /// On stderr; as JSON if `json`.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self::to(Box::new(std::io::stderr()), json, LINE_EVERY)
    }

    fn to(out: Box<dyn Write + Send>, json: bool, every: Duration) -> Self {
        Self {
            json,
            every,
            shown: Mutex::new(Shown { out, stage: None }),
        }
    }

    /// The next stage begins; `done` of its `total` were done before.
    pub fn begin(&self, what: &'static str, done: u64, total: u64) {
        self.finish();
        let target = if self.json {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = "{bar:32} {human_pos}/{human_len} {msg}, {per_sec}, {eta} left";
        let style = ProgressStyle::with_template(style);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(what);
        bar.set_position(done);
        bar.reset_eta();
        let now = Instant::now();
        let stage = Stage {
            what,
            from: done,
            total,
            begun: now,
            last: now,
            bar,
        };
        let mut shown = self.lock();
        if stage.bar.is_hidden() {
            shown.line(self.json, &stage.moment(done, &[]));
        }
        shown.stage = Some(stage);
    }

    /// So much of the stage is done.
    pub fn went(&self, done: u64, live: Live<'_>) {
        let mut shown = self.lock();
        let Some(stage) = shown.stage.as_mut() else {
            return;
        };
        if !stage.bar.is_hidden() {
            stage.bar.set_message(message(stage.what, live));
            stage.bar.set_position(done);
        } else if stage.last.elapsed() >= self.every {
            stage.last = Instant::now();
            let moment = stage.moment(done, live);
            shown.line(self.json, &moment);
        }
    }

    /// Takes the bar away: what follows is a result.
    pub fn finish(&self) {
        if let Some(stage) = self.lock().stage.take() {
            stage.bar.finish_and_clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    fn moment<'a>(&self, done: u64, live: Live<'a>) -> Moment<'a> {
        let seconds = self.begun.elapsed().as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a rate, for people")]
        let rate = done.saturating_sub(self.from) as f64 / seconds.max(0.001);
        Moment {
            what: self.what,
            done,
            total: self.total,
            per_second: (done > self.from).then_some(rate),
            live,
        }
    }
}

impl Shown {
    /// A reader that went away is no reason to stop the work.
    fn line(&mut self, json: bool, moment: &Moment<'_>) {
        let line = if json {
            moment.json().to_string()
        } else {
            moment.text()
        };
        writeln!(self.out, "{line}").ok();
    }
}

impl Moment<'_> {
    fn seconds_left(&self) -> Option<u64> {
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "seconds, for people"
        )]
        let left = |rate: f64| (self.total.saturating_sub(self.done) as f64 / rate).ceil() as u64;
        self.per_second.map(left)
    }

    fn text(&self) -> String {
        let (what, total) = (self.what, grouped(self.total));
        let Some((rate, left)) = self.per_second.zip(self.seconds_left()) else {
            return format!("{what}: {total} to go");
        };
        let said = format!("{}, {rate:.0}/s, {left} s left", message(what, self.live));
        format!("{} of {total} {said}", grouped(self.done))
    }

    fn json(&self) -> Value {
        let mut line = Map::new();
        line.insert("progress".into(), self.what.into());
        line.insert("done".into(), self.done.into());
        line.insert("total".into(), self.total.into());
        let rate = self.per_second.map(|rate| (rate * 10.0).round() / 10.0);
        line.insert("per_second".into(), json!(rate));
        line.insert("seconds_left".into(), json!(self.seconds_left()));
        for (name, count) in self.live {
            line.insert(name.replace(' ', "_"), (*count).into());
        }
        Value::Object(line)
    }
}

impl Watch for Progress {
    fn stage(&self, what: &'static str, total: u64) {
        self.begin(what, 0, total);
    }

    fn at(&self, done: u64) {
        self.went(done, &[]);
    }
}

fn message(what: &str, live: Live<'_>) -> String {
    let counts = live
        .iter()
        .map(|(name, n)| format!(", {name} {}", grouped(*n)));
    std::iter::once(what.to_owned()).chain(counts).collect()
}

/// A number as people read it: 1,234,567.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().expect("lock").clone());
            text.expect("text").lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn lines_tell_rate_and_rest_and_what_came_of_it() {
        let page = Page::default();
        let progress = Progress::to(Box::new(page.clone()), true, Duration::ZERO);
        progress.begin("records read", 1_000, 5_000);
        std::thread::sleep(Duration::from_millis(20));
        progress.went(2_000, &[("newly linked", 1_234)]);
        progress.finish();
        progress.went(3_000, &[]);
        let lines: Vec<Value> = page
            .lines()
            .iter()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 2, "nothing after the end: {lines:?}");
        assert_eq!(lines[0]["per_second"], Value::Null, "nothing is done yet");
        assert_eq!(lines[1]["newly_linked"], 1_234);
        // What an earlier run did is no part of the rate: at most 1,000 in 20 ms.
        let rate = lines[1]["per_second"].as_f64().expect("a rate");
        assert!((1.0..=50_000.0).contains(&rate), "{rate}");
        assert!(lines[1]["seconds_left"].as_u64().expect("an end") >= 1);
    }

    #[test]
    fn people_read_sentences() {
        let mut moment = Moment {
            what: "records read",
            done: 12_000,
            total: 40_000,
            per_second: Some(2_400.0),
            live: &[("newly linked", 1_234)],
        };
        let text = "12,000 of 40,000 records read, newly linked 1,234, 2400/s, 12 s left";
        assert_eq!(moment.text(), text);
        moment.per_second = None;
        assert_eq!(moment.text(), "records read: 40,000 to go");
    }

    #[test]
    fn lines_come_only_so_often() {
        let page = Page::default();
        let progress = Progress::to(Box::new(page.clone()), true, Duration::from_secs(600));
        progress.begin("records read", 0, 10);
        for done in 1..10 {
            progress.went(done, &[]);
        }
        assert_eq!(page.lines().len(), 1);
    }
}
