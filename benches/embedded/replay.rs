//! The recorded statements on a fresh file, without logic: write transactions in their order on the
//! writer, reads beside them on readers. A read waits until the writer has committed what it had
//! committed when the read was recorded; the writer waits for nobody but for memory's sake.

use crate::measure::{Measured, Watch};
use crate::trace::{Recording, Statement};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::JoinSet;
use unilink::sqlite::{File, Options};

/// Reading tasks: the run's applier, relay and log reader read beside each other.
const READERS: usize = 3;
/// Statements read ahead.
const AHEAD: usize = 512;

type Queue = mpsc::Receiver<Statement>;

/// Replays what is recorded in `dir`.
pub async fn replay(dir: &Path) -> Measured {
    let home = tempfile::tempdir_in(dir).expect("a directory");
    let path = home.path().join("unilink.db");
    let file = File::open(&path, Options::default()).await.expect("opened");
    let (committed, commits) = watch::channel(0);
    let (to_writer, writes) = mpsc::channel(AHEAD);
    let (to_readers, reads) = mpsc::channel(AHEAD);

    let clock = Watch::start();
    let recording = Recording::open(dir);
    let reading = std::thread::spawn(move || {
        for statement in recording {
            let to = if statement.reader {
                &to_readers
            } else {
                &to_writer
            };
            assert!(
                to.blocking_send(statement).is_ok(),
                "nobody takes statements"
            );
        }
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(write(Arc::clone(&file), writes, committed));
    let reads = Arc::new(Mutex::new(reads));
    for _ in 0..READERS {
        tasks.spawn(read(Arc::clone(&file), Arc::clone(&reads), commits.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("ended");
    }
    let measured = clock.stop();
    reading.join().expect("all was read");
    measured
}

async fn write(file: Arc<File>, mut queue: Queue, committed: watch::Sender<u64>) {
    let mut tx = None;
    while let Some(Statement { sql, args, .. }) = queue.recv().await {
        match (sql, tx.as_mut()) {
            ("BEGIN" | "BEGIN IMMEDIATE", _) => {
                // One that was not committed was dropped; the writer is free once it is.
                drop(tx.take());
                let begun = match sql {
                    "BEGIN" => file.look().await,
                    _ => file.begin().await,
                };
                tx = Some(begun.expect("begun"));
            }
            ("COMMIT", _) => {
                let open = tx.take().expect("a transaction");
                open.commit().await.expect("committed");
                committed.send_modify(|count| *count += 1);
            }
            (_, Some(tx)) if gives_rows(sql) => drop(tx.all(sql, args).await.expect(sql)),
            (_, Some(tx)) => drop(tx.exec(sql, args).await.expect(sql)),
            (_, None) => panic!("outside a transaction: {sql}"),
        }
    }
}

fn gives_rows(sql: &str) -> bool {
    let sql = sql.trim_start();
    sql.starts_with("SELECT") || sql.starts_with("WITH") || sql.contains("RETURNING")
}

async fn read(file: Arc<File>, queue: Arc<Mutex<Queue>>, mut commits: watch::Receiver<u64>) {
    loop {
        let next = queue.lock().await.recv().await;
        let Some(Statement {
            sql,
            args,
            commits: before,
            ..
        }) = next
        else {
            return;
        };
        if commits.wait_for(|count| *count >= before).await.is_ok() {
            file.all(sql, args).await.expect(sql);
        }
    }
}
