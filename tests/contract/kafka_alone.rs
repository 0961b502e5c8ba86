//! What the Kafka bus promises beyond the contract: several members, brokers that are away, settings
//! that would break promises.

use super::bus::{Backend, PARTITIONS, read_all, read_part, record};
use super::kafka::Kafka;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use unilink::bus::kafka::{KafkaBus, KafkaSettings};
use unilink::bus::{
    Assigned, Bus, BusError, Committed, Member, Next, Progress, Record, RelayPosition, Term, Unit,
};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

fn nowhere(client: &[(&str, &str)]) -> KafkaSettings {
    KafkaSettings {
        // Nobody listens on the discard port.
        brokers: "127.0.0.1:9".to_owned(),
        group: "g".to_owned(),
        input_topic: "in".into(),
        client: client
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        name: None,
        replication: -1,
    }
}

fn refused<T>(result: Result<T, BusError>) -> String {
    match result {
        Err(BusError::Refused(text)) => text,
        Err(other) => panic!("a refusal was expected, not {other:?}"),
        Ok(_) => panic!("a refusal was expected"),
    }
}

async fn given(member: &dyn Member) -> (Term, Vec<Assigned>) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Next::Given(term, assigned) = member.next(PATIENCE, 100).await.unwrap() {
            return (term, assigned);
        }
    }
    panic!("nothing was given");
}

fn parts(assigned: &[Assigned]) -> Vec<u32> {
    assigned.iter().map(|a| a.partition).collect()
}

fn unit(term: Term, partition: u32, input: i64, records: Vec<Record>) -> Unit {
    let relay = RelayPosition {
        store: Uuid::from_u128(1),
        seq: input.unsigned_abs(),
        row: Uuid::from_u128(2),
        inline: -1,
    };
    Unit {
        term,
        progress: vec![Progress {
            partition,
            input,
            relay,
        }],
        records,
    }
}

#[tokio::test]
async fn settings_that_break_promises_or_mean_nothing_are_refused_by_name() {
    for key in ["isolation.level", "enable.auto.commit", "group.id", "acks"] {
        let text = refused(KafkaBus::open(nowhere(&[(key, "1")])));
        assert!(text.contains(key), "{text}");
    }
    let text = refused(KafkaBus::open(nowhere(&[("fetch.foo", "1")])));
    assert!(text.contains("fetch.foo"), "{text}");
    // Each is fine, together they are not.
    let both = [("session.timeout.ms", "400000")];
    let text = refused(KafkaBus::open(nowhere(&both)));
    assert!(text.contains("session.timeout.ms"), "{text}");
    let units = [("transaction.timeout.ms", "1")];
    let text = refused(KafkaBus::open(nowhere(&units)));
    assert!(text.contains("transaction.timeout.ms"), "{text}");
}

/// Opening and joining need no broker; what has to wait for one says so within seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_everything_says_so_soon() {
    let begun = Instant::now();
    let bus = KafkaBus::open(nowhere(&[])).unwrap();
    let member = bus.join().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    for _ in 0..2 {
        let begun = Instant::now();
        let sends = (0..20).map(|_| bus.publish(vec![record(&"in".into(), "k", "v")]));
        for sent in futures::future::join_all(sends).await {
            assert!(matches!(sent, Err(BusError::Unavailable(_))), "{sent:?}");
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(6), "{took:?}");
    }
    assert!(matches!(
        bus.topics(&[]).await,
        Err(BusError::Unavailable(_))
    ));
    let next = member.next(Duration::from_millis(300), 9).await;
    assert!(matches!(next, Ok(Next::Idle)), "{next:?}");
    let begun = Instant::now();
    drop((member, bus));
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(13), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_share_the_partitions_and_one_that_leaves_hands_over_at_once() {
    if Kafka::left_out() {
        return;
    }
    for name in [None, Some("second")] {
        let world = Kafka::fresh().await;
        let bus = world.client().await;
        let first = bus.join().await.unwrap();
        let all: Vec<u32> = (0..PARTITIONS).collect();
        assert_eq!(parts(&given(&*first).await.1), all);
        let other = KafkaBus::open(world.settings(name)).unwrap();
        let second = other.join().await.unwrap();
        let (_, theirs) = given(&*second).await;
        let (mut term, mut ours) = given(&*first).await;
        while ours.len() + theirs.len() > all.len() {
            (term, ours) = given(&*first).await;
        }
        let mut both = [parts(&ours), parts(&theirs)].concat();
        both.sort_unstable();
        assert_eq!(both, all);
        let mine = ours[0].partition;
        let done = first.commit(unit(term, mine, 0, vec![])).await.unwrap();
        assert_eq!(done, Committed::Visible);
        let begun = Instant::now();
        drop((second, other));
        while parts(&given(&*first).await.1) != all {}
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "{name:?}: {took:?}");
    }
}

