//! What came of the logins, against what the simulator knows to be true and has counted.

use crate::crowd::Crowd;
use crate::harness::{self, DEAD, LINKED, LOGINS, Rig, header, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};
use unilink::cli::assemble::Parts;
use unilink::model::{Account, Millis, Room, UserId, present};
use unilink::simulate::{Api, Found, Simulator, Truth, Verdict};
use unilink::store::FoundUser;

/// People judged at once.
const CHUNK: u64 = 500;

/// What came of all logins.
#[derive(Debug, Default)]
pub struct Outcome {
    verdict: Verdict,
    linked: usize,
    dead: BTreeMap<String, usize>,
    /// They wait for a session key.
    waiting: usize,
    /// On no topic and not waiting.
    lost: Vec<String>,
    /// Dead letters that should be none.
    unexpected: BTreeMap<String, String>,
    #[allow(dead_code, reason = "shown")]
    p99_ms: BTreeMap<String, i64>,
    times: Times,
}

/// From post to linked, in ms, by app; sorted.
#[derive(Default)]
struct Times(BTreeMap<String, Vec<i64>>);

impl std::fmt::Debug for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Outcome {
    /// Nothing lost, nothing wrong.
    pub fn perfect(&self) {
        assert!(self.lost.is_empty(), "lost: {:?}", self.lost);
        assert!(self.unexpected.is_empty(), "dead: {:?}", self.unexpected);
        assert!(self.verdict.perfect(), "{:?}", self.verdict);
        assert!(self.linked > 100, "{}", self.linked);
    }

    pub fn percentile(&self, app: &str, percent: usize) -> i64 {
        let times = &self.times.0[app];
        assert!(times.len() > 50, "{app}: {} times", times.len());
        times[(times.len() - 1) * percent / 100]
    }
}

/// Judges what the product holds. It has stopped.
pub async fn judge(parts: &Parts, sim: &Simulator, crowd: &Crowd) -> Outcome {
    let mut outcome = Outcome::default();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for record in harness::topic(parts, LINKED).await {
        let id = json(&record)["id"].as_str().unwrap().to_owned();
        outcome.linked += 1;
        if let Some(posted) = crowd.posted.get(&id).filter(|_| !seen.contains(&id)) {
            let times = outcome.times.0.entry(crowd.apps[&id].clone()).or_default();
            times.push(record.timestamp - posted);
        }
        seen.insert(id);
    }
    outcome.times.0.values_mut().for_each(|t| t.sort_unstable());
    for (app, times) in &outcome.times.0 {
        let p99 = times[(times.len() - 1) * 99 / 100];
        outcome.p99_ms.insert(app.clone(), p99);
    }
    let dead = dead_letters(parts).await;
    for reason in dead.values() {
        *outcome.dead.entry(reason.clone()).or_default() += 1;
    }
    seen.extend(dead.keys().cloned());
    let far = Millis(i64::MAX / 4);
    loop {
        let due = parts.store.due(far, far.0, &Room::for_any(10_000)).await;
        let due = due.unwrap();
        if due.is_empty() {
            break;
        }
        outcome.waiting += due.len();
        seen.extend(due.iter().map(|row| row.event.as_str().to_owned()));
    }
    let missing = crowd.posted.keys().filter(|id| !seen.contains(*id));
    outcome.lost = missing.cloned().collect();
    against_truth(parts, sim, crowd, dead, &mut outcome).await;
    outcome
}

