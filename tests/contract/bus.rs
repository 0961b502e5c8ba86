//! What every bus has to do, whatever it is made of. A backend implements [`Backend`] and runs all
//! of it with `bus_contract!`.

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use unilink::bus::{
    Assigned, Bus, BusError, Committed, Keep, Member, Next, Progress, Range, Record, RelayPosition,
    Stored, Term, TopicSpec, Unit, partition_of,
};
use unilink::model::Millis;
use uuid::Uuid;

pub const PARTITIONS: u32 = 4;
/// Long enough for a rebalance.
const PATIENCE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);

/// A kind of bus to run the contract on.
#[async_trait]
pub trait Backend: Sized + Send + Sync + 'static {
    /// Whether what a unit wrote has offsets without gap. Not where the end of a transaction takes
    /// an offset, too.
    const GAPLESS_UNITS: bool;
    /// Records of a partition far behind that may come before the first one of another.
    const AHEAD: usize;
    /// Units that are torn; a multiple of eight.
    const TORN: i64;
    /// Whether the service it needs is not there.
    fn left_out() -> bool {
        false
    }
    /// A bus with the topics of [`specs`], empty; its group reads the topic `in`.
    async fn fresh() -> Self;
    /// One more client, as another process would open it.
    async fn client(&self) -> Arc<dyn Bus>;
    /// The full name of a topic.
    fn name(&self, short: &str) -> Arc<str>;
    /// Ends the member's term, as another member's taking over does; that other one is gone again.
    async fn steal(&self);
    /// What an operator does with Kafka's own tool, while no member runs.
    async fn reset_group(&self, to: i64);
}

/// The topics of the contract.
pub fn specs(name: impl Fn(&str) -> Arc<str>) -> Vec<TopicSpec> {
    let spec = |short| TopicSpec {
        name: name(short),
        partitions: PARTITIONS,
        keep: Keep::For(DAY),
    };
    vec![spec("in"), spec("out"), spec("more")]
}

pub fn record(topic: &Arc<str>, key: &str, value: &str) -> Record {
    Record {
        topic: Arc::clone(topic),
        key: key.into(),
        value: Some(value.into()),
        headers: vec![],
        partition: None,
    }
}

fn at(topic: &Arc<str>, partition: u32, value: &str) -> Record {
    Record {
        partition: Some(partition),
        ..record(topic, "k", value)
    }
}

/// All records of a partition, read in steps of `limit`.
pub async fn read_part(
    bus: &dyn Bus,
    topic: &Arc<str>,
    partition: u32,
    limit: usize,
) -> Vec<Stored> {
    let mut range = Range {
        topic: Arc::clone(topic),
        partition,
        from: 0,
        to: i64::MAX,
    };
    let mut all: Vec<Stored> = vec![];
    loop {
        let some = bus.read(&range, limit).await.unwrap();
        assert!(some.len() <= limit);
        let Some(last) = some.last() else { return all };
        range.from = last.offset + 1;
        all.extend(some);
    }
}

pub async fn read_all(bus: &dyn Bus, topic: &Arc<str>) -> Vec<Stored> {
    let mut all = vec![];
    bus.settled(topic).await.unwrap();
    for partition in 0..PARTITIONS {
        all.extend(read_part(bus, topic, partition, 1_000).await);
    }
    all
}

fn texts(records: &[Stored]) -> Vec<String> {
    let text = |r: &Stored| String::from_utf8(r.value.clone().unwrap()).unwrap();
    records.iter().map(text).collect()
}

/// Goes on until the member is given something.
async fn given(member: &dyn Member) -> (Term, Vec<Assigned>) {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Next::Given(term, assigned) = member.next(PATIENCE, 100).await.unwrap() {
            return (term, assigned);
        }
    }
    panic!("nothing was given");
}

/// Joins and starts everything where the group stands.
pub async fn join(bus: &dyn Bus) -> (Arc<dyn Member>, Term) {
    let member = bus.join().await.unwrap();
    let term = start(&*member).await;
    (member, term)
}

