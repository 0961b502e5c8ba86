//! Operators' long work, and what WeChat answered for it.

use super::Home;
use super::fixtures::*;
use super::operate::operate;
use std::sync::Arc;
use unilink::model::{Account, Changes, Millis, View};
use unilink::store::{
    Answer, Batch, Hold, Job, JobNote, NewJob, Operate, Origin, Prune, Question, Rebirth, Step,
    StoreError, UnderWay, Write,
};
use uuid::Uuid;

fn new(n: u128) -> NewJob {
    NewJob {
        id: Uuid::from_u128(n),
        kind: "replay".into(),
        spec: r#"{"a":1}"#.into(),
        author: "ada".into(),
        note: "ticket 7".into(),
        at: Millis(i64::try_from(n).expect("small")),
    }
}

fn hold(job: u128, holder: u128, until: i64) -> Hold {
    Hold {
        job: Uuid::from_u128(job),
        holder: Uuid::from_u128(holder),
        until: Millis(until),
    }
}

fn note(hold: Hold, at: i64) -> JobNote {
    JobNote {
        hold,
        at: Millis(at),
        progress: format!("at {at}"),
        counts: format!("{at} counted"),
        done: false,
    }
}

async fn write_with(
    store: &dyn Operate,
    changes: Changes,
    note: JobNote,
) -> Result<(), StoreError> {
    let mut plan = Plan(|_: &View| {
        Step::Write(Box::new(Write {
            changes: changes.clone(),
            job: Some(note.clone()),
            ..Write::default()
        }))
    });
    store.apply(&Batch::default(), &mut plan).await
}

async fn noted(store: &dyn Operate, note: JobNote) -> Result<(), StoreError> {
    write_with(store, Changes::default(), note).await
}

async fn job(store: &dyn Operate, n: u128) -> Job {
    let found = store.job(Uuid::from_u128(n)).await.expect("reads");
    found.expect("is there")
}

async fn begun(home: &dyn Home) -> Arc<dyn Operate> {
    open(home).await;
    let store = operate(home).await;
    let first = hold(1, 10, 100);
    store.begin_job(&new(1), first).await.expect("begins");
    store
}

pub async fn one_at_a_time_holds_a_job(home: &dyn Home) {
    let store = begun(home).await;
    let take = |holder, until, now| {
        let store = Arc::clone(&store);
        async move {
            let taken = store.hold_job(hold(1, holder, until), Millis(now)).await;
            taken.expect("asks")
        }
    };
    assert!(!take(20, 300, 99).await, "it is held");
    assert!(take(10, 200, 99).await, "its holder renews it");
    assert!(take(20, 300, 200).await, "the lease ran out");
    let late = noted(&*store, note(hold(1, 10, 400), 210)).await;
    assert!(matches!(late, Err(StoreError::Mismatch(_))), "{late:?}");
    noted(&*store, note(hold(1, 20, 400), 220))
        .await
        .expect("notes");
    let stands = job(&*store, 1).await;
    assert_eq!(stands.held_until, Some(Millis(400)), "a note renews");
    assert_eq!(
        (&*stands.progress, stands.noted_at),
        ("at 220", Millis(220))
    );
    store
        .let_go(Uuid::from_u128(1), Uuid::from_u128(10))
        .await
        .expect("asks");
    assert!(job(&*store, 1).await.held_until.is_some(), "not its own");
    store
        .let_go(Uuid::from_u128(1), Uuid::from_u128(20))
        .await
        .expect("lets go");
    assert_eq!(job(&*store, 1).await.held_until, None);
    assert!(take(30, 900, 221).await, "free at once");
}

pub async fn progress_and_changes_are_written_together(home: &dyn Home) {
    let store = begun(home).await;
    let born = |n| Changes {
        accounts: vec![row(&account(n))],
        ..Changes::default()
    };
    let known = async |n| {
        let found = store.find_accounts(&[account(n)]).await.expect("reads");
        found[0].is_some()
    };
    write_with(&*store, born(1), note(hold(1, 10, 100), 5))
        .await
        .expect("writes");
    assert!(known(1).await);
    let before = job(&*store, 1).await;
    assert_eq!((&*before.progress, &*before.counts), ("at 5", "5 counted"));
    assert_eq!(before.new, new(1));
    // Another holder: neither the note nor the change.
    let other = write_with(&*store, born(2), note(hold(1, 99, 100), 6)).await;
    assert!(matches!(other, Err(StoreError::Mismatch(_))), "{other:?}");
    assert!(!known(2).await);
    assert_eq!(job(&*store, 1).await, before);
}

pub async fn a_job_that_is_done_stays_done(home: &dyn Home) {
    let store = begun(home).await;
    let last = JobNote {
        done: true,
        ..note(hold(1, 10, 100), 7)
    };
    noted(&*store, last.clone()).await.expect("notes");
    let stands = job(&*store, 1).await;
    assert!(stands.done && stands.held_until.is_none());
    assert!(noted(&*store, last).await.is_err());
    let taken = store.hold_job(hold(1, 10, 500), Millis(400)).await;
    assert!(!taken.expect("asks"));
    store
        .begin_job(&new(2), hold(2, 10, 100))
        .await
        .expect("begins");
    let ids: Vec<Uuid> = (store.jobs(9).await.expect("reads").iter())
        .map(|job| job.new.id)
        .collect();
    assert_eq!(
        ids,
        [Uuid::from_u128(2), Uuid::from_u128(1)],
        "newest first"
    );
    assert_eq!(store.jobs(1).await.expect("reads").len(), 1);
    assert_eq!(store.job(Uuid::from_u128(3)).await.expect("reads"), None);
}