async fn against_truth(
    parts: &Parts,
    sim: &Simulator,
    crowd: &Crowd,
    mut dead: HashMap<String, String>,
    outcome: &mut Outcome,
) {
    let gone = dead.clone();
    let lost = |event: &str| crowd.refused.contains(event) || gone.contains_key(event);
    let mut person = 0;
    while person < crowd.people() {
        let end = (person + CHUNK).min(crowd.people());
        let truths: Vec<Truth> = (person..end)
            .map(|p| crowd.population.truth(p, sim.world()).unwrap())
            .collect();
        let expected: Vec<Vec<Account>> = truths
            .iter()
            .map(|t| t.accounts(&lost).into_iter().map(|e| e.account).collect())
            .collect();
        let asked: Vec<Account> = expected.iter().flatten().cloned().collect();
        let mut rows = (parts.store.find_accounts(&asked).await.unwrap()).into_iter();
        for (truth, accounts) in truths.iter().zip(&expected) {
            let mut found = Vec::new();
            for row in rows.by_ref().take(accounts.len()).flatten() {
                let shown = present(&row.row, &row.claims, &parts.apps);
                found.push(Found {
                    members: members(parts, row.row.user).await,
                    account: row.row.account,
                    user: row.row.user,
                    unionid: shown.unionid,
                    reason: shown.reason,
                });
            }
            outcome.verdict.add(&truth.judge(&found, &lost));
            for (event, reasons) in truth.dead() {
                // A dead code whose first answer was lost may have been good for all that one knows.
                let fits = |r: &String| reasons.iter().any(|x| x.word() == r) || r == "code_lost";
                if dead.get(event).is_some_and(fits) {
                    dead.remove(event);
                }
            }
        }
        person = end;
    }
    outcome.unexpected = dead.into_iter().collect();
}

async fn members(parts: &Parts, user: UserId) -> Vec<Account> {
    match parts.store.find_user(user).await.unwrap() {
        FoundUser::Is(_, accounts) => accounts.into_iter().map(|a| a.row.account).collect(),
        FoundUser::Gone | FoundUser::Unknown => Vec::new(),
    }
}

/// Reason of every dead letter, by the event's id.
async fn dead_letters(parts: &Parts) -> HashMap<String, String> {
    let mut ids = HashMap::new();
    for record in harness::topic(parts, LOGINS).await {
        let id = json(&record)["id"].as_str().unwrap().to_owned();
        ids.insert((record.partition, record.offset), id);
    }
    let mut dead = HashMap::new();
    for record in harness::topic(parts, DEAD).await {
        let number = |name| header(&record, name).unwrap();
        let partition = number("dlq_partition").parse().unwrap();
        let offset: i64 = number("dlq_offset").parse().unwrap();
        let reason = header(&record, "dlq_reason").unwrap();
        dead.insert(ids[&(partition, offset)].clone(), reason);
    }
    dead
}

/// What `/metrics` tells of calls, by app and API, is what the simulator has counted: once the last call
/// is over, which may go on when nobody waits for it any more.
pub async fn quota_is_reported(rig: &Rig) {
    let begun = Instant::now();
    loop {
        let (reported, counted) = (reported(rig).await, counted(rig));
        if reported == counted && counted.len() > 10 {
            return;
        }
        let told = format!("reported {reported:?}, counted {counted:?}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{told}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Calls by app and API.
type Calls = BTreeMap<(String, String), u64>;

async fn reported(rig: &Rig) -> Calls {
    let text = rig.http.get(rig.api_url("/metrics")).send().await.unwrap();
    let text = text.text().await.unwrap();
    let mut reported = Calls::new();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("unilink_wechat_calls_total{") else {
            continue;
        };
        let (labels, value) = rest.split_once("} ").unwrap();
        let label = |name: &str| {
            let mut labels = labels.split(',').filter_map(|l| l.split_once('='));
            let found = labels.find(|(n, _)| *n == name).unwrap().1;
            found.trim_matches('"').to_owned()
        };
        let calls = reported.entry((label("app"), label("api"))).or_default();
        *calls += value.parse::<u64>().unwrap();
    }
    reported
}

fn counted(rig: &Rig) -> Calls {
    let mut counted = Calls::new();
    for (app, apis) in rig.sim.stats().apps {
        for (path, api) in apis {
            let api_word = word(path).to_owned();
            *counted.entry((app.clone(), api_word)).or_default() += api.calls;
        }
    }
    counted
}

/// The word for an API in metrics, by the path that the simulator counts under.
fn word(path: &str) -> &'static str {
    let api = Api::ALL.into_iter().find(|api| api.path() == path).unwrap();
    match api {
        Api::Code2Session => "jscode2session",
        Api::Oauth => "oauth_access_token",
        Api::OauthUser => "sns_userinfo",
        Api::Token | Api::StableToken => "app_token",
        Api::Follower | Api::FollowerBatch => "user_info",
        Api::CheckSession => "checksession",
        Api::PaidUnionid => "getpaidunionid",
        other => panic!("nobody calls {}", other.path()),
    }
}
