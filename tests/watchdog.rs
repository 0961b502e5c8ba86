//! A real process whose database takes a statement and never answers it: it ends with status 1 and says
//! why, and whoever is started in its place goes on where it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

mod fleet;
mod harness;
mod services;

use fleet::{Fleet, PATIENCE, Process};
use harness::{ago, free_port, tail_of};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

const APP: &str = "wx0123456789abcdef";
/// The shortest that can be set.
const LIMIT: Duration = Duration::from_secs(10);

/// Stands before a server. What it is told to listen for is never answered: the connection on which
/// it comes takes everything from then on, and all of it goes nowhere. Others go on.
async fn door(to: String, listens_for: watch::Receiver<&'static str>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(&to).await.unwrap();
            let ((a, b), (c, d)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(a, d, listens_for.clone()));
            tokio::spawn(carry(c, b, watch::channel("").1));
        }
    });
    address
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    listens_for: watch::Receiver<&'static str>,
) {
    let mut bytes = vec![0; 1 << 16];
    let mut swallows = false;
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let word = listens_for.borrow().as_bytes();
        let comes = |word: &[u8]| bytes[..count].windows(word.len()).any(|part| part == word);
        swallows = swallows || (!word.is_empty() && comes(word));
        if !swallows && to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

struct Site {
    fleet: Fleet,
    intake: String,
    api: String,
    unanswered: watch::Sender<&'static str>,
}

impl Site {
    async fn new(kafka: &str, postgres: &str) -> Self {
        let name = format!("w{}", Uuid::new_v4().simple());
        let mut server = sqlx::PgConnection::connect(postgres).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        server.execute(create).await.unwrap();
        let (before, rest) = postgres.split_once('@').unwrap();
        let (address, _) = rest.split_once('/').unwrap();
        let (unanswered, switch) = watch::channel("");
        let door = door(address.to_owned(), switch).await;
        let topics = [
            "logins",
            "account_links",
            "user_merges",
            "registers",
            "link_conflicts",
            "dlq",
        ];
        let topics = topics.map(|topic| format!("{topic} = \"{name}.{topic}\"\n"));
        let (intake, api) = (free_port(), free_port());
        let fleet = Fleet::new(&format!(
            "[store]\nurl = \"{before}@{door}/{name}\"\n\
             [bus]\nurl = \"kafka://{kafka}\"\ngroup = \"{name}\"\nreplication = 1\n\
             [topics]\n{}[worker]\nstuck_after = \"{}s\"\n\
             [intake]\nlisten = \"127.0.0.1:{intake}\"\n[api]\nlisten = \"127.0.0.1:{api}\"\n\
             [[platforms]]\nid = \"main\"\n[[apps]]\nappid = \"{APP}\"\nkind = \"mini_program\"\n\
             [[apps.platforms]]\nid = \"main\"\n",
            topics.concat(),
            LIMIT.as_secs(),
        ));
        for command in [
            &["keys", "new", "unilink.keys"][..],
            &["migrate"],
            &["topics"],
        ] {
            fleet.done(command).await;
        }
        Self {
            fleet,
            intake: format!("http://127.0.0.1:{intake}"),
            api: format!("http://127.0.0.1:{api}"),
            unanswered,
        }
    }

    async fn serve(&self, log: &str) -> Process {
        let process = self.fleet.start(log, &["serve"], &[]);
        for base in [&self.intake, &self.api] {
            let url = format!("{base}/readyz");
            self.fleet.until(&url, 200, &process).await;
        }
        process
    }

    async fn logs_in(&self, n: u32) {
        let event = json!({"id": format!("e{n}"), "occurred_at": ago(0), "appid": APP,
            "openid": format!("person-{n}"), "unionid": format!("u{n}")});
        let (status, _, answer) = self.fleet.post(&self.intake, &[event]).await.unwrap();
        assert_eq!(status, 202, "{answer}");
    }

    async fn is_linked(&self, n: u32, by: &Process) {
        let url = format!("{}/v1/accounts/{APP}/person-{n}", self.api);
        let found: Value = serde_json::from_str(&self.fleet.until(&url, 200, by).await).unwrap();
        assert_eq!(found["unionid"], format!("u{n}"), "{found}");
        assert_eq!(found["revision"], 1, "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_a_statement_that_is_never_answered_ends_with_status_1() {
    let (Some(kafka), Some(postgres)) = (services::kafka(), services::postgres()) else {
        return;
    };
    let site = Site::new(kafka, postgres).await;
    let mut process = site.serve("stuck").await;
    site.logs_in(1).await;
    site.is_linked(1, &process).await;

    let begun = Instant::now();
    site.unanswered.send_replace("person-2");
    // The intake has nothing to do with the database: it goes on until the end.
    site.logs_in(2).await;
    let status = process.ended().await;
    let (logs, lasted) = (process.logs(), begun.elapsed());
    assert_eq!(status.code(), Some(1), "{}", tail_of(&logs));
    assert!(lasted >= LIMIT * 9 / 10 && lasted < PATIENCE, "{lasted:?}");
    let told = logs.lines().find(|l| l.contains("the worker is stuck"));
    let told = told.unwrap_or_else(|| panic!("{}", tail_of(&logs)));
    assert!(told.contains("ERROR"), "{told}");
    assert!(
        told.contains("doing=") && told.contains("seconds=10"),
        "{told}"
    );
    assert!(told.contains("ending with status 1"), "{told}");
    eprintln!("after {lasted:?}: {told}");

    site.unanswered.send_replace("");
    let mut process = site.serve("anew").await;
    site.is_linked(2, &process).await;
    site.logs_in(3).await;
    site.is_linked(3, &process).await;
    process.stopped().await;
}
