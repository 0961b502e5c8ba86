//! People who log in at a steady rate, through the real intake.

use crate::harness::Rig;
use serde_json::json;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use unilink::clock;
use unilink::simulate::{AppNo, Event, Manner, Population, Simulator};

/// Events are posted so often, those of one tick in one request.
const TICK: Duration = Duration::from_millis(20);

/// The people so far, and what became of their posts.
pub struct Crowd {
    pub population: Population,
    sim: Arc<Simulator>,
    people: u64,
    next: VecDeque<Event>,
    /// When each event was posted for the first time, in ms since the epoch.
    pub posted: HashMap<String, i64>,
    /// The app of each.
    pub apps: HashMap<String, String>,
    /// Those that the intake refused, as it should.
    pub refused: HashSet<String>,
}

impl Crowd {
    pub fn gather(population: Population, sim: &Arc<Simulator>) -> Self {
        Self {
            population,
            sim: Arc::clone(sim),
            people: 0,
            next: VecDeque::new(),
            posted: HashMap::new(),
            apps: HashMap::new(),
            refused: HashSet::new(),
        }
    }

    /// Who has logged in, all of each one's logins.
    pub fn people(&self) -> u64 {
        self.people
    }

    pub fn accepted(&self) -> usize {
        self.posted.len()
    }

    /// Posts at least so many events, so many a second; whoever has begun is let finish.
    pub async fn post(&mut self, rig: &Rig, events: usize, rate: u32) {
        let mut requests = JoinSet::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let each = (rate as usize * 20).div_ceil(1_000);
        let mut left = events;
        while left > 0 || !self.next.is_empty() {
            ticks.tick().await;
            let (mut good, mut bad) = (Vec::new(), Vec::new());
            for _ in 0..each {
                if self.next.is_empty() && left > 0 {
                    self.somebody_comes();
                }
                let Some(event) = self.next.pop_front() else {
                    break;
                };
                left = left.saturating_sub(1);
                if event.refused_at_intake {
                    self.refused.insert(event.id.clone());
                    bad.push(event);
                } else {
                    let now = clock::system()().0;
                    self.posted.entry(event.id.clone()).or_insert(now);
                    self.apps.insert(event.id.clone(), event.appid.clone());
                    good.push(event);
                }
            }
            for (events, want) in [(good, 202), (bad, 422)] {
                if !events.is_empty() {
                    requests.spawn(send(rig, &events, want));
                }
            }
            while let Some(done) = requests.try_join_next() {
                done.unwrap();
            }
        }
        requests.join_all().await;
    }

    fn somebody_comes(&mut self) {
        while self.next.is_empty() {
            self.next
                .extend(self.population.events(self.people, &self.sim));
            self.people += 1;
        }
    }
}

fn send(rig: &Rig, events: &[Event], want: u16) -> impl Future<Output = ()> + use<> {
    let mut body = Vec::new();
    for event in events {
        body.extend(event.json().unwrap());
        body.push(b'\n');
    }
    let request = rig.http.post(rig.intake_url("/v1/logins"));
    let request = request.header("content-type", "application/x-ndjson");
    let request = request.body(body);
    async move {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        assert_eq!(status, want, "{}", answer.text().await.unwrap());
    }
}

/// So many people log in with a code, spread over the world's apps, as fast as the intake takes them.
pub async fn codes(rig: &Rig, logins: u32) {
    let manner = Manner {
        unionid: true,
        snapshot: false,
    };
    let apps: Vec<_> = rig.sim.world().numbers().collect();
    let mut body = Vec::new();
    for n in 0..logins {
        let app = apps[n as usize % apps.len()];
        let session = rig.sim.login(app, u64::from(n), manner).unwrap();
        let event = json!({
            "id": format!("code-{n}"),
            "occurred_at": session.at.to_string(),
            "appid": rig.sim.world().app(app).unwrap().id.as_str(),
            "code": rig.sim.code(&session),
        });
        body.extend(serde_json::to_vec(&event).unwrap());
        body.push(b'\n');
        if n % 500 == 499 || n + 1 == logins {
            let (status, answer) = rig
                .post_as("application/x-ndjson", std::mem::take(&mut body))
                .await;
            assert_eq!(status, 202, "{answer}");
        }
    }
}

/// The person pays in the mini program; the login shows the openid and the payment's number.
pub async fn pay(rig: &Rig, app: AppNo, person: u64) {
    let account = rig.sim.world().account(person, app).unwrap();
    let payment = rig.sim.paid_at(app, person, rig.sim.now()).unwrap();
    rig.accept(&json!({
        "id": format!("paid-{person}"),
        "occurred_at": rig.sim.now().to_string(),
        "appid": account.app.as_str(),
        "openid": account.openid.as_str(),
        "transaction_id": payment.transaction_id,
    }))
    .await;
}