async fn start(member: &dyn Member) -> Term {
    let (term, assigned) = given(member).await;
    assert_eq!(assigned.len(), usize::try_from(PARTITIONS).unwrap());
    let at: Vec<_> = assigned
        .iter()
        .map(|a| (a.partition, a.input.unwrap_or(0)))
        .collect();
    member.start(term, &at).await.unwrap();
    term
}

/// The next `count` records at least, in calls of `limit`.
async fn take(member: &dyn Member, count: usize, limit: usize) -> Vec<Stored> {
    let (begun, mut all) = (Instant::now(), vec![]);
    while all.len() < count && begun.elapsed() < PATIENCE {
        match member.next(PATIENCE, limit).await.unwrap() {
            Next::Records(_, some) => {
                assert!(!some.is_empty() && some.len() <= limit);
                all.extend(some);
            }
            Next::Idle => {}
            other => panic!("records were expected, not {other:?}"),
        }
    }
    all
}

fn relay(seq: u64) -> RelayPosition {
    RelayPosition {
        store: Uuid::from_u128(7),
        seq,
        row: Uuid::from_u128(u128::from(seq)),
        inline: i64::try_from(seq).unwrap() - 1,
    }
}

fn progress(partition: u32, input: i64) -> Progress {
    Progress {
        partition,
        input,
        relay: relay(input.unsigned_abs()),
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, BusError>) -> String {
    match result {
        Err(BusError::Refused(text)) => text,
        other => panic!("a refusal was expected, not {other:?}"),
    }
}

fn by_partition(records: &[Stored]) -> BTreeMap<u32, Vec<&Stored>> {
    let mut parts: BTreeMap<u32, Vec<&Stored>> = BTreeMap::new();
    for record in records {
        parts.entry(record.partition).or_default().push(record);
    }
    parts
}

fn gapless(records: &[Stored]) {
    for (partition, part) in by_partition(records) {
        let offsets: Vec<i64> = part.iter().map(|r| r.offset).collect();
        let want: Vec<i64> = (0..i64::try_from(part.len()).unwrap()).collect();
        assert_eq!(offsets, want, "partition {partition}");
        let sorted = part.windows(2).all(|w| w[0].timestamp <= w[1].timestamp);
        assert!(sorted, "time goes back in partition {partition}");
    }
}

pub async fn topics_are_created_once_and_keep_their_partitions<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let mut spec = TopicSpec {
        name: backend.name("new"),
        partitions: 2,
        keep: Keep::Newest(DAY),
    };
    let ask = TopicSpec {
        partitions: 0,
        ..spec.clone()
    };
    let asked = bus.topics(std::slice::from_ref(&ask)).await.unwrap();
    assert_eq!(asked[0].bounds, vec![], "asking creates nothing");
    let made = bus.topics(std::slice::from_ref(&spec)).await.unwrap();
    let all = bus.topics(&[]).await.unwrap();
    assert!(all.contains(&made[0]), "with none wanted, all are told");
    assert_eq!(
        (&made[0].name, &made[0].bounds),
        (&spec.name, &vec![(0, 0); 2])
    );
    let one = at(&spec.name, 1, "v");
    bus.publish(vec![one]).await.unwrap();
    let other = backend.client().await;
    for wanted in [&spec, &ask] {
        let again = other.topics(std::slice::from_ref(wanted)).await.unwrap();
        assert_eq!(again[0].bounds, vec![(0, 0), (0, 1)]);
    }
    spec.partitions = 3;
    refused(other.topics(&[spec]).await);
}

pub async fn a_partition_keeps_the_order<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    for round in 0..20 {
        let some = (0..50).map(|i| at(&topic, i % 3, &format!("{:04}", round * 50 + i)));
        bus.publish(some.collect()).await.unwrap();
    }
    let all = read_all(&*bus, &topic).await;
    assert_eq!(all.len(), 1_000);
    gapless(&all);
    for part in by_partition(&all).values() {
        assert!(part.windows(2).all(|w| w[0].value < w[1].value));
    }
}

pub async fn a_key_goes_where_its_hash_says<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    let some = (0..200).map(|i| record(&topic, &format!("wx{i}:o{i}"), "v"));
    bus.publish(some.collect()).await.unwrap();
    let all = read_all(&*bus, &topic).await;
    assert_eq!(all.len(), 200);
    for one in &all {
        assert_eq!(one.partition, partition_of(&one.key, PARTITIONS));
    }
    assert_eq!(by_partition(&all).len(), 4);
}

