//! Signals, tried on a real process: this test program, started again as the process to be ended.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop"
)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the process that is to be ended.
const VICTIM: &str = "SHUTDOWN_VICTIM";

/// In the victim: stops cleanly within 300 ms of the first signal, or never, as told.
#[test]
fn victim() {
    let Ok(how) = std::env::var(VICTIM) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        let token = unilink::shutdown::on_signals().expect("handlers");
        eprintln!("ready");
        let _ = tokio::time::timeout(Duration::from_secs(20), token.cancelled()).await;
        eprintln!("stopping");
        if how == "hangs" {
            tokio::time::sleep(Duration::from_secs(20)).await;
        }
    });
    std::process::exit(if how == "hangs" { 99 } else { 0 });
}

struct Victim {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Victim {
    fn start(how: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "victim", "--nocapture"])
            .env(VICTIM, how)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let mut victim = Self { child, lines };
        victim.wait_for("ready");
        victim
    }

    fn wait_for(&mut self, line: &str) {
        let found = self.lines.by_ref().any(|l| l.expect("line") == line);
        assert!(found, "{line} never came");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .expect("kill");
        assert!(sent.success());
    }

    fn ends_with(&mut self, code: i32) {
        let began = Instant::now();
        let status = self.child.wait().expect("ended");
        assert_eq!(status.code(), Some(code));
        assert!(began.elapsed() < Duration::from_secs(10), "at once");
    }
}

#[test]
fn the_first_signal_asks_for_a_clean_stop() {
    for signal in ["TERM", "INT"] {
        let mut victim = Victim::start("stops");
        victim.signal(signal);
        victim.wait_for("stopping");
        victim.ends_with(0);
    }
}

#[test]
fn the_second_signal_ends_at_once_with_its_own_status() {
    for (first, second, code) in [
        ("TERM", "TERM", 143),
        ("TERM", "INT", 130),
        ("INT", "INT", 130),
    ] {
        let mut victim = Victim::start("hangs");
        victim.signal(first);
        victim.wait_for("stopping");
        victim.signal(second);
        victim.ends_with(code);
    }
}
