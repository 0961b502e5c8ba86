//! Workers that commit numbered units are killed with SIGKILL, or stopped for longer than the group
//! waits for them, at random moments. An outsider that reads committed records only sees each unit
//! whole, once, in order, and the positions that belong to it.

use super::bus::{Backend, PARTITIONS};
use super::kafka::{Kafka, settings};
use crate::services;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use unilink::bus::kafka::KafkaBus;
use unilink::bus::{Bus, Committed, Member, Next, Progress, Record, RelayPosition, Term, Unit};
use uuid::Uuid;

/// The full name of the test that is the child.
const CHILD: &str = "contract::kafka_kill::the_child_commits";
const WORLD: &str = "UNILINK_TEST_KAFKA_WORLD";
const NAME: &str = "UNILINK_TEST_KAFKA_NAME";
/// Records of one unit.
const UNIT: usize = 60;
const KILLS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A worker in a process of its own.
struct Worker {
    child: Child,
    lines: Receiver<String>,
}

impl Worker {
    fn start(world: &Kafka, name: Option<&str>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([CHILD, "--exact", "--nocapture"])
            .env(WORLD, world.prefix())
            // Its own search might find another Kafka, or start one.
            .env("UNILINK_TEST_KAFKA", services::kafka().unwrap())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(name) = name {
            command.env(NAME, name);
        }
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (say, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                let Ok(line) = line else { return };
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for a line that begins so.
    fn says(&self, begin: &str) -> String {
        self.says_any(&[begin])
    }

    fn says_any(&self, begins: &[&str]) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("it says nothing of {begins:?}"));
            if begins.iter().any(|begin| line.starts_with(begin)) {
                return line;
            }
        }
    }

    /// What was said so far counts no longer.
    fn forget(&self) {
        while self.lines.try_recv().is_ok() {}
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(done.success());
    }

    /// Stands still, and what it had asked the brokers to end has ended.
    fn rest(&self) {
        self.signal("-STOP");
        std::thread::sleep(Duration::from_millis(700));
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// One write a line, so that no line is torn but the last.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Not a test: what the killed process does. Without its variable it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_commits() {
    let Ok(world) = std::env::var(WORLD) else {
        return;
    };
    let name = std::env::var(NAME).ok();
    let bus = KafkaBus::open(settings(&world, name.as_deref())).unwrap();
    let member = bus.join().await.unwrap();
    work(&*member, &format!("{world}.out").into()).await;
}

/// Commits for ever: unit n moves partition 0 to n and writes `UNIT` records that say n.
async fn work(member: &dyn Member, out: &Arc<str>) {
    let mut given = None;
    loop {
        let Some((term, mut n)) = given else {
            given = mine(member).await;
            continue;
        };
        n += 1;
        given = match member.commit(unit(term, n, out)).await.unwrap() {
            Committed::Visible => {
                say(&format!("committed {n}"));
                Some((term, n))
            }
            Committed::Void => {
                say("void");
                None
            }
        };
    }
}

/// Waits until partition 0 is given; its position.
async fn mine(member: &dyn Member) -> Option<(Term, i64)> {
    let next = member.next(Duration::from_millis(200), 100).await.unwrap();
    let Next::Given(term, assigned) = next else {
        return None;
    };
    let first = assigned.iter().find(|a| a.partition == 0)?;
    let n = first.input.unwrap_or(0);
    let relayed = first.relay.map_or(0, |r| r.seq);
    assert_eq!(relayed, n.unsigned_abs(), "positions of two units");
    say(&format!("given {n}"));
    Some((term, n))
}

fn unit(term: Term, n: i64, out: &Arc<str>) -> Unit {
    let writer = Uuid::new_v4().to_string();
    Unit {
        term,
        progress: vec![Progress {
            partition: 0,
            input: n,
            relay: RelayPosition {
                store: Uuid::from_u128(5),
                seq: n.unsigned_abs(),
                row: Uuid::from_u128(n.unsigned_abs().into()),
                inline: n - 1,
            },
        }],
        records: (0..UNIT)
            .map(|i| Record {
                topic: Arc::clone(out),
                key: writer.clone().into(),
                value: Some(format!("{n}").into()),
                headers: vec![],
                partition: Some(u32::try_from(i).unwrap() % PARTITIONS),
            })
            .collect(),
    }
}