pub async fn what_cannot_be_published_is_its_callers_failure_only<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    let nowhere = backend.name("nowhere");
    let good = (0..20).map(|i| {
        let (bus, topic) = (Arc::clone(&bus), Arc::clone(&topic));
        tokio::spawn(async move { bus.publish(vec![at(&topic, 0, &i.to_string())]).await })
    });
    let good: Vec<_> = good.collect();
    let bad = vec![at(&topic, 0, "bad"), record(&nowhere, "k", "v")];
    refused(bus.publish(bad).await);
    refused(bus.publish(vec![at(&topic, PARTITIONS, "bad")]).await);
    for one in good {
        one.await.unwrap().unwrap();
    }
    assert_eq!(read_all(&*bus, &topic).await.len(), 20);
}

pub async fn records_read_equal_records_published<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    let mut rng = StdRng::seed_from_u64(1);
    let mut bytes = |most: usize| -> Vec<u8> {
        let length = rng.random_range(0..=most);
        (0..length).map(|_| rng.random()).collect()
    };
    let mut sent: Vec<Record> = (0..400_u32)
        .map(|i| Record {
            topic: Arc::clone(&topic),
            key: bytes(40),
            value: (i % 5 != 0).then(|| bytes(3_000)),
            headers: (0..i % 4).map(|h| (format!("h{h}"), bytes(30))).collect(),
            partition: Some(0),
        })
        .collect();
    // A null value, an empty one, and an empty key with each.
    sent.push(Record {
        value: None,
        key: vec![],
        ..sent[1].clone()
    });
    sent.push(Record {
        value: Some(vec![]),
        key: vec![],
        ..sent[1].clone()
    });
    sent.push(Record {
        value: Some(vec![0xa5; 900 << 10]),
        ..sent[2].clone()
    });
    for some in sent.chunks(37) {
        bus.publish(some.to_vec()).await.unwrap();
    }
    let reader = backend.client().await;
    let (member, _) = join(&*reader).await;
    let (read, next) = (
        read_part(&*reader, &topic, 0, 50).await,
        take(&*member, sent.len(), 50).await,
    );
    assert_eq!(read, next);
    gapless(&read);
    assert_eq!(read.len(), sent.len());
    for (got, want) in read.iter().zip(&sent) {
        assert_eq!((&got.key, &got.value), (&want.key, &want.value));
        assert_eq!(got.headers, want.headers);
    }
}

pub async fn published_records_survive_reopening<B: Backend>() {
    let backend = B::fresh().await;
    let topic = backend.name("in");
    for i in 0..5 {
        let bus = backend.client().await;
        bus.publish(vec![at(&topic, 2, &i.to_string())])
            .await
            .unwrap();
    }
    let all = read_all(&*backend.client().await, &topic).await;
    assert_eq!(texts(&all), ["0", "1", "2", "3", "4"]);
    gapless(&all);
}

pub async fn all_is_visible_when_publish_returns<B: Backend>() {
    let backend = B::fresh().await;
    let (bus, reader) = (backend.client().await, backend.client().await);
    let topic = backend.name("in");
    for i in 1..=20 {
        let some = (0..10).map(|p| at(&topic, p % PARTITIONS, "v"));
        bus.publish(some.collect()).await.unwrap();
        assert_eq!(read_all(&*reader, &topic).await.len(), i * 10);
    }
}

