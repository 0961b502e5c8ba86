//! Stories of the embedded bus alone: its lease, its queue, a full disk, retention and compaction.

use super::bus::{Backend, join, read_all, read_part, record, specs};
use super::embedded::{Embedded, file, open};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use unilink::bus::embedded::{EmbeddedBus, Retained, Settings};
use unilink::bus::{
    Bus, BusError, Committed, Keep, Member, Next, Progress, Record, RelayPosition, Stored, Term,
    TopicSpec, Unit,
};
use unilink::model::Millis;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);
const WAIT: Duration = Duration::from_secs(5);

fn refused<T>(result: Result<T, BusError>) -> String {
    match result {
        Err(BusError::Refused(text)) => text,
        Err(other) => panic!("a refusal was expected, not {other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

fn in_hours(hours: i64) -> Millis {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Millis(i64::try_from(now.as_millis()).unwrap()).plus(hours * 3_600_000)
}

fn one(topic: &str, key: &str, value: Option<&str>) -> Record {
    Record {
        value: value.map(Into::into),
        partition: Some(0),
        ..record(&topic.into(), key, "")
    }
}

async fn commit_input(member: &dyn Member, term: Term, input: i64) {
    let relay = RelayPosition {
        store: Uuid::nil(),
        seq: 0,
        row: Uuid::nil(),
        inline: -1,
    };
    let progress = Progress {
        partition: 0,
        input,
        relay,
    };
    let unit = Unit {
        term,
        progress: vec![progress],
        records: vec![],
    };
    assert_eq!(member.commit(unit).await.unwrap(), Committed::Visible);
}

/// Calls `retain` until nothing is left to do.
async fn retain(bus: &EmbeddedBus, now: Millis) -> u64 {
    let mut deleted = 0;
    for _ in 0..1_000 {
        let done: Retained = bus.retain(now).await.unwrap();
        deleted += done.deleted;
        if !done.more {
            return deleted;
        }
    }
    panic!("retention does not end");
}

async fn bounds(bus: &EmbeddedBus, topic: &str) -> (i64, i64) {
    let ask = TopicSpec {
        name: topic.into(),
        partitions: 0,
        keep: Keep::For(HOUR),
    };
    bus.topics(&[ask]).await.unwrap()[0].bounds[0]
}

fn kept(records: &[Stored]) -> Vec<(i64, &str)> {
    records
        .iter()
        .map(|r| (r.offset, std::str::from_utf8(&r.key).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_second_worker_is_refused_until_the_first_is_gone() {
    let backend = Embedded::fresh().await;
    let (bus, other) = (backend.bus().await, backend.bus().await);
    let member = bus.join().await.unwrap();
    for second in [&bus, &other] {
        let text = refused(second.join().await);
        assert!(text.contains("stop that one") && text.contains("store.url"));
        refused(second.reset_group(0).await);
    }
    drop(member);
    other.join().await.unwrap();
    bus.join().await.unwrap();
}

#[tokio::test]
async fn who_lost_the_lease_gets_it_back_only_when_it_is_free() {
    let backend = Embedded::fresh().await;
    let (bus, other) = (backend.bus().await, backend.bus().await);
    let (zombie, old) = join(&*bus).await;
    std::fs::remove_file(backend.lease()).unwrap();
    let (thief, term) = join(&*other).await;
    let late = Unit {
        term: old,
        progress: vec![],
        records: vec![one("out", "k", Some("late"))],
    };
    assert_eq!(zombie.commit(late).await.unwrap(), Committed::Void);
    refused(zombie.next(WAIT, 9).await);
    commit_input(&*thief, term, 0).await;
    drop(thief);
    let Next::Given(again, _) = zombie.next(WAIT, 9).await.unwrap() else {
        panic!("nothing was given");
    };
    assert!(again > term && term > old);
    assert!(read_all(&*bus, &"out".into()).await.is_empty());
}

#[tokio::test]
async fn a_topic_with_another_number_of_partitions_is_refused_at_opening() {
    let backend = Embedded::fresh().await;
    let mut topics = specs(|short| short.into());
    topics[1].partitions = 8;
    let settings = Settings {
        input_topic: "in".into(),
        group: "g".into(),
        topics,
    };
    let opened = EmbeddedBus::open(file(backend.dir.path()).await, settings).await;
    let text = refused(opened);
    assert!(
        text.contains("out") && text.contains("set it back"),
        "{text}"
    );
}

#[tokio::test]
async fn joining_without_an_input_topic_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path(), vec![]).await;
    assert!(refused(bus.join().await).contains("`topics`"));
}

#[tokio::test]
async fn the_writing_task_ends_with_the_bus() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path()).await;
    let settings = Settings {
        input_topic: "in".into(),
        group: "g".into(),
        topics: specs(|short| short.into()),
    };
    let bus = EmbeddedBus::open(Arc::clone(&file), settings)
        .await
        .unwrap();
    bus.publish(vec![one("in", "k", None)]).await.unwrap();
    drop(bus);
    let begun = Instant::now();
    while Arc::strong_count(&file) > 1 && begun.elapsed() < WAIT {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(Arc::strong_count(&file), 1);
}

#[tokio::test]
async fn a_full_disk_is_told_at_once_and_forgotten_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path()).await;
    let settings = Settings {
        input_topic: "in".into(),
        group: "g".into(),
        topics: specs(|short| short.into()),
    };
    let bus = EmbeddedBus::open(Arc::clone(&file), settings)
        .await
        .unwrap();
    let limit = async |sql| {
        let mut tx = file.begin().await.unwrap();
        tx.exec(sql, vec![]).await.unwrap();
        tx.commit().await.unwrap();
    };
    limit("PRAGMA max_page_count = 60").await;
    let large = "x".repeat(300_000);
    let begun = Instant::now();
    let mut full = None;
    for _ in 0..5 {
        full = full.or(bus.publish(vec![one("in", "k", Some(&large))]).await.err());
    }
    let Some(BusError::Unavailable(text)) = full else {
        panic!("{full:?}");
    };
    assert!(text.contains("disk is full"), "{text}");
    assert!(begun.elapsed() < WAIT);
    // What is small enough still goes in; nothing of the failed ones did.
    let before = read_part(&*bus, &"in".into(), 0, 9).await.len();
    bus.publish(vec![one("in", "k", Some("small"))])
        .await
        .unwrap();
    limit("PRAGMA max_page_count = 1000000").await;
    bus.publish(vec![one("in", "k", Some(&large))])
        .await
        .unwrap();
    let all = read_part(&*bus, &"in".into(), 0, 9).await;
    assert_eq!(all.len(), before + 2);
    assert!((0..).zip(&all).all(|(want, r)| r.offset == want));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_without_room_says_so_and_what_waits_in_it_is_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path()).await;
    let settings = Settings {
        input_topic: "in".into(),
        group: "g".into(),
        topics: specs(|short| short.into()),
    };
    let bus = EmbeddedBus::open(Arc::clone(&file), settings)
        .await
        .unwrap();
    let tx = file.begin().await.unwrap();
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let bus = Arc::clone(&bus);
            let large = "x".repeat(4 << 20);
            tokio::spawn(async move { bus.publish(vec![one("in", "k", Some(&large))]).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    drop(tx);
    let mut taken = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(()) => taken += 1,
            Err(BusError::Unavailable(text)) => assert!(text.contains("no room"), "{text}"),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(taken, 3, "16 MiB hold three of 4 MiB and a little");
    assert_eq!(read_all(&*bus, &"in".into()).await.len(), taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_transaction_does_not_keep_other_processes_out() {
    let backend = Embedded::fresh().await;
    let file = file(backend.dir.path()).await;
    drop(file.begin().await.unwrap());
    let begun = Instant::now();
    let other = backend.bus().await;
    other.publish(vec![one("in", "k", None)]).await.unwrap();
    assert!(begun.elapsed() < WAIT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_may_create_the_file_at_once() {
    for _ in 0..5 {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let opened = (0..6).map(|_| {
            let dir = Arc::clone(&dir);
            tokio::spawn(async move {
                let bus = open(dir.path(), specs(|short| short.into())).await;
                bus.publish(vec![one("in", "k", None)]).await.unwrap();
            })
        });
        for one in opened.collect::<Vec<_>>() {
            one.await.unwrap();
        }
        let bus = open(dir.path(), vec![]).await;
        assert_eq!(read_all(&*bus, &"in".into()).await.len(), 6);
    }
}

#[tokio::test]
async fn one_call_serves_all_partitions_alike() {
    let backend = Embedded::fresh().await;
    let bus = backend.bus().await;
    for (partition, count) in [(0, 300), (1, 300), (2, 10), (3, 300)] {
        let mut some = one("in", "k", Some("v"));
        some.partition = Some(partition);
        bus.publish(vec![some; count]).await.unwrap();
    }
    let (member, _) = join(&*bus).await;
    let Next::Records(_, some) = member.next(WAIT, 100).await.unwrap() else {
        panic!("no records");
    };
    let count = |p| some.iter().filter(|r| r.partition == p).count();
    assert_eq!((some.len(), count(2)), (100, 10));
    assert!([0, 1, 3].iter().all(|p| (25..=35).contains(&count(*p))));
}

/// Looking every 20 ms alone would take 20 ms each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_process_publishes_wakes_without_looking() {
    let backend = Embedded::fresh().await;
    let bus = backend.bus().await;
    let (member, _) = join(&*bus).await;
    let mut times = vec![];
    for _ in 0..21 {
        let waiting = Arc::clone(&member);
        let waiting = tokio::spawn(async move { waiting.next(WAIT, 9).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(2)).await;
        let begun = Instant::now();
        bus.publish(vec![one("in", "k", None)]).await.unwrap();
        assert!(matches!(waiting.await.unwrap(), Next::Records(..)));
        times.push(begun.elapsed());
    }
    times.sort();
    assert!(times[10] < Duration::from_millis(12), "{times:?}");
}

#[tokio::test]
async fn a_record_larger_than_the_limit_is_refused() {
    let backend = Embedded::fresh().await;
    let bus = backend.bus().await;
    let large = "x".repeat((8 << 20) + 1);
    refused(bus.publish(vec![one("in", "k", Some(&large))]).await);
    bus.publish(vec![one("in", "", Some(&large[2..]))])
        .await
        .unwrap();
}

#[tokio::test]
async fn old_records_go_and_offsets_are_never_used_again() {
    let backend = Embedded::fresh().await;
    let bus = backend.bus().await;
    let some = vec![one("out", "k", Some("v")); 9_500];
    bus.publish(some).await.unwrap();
    assert_eq!(retain(&bus, in_hours(23)).await, 0);
    assert_eq!(retain(&bus, in_hours(25)).await, 9_500);
    assert_eq!(bounds(&bus, "out").await, (9_500, 9_500));
    bus.publish(vec![one("out", "k", Some("next"))])
        .await
        .unwrap();
    assert_eq!(bounds(&bus, "out").await, (9_500, 9_501));
    let all = read_part(&*bus, &"out".into(), 0, 10).await;
    assert_eq!(kept(&all), [(9_500, "k")]);
    assert_eq!(retain(&bus, in_hours(25)).await, 1);
}

#[tokio::test]
async fn what_the_group_has_not_committed_is_kept_however_old() {
    let backend = Embedded::fresh().await;
    let bus = backend.bus().await;
    bus.publish(vec![one("in", "k", Some("v")); 10])
        .await
        .unwrap();
    assert_eq!(retain(&bus, in_hours(1_000)).await, 0);
    let (member, term) = join(&*bus).await;
    commit_input(&*member, term, 4).await;
    assert_eq!(retain(&bus, in_hours(1_000)).await, 4);
    assert_eq!(bounds(&bus, "in").await, (4, 10));
    drop(member);
    // A reset cannot go back to what is gone.
    bus.reset_group(0).await.unwrap();
    let member = bus.join().await.unwrap();
    let Next::Given(_, assigned) = member.next(WAIT, 1).await.unwrap() else {
        panic!("nothing was given");
    };
    assert_eq!(assigned[0].input, Some(4));
}

#[tokio::test]
async fn one_call_does_a_bounded_amount_of_work() {
    let dir = tempfile::tempdir().unwrap();
    let spec = |name: &str| TopicSpec {
        name: name.into(),
        partitions: 40,
        keep: Keep::For(HOUR),
    };
    let bus = open(dir.path(), vec![spec("a"), spec("b")]).await;
    for topic in ["a", "b"] {
        for partition in 0..40 {
            let mut record = one(topic, "k", Some("v"));
            record.partition = Some(partition);
            bus.publish(vec![record; 4_001 * 2]).await.unwrap();
        }
    }
    let all = 4_001 * 2 * 80;
    let first = bus.retain(in_hours(2)).await.unwrap();
    assert!(first.more && first.deleted < all, "{first:?}");
    assert_eq!(first.deleted + retain(&bus, in_hours(2)).await, all);
}

async fn compacted(tombstones: Duration) -> (tempfile::TempDir, Arc<EmbeddedBus>) {
    let dir = tempfile::tempdir().unwrap();
    let spec = TopicSpec {
        name: "t".into(),
        partitions: 1,
        keep: Keep::Newest(tombstones),
    };
    let bus = open(dir.path(), vec![spec]).await;
    (dir, bus)
}

#[tokio::test]
async fn compaction_keeps_the_newest_record_of_each_key() {
    let (_dir, bus) = compacted(HOUR).await;
    let put = async |keys: &[&str]| {
        let some = keys.iter().map(|k| one("t", k, Some("v")));
        bus.publish(some.collect()).await.unwrap();
    };
    put(&["a", "b", "a", "c", ""]).await;
    assert_eq!(
        retain(&bus, in_hours(0)).await,
        0,
        "followers see it all for an hour"
    );
    assert_eq!(retain(&bus, in_hours(2)).await, 1);
    let all = read_part(&*bus, &"t".into(), 0, 2).await;
    assert_eq!(kept(&all), [(1, "b"), (2, "a"), (3, "c"), (4, "")]);
    assert_eq!(bounds(&bus, "t").await, (1, 5), "the prefix is gone");
    // The second pass reaches into the clean part; a gap inside moves no bound.
    put(&["a", "", "d"]).await;
    assert_eq!(retain(&bus, in_hours(2)).await, 2);
    let all = read_part(&*bus, &"t".into(), 0, 9).await;
    assert_eq!(
        kept(&all),
        [(1, "b"), (3, "c"), (5, "a"), (6, ""), (7, "d")]
    );
    assert_eq!(bounds(&bus, "t").await, (1, 8));
    assert_eq!(retain(&bus, in_hours(2)).await, 0);
}

#[tokio::test]
async fn tombstones_stay_for_their_time() {
    let (_dir, bus) = compacted(5 * HOUR).await;
    let some = vec![
        one("t", "a", Some("v")),
        one("t", "a", None),
        one("t", "b", Some("v")),
    ];
    bus.publish(some).await.unwrap();
    assert_eq!(retain(&bus, in_hours(4)).await, 1);
    let all = read_part(&*bus, &"t".into(), 0, 9).await;
    assert_eq!(kept(&all), [(1, "a"), (2, "b")]);
    assert_eq!(retain(&bus, in_hours(6)).await, 1);
    assert_eq!(bounds(&bus, "t").await, (2, 3));
    // The key may come again.
    bus.publish(vec![one("t", "a", Some("v")), one("t", "a", Some("w"))])
        .await
        .unwrap();
    assert_eq!(retain(&bus, in_hours(6)).await, 1);
    let all = read_part(&*bus, &"t".into(), 0, 9).await;
    assert_eq!(kept(&all), [(2, "b"), (4, "a")]);
}

/// Random keys, tombstones and passes, against a map.
#[tokio::test]
async fn compaction_agrees_with_a_map() {
    let (_dir, bus) = compacted(1_000 * HOUR).await;
    let mut rng = StdRng::seed_from_u64(3);
    let (mut newest, mut next) = (BTreeMap::new(), 0);
    for round in 0..12 {
        let mut some = vec![];
        for _ in 0..rng.random_range(1..3_000) {
            let key = rng.random_range(0..900_u32).to_string();
            let value = rng.random_bool(0.8).then_some("v");
            some.push(one("t", &key, value));
            newest.insert(key, (next, value.is_some()));
            next += 1;
        }
        bus.publish(some).await.unwrap();
        if round % 3 == 2 {
            retain(&bus, in_hours(2)).await;
            let held = read_part(&*bus, &"t".into(), 0, 1_000).await;
            let held: BTreeMap<String, (i64, bool)> = held
                .into_iter()
                .map(|r| {
                    (
                        String::from_utf8(r.key).unwrap(),
                        (r.offset, r.value.is_some()),
                    )
                })
                .collect();
            assert_eq!(held, newest);
            let first = newest.values().map(|v| v.0).min().unwrap();
            assert_eq!(bounds(&bus, "t").await, (first, next));
        }
    }
}
