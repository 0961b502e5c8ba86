//! A company whose official account and one mini program take logins before they are bound to its Open
//! Platform account. Its other mini program was bound from the beginning.

use crate::fleet::{Process, texts};
use crate::harness::{account, ago, now};
use crate::site::{Site, behind, links, records, tables};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Row};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use unilink::clock::{self, Clock};
use unilink::model::{Account, AppKind, Erasure, EventId, Millis, present};
use unilink::simulate::{AppNo, AppSpec, Manner, Settings, World};
use unilink::wire::{ErasureWire, Signer};

/// People whom the list of followers is made of.
pub const PEOPLE: u64 = 1_500;
/// Enough for a job to be killed between any two of its chunks: none reaches past its partition.
const PARTITIONS: &str = "logins_partitions = 12\n";
/// Early logins that are posted before it is waited for them: a code must not grow old in the backlog.
const WAVE: u64 = 3_000;

pub struct Company {
    pub site: Site,
    /// How far WeChat's clock is ahead.
    ahead: Arc<AtomicI64>,
    late: [AppNo; 2],
    bound: AppNo,
    /// The configuration with all bindings.
    full: String,
    /// When the late ones begin in it.
    since: String,
    jobs: u32,
}

/// Logins of a story.
pub fn logins() -> u64 {
    let said = std::env::var("UNILINK_REPLAY_LOGINS").ok();
    said.map_or(400, |n| n.parse().unwrap())
}

/// Until the apps are bound, by WeChat's clock: longer than the early logins take.
fn bound_after() -> Duration {
    Duration::from_secs(600 + logins() / 30)
}

fn ms(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap()
}

impl Company {
    pub async fn new(services: Option<(&str, &str)>) -> Self {
        let ahead: Arc<AtomicI64> = Arc::default();
        let clock: Clock = {
            let ahead = Arc::clone(&ahead);
            Arc::new(move || clock::now().plus(ahead.load(Ordering::Relaxed)))
        };
        let late = now().plus(ms(bound_after()));
        let app = |kind, bound_since| AppSpec {
            kind,
            platform: Some(0),
            bound_since,
        };
        let apps = [
            app(AppKind::OfficialAccount, late),
            app(AppKind::MiniProgram, late),
            app(AppKind::MiniProgram, Millis(0)),
        ];
        let mut world = World::build(7, &["main"], &apps).unwrap();
        world.blocked_share = 0.0;
        world.follower_share = 0.5;
        let settings = Settings {
            remember_codes: true,
            people: PEOPLE,
            ..Settings::default()
        };
        let mut site = Site::of(services, world, settings, clock, PARTITIONS).await;
        let numbers: Vec<AppNo> = site.sim.world().numbers().collect();
        let full = site.config.clone();
        site.config = unbound(&full, &late.to_string());
        site.configure();
        site.patience += Duration::from_millis(10 * logins());
        Self {
            site,
            ahead,
            late: [numbers[0], numbers[1]],
            bound: numbers[2],
            full,
            since: late.to_string(),
            jobs: 0,
        }
    }

    pub fn official(&self) -> String {
        self.id(self.late[0])
    }

    pub fn mini(&self) -> String {
        self.id(self.late[1])
    }

    fn id(&self, app: AppNo) -> String {
        self.site.sim.world().app(app).unwrap().id.to_string()
    }

    fn openid(&self, person: u64, app: AppNo) -> String {
        self.site.sim.world().openid_text(person, app)
    }

    /// How many of the people follow the official account.
    pub fn followers(&self, people: u64) -> u64 {
        let follow = |person: &u64| self.site.sim.follows(*person, self.late[0]);
        (0..people).filter(follow).count() as u64
    }

    /// Everybody comes to both apps; every third also to the one that is bound, with a unionid.
    pub async fn early_logins(&self, people: u64) {
        let manner = Manner {
            unionid: true,
            snapshot: false,
        };
        let mut events = Vec::new();
        for person in 0..people {
            let minutes = i64::try_from(person % 5).unwrap();
            events.push(
                json!({"id": format!("early-o{person}"), "occurred_at": ago(minutes),
                "appid": self.official(), "openid": self.openid(person, self.late[0])}),
            );
            let session = self.site.sim.login(self.late[1], person, manner).unwrap();
            events.push(
                json!({"id": format!("early-m{person}"), "occurred_at": ago(0),
                "appid": self.mini(), "code": self.site.sim.code(&session)}),
            );
            if person % 3 == 0 {
                events.push(
                    json!({"id": format!("early-b{person}"), "occurred_at": ago(minutes),
                    "appid": self.id(self.bound), "openid": self.openid(person, self.bound),
                    "unionid": self.site.sim.world().unionid_text(person, self.bound)}),
                );
            }
            if events.len() >= 300 {
                self.site.accepted(&std::mem::take(&mut events)).await;
            }
            if person % WAVE == WAVE - 1 {
                self.published().await;
            }
        }
        self.site.accepted(&events).await;
    }