pub async fn concurrent_publishers_lose_and_double_nothing<B: Backend>() {
    let backend = B::fresh().await;
    let clients = [backend.client().await, backend.client().await];
    let topic = backend.name("in");
    let tasks = (0..16_usize).map(|t| {
        let (bus, topic) = (Arc::clone(&clients[t % 2]), Arc::clone(&topic));
        tokio::spawn(async move {
            for round in 0..20 {
                let value = |i| format!("{t:02}-{:04}", round * 30 + i);
                let some = (0..30).map(|i| record(&topic, &t.to_string(), &value(i)));
                bus.publish(some.collect()).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let all = read_all(&*clients[0], &topic).await;
    gapless(&all);
    let mut by_task: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in texts(&all) {
        by_task.entry(text[..2].to_owned()).or_default().push(text);
    }
    assert_eq!(by_task.len(), 16);
    for (task, got) in by_task {
        let want: Vec<_> = (0..600).map(|i| format!("{task}-{i:04}")).collect();
        assert_eq!(got, want);
    }
}

pub async fn a_dropped_publish_does_no_harm<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    for i in 0..200_u64 {
        let gone = bus.publish(vec![at(&topic, 1, "dropped"); 20]);
        let _ = tokio::time::timeout(Duration::from_micros(i * 10), gone).await;
        bus.publish(vec![at(&topic, 0, &format!("{i:03}"))])
            .await
            .unwrap();
    }
    let all = read_all(&*bus, &topic).await;
    gapless(&all);
    assert_eq!(by_partition(&all)[&0].len(), 200);
}

pub async fn a_range_is_read_within_its_limits<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    let some = (0..100).map(|i| at(&topic, 1, &i.to_string()));
    bus.publish(some.collect()).await.unwrap();
    let read = async |partition, from, to, limit| {
        let topic = Arc::clone(&topic);
        let range = Range {
            topic,
            partition,
            from,
            to,
        };
        let read = bus.read(&range, limit).await.unwrap();
        read.iter().map(|r| r.offset).collect::<Vec<_>>()
    };
    assert_eq!(read(1, 10, 13, 50).await, [10, 11, 12]);
    assert_eq!(read(1, 98, i64::MAX, 50).await, [98, 99]);
    assert_eq!(read(1, 10, 90, 2).await, [10, 11]);
    assert_eq!(read(1, -5, 1, 50).await, [0]);
    for (partition, from, to) in [
        (0, 0, 100),
        (1, 100, 200),
        (1, 5, 5),
        (1, 9, 3),
        (1, -9, -3),
    ] {
        assert_eq!(read(partition, from, to, 50).await, Vec::<i64>::new());
    }
    let range = |topic, partition| Range {
        topic,
        partition,
        from: 0,
        to: 9,
    };
    refused(bus.read(&range(backend.name("nowhere"), 0), 9).await);
    refused(bus.read(&range(Arc::clone(&topic), PARTITIONS), 9).await);
}

pub async fn large_records_are_read_a_few_at_a_time<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    let large = "x".repeat(900 << 10);
    for _ in 0..12 {
        bus.publish(vec![at(&topic, 3, &large)]).await.unwrap();
    }
    let range = Range {
        topic: Arc::clone(&topic),
        partition: 3,
        from: 0,
        to: 99,
    };
    let some = bus.read(&range, 1_000).await.unwrap();
    assert!((1..=6).contains(&some.len()), "{} at once", some.len());
    assert_eq!(read_part(&*bus, &topic, 3, 1_000).await.len(), 12);
}

pub async fn a_time_leads_to_the_first_record_since<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    // One wave of records after the other, in partitions 0 and 1 only.
    for wave in 0..3 {
        for n in 0..4 {
            let value = format!("{wave}-{n}");
            bus.publish(vec![at(&topic, n % 2, &value)]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all = read_part(&*bus, &topic, 1, 100).await;
    for time in [
        0,
        all[0].timestamp,
        all[2].timestamp,
        all[3].timestamp + 1,
        all[5].timestamp + 1,
        all[5].timestamp + 86_400_000,
    ] {
        let since = all.iter().find(|record| record.timestamp >= time);
        let offsets = bus.offsets_at(&topic, Millis(time)).await.unwrap();
        assert_eq!(offsets.len(), usize::try_from(PARTITIONS).unwrap());
        assert_eq!(
            offsets[1],
            since.map_or(6, |record| record.offset),
            "{time}"
        );
        assert_eq!(offsets[2..], [0, 0], "nothing was ever there");
    }
    let nowhere = bus.offsets_at(&backend.name("none"), Millis(0)).await;
    assert!(matches!(nowhere, Err(BusError::Refused(_))), "{nowhere:?}");
}

pub async fn nothing_comes_before_start_and_idle_after_the_wait<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    bus.publish(vec![at(&backend.name("in"), 0, "v")])
        .await
        .unwrap();
    let member = bus.join().await.unwrap();
    let (term, assigned) = given(&*member).await;
    assert!(
        assigned
            .iter()
            .all(|a| a.input.is_none() && a.relay.is_none())
    );
    let wait = Duration::from_millis(120);
    let begun = Instant::now();
    assert!(matches!(member.next(wait, 9).await, Ok(Next::Idle)));
    assert!(begun.elapsed() >= wait);
    member.start(term, &[(1, 0), (2, 0)]).await.unwrap();
    assert!(matches!(member.next(wait, 9).await, Ok(Next::Idle)));
    member.start(term, &[(0, 0)]).await.unwrap();
    assert_eq!(texts(&take(&*member, 1, 9).await), ["v"]);
}

pub async fn reading_starts_where_it_is_told_and_goes_on_in_order<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    let some = (0..400).map(|i| at(&topic, i % PARTITIONS, &i.to_string()));
    bus.publish(some.collect()).await.unwrap();
    let member = bus.join().await.unwrap();
    let (term, _) = given(&*member).await;
    let at: Vec<_> = (0..PARTITIONS).map(|p| (p, 10 * i64::from(p))).collect();
    member.start(term, &at).await.unwrap();
    let all = take(&*member, 400 - 60, 7).await;
    for (partition, part) in by_partition(&all) {
        let offsets: Vec<i64> = part.iter().map(|r| r.offset).collect();
        assert_eq!(
            offsets,
            (10 * i64::from(partition)..100).collect::<Vec<_>>()
        );
    }
    member.start(term, &[(2, 97)]).await.unwrap();
    let again: Vec<_> = take(&*member, 3, 7)
        .await
        .iter()
        .map(|r| (r.partition, r.offset))
        .collect();
    assert_eq!(again, [(2, 97), (2, 98), (2, 99)]);
}

pub async fn a_partition_far_behind_holds_no_other_up<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    let backlog = 5 * B::AHEAD;
    bus.publish(vec![at(&topic, 1, "backlog"); backlog])
        .await
        .unwrap();
    bus.publish(vec![at(&topic, 3, "fresh")]).await.unwrap();
    let (member, _) = join(&*bus).await;
    let mut seen = vec![];
    while seen.len() < B::AHEAD {
        seen.extend(take(&*member, 1, 100).await);
    }
    assert!(seen.iter().any(|r| r.partition == 3));
}

pub async fn next_wakes_at_once<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let topic = backend.name("in");
    let (member, _) = join(&*bus).await;
    bus.publish(vec![at(&topic, 0, "warm")]).await.unwrap();
    take(&*member, 1, 10).await;
    for client in [&bus, &backend.client().await] {
        let mut waits = vec![];
        for _ in 0..5 {
            let (member, topic) = (Arc::clone(&member), Arc::clone(&topic));
            let waiting = tokio::spawn(async move {
                let some = take(&*member, 1, 10).await;
                (Instant::now(), some.len())
            });
            tokio::time::sleep(Duration::from_millis(60)).await;
            client.publish(vec![at(&topic, 0, "v")]).await.unwrap();
            let published = Instant::now();
            let (woken, count) = waiting.await.unwrap();
            assert_eq!(count, 1);
            waits.push(woken.saturating_duration_since(published));
        }
        waits.sort();
        assert!(waits[2] < Duration::from_millis(50), "{waits:?}");
    }
}

