//! After the kills: is everything accepted accounted for, once, and is the state the oracle's?

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of tests"
)]

use crate::harness::{self, CONFLICTS, DEAD, LINKED, LINKS, LOGINS, MERGES, Rig, header, json};
use crate::oracle::{Oracle, Truth, own_id};
use crate::traffic::{Kind, Planned};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use unilink::bus::Stored;
use unilink::cli::assemble::Parts;
use unilink::model::{
    Account, ClaimStatus, EventId, Fact, Millis, NewClaim, PlatformId, Reason, Sighting, UnionId,
    UnionKey, UserId,
};
use unilink::store::FoundUser;
use uuid::Uuid;

/// How often each id stands where.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
struct Count {
    records: usize,
    linked: usize,
    dead: BTreeMap<String, usize>,
    deferred: usize,
}

/// What a reader found on the topics, all of it: partition by partition, in order.
#[derive(PartialEq, Eq)]
pub struct Topics {
    pub logins: Vec<Stored>,
    pub linked: Vec<Stored>,
    pub dead: Vec<Stored>,
    pub links: Vec<Stored>,
    pub merges: Vec<Stored>,
    pub conflicts: Vec<Stored>,
}

impl Topics {
    /// Read through the product's own bus.
    pub async fn read(parts: &Parts) -> Self {
        Self {
            logins: harness::topic(parts, LOGINS).await,
            linked: harness::topic(parts, LINKED).await,
            dead: harness::topic(parts, DEAD).await,
            links: harness::topic(parts, LINKS).await,
            merges: harness::topic(parts, MERGES).await,
            conflicts: harness::topic(parts, CONFLICTS).await,
        }
    }

    /// How many records there are on each.
    pub fn sizes(&self) -> [usize; 6] {
        [
            &self.logins,
            &self.linked,
            &self.dead,
            &self.links,
            &self.merges,
            &self.conflicts,
        ]
        .map(Vec::len)
    }
}

pub struct Judge {
    topics: Topics,
    counts: HashMap<String, Count>,
    planned: HashMap<String, Planned>,
    accepted: HashSet<String>,
    faulty: bool,
    pub linked: usize,
    pub dead: usize,
    pub deferred: usize,
}

impl Judge {
    pub async fn new(
        topics: Topics,
        parts: &Parts,
        planned: &[Planned],
        accepted: &HashSet<String>,
        faulty: bool,
    ) -> Self {
        let mut counts: HashMap<String, Count> = HashMap::new();
        let mut places = HashMap::new();
        for record in &topics.logins {
            let id = json(record)["id"].as_str().unwrap().to_owned();
            counts.entry(id.clone()).or_default().records += 1;
            places.insert((record.partition, record.offset), id);
        }
        for record in &topics.linked {
            let id = json(record)["id"].as_str().unwrap().to_owned();
            counts.entry(id).or_default().linked += 1;
        }
        let mut letters = HashSet::new();
        for record in &topics.dead {
            let number = |name| header(record, name).unwrap().parse::<i64>().unwrap();
            let place = (number("dlq_partition"), number("dlq_offset"));
            assert!(letters.insert(place), "two dead letters of {place:?}");
            let id = &places[&(u32::try_from(place.0).unwrap(), place.1)];
            let reason = header(record, "dlq_reason").unwrap();
            let count = counts.get_mut(id).unwrap();
            *count.dead.entry(reason).or_default() += 1;
        }
        let far = Millis(i64::MAX / 4);
        loop {
            let due = parts
                .store
                .due(far, far.0, &unilink::model::Room::for_any(10_000))
                .await
                .unwrap();
            if due.is_empty() {
                break;
            }
            for row in due {
                let id = places[&(row.partition, row.offset)].clone();
                assert_eq!(id, row.event.as_str());
                counts.get_mut(&id).unwrap().deferred += 1;
            }
        }
        let sum = |of: fn(&Count) -> usize| counts.values().map(of).sum();
        Self {
            linked: sum(|c| c.linked),
            dead: sum(|c| c.dead.values().sum()),
            deferred: sum(|c| c.deferred),
            topics,
            counts,
            planned: planned.iter().map(|p| (p.id.clone(), p.clone())).collect(),
            accepted: accepted.clone(),
            faulty,
        }
    }