/// What an outsider reads: for each partition, (unit, writer) in order.
fn read(outsider: &BaseConsumer, topic: &str) -> BTreeMap<i32, Vec<(i64, Vec<u8>)>> {
    let mut list = TopicPartitionList::new();
    let parts = i32::try_from(PARTITIONS).unwrap();
    for partition in 0..parts {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    outsider.assign(&list).unwrap();
    let (mut read, mut ends) = (BTreeMap::<_, Vec<_>>::new(), BTreeSet::new());
    let until = Instant::now() + PATIENCE;
    while ends.len() < usize::try_from(parts).unwrap() {
        assert!(Instant::now() < until, "the topic has no end");
        match outsider.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let text = std::str::from_utf8(message.payload().unwrap()).unwrap();
                let part = read.entry(message.partition()).or_default();
                part.push((text.parse().unwrap(), message.key().unwrap().to_vec()));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ends.insert(partition)),
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    read
}

/// Each unit whole, once, in order, by one writer; returns how many.
fn check(world: &Kafka) -> i64 {
    let until = Instant::now() + PATIENCE;
    loop {
        let units = shown(world);
        if units.len() == 4 && units.iter().all(|n| *n == units[0]) {
            return units[0];
        }
        // Kafka shows a transaction in one partition after the other.
        assert!(Instant::now() < until, "{units:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The last unit shown in each partition.
fn shown(world: &Kafka) -> Vec<i64> {
    let outsider = world.outsider("outsider");
    let read = read(&outsider, &world.name("out"));
    let mut units: Vec<i64> = vec![];
    for part in read.values() {
        let share = UNIT / usize::try_from(PARTITIONS).unwrap();
        let mut seen = vec![];
        for chunk in part.chunks(share) {
            assert!(chunk.iter().all(|r| *r == chunk[0]), "a torn or mixed unit");
            assert_eq!(chunk.len(), share, "a torn unit");
            seen.push(chunk[0].0);
        }
        let want: Vec<i64> = (1..=i64::try_from(seen.len()).unwrap()).collect();
        assert_eq!(seen, want, "units lost, doubled or swapped");
        units.push(*seen.last().unwrap());
    }
    units
}

/// Topics and group tell the same in the end. Kafka tells them of one transaction one after the other.
fn agreed(world: &Kafka) -> i64 {
    let until = Instant::now() + PATIENCE;
    loop {
        let (shown, noted) = (check(world), committed(world));
        if shown == noted {
            return shown;
        }
        assert!(Instant::now() < until, "{shown} are shown, {noted} noted");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Where the group stands, as an outsider sees it.
fn committed(world: &Kafka) -> i64 {
    let settings = world.settings(None);
    let mut list = TopicPartitionList::new();
    list.add_partition(&settings.input_topic, 0);
    let list = world
        .outsider(&settings.group)
        .committed_offsets(list, PATIENCE)
        .unwrap();
    let Offset::Offset(offset) = list.elements()[0].offset() else {
        panic!("nothing is committed");
    };
    offset
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_leaves_no_torn_unit_and_comes_back_at_once() {
    if Kafka::left_out() {
        return;
    }
    let world = Kafka::fresh().await;
    let (mut slowest, mut last) = (Duration::ZERO, 0);
    for _ in 0..KILLS {
        let begun = Instant::now();
        let worker = Worker::start(&world, Some("one"));
        worker.says("committed");
        slowest = slowest.max(begun.elapsed());
        std::thread::sleep(Duration::from_millis(rand::random_range(0..400)));
        worker.kill();
    }
    // What was under way at the last kill ends when it times out, or when somebody takes over.
    let worker = Worker::start(&world, Some("one"));
    let given: i64 = worker.says("given")[6..].parse().unwrap();
    worker.says("committed");
    worker.kill();
    let heir = Worker::start(&world, Some("one"));
    heir.says("given");
    heir.rest();
    last = agreed(&world).max(last);
    heir.kill();
    assert!(last >= given && given >= i64::try_from(KILLS).unwrap());
    eprintln!("{last} units; the slowest return took {slowest:?}");
    assert!(slowest < Duration::from_secs(10), "{slowest:?}");
}

/// It believes that it still holds what others were given while it stood still.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_commits_nothing() {
    if Kafka::left_out() {
        return;
    }
    let world = Kafka::fresh().await;
    let out = world.name("out");
    let mut zombie = Worker::start(&world, None);
    let mut voids = 0;
    for _ in 0..3 {
        zombie.forget();
        zombie.says("committed");
        std::thread::sleep(Duration::from_millis(rand::random_range(0..200)));
        zombie.signal("-STOP");
        let bus = world.client().await;
        let heir = bus.join().await.unwrap();
        let begun = Instant::now();
        let (term, n) = loop {
            assert!(begun.elapsed() < PATIENCE, "nothing was taken over");
            if let Some(given) = mine(&*heir).await {
                break given;
            }
        };
        eprintln!("taken over after {:?}", begun.elapsed());
        for i in 1..=5 {
            let done = heir.commit(unit(term, n + i, &out)).await.unwrap();
            assert_eq!(done, Committed::Visible);
        }
        zombie.forget();
        zombie.signal("-CONT");
        // It stood between two terms, otherwise.
        let said = zombie.says_any(&["void", "given"]);
        voids += usize::from(said == "void");
        // The heir goes on meanwhile.
        let mut at = n + 5;
        let mut term = term;
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            match heir.commit(unit(term, at + 1, &out)).await.unwrap() {
                Committed::Visible => at += 1,
                Committed::Void => break,
            }
        }
        while let Some(given) = mine(&*heir).await {
            (term, at) = given;
            heir.commit(unit(term, at + 1, &out)).await.unwrap();
        }
        drop((heir, bus));
        zombie.rest();
        check(&world);
        zombie.signal("-CONT");
        zombie.says("committed");
    }
    assert!(voids > 0, "it never believed that it held anything");
    zombie.says("committed");
    zombie.kill();
    zombie = Worker::start(&world, None);
    zombie.says("given");
    zombie.rest();
    agreed(&world);
    zombie.kill();
}