/// Two workers under one name: the later one works, the earlier one stops and says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_given_twice_is_refused_to_the_first() {
    if Kafka::left_out() {
        return;
    }
    let world = Kafka::fresh().await;
    let open = || KafkaBus::open(world.settings(Some("same"))).unwrap();
    let first = open().join().await.unwrap();
    let (old, _) = given(&*first).await;
    let second = open().join().await.unwrap();
    let (term, assigned) = given(&*second).await;
    assert_eq!(assigned.len(), 4);
    let begun = Instant::now();
    let text = loop {
        assert!(begun.elapsed() < PATIENCE);
        match first.next(Duration::from_millis(200), 9).await {
            Err(BusError::Refused(text)) => break text,
            Err(other) => panic!("{other:?}"),
            Ok(_) => {}
        }
    };
    assert!(text.contains("name"), "{text}");
    let out = world.name("out");
    let late = vec![record(&out, "k", "late")];
    let done = first.commit(unit(old, 0, 3, late)).await.unwrap();
    assert_eq!(done, Committed::Void);
    let good = vec![record(&out, "k", "good")];
    let mut done = second.commit(unit(term, 0, 1, good.clone())).await.unwrap();
    let begun = Instant::now();
    while done == Committed::Void && begun.elapsed() < PATIENCE {
        // The first one's late unit fenced this one's producer, and may have made one more in its place.
        let (term, _) = given(&*second).await;
        done = second.commit(unit(term, 0, 1, good.clone())).await.unwrap();
    }
    assert_eq!(done, Committed::Visible);
    let bus = world.client().await;
    let all = read_all(&*bus, &out).await;
    assert!(all.iter().all(|r| r.value.as_deref() == Some(b"good")));
}

/// What the brokers do not take is an error of this unit, not the end of the term.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_too_large_is_refused_and_the_term_goes_on() {
    if Kafka::left_out() {
        return;
    }
    let world = Kafka::fresh().await;
    let (bus, out) = (world.client().await, world.name("out"));
    let large = Record {
        value: Some(
            (0..6_000_000_u32)
                .map(|i| i.wrapping_mul(i).to_le_bytes()[1])
                .collect(),
        ),
        ..record(&out, "k", "")
    };
    refused(bus.publish(vec![large.clone()]).await);
    let member = bus.join().await.unwrap();
    let (term, _) = given(&*member).await;
    let records = vec![record(&out, "k", "small"), large];
    refused(member.commit(unit(term, 0, 1, records)).await);
    let small = vec![record(&out, "k", "small")];
    let done = member.commit(unit(term, 0, 1, small)).await.unwrap();
    assert_eq!(done, Committed::Visible);
    assert_eq!(read_all(&*bus, &out).await.len(), 1);
}

/// The marks that end transactions take offsets. They must neither be waited for nor be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_to_the_end_does_not_wait_for_what_transactions_leave_behind() {
    if Kafka::left_out() {
        return;
    }
    let world = Kafka::fresh().await;
    let (bus, out) = (world.client().await, world.name("out"));
    let member = bus.join().await.unwrap();
    let (term, _) = given(&*member).await;
    for i in 1..=20 {
        let one = Record {
            partition: Some(0),
            ..record(&out, "k", &i.to_string())
        };
        let done = member.commit(unit(term, 0, i, vec![one])).await.unwrap();
        assert_eq!(done, Committed::Visible);
    }
    bus.settled(&out).await.unwrap();
    for _ in 0..3 {
        let begun = Instant::now();
        assert_eq!(read_part(&*bus, &out, 0, 1_000).await.len(), 20);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}

