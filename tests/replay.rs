//! Replays, with the real binary beside a live `serve`: accounts of apps that are bound late, a wrong
//! secret that is corrected, and what must never happen (a code sent again, a newer truth undone, erased
//! people back), on the embedded profile and on a real Kafka and PostgreSQL.
//!
//! `UNILINK_REPLAY_LOGINS` says how many logins the stories have (400 if nothing is said).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

#[path = "replay/company.rs"]
mod company;
mod fleet;
mod harness;
mod services;
#[path = "rebuild/site.rs"]
mod site;

use company::{Company, PEOPLE, logins};
use harness::account;
use serde_json::{Value, json};
use std::time::Duration;

fn on_services() -> Option<(&'static str, &'static str)> {
    services::kafka().zip(services::postgres())
}

/// Two apps take logins before they are bound. A dry run says what can be had and at what cost, asks if
/// it is told to, and a replay then does what it said, to the event.
async fn late_binding(services: Option<(&str, &str)>) {
    let mut company = Company::new(services).await;
    let people = logins() / 2;
    let process = company.site.serve().await;
    company.early_logins(people).await;
    company.site.settled(process).await;
    company.bound_at_last();

    let process = company.site.serve().await;
    let (before, told) = (company.revisions().await, company.told().await);
    let followers = company.followers(people);
    let official = company.official();

    // What can be had, as an upper bound: everybody of the official account, and a call for a hundred.
    let counted = company.replay(&["--dry-run"]).await;
    let of_app = &counted["apps"][&official];
    assert_eq!(of_app["askable"], people, "{counted}");
    assert_eq!(of_app["not_asked"]["possible"], people, "{counted}");
    let calls = of_app["would_call"]["user_info"].as_u64().unwrap();
    // Not every batch is full: 515 were counted for 50,000 people.
    let full = people.div_ceil(100);
    assert!(
        (full..=full + 12 + full / 20).contains(&calls),
        "{calls} for {people}"
    );
    assert_eq!(counted["total"]["newly_linked"], 0, "{counted}");
    assert_eq!(company.calls("/cgi-bin/user/info/batchget"), 0);

    // An app that is paused is not asked about, by nobody.
    let app = company.official();
    let pause = ["app", "pause", &app, "--note", "not yet", "--yes"];
    company.site.fleet.done(&pause).await;
    let paused = company.replay(&["--dry-run", "--ask"]).await;
    assert_eq!(
        paused["apps"][&app]["not_asked"]["paused"], people,
        "{paused}"
    );
    assert_eq!(company.calls("/cgi-bin/user/info/batchget"), 0);
    let resume = ["app", "resume", &app, "--note", "now"];
    company.site.fleet.done(&resume).await;

    // Asked, the answers are remembered.
    let asked = company.replay(&["--dry-run", "--ask"]).await;
    assert_eq!(
        asked["apps"][&official]["newly_linked"], followers,
        "{asked}"
    );
    assert_eq!(
        asked["apps"][&official]["unresolved"]["not_following"],
        people - followers
    );
    let spent = company.calls("/cgi-bin/user/info/batchget");
    assert!((1..=calls).contains(&spent), "{spent} of at most {calls}");
    assert_eq!(
        company.revisions().await,
        before,
        "a dry run changed something"
    );
    assert_eq!(company.told().await, told, "a dry run told something");

    let done = company.replay(&[]).await;
    assert_eq!(
        company.calls("/cgi-bin/user/info/batchget"),
        spent,
        "asked twice"
    );
    assert_eq!(
        changes(&done),
        changes(&asked),
        "other than the dry run said"
    );
    assert_eq!(done["total"]["calls"], json!({}), "{done}");
    company.published().await;
    let after = company.revisions().await;
    let changed = company.changed_by_one(&before, &after);
    assert_eq!(
        company.told().await,
        told + changed,
        "told more than was changed"
    );
    company.linked_as_followed(people).await;

    // Once more changes nothing, and publishes nothing.
    let again = company.replay(&[]).await;
    assert_eq!(again["total"]["newly_linked"], 0);
    company.published().await;
    assert_eq!(company.revisions().await, after);
    assert_eq!(company.told().await, told + changed);

    // The mini program's people follow at their next login.
    company.next_logins(people).await;
    company.site.settled(process).await;
    company.mini_linked(people).await;
    let codes = company.site.sim.stats().codes;
    assert_eq!((codes.sent, codes.spent), (people, people), "{codes:?}");
}