    /// A table of accounts of the bound app, with unionids, is imported.
    pub async fn imported(&self, accounts: u32) {
        let app = self.id(self.bound);
        let row = |n| format!("{app},oImported{n},uImported{n},2020-01-31T08:00:00Z\n");
        let table: String = (0..accounts).map(row).collect();
        let path = self.site.fleet.dir.path().join("accounts.csv");
        std::fs::write(
            &path,
            format!("appid,openid,unionid,first_seen_at\n{table}"),
        )
        .unwrap();
        let path = path.to_str().unwrap();
        self.site.fleet.done(&["import", path, "--yes"]).await;
    }

    /// A code that was too old when it came.
    pub async fn dead_code(&self, id: &str) {
        self.site
            .accepted(&[
                json!({"id": id, "occurred_at": ago(20), "appid": self.mini(),
            "code": "0a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P"}),
            ])
            .await;
    }

    /// The apps are bound, and the configuration says so.
    pub fn bound_at_last(&mut self) {
        let ahead = bound_after() + Duration::from_secs(60);
        self.ahead.store(ms(ahead), Ordering::Relaxed);
        self.site.config = self.full.replace(&self.since, &now().to_string());
        self.site.configure();
    }

    /// The secrets of the late apps are wrong; the configuration as it was.
    pub fn wrong_secrets(&mut self) -> String {
        let mut config = self.site.config.clone();
        for app in self.late {
            let secret = &self.site.sim.world().app(app).unwrap().secret;
            config = config.replace(secret, &"f".repeat(secret.len()));
        }
        let correct = std::mem::replace(&mut self.site.config, config);
        self.site.configure();
        correct
    }

    /// Codes of people who were not there before.
    pub async fn fresh_codes(&self, people: u64) {
        let manner = Manner {
            unionid: true,
            snapshot: false,
        };
        let events = (500..500 + people).map(|person| {
            let session = self.site.sim.login(self.late[1], person, manner).unwrap();
            json!({"id": format!("fresh-m{person}"), "occurred_at": ago(0),
                "appid": self.mini(), "code": self.site.sim.code(&session)})
        });
        self.site.accepted(&events.collect::<Vec<_>>()).await;
    }

    pub fn correct(&mut self, config: &str) {
        config.clone_into(&mut self.site.config);
        self.site.configure();
    }

    /// The mini program's people come again.
    pub async fn next_logins(&self, people: u64) {
        let app = self.late[1];
        let events = (0..people).map(|person| {
            let unionid = self.site.sim.world().unionid_text(person, app);
            json!({"id": format!("next-m{person}"), "occurred_at": ago(0), "appid": self.mini(),
                "openid": self.openid(person, app), "unionid": unionid})
        });
        self.site.accepted(&events.collect::<Vec<_>>()).await;
    }

    /// Logins that nobody has read yet.
    pub async fn unfinished(&self, people: u64) -> Vec<Account> {
        let parts = self.site.parts().await;
        let mut published = Vec::new();
        let mut accounts = Vec::new();
        for person in 0..people {
            let openid = format!("oWaiting{person}");
            let event = json!({"id": format!("waiting-{person}"), "occurred_at": ago(0),
                "appid": self.official(), "openid": openid});
            accounts.push(account(&self.official(), &openid));
            published.push(unilink::bus::Record {
                topic: Arc::clone(&parts.config.topics.logins),
                key: format!("{}:{openid}", self.official()).into_bytes(),
                value: Some(event.to_string().into_bytes()),
                headers: vec![(
                    "ce_type".to_owned(),
                    unilink::wire::event::types::LOGIN.as_bytes().to_vec(),
                )],
                partition: None,
            });
        }
        parts.bus.publish(published).await.unwrap();
        accounts
    }