pub async fn a_rebuild_ends_what_was_under_way(home: &dyn Home) {
    let store = begun(home).await;
    let rebuilding = home.rebuild_in(birth(), NAMESPACE).await.expect("opens");
    let under_way = UnderWay {
        origin: Origin::Store,
        placed: false,
    };
    let refused = async |at| match noted(&*store, note(hold(1, 10, 100), at)).await {
        Err(StoreError::Mismatch(why)) => why,
        other => panic!("{other:?}"),
    };
    rebuilding.begin(under_way).await.expect("begins");
    assert!(refused(5).await.contains("is being rebuilt"));
    let same = store.same().await;
    assert!(matches!(same, Err(StoreError::Mismatch(_))), "{same:?}");
    let begin = store.begin_job(&new(2), hold(2, 10, 100)).await;
    assert!(matches!(begin, Err(StoreError::Mismatch(_))), "{begin:?}");
    rebuilding.finish().await.expect("finishes");
    noted(&*store, note(hold(1, 10, 100), 6))
        .await
        .expect("the same life");
    store.same().await.expect("the same life");
    let rebirth = Rebirth {
        birth: birth(),
        epoch: 2,
        emptied: [].into(),
        keep_positions: true,
    };
    rebuilding.rebirth(&rebirth).await.expect("begins anew");
    assert!(refused(7).await.contains("was rebuilt"));
    let same = store.same().await;
    assert!(matches!(same, Err(StoreError::Mismatch(_))), "{same:?}");
    assert_eq!(job(&*store, 1).await.progress, "at 6");
    assert_ne!(
        job(&*store, 1).await.life.1,
        2,
        "it tells the life it was of"
    );
}

fn answer(who: &Account, what: u8, at: i64) -> Answer {
    Answer {
        question: Question {
            account: who.clone(),
            what: [what; 16],
        },
        at: Millis(at),
        sealed: format!("sealed {at}").into_bytes(),
    }
}

async fn told(store: &dyn Operate, asked: &[Answer], since: i64) -> Vec<Option<i64>> {
    let asked: Vec<Question> = asked.iter().map(|a| a.question.clone()).collect();
    let told = store.answers(&asked, Millis(since)).await.expect("reads");
    for (told, asked) in told.iter().zip(&asked) {
        assert!(told.as_ref().is_none_or(|t| t.question == *asked));
    }
    told.into_iter().map(|t| t.map(|t| t.at.0)).collect()
}

pub async fn answers_are_good_for_their_time(home: &dyn Home) {
    open(home).await;
    let store = operate(home).await;
    let (one, two) = (account(1), account(2));
    let asked = [answer(&one, 1, 0), answer(&two, 1, 0), answer(&one, 2, 0)];
    store.keep_answers(&[]).await.expect("keeps nothing");
    assert_eq!(told(&*store, &[], 0).await, []);
    let kept = [
        answer(&one, 1, 100),
        answer(&one, 2, 200),
        // Of two, the later.
        answer(&two, 1, 300),
        answer(&two, 1, 250),
    ];
    store.keep_answers(&kept).await.expect("keeps");
    store
        .keep_answers(&[answer(&one, 2, 150)])
        .await
        .expect("keeps");
    assert_eq!(
        told(&*store, &asked, 0).await,
        [Some(100), Some(300), Some(200)]
    );
    assert_eq!(
        told(&*store, &asked, 200).await,
        [None, Some(300), Some(200)]
    );
    let what = Prune {
        answers_before: Millis(250),
        ..prune_nothing()
    };
    store.prune(what).await.expect("prunes");
    assert_eq!(told(&*store, &asked, 0).await, [None, Some(300), None]);
}

pub async fn an_erasure_takes_answers_away(home: &dyn Home) {
    let store = open(home).await;
    let (gone, other) = (account(1), account(2));
    let rows = vec![row(&gone), row(&other)];
    put(&*store, rows, vec![]).await;
    let operating = operate(home).await;
    let keep = async |who: &Account, at| {
        let kept = operating.keep_answers(&[answer(who, 1, at)]).await;
        kept.expect("keeps");
    };
    let asked = [answer(&gone, 1, 0), answer(&other, 1, 0)];
    keep(&gone, 100).await;
    keep(&other, 100).await;
    let erase = Changes {
        erased: vec![gone.clone()],
        tombstones: vec![tombstone(&gone, 200)],
        ..Changes::default()
    };
    apply(&*store, &Batch::default(), erase).await;
    assert_eq!(told(&*operating, &asked, 0).await, [None, Some(100)]);
    keep(&gone, 150).await;
    assert_eq!(told(&*operating, &asked, 0).await, [None, Some(100)]);
    // Of the next life.
    keep(&gone, 300).await;
    assert_eq!(told(&*operating, &asked, 0).await, [Some(300), Some(100)]);
}