/// What a replay says of changes.
fn changes(counts: &Value) -> Vec<Value> {
    let apps = counts["apps"].as_object().unwrap();
    let words = [
        "logins",
        "linked",
        "unresolved",
        "newly_linked",
        "merged",
        "contested",
        "dead",
    ];
    apps.iter()
        .map(|(app, of)| json!([app, words.map(|word| of[word].clone())]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_bound_late_are_linked_as_the_dry_run_said() {
    late_binding(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_bound_late_are_linked_as_the_dry_run_said_on_kafka_and_postgres() {
    if let Some(services) = on_services() {
        late_binding(Some(services)).await;
    }
}

/// What is known already changes no row, and is not told again: also where logins left session keys, and
/// their users' tokens are past their time.
#[tokio::test(flavor = "multi_thread")]
async fn from_the_beginning_it_writes_nothing() {
    let mut company = Company::new(None).await;
    let process = company.site.serve().await;
    company.early_logins(60).await;
    company.dead_code("too-late").await;
    company.site.settled(process).await;
    let (before, told, dead) = (
        company.rows().await,
        company.told().await,
        company.dead().await,
    );
    assert!(before["session_keys"].len() >= 60, "{:?}", before.keys());
    for options in [&[][..], &["--only-unresolved"]] {
        let counts = company.replay(options).await;
        assert_eq!(counts["records"], 141, "{counts}");
        assert_eq!(counts["total"]["newly_linked"], 0, "{counts}");
    }
    for (table, rows) in &company.rows().await {
        assert_eq!(before[table], *rows, "{table}");
    }
    let after = (company.told().await, company.dead().await);
    assert_eq!(after, (told, dead), "told again");
}

/// Among logins, what was imported stands in the same partitions, and shifts nobody's numbers.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_imported_is_nobodys_login() {
    let mut company = Company::new(None).await;
    let process = company.site.serve().await;
    company.imported(40).await;
    company.early_logins(60).await;
    company.site.settled(process).await;
    let all = company.replay(&["--dry-run"]).await;
    assert_eq!(all["operator_events"], 40, "{all}");
    for app in [company.official(), company.mini()] {
        let alone = company.replay(&["--dry-run", "--app", &app]).await;
        assert_eq!(all["apps"][&app], alone["apps"][&app], "{all} {alone}");
        assert_eq!(all["apps"][&app]["linked"], 0, "{all}");
    }
}

/// Killed five times and gone on with, it comes to what one run comes to.
async fn killed_and_resumed(services: Option<(&str, &str)>) {
    let mut company = Company::new(services).await;
    let people = logins() / 2;
    let process = company.site.serve().await;
    company.early_logins(people).await;
    company.site.settled(process).await;
    company.bound_at_last();
    let process = company.site.serve().await;
    let said = company.replay(&["--dry-run", "--ask"]).await;
    let records = said["records"].as_u64().unwrap();
    let rate = (records / 24).to_string();

    let mut child = company.begin(&["replay", "--rate", &rate]);
    let id = company.job("replay", &child).await;
    for kill in 0..5u64 {
        tokio::time::sleep(Duration::from_millis(300 + 200 * kill)).await;
        child.signal("KILL");
        child.ended().await;
        let refused = company
            .site
            .fleet
            .refused(&["replay", "--resume", &id], 1)
            .await;
        assert!(refused.contains("--take-over"), "{refused}");
        child = company.begin(&["replay", "--resume", &id, "--take-over", "--rate", &rate]);
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    child.signal("KILL");
    child.ended().await;
    let args = ["replay", "--resume", &id, "--take-over", "--json"];
    let done = company.counts(&args).await;
    assert_eq!(done["records"], records, "{done}");
    assert_eq!(
        changes(&done),
        changes(&said),
        "other than one run would do"
    );
    company.published().await;
    company.linked_as_followed(people).await;
    let list = company.site.fleet.done(&["replay", "--list"]).await;
    assert!(list.contains(&id) && list.contains("done"), "{list}");
    let refused = company
        .site
        .fleet
        .refused(&["replay", "--resume", &id], 2)
        .await;
    assert!(refused.contains("--list"), "{refused}");
    company.site.settled(process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_resumed_it_comes_to_the_same() {
    killed_and_resumed(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_resumed_it_comes_to_the_same_on_kafka_and_postgres() {
    if let Some(services) = on_services() {
        killed_and_resumed(Some(services)).await;
    }
}

/// A signal ends it after the batch, and says how to go on; a rebuild ends it for good.
async fn stopped_and_rebuilt(services: Option<(&str, &str)>) {
    let mut company = Company::new(services).await;
    let process = company.site.serve().await;
    company.early_logins(60).await;
    company.site.settled(process).await;
    company.bound_at_last();
    let mut child = company.begin(&["replay", "--rate", "5"]);
    let id = company.job("replay", &child).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    child.signal("INT");
    assert_eq!(child.ended().await.code(), Some(1), "{}", child.logs());
    let logs = child.logs();
    assert!(logs.contains(&format!("--resume {id} --rate 5`")), "{logs}");

    // While one is at work, the store is rebuilt under it.
    let mut child = company.begin(&["replay", "--resume", &id[..8], "--rate", "5"]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let plan = company
        .site
        .fleet
        .done(&["rebuild", "--from", "topics", "--dry-run"])
        .await;
    assert!(plan.contains("1 jobs"), "{plan}");
    let rebuild = ["rebuild", "--from", "topics", "--yes"];
    company.site.fleet.done(&rebuild).await;
    assert_eq!(child.ended().await.code(), Some(1), "{}", child.logs());
    let logs = child.logs();
    assert!(logs.contains("rebuilt"), "{logs}");
    let args = ["replay", "--resume", &id, "--take-over"];
    let refused = company.site.fleet.refused(&args, 1).await;
    assert!(refused.contains("rebuilt"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_it_says_how_to_go_on_and_a_rebuild_ends_it() {
    stopped_and_rebuilt(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_it_says_how_to_go_on_and_a_rebuild_ends_it_on_kafka_and_postgres() {
    if let Some(services) = on_services() {
        stopped_and_rebuilt(Some(services)).await;
    }
}

/// A wrong secret: what could not be asked is told apart, dead codes are named, and once it is
/// corrected another run asks the rest. Erased people stay away.
#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_asked_is_asked_by_another_run_and_the_erased_stay_away() {
    let mut company = Company::new(None).await;
    let official = company.official();
    let process = company.site.serve().await;
    company.early_logins(30).await;
    company.dead_code("too-late").await;
    company.site.settled(process).await;
    company.bound_at_last();
    let erased = company.erase_a_follower(30).await;
    let correct = company.wrong_secrets();

    // Codes that come now wait, unsent but for the one that is refused.
    let mut process = company.site.serve().await;
    company.fresh_codes(3).await;
    company.published().await;
    process.stopped().await;
    let sent = company.site.sim.stats().codes.sent;
    let told = company.told().await;
    let refused = company.replay(&["--app", &official]).await;
    let of_app = &refused["apps"][&official];
    assert_eq!(of_app["not_asked"]["refused"], 29, "{refused}");
    assert_eq!(of_app["void"], 1, "{refused}");
    assert_eq!(of_app["newly_linked"], 0, "{refused}");
    assert_eq!(refused["apps"].as_object().unwrap().len(), 1, "{refused}");

    company.correct(&correct);
    let followers = company.followers(30) - 1;
    let done = company.replay(&[]).await;
    let of_app = &done["apps"][&official];
    assert_eq!(of_app["newly_linked"], followers, "{done}");
    assert_eq!(of_app["void"], 1, "{done}");
    let mini = company.mini();
    assert_eq!(done["apps"][&mini]["unanswered"], 4, "{done}");
    assert_eq!(
        company.site.sim.stats().codes.sent,
        sent,
        "a replay sent a code"
    );
    let process = company.site.serve().await;
    company.site.settled(process).await;
    assert_eq!(company.found(&account(&official, &erased)).await, None);
    let dead = company.dead().await;
    assert_eq!(dead, 1, "a replay wrote a dead letter");
    assert!(company.told().await > told);
    // What waited went on by itself.
    let codes = company.site.sim.stats().codes;
    assert_eq!(codes.spent, 33, "{codes:?}");
}

/// What the workers have not finished is left to them; ranges and filters are kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_keeps_to_its_range_and_behind_the_workers() {
    let mut company = Company::new(None).await;
    let official = company.official();
    let process = company.site.serve().await;
    company.early_logins(20).await;
    company.site.settled(process).await;
    company.bound_at_last();
    // The intake takes more while no worker runs.
    let waiting = company.unfinished(15).await;
    let output = company
        .site
        .fleet
        .run(&["replay", "--json", "--app", &official])
        .await;
    let (out, err) = fleet::texts(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(err.contains("left to the workers"), "{err}");
    assert!(err.contains("no worker runs"), "{err}");
    let counts: Value = serde_json::from_str(&out).unwrap();
    let logins = &counts["counts"]["apps"][&official]["logins"];
    assert_eq!(*logins, 20, "{counts}");
    for who in &waiting {
        assert_eq!(
            company.found(who).await,
            None,
            "replayed before it was read"
        );
    }
    // By time, nothing before tomorrow; by offset, one record.
    let none = company.replay(&["--to", "1000d"]).await;
    assert_eq!(none["records"], 0);
    let (partition, first) = company.a_record().await;
    let one = format!("{partition}:{first}-{}", first + 1);
    let one = company.replay(&["--offsets", &one]).await;
    assert_eq!(one["records"], 1, "{one}");
    let aside = company
        .replay(&["--only-unresolved", "--app", &official])
        .await;
    let followers = company.followers(20);
    assert_eq!(aside["apps"][&official]["left_aside"], followers, "{aside}");
    let process = company.site.serve().await;
    company.site.settled(process).await;
}

/// Accounts that have no unionid are asked about, then everybody who follows, known or not; killed and
/// gone on with, it comes to the same, and the erased stay away.
async fn backfilled(services: Option<(&str, &str)>) {
    let mut company = Company::new(services).await;
    let official = company.official();
    let process = company.site.serve().await;
    company.early_logins(40).await;
    company.site.settled(process).await;
    company.bound_at_last();
    let erased = company.erase_a_follower(40).await;
    let process = company.site.serve().await;
    company.site.settled(process).await;
    let told = company.told().await;

    let counted = company.backfill(&["--dry-run"]).await;
    assert_eq!(counted["apps"][&official]["askable"], 39, "{counted}");
    assert_eq!(counted["apps"][&official]["would_call"]["user_info"], 1);
    assert_eq!(company.calls("/cgi-bin/user/info/batchget"), 0);
    let asked = company
        .backfill(&["--followers", "--dry-run", "--ask"])
        .await;
    let of_app = &asked["apps"][&official];
    let (all, known) = (company.followers(PEOPLE), company.followers(40));
    assert_eq!(of_app["newly_linked"], all - 1, "{asked}");
    assert_eq!(of_app["new_accounts"], all - known, "{asked}");
    assert_eq!(of_app["void"], 1, "{asked}");
    assert_eq!(asked["records"], 39 + all, "{asked}");
    assert_eq!(company.told().await, told, "a dry run told something");
    let spent = company.calls("/cgi-bin/user/info/batchget");

    let begin = [
        "backfill",
        "--app",
        &official,
        "--followers",
        "--rate",
        "300",
    ];
    let mut child = company.begin(&begin);
    let id = company.job("backfill", &child).await;
    for kill in 0..3u64 {
        tokio::time::sleep(Duration::from_millis(900 + 300 * kill)).await;
        child.signal("KILL");
        child.ended().await;
        let on = ["backfill", "--resume", &id, "--take-over", "--rate", "300"];
        child = company.begin(&on);
    }
    child.signal("KILL");
    child.ended().await;
    let done = company
        .counts(&[
            "backfill",
            "--resume",
            &id,
            "--take-over",
            "--json",
            "--full-speed",
        ])
        .await;
    assert_eq!(done["records"], asked["records"], "{done}");
    assert_eq!(
        changes(&done),
        changes(&asked),
        "other than the dry run said"
    );
    assert_eq!(
        company.calls("/cgi-bin/user/info/batchget"),
        spent,
        "asked twice"
    );
    let process = company.site.serve().await;
    company.site.settled(process).await;
    company.all_followers_are_there(40, &erased).await;

    // Of a mini program WeChat tells nothing: it says so.
    let mini = company.mini();
    let said = company.site.fleet.done(&["backfill", "--app", &mini]).await;
    assert!(
        said.contains("40 accounts") && said.contains("next login"),
        "{said}"
    );
    for (args, remedy) in [
        (&["--app", &mini, "--followers"][..], "no official account"),
        (&["--app", &official, "--no-ask"], "leave --no-ask away"),
        (&[], "--app"),
        (&["--resume", &id], "done"),
        (&["--resume", &id, "--followers"], "leave --app"),
        (&["--app", &official, "--dry-run", "--again"], "--ask"),
    ] {
        let args = [&["backfill"], args].concat();
        let told = company.site.fleet.refused(&args, 2).await;
        assert!(told.contains(remedy), "{args:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_is_found_and_who_was_erased_is_not() {
    backfilled(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_is_found_and_who_was_erased_is_not_on_kafka_and_postgres() {
    if let Some(services) = on_services() {
        backfilled(Some(services)).await;
    }
}

/// Every wrong use says what would be right.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_use_is_refused_with_the_remedy() {
    let company = Company::new(None).await;
    let fleet = &company.site.fleet;
    for (args, remedy) in [
        (&["--from", "yesterday"][..], "36h"),
        (&["--offsets", "0:5"], "0:100-250"),
        (
            &["--from", "1d", "--offsets", "0:5-6"],
            "cannot be used with",
        ),
        (&["--app", "wxnobody"], "there are wx"),
        (&["--ask"], "--dry-run"),
        (&["--dry-run", "--again"], "--ask"),
        (&["--dry-run", "--ask", "--no-ask"], "cannot be used with"),
        (&["--take-over"], "--resume"),
        (&["--rate", "0"], "1.."),
        (&["--resume", "00", "--app", "x"], "leave the range"),
    ] {
        let told = fleet.refused(&[&["replay"], args].concat(), 2).await;
        assert!(told.contains(remedy), "{args:?}: {told}");
    }
    let nobody = [("LOGNAME", "")];
    let output = fleet.run_with(&["replay"], &nobody).await;
    assert_eq!(output.status.code(), Some(2));
    // No store, no services: that is no wrong use.
    let told = fleet.refused(&["replay"], 1).await;
    assert!(told.contains("no store"), "{told}");
    let away = [
        ("UNILINK_STORE__URL", "postgres://u:p@127.0.0.1:1/none"),
        ("UNILINK_BUS__URL", "kafka://127.0.0.1:1"),
        ("UNILINK_SEAL__KEY_FILE", "away.keys"),
    ];
    fleet.done(&["keys", "new", "away.keys"]).await;
    let output = fleet.run_with(&["replay", "--dry-run"], &away).await;
    let (_, err) = fleet::texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let mut company = company;
    let process = company.site.serve().await;
    for (args, remedy) in [
        (&["--resume", "77"][..], "--list"),
        (&["--from", "1d", "--to", "2d"], "before"),
        (&["--offsets", "99:0-5"], "partitions"),
    ] {
        let args = [&["replay"], args].concat();
        let told = company.site.fleet.refused(&args, 2).await;
        assert!(told.contains(remedy), "{args:?}: {told}");
    }
    company.site.settled(process).await;
}