    /// Erases a follower's account; its openid.
    pub async fn erase_a_follower(&self, people: u64) -> String {
        let follow = |person: &u64| self.site.sim.follows(*person, self.late[0]);
        let person = (0..people).find(follow).unwrap();
        let openid = self.openid(person, self.late[0]);
        let parts = self.site.parts().await;
        let operator = parts.keys.operators.last().unwrap();
        let signer = Signer::new(&operator.id, &operator.key);
        let erasure = Erasure {
            account: account(&self.official(), &openid),
            erased_at: now(),
            cause: EventId::parse("erase-a-follower").unwrap(),
        };
        let record = ErasureWire::to_record(&erasure, &parts.topics(), "test", &signer);
        parts.bus.publish(vec![record]).await.unwrap();
        openid
    }

    /// A backfill to its end, as JSON.
    pub async fn backfill(&self, args: &[&str]) -> Value {
        let official = self.official();
        let common = ["backfill", "--json", "--full-speed", "--app", &official];
        self.counts(&[&common, args].concat()).await
    }

    /// Everybody who follows is there, with a unionid, since they came to follow or before; of those who
    /// do not follow, whoever logged in.
    pub async fn all_followers_are_there(&self, logged_in: u64, erased: &str) {
        let parts = self.site.parts().await;
        for person in 0..PEOPLE {
            let openid = self.openid(person, self.late[0]);
            let who = [account(&self.official(), &openid)];
            let found = parts.store.find_accounts(&who).await.unwrap().remove(0);
            let follows = self.site.sim.follows(person, self.late[0]);
            let there = openid != erased && (follows || person < logged_in);
            assert_eq!(found.is_some(), there, "person {person}");
            let Some(found) = found else { continue };
            let shown = present(&found.row, &found.claims, &parts.apps);
            assert_eq!(shown.unionid.is_some(), follows, "person {person}");
            let old = found.row.first_seen_at < now().plus(-365 * 86_400_000);
            assert_eq!(
                old,
                person >= logged_in,
                "person {person}: {:?}",
                found.row.first_seen_at
            );
        }
    }

    /// A replay to its end, as JSON.
    pub async fn replay(&self, args: &[&str]) -> Value {
        let args = [&["replay", "--json", "--full-speed"], args].concat();
        self.counts(&args).await
    }

