//! A process that publishes and commits is killed with SIGKILL; what it was told to be durable is
//! there, what it was not told is there whole or not at all.

use super::bus::{join, read_all, read_part, record, specs};
use super::embedded::open;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use unilink::bus::embedded::EmbeddedBus;
use unilink::bus::{Bus, BusError, Committed, Member, Progress, RelayPosition, Term, Unit};
use uuid::Uuid;

/// The full name of the test that is the child.
const CHILD: &str = "contract::embedded_kill::the_child_publishes_and_commits";
const DIR: &str = "UNILINK_TEST_BUS_DIR";
/// Records of one unit.
const UNIT: i64 = 50;

fn child(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([CHILD, "--exact", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn bus(dir: &Path) -> Arc<EmbeddedBus> {
    open(dir, specs(|short| short.into())).await
}

/// Not a test: what the killed process does. Without its variable it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_publishes_and_commits() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let bus = bus(Path::new(&dir)).await;
    let (member, term) = join(&*bus).await;
    for _ in 0..8 {
        tokio::spawn(publish(Arc::clone(&bus)));
    }
    commit(&*bus, &*member, term).await;
}

/// Publishes for ever; says what was taken.
async fn publish(bus: Arc<EmbeddedBus>) {
    loop {
        let ids: Vec<String> = (0..20).map(|_| Uuid::new_v4().to_string()).collect();
        let records = ids.iter().map(|id| record(&"in".into(), id, id)).collect();
        bus.publish(records).await.unwrap();
        say(&format!("published {}", ids.join(" ")));
    }
}

/// Commits for ever: unit n moves partition 0 to n and writes `UNIT` records that say n.
async fn commit(bus: &dyn Bus, member: &dyn Member, term: Term) {
    let out = "out".into();
    let written = read_all(bus, &out).await.len();
    let mut n = i64::try_from(written).unwrap() / UNIT;
    loop {
        n += 1;
        let relay = RelayPosition {
            store: Uuid::nil(),
            seq: n.unsigned_abs(),
            row: Uuid::nil(),
            inline: -1,
        };
        let unit = Unit {
            term,
            progress: vec![Progress {
                partition: 0,
                input: n,
                relay,
            }],
            records: (0..UNIT)
                .map(|i| record(&out, &i.to_string(), &n.to_string()))
                .collect(),
        };
        assert_eq!(member.commit(unit).await.unwrap(), Committed::Visible);
        say(&format!("committed {n}"));
    }
}

/// One write a line, so that no line is torn but the last.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Lets a child run for `time` after its first word, kills it, and returns its whole lines.
fn run_and_kill(dir: &Path, time: Duration) -> Vec<String> {
    let mut child = child(dir);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let (mut lines, mut line) = (vec![], String::new());
        while out.read_line(&mut line).unwrap_or(0) > 0 {
            if line.ends_with('\n') {
                lines.push(line.trim_end().to_owned());
            }
            line.clear();
        }
        lines
    });
    std::thread::sleep(time);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_kill_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut units) = (HashSet::new(), 0);
    for _ in 0..5 {
        let time = Duration::from_millis(rand::random_range(200..700));
        for line in run_and_kill(dir.path(), time) {
            if let Some(ids) = line.strip_prefix("published ") {
                acknowledged.extend(ids.split(' ').map(str::to_owned));
            } else if let Some(n) = line.strip_prefix("committed ") {
                units = units.max(n.parse::<i64>().unwrap());
            }
        }
        // The lease is free the moment its holder is dead.
        let bus = bus(dir.path()).await;
        let member = bus.join().await.unwrap();
        let unilink::bus::Next::Given(_, assigned) = member.next(Duration::ZERO, 1).await.unwrap()
        else {
            panic!("nothing was given");
        };
        let committed = assigned[0].input.unwrap_or(0);
        assert!(committed >= units, "unit {units} of {committed} is lost");
        let written = read_all(&*bus, &"out".into()).await.len();
        assert_eq!(
            i64::try_from(written).unwrap(),
            committed * UNIT,
            "a torn unit"
        );
    }
    let bus = bus(dir.path()).await;
    let mut held = HashSet::new();
    for partition in 0..super::bus::PARTITIONS {
        let part = read_part(&*bus, &"in".into(), partition, 1_000).await;
        assert!((0..).zip(&part).all(|(want, r)| r.offset == want));
        held.extend(part.into_iter().map(|r| String::from_utf8(r.key).unwrap()));
    }
    assert!(
        acknowledged.len() > 500 && units > 5,
        "{} {units}",
        acknowledged.len()
    );
    let lost = acknowledged.difference(&held).count();
    assert_eq!(lost, 0, "of {}", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_another_process_keeps_others_out_until_it_dies() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child(dir.path());
    let begun = Instant::now();
    let bus = loop {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "the child does nothing"
        );
        let bus = bus(dir.path()).await;
        if !read_all(&*bus, &"out".into()).await.is_empty() {
            break bus;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let Err(BusError::Refused(text)) = bus.join().await.map(|_| ()) else {
        panic!("two workers at a time");
    };
    assert!(text.contains("stop that one"), "{text}");
    // Publishing and reading beside the worker work.
    bus.publish(vec![record(&"more".into(), "k", "beside")])
        .await
        .unwrap();
    assert_eq!(read_all(&*bus, &"more".into()).await.len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    bus.join().await.unwrap();
}