pub async fn a_unit_becomes_visible_whole<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let (out, more) = (backend.name("out"), backend.name("more"));
    bus.publish(vec![at(&backend.name("in"), 1, "v"); 9])
        .await
        .unwrap();
    let (member, term) = join(&*bus).await;
    let bad = Unit {
        term,
        progress: vec![progress(1, 5)],
        records: vec![at(&out, 0, "torn"), at(&backend.name("nowhere"), 0, "bad")],
    };
    refused(member.commit(bad).await);
    let unit = Unit {
        term,
        progress: vec![progress(1, 7), progress(2, 0)],
        records: vec![at(&out, 0, "a"), at(&more, 3, "b"), at(&out, 0, "c")],
    };
    assert_eq!(member.commit(unit).await.unwrap(), Committed::Visible);
    assert_eq!(texts(&read_all(&*bus, &out).await), ["a", "c"]);
    assert_eq!(texts(&read_all(&*bus, &more).await), ["b"]);
    drop((member, bus));
    let bus = backend.client().await;
    let (_, assigned) = given(&*bus.join().await.unwrap()).await;
    let inputs: Vec<_> = assigned.iter().map(|a| a.input).collect();
    assert_eq!(inputs, [None, Some(7), Some(0), None]);
    assert_eq!(assigned[1].relay, Some(relay(7)));
    assert_eq!(assigned[2].relay, Some(relay(0)));
}