/// What a killed worker left open hides what another has committed after it; whoever must have all of
/// it waits until the brokers have ended that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_behind_an_open_transaction_is_waited_for() {
    if Kafka::left_out() {
        return;
    }
    let world = Kafka::fresh().await;
    let (bus, out) = (world.client().await, world.name("out"));
    let dead = world.left_open(&out);
    let member = bus.join().await.unwrap();
    let (term, _) = given(&*member).await;
    let behind = Record {
        partition: Some(0),
        ..record(&out, "k", "behind")
    };
    let done = member.commit(unit(term, 0, 1, vec![behind])).await.unwrap();
    assert_eq!(done, Committed::Visible);
    assert!(read_part(&*bus, &out, 0, 10).await.is_empty(), "it hides");
    bus.settled(&out).await.unwrap();
    let all = read_part(&*bus, &out, 0, 10).await;
    let values: Vec<_> = all.iter().map(|r| r.value.as_deref()).collect();
    assert_eq!(values, [Some(&b"behind"[..])]);
    drop(dead);
}

/// A worker that takes nothing for a while stays a member, and misses nothing afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_held_up_loses_nothing() {
    if Kafka::left_out() {
        return;
    }
    let world = Kafka::fresh().await;
    let (bus, input) = (world.client().await, world.name("in"));
    let member = bus.join().await.unwrap();
    let (term, assigned) = given(&*member).await;
    let at: Vec<_> = assigned.iter().map(|a| (a.partition, 0)).collect();
    member.start(term, &at).await.unwrap();
    let count = 40_000;
    for some in (0..count).collect::<Vec<u32>>().chunks(10_000) {
        let some = some.iter().map(|i| Record {
            partition: Some(i % PARTITIONS),
            ..record(&input, "k", &format!("{i:06}"))
        });
        bus.publish(some.collect()).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(8)).await;
    let (mut seen, begun) = (BTreeMap::<u32, Vec<i64>>::new(), Instant::now());
    let mut left = count;
    while left > 0 && begun.elapsed() < PATIENCE {
        match member.next(PATIENCE, 500).await.unwrap() {
            Next::Records(_, records) => {
                for record in records {
                    left -= 1;
                    seen.entry(record.partition)
                        .or_default()
                        .push(record.offset);
                }
            }
            Next::Idle => {}
            other => panic!("records were expected, not {other:?}"),
        }
    }
    for offsets in seen.values() {
        let want: Vec<i64> = (0..i64::from(count / PARTITIONS)).collect();
        assert_eq!(*offsets, want);
    }
    assert_eq!(left, 0);
}

/// How fast it is here; fails only far below what the relay needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn units_are_committed_fast_enough() {
    if Kafka::left_out() {
        return;
    }
    let world = Kafka::fresh().await;
    let (bus, out) = (world.client().await, world.name("out"));
    let member = bus.join().await.unwrap();
    let (term, _) = given(&*member).await;
    let mut input = 0;
    for size in [1, 10, 100, 1_000, 10_000] {
        let mut times = vec![];
        for _ in 0..(40 / (1 + size / 500)).max(5) {
            input += 1;
            let records = (0..size).map(|i| record(&out, &i.to_string(), "x".repeat(300).as_str()));
            let unit = unit(term, 0, input, records.collect());
            let begun = Instant::now();
            assert_eq!(member.commit(unit).await.unwrap(), Committed::Visible);
            times.push(begun.elapsed());
        }
        times.sort();
        let median = times[times.len() / 2];
        eprintln!(
            "units of {size}: {median:?}, slowest {:?}",
            times[times.len() - 1]
        );
        assert!(median < Duration::from_secs(1));
    }
    let begun = Instant::now();
    let bus = Arc::clone(&bus);
    let sends = (0..20_000).map(|i| {
        let (bus, input) = (Arc::clone(&bus), world.name("in"));
        async move { bus.publish(vec![record(&input, &i.to_string(), "v")]).await }
    });
    let sent = futures::future::join_all(sends).await;
    assert!(sent.iter().all(Result::is_ok));
    eprintln!("20,000 single publishes at a time: {:?}", begun.elapsed());
}