    pub fn summary(&self) -> String {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        for (reason, n) in self.counts.values().flat_map(|c| &c.dead) {
            *reasons.entry(reason).or_default() += n;
        }
        let records: usize = self.counts.values().map(|c| c.records).sum();
        format!(
            "{records} records: {} linked, {} dead {reasons:?}, {} waiting",
            self.linked, self.dead, self.deferred
        )
    }

    pub async fn judge(&self, parts: &Parts) {
        self.all_accounted_for();
        self.each_as_it_must();
        self.users_are_the_oracles(parts).await;
        self.revisions_are_gapless(parts).await;
        self.merges_are_flat(parts).await;
    }

    /// Every record of the login topic ended exactly once; what was accepted is on the topic.
    fn all_accounted_for(&self) {
        let on_topic: HashSet<&String> = self.counts.keys().collect();
        let accepted: HashSet<&String> = self.accepted.iter().collect();
        let lost: Vec<_> = accepted.difference(&on_topic).collect();
        assert!(lost.is_empty(), "accepted and not on the topic: {lost:?}");
        // Everything was posted until it was accepted, so nothing else can be there.
        let strange: Vec<_> = on_topic.difference(&accepted).collect();
        assert!(strange.is_empty(), "never accepted: {strange:?}");
        for (id, count) in &self.counts {
            let ended = count.linked + count.dead.values().sum::<usize>() + count.deferred;
            assert_eq!(ended, count.records, "{id}: {count:?}");
        }
    }

    /// Each sort of event ends as it may.
    fn each_as_it_must(&self) {
        for (id, count) in &self.counts {
            let reasons: Vec<&str> = count.dead.keys().map(String::as_str).collect();
            let kind = &self.planned[id].kind;
            let fits = match kind {
                Kind::Plain => count.linked == count.records,
                Kind::Code => {
                    let lost = ["code_lost", "code_dead", "code_expired", "gave_up"];
                    let allowed = &lost[..if self.faulty { 4 } else { 1 }];
                    count.deferred == 0 && reasons.iter().all(|r| allowed.contains(r))
                }
                // If a kill came between sending and the note, it cannot know that it was dead before.
                Kind::DeadCode => {
                    let dead = ["code_dead", "code_lost", "code_expired", "gave_up"];
                    let allowed = &dead[..if self.faulty { 4 } else { 2 }];
                    count.linked + count.deferred == 0
                        && reasons.iter().all(|r| allowed.contains(r))
                }
                Kind::Waits(key) if self.took_effect(key) => count.linked == count.records,
                Kind::Waits(_) | Kind::WaitsForEver => count.deferred == count.records,
            };
            assert!(fits, "{id} {kind:?}: {count:?}");
        }
    }

    fn took_effect(&self, id: &str) -> bool {
        self.counts.get(id).is_some_and(|c| c.linked > 0)
    }

    /// The facts of what took effect, made without any code of the product's ladder.
    fn facts(&self) -> Vec<Fact> {
        let mut facts = Vec::new();
        for id in self.counts.keys() {
            let planned = &self.planned[id];
            let claims = match &planned.kind {
                Kind::DeadCode => continue,
                Kind::Code if !self.took_effect(id) => continue,
                Kind::Waits(key) if !self.took_effect(key) => None,
                _ => planned.claim.clone(),
            };
            let claims: Vec<NewClaim> = claims
                .into_iter()
                .map(|(union, method)| NewClaim {
                    union,
                    at: planned.at,
                    method,
                })
                .collect();
            facts.push(Fact::Sighting(Sighting {
                account: planned.account.clone(),
                at: planned.at,
                cause: EventId::parse(id).unwrap(),
                external_id: None,
                reason: claims.is_empty().then_some(Reason::NoUnionid),
                claims,
                session_key: None,
            }));
        }
        facts
    }