/// Everything is dropped in the middle of a commit, at a different moment each time.
pub async fn a_torn_unit_is_invisible<B: Backend>() {
    let backend = B::fresh().await;
    let out = backend.name("out");
    backend
        .client()
        .await
        .publish(vec![at(&backend.name("in"), 0, "v"); 60])
        .await
        .unwrap();
    let (mut whole, mut none) = (0, 0);
    for round in 1..=B::TORN {
        let bus = backend.client().await;
        let member = bus.join().await.unwrap();
        let (term, assigned) = given(&*member).await;
        let before = assigned[0].input.unwrap_or(0);
        let records = (0..400).map(|i| at(&out, i % PARTITIONS, &format!("{round}")));
        let unit = Unit {
            term,
            progress: vec![progress(0, round)],
            records: records.collect(),
        };
        // Some at once and some not at all, whatever the machine's speed.
        let moment = match round % 8 {
            1 => Duration::ZERO,
            0 => PATIENCE,
            _ => Duration::from_micros(round.unsigned_abs() * 250),
        };
        let _ = tokio::time::timeout(moment, member.commit(unit)).await;
        drop((member, bus));
        let bus = backend.client().await;
        let (_, assigned) = given(&*bus.join().await.unwrap()).await;
        let position = assigned[0].input.unwrap_or(0);
        let all = texts(&read_all(&*bus, &out).await);
        let seen = all.iter().filter(|t| **t == round.to_string()).count();
        if position == round {
            whole += 1;
            assert_eq!(seen, 400);
        } else {
            none += 1;
            assert_eq!((seen, position), (0, before));
        }
    }
    assert!(whole > 0 && none > 0, "{whole} whole, {none} not at all");
}

pub async fn a_dropped_commit_leaves_the_member_usable<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let out = backend.name("out");
    bus.publish(vec![at(&backend.name("in"), 0, "v"); 99])
        .await
        .unwrap();
    let (member, mut term) = join(&*bus).await;
    for i in 1..=50_i64 {
        let unit = |text: &str, term| Unit {
            term,
            progress: vec![progress(0, i)],
            records: vec![at(&out, 0, text); 20],
        };
        let moment = Duration::from_micros(i.unsigned_abs() * 40);
        let _ = tokio::time::timeout(moment, member.commit(unit("dropped", term))).await;
        while member.commit(unit(&i.to_string(), term)).await.unwrap() == Committed::Void {
            term = start(&*member).await;
        }
    }
    let all = read_all(&*bus, &out).await;
    if B::GAPLESS_UNITS {
        gapless(&all);
    }
    for i in 1..=50 {
        let text = i.to_string();
        assert_eq!(texts(&all).iter().filter(|t| **t == text).count(), 20);
    }
    assert_eq!(
        texts(&all).iter().filter(|t| *t == "dropped").count() % 20,
        0
    );
}

