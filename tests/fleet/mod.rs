//! Several processes of the real binary on one configuration, as an installation runs them.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests; each uses a part of it"
)]

use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// A slow machine that builds at the same time may take this long for anything.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A directory with a configuration.
pub struct Fleet {
    pub dir: tempfile::TempDir,
    pub http: reqwest::Client,
    vars: Vec<(String, String)>,
}

impl Fleet {
    pub fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("unilink.toml"), config).unwrap();
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap();
        let vars = Vec::new();
        Self { dir, http, vars }
    }

    /// Sets a variable for all processes that start from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.vars.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, args: &[&str], vars: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_unilink"));
        // Nothing of the developer's own configuration.
        command.env_clear().current_dir(self.dir.path()).args(args);
        command.env("LOGNAME", "tester");
        command.envs(self.vars.iter().map(|(k, v)| (k, v)));
        command.envs(vars.iter().copied());
        command
    }

    /// A command to its end.
    pub async fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, &[]).await
    }

    /// Runs a command whose output nobody reads.
    pub async fn unread(&self, args: &[&str]) -> Output {
        let mut command = self.command(args, &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            drop(child.stdout.take());
            child.wait_with_output().unwrap()
        })
        .await
        .unwrap()
    }

    pub async fn run_with(&self, args: &[&str], vars: &[(&str, &str)]) -> Output {
        let mut command = self.command(args, vars);
        tokio::task::spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    /// A command that must do it; what it printed.
    pub async fn done(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{args:?}: {out}\n{err}");
        out
    }

    /// A command that must end with `status`; what it said on stderr.
    pub async fn refused(&self, args: &[&str], status: i32) -> String {
        let output = self.run(args).await;
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {out}\n{err}");
        err
    }

    /// A role, with variables of its own.
    pub fn start(&self, name: &str, args: &[&str], vars: &[(&str, &str)]) -> Process {
        let log = self.dir.path().join(format!("{name}.log"));
        let child = self
            .command(args, vars)
            .env("UNILINK_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Process { child, log }
    }

    pub async fn get(&self, url: &str) -> Option<(u16, String)> {
        let answer = self.http.get(url).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }

    /// Waits until a URL answers with `status`.
    pub async fn until(&self, url: &str, status: u16, of: &Process) -> String {
        let begun = Instant::now();
        loop {
            let answer = self.get(url).await;
            if let Some((_, text)) = answer.as_ref().filter(|(s, _)| *s == status) {
                return text.clone();
            }
            let told = format!("{url}: {answer:?}: {}", of.logs());
            assert!(begun.elapsed() < PATIENCE, "{told}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Posts events as NDJSON: status, `Retry-After`, answer.
    pub async fn post(&self, base: &str, events: &[Value]) -> Option<(u16, Option<String>, Value)> {
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        let request = self
            .http
            .post(format!("{base}/v1/logins"))
            .header("content-type", "application/x-ndjson")
            .body(lines.join("\n"));
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let retry = answer.headers().get("retry-after");
        let retry = retry.map(|v| v.to_str().unwrap().to_owned());
        let text = answer.text().await.ok()?;
        Some((
            status,
            retry,
            serde_json::from_str(&text).unwrap_or_default(),
        ))
    }
}

pub fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// A process that is killed when it is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub fn logs(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn log_path(&self) -> &Path {
        &self.log
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "does not end: {}", self.logs());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGTERM, and it ends well.
    pub async fn stopped(&mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert!(status.success(), "{status}: {}", self.logs());
        assert!(!self.logs().contains("panic"), "{}", self.logs());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