    async fn users_are_the_oracles(&self, parts: &Parts) {
        let mut oracle = Oracle::new(parts.namespace);
        for fact in self.facts() {
            oracle.feed(&fact);
        }
        let truth = oracle.truth();
        let totals = parts.store.totals().await.unwrap();
        assert_eq!(totals.accounts, truth.lives.len() as u64, "accounts");
        let distinct: BTreeSet<_> = truth.users.values().collect();
        assert_eq!(totals.users, distinct.len() as u64, "users");
        assert!(truth.contested.len() > 20, "{}", truth.contested.len());
        self.the_topics_tell_the_truth(&truth);
        let accounts: Vec<Account> = truth.users.keys().cloned().collect();
        let (mut active, mut contested) = (BTreeSet::new(), BTreeMap::new());
        for chunk in accounts.chunks(500) {
            let found = parts.store.find_accounts(chunk).await.unwrap();
            for (account, found) in chunk.iter().zip(found) {
                let found = found.unwrap_or_else(|| panic!("{} is missing", account.key()));
                assert_eq!(found.row.user, truth.users[account], "{}", account.key());
                assert_eq!(
                    found.row.first_seen_at,
                    truth.lives[account].1,
                    "{}",
                    account.key()
                );
                for claim in found.claims {
                    let key = (claim.key.account, claim.key.union);
                    match claim.status {
                        ClaimStatus::Active => {
                            active.insert(key);
                        }
                        ClaimStatus::Contested(why) => {
                            contested.insert(key, why);
                        }
                    }
                }
            }
        }
        assert!(
            active == truth.active,
            "active claims differ from the oracle's"
        );
        assert!(
            contested == truth.contested,
            "contested claims differ from the oracle's"
        );
    }

    /// Nothing older than an hour is here, so nothing is compacted yet: all revisions stand.
    async fn revisions_are_gapless(&self, parts: &Parts) {
        let mut revisions: HashMap<&[u8], u64> = HashMap::new();
        for record in &self.topics.links {
            let told = json(record)["revision"].as_u64().unwrap();
            let last = revisions.entry(&record.key).or_default();
            let key = String::from_utf8_lossy(&record.key);
            assert_eq!(told, *last + 1, "revision of {key}");
            *last = told;
        }
        let totals = parts.store.totals().await.unwrap();
        assert_eq!(revisions.len() as u64, totals.accounts);
    }

    /// Whoever only reads the topics knows the same.
    fn the_topics_tell_the_truth(&self, truth: &Truth) {
        let mut told: HashMap<&[u8], Value> = HashMap::new();
        for record in &self.topics.links {
            told.insert(&record.key, json(record));
        }
        assert_eq!(told.len(), truth.users.len(), "accounts on the topic");
        for (account, user) in &truth.users {
            let key = account.key();
            let value = &told[key.as_bytes()];
            assert_eq!(value["user_id"], user.0.to_string(), "{key}");
            let first = truth.lives[account].1.to_string();
            assert_eq!(value["first_seen_at"], first, "{key}");
            for claim in value["claims"].as_array().unwrap() {
                let union = union(claim);
                let claimed = (account.clone(), union);
                match claim["status"].as_str() {
                    Some("active") => assert!(truth.active.contains(&claimed), "{key}"),
                    _ => {
                        let why = truth.contested.get(&claimed).map(|why| why.word());
                        assert_eq!(claim["why"].as_str(), why, "{key}");
                    }
                }
            }
        }
        let mut conflicts = HashSet::new();
        for record in &self.topics.conflicts {
            let value = json(record);
            let (app, openid) = (value["appid"].as_str(), value["openid"].as_str());
            let account = harness::account(app.unwrap(), openid.unwrap());
            let fresh = conflicts.insert((account, union(&value)));
            assert!(fresh, "a conflict told twice: {value}");
        }
        let untold: Vec<_> = truth
            .contested
            .keys()
            .filter(|c| !conflicts.contains(c))
            .collect();
        assert!(untold.is_empty(), "contested and not told: {untold:?}");
    }

