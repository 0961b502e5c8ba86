//! Committed changes wait in the outbox, in order and without gaps.

use super::Home;
use super::fixtures::*;
use std::collections::BTreeMap;
use std::time::Duration;
use unilink::bus::Record;
use unilink::model::View;
use unilink::store::{Batch, Step, Write};

pub async fn is_gapless_and_in_commit_order(home: &dyn Home) {
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..4 {
        let store = open(home).await;
        sessions.spawn(async move {
            for n in 0..20 {
                let text = format!("{session}:{n:02}");
                publish(&*store, &[0, session], &text).await;
            }
        });
    }
    while let Some(done) = sessions.join_next().await {
        done.expect("session");
    }
    let store = open(home).await;
    let rows = outbox(&*store, 0, 0, usize::MAX).await;
    let seqs: Vec<u64> = rows.iter().map(|r| r.seq).collect();
    assert_eq!(seqs, (1..=80).collect::<Vec<u64>>());
    assert_eq!(store.outbox_head(0).await.expect("reads"), 80);
    assert_eq!(store.outbox_head(2).await.expect("reads"), 20);
    assert_eq!(store.outbox_head(9).await.expect("reads"), 0);
    let mut of_session_3: Vec<_> = rows.iter().map(|r| r.records[0].value.clone()).collect();
    of_session_3.retain(|v| v.as_ref().is_some_and(|v| v.starts_with(b"3:")));
    assert!(of_session_3.is_sorted(), "each session's own order is kept");
    let after = outbox(&*store, 0, 78, usize::MAX).await;
    assert_eq!(after.len(), 2);
    assert_eq!(after[0].seq, 79);
    let id = store.outbox_row(0, 79).await.expect("reads");
    assert_eq!(id, Some(after[0].row));
}

/// A reader that polls "after the last one I saw" while eight sessions write batches of all sizes.
pub async fn a_polling_reader_misses_nothing(home: &dyn Home) {
    const EACH: usize = 25;
    let mut sessions = tokio::task::JoinSet::new();
    for session in 0..8 {
        let store = open(home).await;
        sessions.spawn(async move {
            for n in 0..EACH {
                // What takes long to commit lets others overtake.
                let text = "x".repeat(if (session + n) % 3 == 0 { 400_000 } else { 10 });
                publish(&*store, &[0], &format!("{session} {n} {text}")).await;
            }
        });
    }
    let store = open(home).await;
    let (mut after, mut seen) = (0, 0);
    while seen < 8 * EACH {
        let rows = outbox(&*store, 0, after, 1 << 20).await;
        for row in &rows {
            assert_eq!(
                row.seq,
                after + 1,
                "a row was not there when it was its turn"
            );
            after = row.seq;
        }
        seen += rows.len();
        if rows.is_empty() {
            if sessions.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        while let Some(done) = sessions.try_join_next() {
            done.expect("session");
        }
    }
    assert_eq!(seen, 8 * EACH, "rows were missed");
}

pub async fn stops_at_the_byte_limit(home: &dyn Home) {
    let store = open(home).await;
    for _ in 0..10 {
        publish(&*store, &[0], &"x".repeat(1_000)).await;
    }
    let read = |bytes| {
        let store = &store;
        async move { outbox(&**store, 0, 0, bytes).await.len() }
    };
    assert_eq!(read(0).await, 1, "one row always comes");
    assert_eq!(read(1).await, 1);
    assert!((3..=5).contains(&read(4_000).await));
    assert_eq!(read(1 << 20).await, 10);
}

pub async fn partitions_are_read_together(home: &dyn Home) {
    let store = open(home).await;
    for text in ["one", "two", "three"] {
        publish(&*store, &[0, 1], &format!("{text} {}", "x".repeat(1_000))).await;
    }
    publish(&*store, &[3], "other").await;
    let after = [(3, 0), (0, 1), (1, 0), (2, 0), (5, 7)];
    let read = |bytes| {
        let store = &store;
        async move {
            let mut seqs: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
            for (partition, row) in store.outbox(&after, bytes).await.expect("reads") {
                seqs.entry(partition).or_default().push(row.seq);
            }
            seqs
        }
    };
    let all = [(0, vec![2, 3]), (1, vec![1, 2, 3]), (3, vec![1])];
    assert_eq!(read(1 << 20).await, all.into());
    let first = [(0, vec![2]), (1, vec![1]), (3, vec![1])];
    assert_eq!(read(0).await, first.into(), "the limit is that of each");
    assert!(store.outbox(&[], 1 << 20).await.expect("reads").is_empty());
}

pub async fn records_round_trip(home: &dyn Home) {
    let store = open(home).await;
    let records = vec![
        Record {
            topic: "links".into(),
            key: vec![0, 255],
            value: None,
            headers: vec![("a".into(), vec![]), ("a".into(), vec![1])],
            partition: Some(3),
        },
        record("text"),
    ];
    let mut plan = Plan(|_: &View| {
        Step::Write(Box::new(Write {
            outbox: [(1, records.clone()), (2, vec![])].into(),
            ..Write::default()
        }))
    });
    let batch = Batch::default();
    store.apply(&batch, &mut plan).await.expect("applies");
    let rows = outbox(&*store, 1, 0, 1 << 20).await;
    assert_eq!(rows[0].records, records);
    assert_eq!(
        store.outbox_head(2).await.expect("reads"),
        0,
        "no empty rows"
    );
}

pub async fn relayed_rows_go_but_the_newest(home: &dyn Home) {
    let store = open(home).await;
    for _ in 0..50 {
        publish(&*store, &[0, 1], "x").await;
    }
    store.relayed(0, 40, 7).await.expect("notes");
    store.prune(prune_nothing()).await.expect("prunes");
    assert_eq!(store.outbox_row(0, 39).await.expect("reads"), None);
    assert!(store.outbox_row(0, 40).await.expect("reads").is_some());
    let rest = outbox(&*store, 0, 40, usize::MAX).await;
    assert_eq!(rest.len(), 10);
    let other = outbox(&*store, 1, 0, usize::MAX).await;
    assert_eq!(other.len(), 50, "another partition's rows stay");
    // Without any call to prune it does not grow for ever either.
    store.relayed(0, 50, 7).await.expect("notes");
    for n in 51..200 {
        publish(&*store, &[0], "x").await;
        store.relayed(0, n, 7).await.expect("notes");
    }
    let left = outbox(&*store, 0, 0, usize::MAX).await;
    assert!(left.len() < 100, "{} rows left", left.len());
    assert_eq!(left.last().map(|r| r.seq), Some(199));
}

pub async fn changes_wake(home: &dyn Home) {
    let store = open(home).await;
    let soon = Duration::from_secs(5);
    let waiter = {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move { store.changed().await })
    };
    tokio::time::sleep(Duration::from_millis(20)).await;
    publish(&*store, &[0], "x").await;
    tokio::time::timeout(soon, waiter)
        .await
        .expect("woken")
        .expect("waits");
    // What happens before the wait begins is not missed.
    publish(&*store, &[0], "x").await;
    tokio::time::timeout(soon, store.changed())
        .await
        .expect("woken");
}