pub async fn after_a_takeover_a_commit_is_void_and_all_is_given_anew<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let (input, out) = (backend.name("in"), backend.name("out"));
    bus.publish(vec![at(&input, 0, "v"); 9]).await.unwrap();
    let (member, old) = join(&*bus).await;
    let unit = |term, input, text: &str| Unit {
        term,
        progress: vec![progress(0, input)],
        records: vec![at(&out, 0, text)],
    };
    assert_eq!(
        member.commit(unit(old, 3, "mine")).await.unwrap(),
        Committed::Visible
    );
    backend.steal().await;
    assert_eq!(
        member.commit(unit(old, 5, "zombie")).await.unwrap(),
        Committed::Void
    );
    let (new, assigned) = given(&*member).await;
    assert!(new > old);
    assert_eq!(
        (assigned[0].input, assigned[0].relay),
        (Some(3), Some(relay(3)))
    );
    member.start(new, &[(0, 3)]).await.unwrap();
    assert_eq!(take(&*member, 6, 100).await[0].offset, 3);
    assert_eq!(
        member.commit(unit(new, 9, "again mine")).await.unwrap(),
        Committed::Visible
    );
    assert_eq!(texts(&read_all(&*bus, &out).await), ["mine", "again mine"]);
}

pub async fn a_takeover_is_told_to_who_only_reads<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    let (member, old) = join(&*bus).await;
    backend.steal().await;
    let (new, _) = given(&*member).await;
    assert!(new > old);
    let late = Unit {
        term: old,
        progress: vec![progress(0, 0)],
        records: vec![],
    };
    assert_eq!(member.commit(late).await.unwrap(), Committed::Void);
    assert!(
        given(&*member).await.0 > new,
        "every void is followed by a fresh start"
    );
}

pub async fn a_reset_sets_offsets_and_leaves_the_relays_position<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    bus.publish(vec![at(&backend.name("in"), 0, "v"); 9])
        .await
        .unwrap();
    let (member, term) = join(&*bus).await;
    let unit = Unit {
        term,
        progress: vec![progress(0, 7)],
        records: vec![],
    };
    assert_eq!(member.commit(unit).await.unwrap(), Committed::Visible);
    drop((member, bus));
    backend.reset_group(2).await;
    let bus = backend.client().await;
    let member = bus.join().await.unwrap();
    let (term, assigned) = given(&*member).await;
    assert_eq!(assigned[0].input, Some(2));
    assert_eq!(assigned[0].relay, Some(progress(0, 7).relay));
    member.start(term, &[(0, 2)]).await.unwrap();
    assert_eq!(take(&*member, 7, 100).await.len(), 7);
}

pub async fn a_start_beyond_the_end_is_refused<B: Backend>() {
    let backend = B::fresh().await;
    let bus = backend.client().await;
    bus.publish(vec![at(&backend.name("in"), 0, "v"); 2])
        .await
        .unwrap();
    let member = bus.join().await.unwrap();
    let (term, _) = given(&*member).await;
    member.start(term, &[(0, 2)]).await.unwrap();
    assert!(refused(member.start(term, &[(0, 3)]).await).contains("restore"));
    refused(member.start(term, &[(PARTITIONS, 0)]).await);
}

/// Runs the whole contract on a backend, in a module named after it.
#[macro_export]
macro_rules! bus_contract {
    ($name:ident, $backend:ty; $($test:ident)*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    if !<$backend as $crate::contract::bus::Backend>::left_out() {
                        $crate::contract::bus::$test::<$backend>().await;
                    }
                }
            )*
        }
    };
    ($name:ident, $backend:ty) => {
        $crate::bus_contract!($name, $backend;
            topics_are_created_once_and_keep_their_partitions
            a_partition_keeps_the_order
            a_key_goes_where_its_hash_says
            what_cannot_be_published_is_its_callers_failure_only
            records_read_equal_records_published
            published_records_survive_reopening
            all_is_visible_when_publish_returns
            concurrent_publishers_lose_and_double_nothing
            a_dropped_publish_does_no_harm
            a_range_is_read_within_its_limits
            large_records_are_read_a_few_at_a_time
            a_time_leads_to_the_first_record_since
            nothing_comes_before_start_and_idle_after_the_wait
            reading_starts_where_it_is_told_and_goes_on_in_order
            a_partition_far_behind_holds_no_other_up
            next_wakes_at_once
            a_unit_becomes_visible_whole
            a_torn_unit_is_invisible
            a_dropped_commit_leaves_the_member_usable
            after_a_takeover_a_commit_is_void_and_all_is_given_anew
            a_takeover_is_told_to_who_only_reads
            a_reset_sets_offsets_and_leaves_the_relays_position
            a_start_beyond_the_end_is_refused
        );
    };
}