    /// Each id that was ever an account's own and is no longer its user's points straight to that.
    async fn merges_are_flat(&self, parts: &Parts) {
        let merges = merges(&self.topics.merges);
        for (from, into) in &merges {
            assert!(
                !merges.contains_key(into),
                "{from} leads to {into}, which leads on"
            );
            match parts.store.find_user(UserId(*from)).await.unwrap() {
                FoundUser::Is(user, _) => assert_eq!(user.0, *into, "{from}"),
                other => panic!("{from}: {other:?}"),
            }
        }
        // Whoever follows the topic can translate every id that account-links ever told.
        let (last, ever) = links(&self.topics.links);
        for user in &ever {
            let current = merges.get(user).unwrap_or(user);
            assert!(
                last.values().any(|u| u == current) || merges.contains_key(user),
                "{user}"
            );
        }
        for (account, user) in &last {
            let (app, openid) = account.split_once(':').unwrap();
            let own = own_id(
                parts.namespace,
                &crate::harness::account(app, openid),
                Millis(0),
            );
            if own.0 != *user && ever.contains(&own.0) {
                assert_eq!(merges.get(&own.0), Some(user), "{own:?}");
            }
        }
    }
}

fn union(claim: &Value) -> UnionKey {
    UnionKey {
        platform: PlatformId::parse(claim["platform"].as_str().unwrap()).unwrap(),
        unionid: UnionId::parse(claim["unionid"].as_str().unwrap()).unwrap(),
    }
}

/// The newest record of each key on user-merges.
fn merges(records: &[Stored]) -> BTreeMap<Uuid, Uuid> {
    let mut merges = BTreeMap::new();
    for record in records {
        let from = Uuid::try_parse(std::str::from_utf8(&record.key).unwrap()).unwrap();
        match &record.value {
            Some(_) => {
                let into = json(record)["into_user_id"]
                    .as_str()
                    .unwrap()
                    .parse()
                    .unwrap();
                merges.insert(from, into);
            }
            None => {
                merges.remove(&from);
            }
        }
    }
    merges
}

/// The user of each account as last told, and every user id ever told.
fn links(records: &[Stored]) -> (BTreeMap<String, Uuid>, BTreeSet<Uuid>) {
    let (mut last, mut ever) = (BTreeMap::new(), BTreeSet::new());
    for record in records {
        let user: Uuid = json(record)["user_id"].as_str().unwrap().parse().unwrap();
        last.insert(String::from_utf8(record.key.clone()).unwrap(), user);
        ever.insert(user);
    }
    (last, ever)
}

/// Every user id ever told answers, with the user it stands for now; some of them over HTTP too,
/// where `ask` gets the status and the answer.
pub async fn users_resolve<A>(topics: &Topics, parts: &Parts, ask: impl Fn(Uuid) -> A)
where
    A: Future<Output = (u16, String)>,
{
    /// One request each; more of them try nothing new.
    const MOST: usize = 300;
    let (last, ever) = links(&topics.links);
    let step = ever.len().div_ceil(MOST).max(1);
    for user in ever.iter().step_by(step) {
        let (status, text) = ask(*user).await;
        assert_eq!(status, 200, "{user}: {text}");
        let found: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(found["requested"], user.to_string());
        assert!(!found["accounts"].as_array().unwrap().is_empty(), "{found}");
    }
    for user in &ever {
        let found = parts.store.find_user(UserId(*user)).await.unwrap();
        assert!(matches!(found, FoundUser::Is(..)), "{user}: {found:?}");
    }
    assert!(!last.is_empty());
}

/// The same, of a rig that serves.
pub async fn look_up(rig: &Rig, parts: &Parts) {
    let topics = Topics::read(parts).await;
    users_resolve(&topics, parts, |user| async move {
        let (status, found) = rig.get(&format!("/v1/users/{user}")).await;
        (status, found.to_string())
    })
    .await;
}