    pub async fn counts(&self, args: &[&str]) -> Value {
        let output = self.site.fleet.run(args).await;
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{args:?}: {out}{err}");
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["dry_run"], args.contains(&"--dry-run"));
        told["counts"].clone()
    }

    /// A command that is left alone.
    pub fn begin(&mut self, args: &[&str]) -> Process {
        self.jobs += 1;
        let name = format!("job-{}", self.jobs);
        self.site.fleet.start(&name, args, &[])
    }

    /// The newest job, once it has begun.
    pub async fn job(&self, kind: &str, of: &Process) -> String {
        let begun = Instant::now();
        loop {
            let list = self.site.fleet.done(&[kind, "--list"]).await;
            if let Some((id, _)) = list.split_once(' ') {
                return id.to_owned();
            }
            assert!(begun.elapsed() < self.site.patience, "{}", of.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn calls(&self, path: &str) -> u64 {
        let stats = self.site.sim.stats();
        let apps = stats.apps.values();
        apps.filter_map(|apis| apis.get(path))
            .map(|api| api.calls)
            .sum()
    }

    /// Waits until everything that was changed is published.
    pub async fn published(&self) {
        let parts = self.site.parts().await;
        let begun = Instant::now();
        while behind(&parts).await {
            assert!(
                begun.elapsed() < self.site.patience,
                "does not get published"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every row of the store's own tables (on the embedded profile), but for those of jobs.
    pub async fn rows(&self) -> BTreeMap<String, Vec<String>> {
        let mut file = self.site.raw().await;
        let mut all = BTreeMap::new();
        for table in tables(&mut file, "NOT LIKE 'log_%'").await {
            if ["jobs", "audits", "answers"].contains(&table.as_str()) {
                continue;
            }
            let columns = format!("SELECT name FROM pragma_table_info('{table}')");
            let columns = sqlx::query(AssertSqlSafe(columns))
                .fetch_all(&mut file)
                .await;
            let columns: Vec<String> = (columns.unwrap().iter())
                .map(|row| format!("quote(\"{}\")", row.get::<String, _>(0)))
                .collect();
            let columns = columns.join(" || ',' || ");
            let rows = format!("SELECT {columns} FROM {table} ORDER BY 1");
            let rows = sqlx::query(AssertSqlSafe(rows)).fetch_all(&mut file).await;
            let rows = rows.unwrap().iter().map(|row| row.get(0)).collect();
            all.insert(table, rows);
        }
        file.close().await.unwrap();
        all
    }

    /// Records on `account-links`.
    pub async fn told(&self) -> u64 {
        links(&self.site.parts().await).await.len() as u64
    }

    pub async fn dead(&self) -> u64 {
        let parts = self.site.parts().await;
        records(&parts, &parts.config.topics.dlq).await.len() as u64
    }

    /// The revision of each account.
    pub async fn revisions(&self) -> BTreeMap<String, u64> {
        let parts = self.site.parts().await;
        let known = crate::site::accounts(&parts).await;
        let found = parts.store.find_accounts(&known).await.unwrap();
        let rows = known.iter().zip(found);
        rows.filter_map(|(who, found)| Some((who.key(), found?.row.revision)))
            .collect()
    }

    /// How many accounts changed, each of them once.
    pub fn changed_by_one(
        &self,
        before: &BTreeMap<String, u64>,
        after: &BTreeMap<String, u64>,
    ) -> u64 {
        assert_eq!(before.len(), after.len(), "a replay made or lost accounts");
        let mut changed = 0;
        for (who, revision) in after {
            assert!(*revision <= before[who] + 1, "{who} changed twice");
            changed += revision - before[who];
        }
        changed
    }

    pub async fn found(&self, who: &Account) -> Option<Option<String>> {
        let parts = self.site.parts().await;
        let who = std::slice::from_ref(who);
        let found = parts.store.find_accounts(who).await.unwrap().remove(0)?;
        let shown = present(&found.row, &found.claims, &parts.apps);
        Some(shown.unionid.map(|u| u.as_str().to_owned()))
    }

    /// Followers have their unionid and share their user with the bound app's account; others have none.
    pub async fn linked_as_followed(&self, people: u64) {
        let parts = self.site.parts().await;
        let world = self.site.sim.world();
        for person in 0..people {
            let who = [
                account(&self.official(), &self.openid(person, self.late[0])),
                account(&self.id(self.bound), &self.openid(person, self.bound)),
            ];
            let found = parts.store.find_accounts(&who).await.unwrap();
            let official = found[0].as_ref().unwrap();
            let shown = present(&official.row, &official.claims, &parts.apps);
            let unionid = shown.unionid.map(|u| u.as_str().to_owned());
            let follows = self.site.sim.follows(person, self.late[0]);
            let truth = world.unionid_text(person, self.late[0]);
            assert_eq!(unionid, truth.filter(|_| follows), "person {person}");
            if let Some(bound) = &found[1] {
                let same = bound.row.user == official.row.user;
                assert_eq!(same, follows, "person {person}");
            }
        }
    }

    /// Everybody of the mini program has their unionid.
    pub async fn mini_linked(&self, people: u64) {
        let parts = self.site.parts().await;
        let openid = |person| self.openid(person, self.late[1]);
        let who: Vec<Account> = (0..people)
            .map(|person| account(&self.mini(), &openid(person)))
            .collect();
        let found = parts.store.find_accounts(&who).await.unwrap();
        for (person, found) in (0..people).zip(found) {
            let found = found.unwrap();
            let shown = present(&found.row, &found.claims, &parts.apps);
            let unionid = shown.unionid.map(|u| u.as_str().to_owned());
            let truth = self.site.sim.world().unionid_text(person, self.late[1]);
            assert_eq!(unionid, truth, "person {person}");
        }
    }

    /// A place on the login topic where a record is.
    pub async fn a_record(&self) -> (u32, i64) {
        let parts = self.site.parts().await;
        let all = records(&parts, &parts.config.topics.logins).await;
        (all[0].partition, all[0].offset)
    }
}

/// The configuration without the bindings that begin at `late`.
fn unbound(full: &str, late: &str) -> String {
    let mut text = String::new();
    for block in full.split("[[apps.platforms]]") {
        let late = block.contains(&format!("since = \"{late}\""));
        match block.split_once("\n\n").filter(|_| late) {
            Some((_, rest)) => text.push_str(rest),
            None if text.is_empty() => text.push_str(block),
            None => {
                text.push_str("[[apps.platforms]]");
                text.push_str(block);
            }
        }
    }
    text
}
