//! `plan` against the oracle, over random histories: whatever the order, duplicates, batch
//! boundaries and interleaving of workers, the same users, ids and contested claims; revisions
//! without gap; topics that equal the state; and a replay that changes nothing.
//!
//! `UNILINK_CASES` sets the number of histories (20,000 unless told), `UNILINK_SEED` the first seed.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of the test too

mod history;
mod memory;
mod oracle;

use history::{Dice, History};
use memory::{Memory, Published, Worker, deliver};
use oracle::{Oracle, Truth, own_id};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use unilink::model::{
    AccountRow, Changes, ClaimKey, ClaimRow, ClaimStatus, ClaimVerdict, Fact, LinkMethod, Linked,
    Millis, News, Reason, UserId, Why,
};

const CASES: u64 = 20_000;

fn setting(name: &str, otherwise: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(otherwise, |v| v.parse().expect("a number"))
}

#[test]
fn any_delivery_of_a_history_gives_what_the_oracle_says() {
    let first = setting("UNILINK_SEED", 1);
    let last = first + setting("UNILINK_CASES", CASES);
    let next = AtomicU64::new(first);
    let seen = Seen::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= last {
                        return;
                    }
                    let case = std::panic::AssertUnwindSafe(|| check_history(seed, &seen));
                    if let Err(panic) = std::panic::catch_unwind(case) {
                        next.store(last, Ordering::Relaxed);
                        eprintln!("red at UNILINK_SEED={seed} UNILINK_CASES=1");
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
    seen.report(last - first);
}

/// How often the histories came to what they are meant to try.
#[derive(Default)]
struct Seen {
    contradictory: AtomicU64,
    retries: AtomicU64,
    erased: AtomicU64,
    truncated: AtomicU64,
    renamed: AtomicU64,
    whys: [AtomicU64; 7],
}

impl Seen {
    fn note(&self, history: &History, truth: &Truth) {
        let add = |n: &AtomicU64| n.fetch_add(1, Ordering::Relaxed);
        if history.contradictory {
            add(&self.contradictory);
        }
        let whys: BTreeSet<_> = truth.contested.values().collect();
        for why in whys {
            add(&self.whys[*why as usize]);
        }
    }

    fn erasures(&self, changes: &Changes) {
        let ended = changes.news.iter();
        let ended = ended.filter(|n| matches!(n, News::Unlinked { .. })).count();
        let dropped = changes.erased.len();
        self.erased.fetch_add(ended as u64, Ordering::Relaxed);
        let renamed = changes.tombstones.len() - dropped;
        self.renamed.fetch_add(renamed as u64, Ordering::Relaxed);
    }

    fn report(&self, cases: u64) {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let whys: Vec<String> = unilink::model::Why::ALL
            .iter()
            .map(|why| format!("{why} {}", read(&self.whys[*why as usize])))
            .collect();
        eprintln!(
            "{cases} histories, {} contradictory, {} plans made again, {} lives erased, {} renamed by a late erasure, {} unionids read in part; contested: {}",
            read(&self.contradictory),
            read(&self.retries),
            read(&self.erased),
            read(&self.renamed),
            read(&self.truncated),
            whys.join(", ")
        );
        if cases >= 5_000 {
            assert!(read(&self.contradictory) * 4 > cases, "too few contradict");
            let others = [&self.retries, &self.erased, &self.renamed, &self.truncated];
            let tried = self.whys.iter().chain(others).all(|n| read(n) > 0);
            assert!(tried, "something was never tried");
        }
    }
}

fn check_history(seed: u64, seen: &Seen) {
    let history = History::generate(seed);
    let mut oracle = Oracle::new(history.rules.namespace);
    for fact in &history.facts {
        oracle.feed(fact);
    }
    let truth = oracle.truth();
    seen.note(&history, &truth);
    let mut dice = Dice::new(seed ^ 0xd1ce);
    let one = Delivery::alone(&history, &mut dice);
    one.check(&history, &truth);
    let mut other = Delivery::interleaved(&history, &mut dice, seen);
    other.check(&history, &truth);
    assert_eq!(one.joined(), other.joined(), "the order shows");
    other.replay(&history, &mut dice);
}

/// A history on its way through a store and its topics.
struct Delivery {
    memory: Memory,
    published: Published,
    now: i64,
}

impl Delivery {
    fn new(history: &History) -> Self {
        Self {
            memory: Memory::new(history.limit),
            published: Published::default(),
            now: 1_000,
        }
    }

    fn now(&mut self) -> Millis {
        self.now += 1;
        Millis(self.now)
    }

    fn publish(&mut self, facts: &[Fact], changes: &Changes) {
        self.published.take(&changes.news);
        let sightings = facts.iter().filter_map(|f| match f {
            Fact::Sighting(s) => Some(s),
            _ => None,
        });
        let results = changes.sightings.iter();
        assert_eq!(
            sightings.clone().count(),
            results.len(),
            "a result for each"
        );
        for (sighting, result) in sightings.zip(results) {
            let tombstone = self.memory.tombstones.get(&sighting.account);
            let void = tombstone.is_some_and(|t| sighting.at <= t.erased_at);
            let row = self.memory.accounts.get(&sighting.account);
            let user = row.map(|row| row.user).filter(|_| !void);
            assert_eq!(result.user, user, "a sighting's user");
            let linked = self.published.linked.get(&sighting.account);
            let unionid = linked.and_then(|l| l.unionid.clone()).filter(|_| !void);
            assert_eq!(result.unionid, unionid, "a sighting's unionid");
        }
    }

    /// One worker, batch after batch.
    fn alone(history: &History, dice: &mut Dice) -> Self {
        let mut delivery = Self::new(history);
        let facts = history.order(dice);
        for batch in history.batches(facts, dice) {
            let now = delivery.now();
            let changes = deliver(&mut delivery.memory, &batch, &history.rules, now);
            delivery.publish(&batch, &changes);
        }
        delivery
    }

    /// Two workers that read and plan at the same time. Where erasures make the order matter, a
    /// worker waits for its turn to write (and has to plan again, since the store moved on).
    fn interleaved(history: &History, dice: &mut Dice, seen: &Seen) -> Self {
        let mut delivery = Self::new(history);
        let facts = history.order(dice);
        let ordered = facts.iter().any(|f| matches!(f, Fact::Erasure(_)));
        let batches = history.batches(facts, dice);
        let mut waiting = batches.iter().enumerate();
        let mut workers: Vec<(usize, Worker<'_>)> = Vec::new();
        let mut written = 0;
        loop {
            while workers.len() < 2
                && let Some((n, batch)) = waiting.next()
            {
                workers.push((n, Worker::start(batch, &delivery.memory)));
            }
            if workers.is_empty() {
                let truncated = delivery.memory.truncated.get();
                seen.truncated.fetch_add(truncated, Ordering::Relaxed);
                return delivery;
            }
            let turn = dice.below(workers.len());
            let (n, worker) = &mut workers[turn];
            let version = delivery.memory.version;
            let now = Millis(delivery.now + 1);
            let Some(changes) = worker.step(&delivery.memory, &history.rules, now) else {
                continue;
            };
            if ordered && *n != written {
                continue;
            }
            delivery.now += 1;
            seen.retries.fetch_add(worker.retries, Ordering::Relaxed);
            seen.erasures(&changes);
            delivery.memory.apply(&changes);
            assert!(delivery.memory.version > version);
            let facts = worker.facts;
            delivery.publish(facts, &changes);
            written += 1;
            workers.remove(turn);
        }
    }

    /// Everything again, twice, in any order: nothing changes and nothing is said.
    fn replay(&mut self, history: &History, dice: &mut Dice) {
        for _ in 0..2 {
            let mut facts = history.facts.clone();
            dice.shuffle(&mut facts);
            for batch in history.batches(facts, dice) {
                let now = self.now();
                let changes = deliver(&mut self.memory, &batch, &history.rules, now);
                assert_nothing(&changes);
                self.publish(&batch, &changes);
            }
        }
    }

    fn check(&self, history: &History, truth: &Truth) {
        self.check_state(truth);
        self.check_links(history);
        self.check_merges(history);
        self.check_registers();
    }

    fn check_state(&self, truth: &Truth) {
        let rows = self.memory.accounts.values();
        let users: BTreeMap<_, _> = rows.clone().map(|r| (r.account.clone(), r.user)).collect();
        assert_eq!(users, truth.users, "users");
        let lives: BTreeMap<_, _> = rows
            .map(|r| (r.account.clone(), (r.generation, r.first_seen_at)))
            .collect();
        assert_eq!(lives, truth.lives, "lives");
        let mut active = BTreeSet::new();
        let mut contested = BTreeMap::new();
        for row in self.claims() {
            let key = (row.key.account.clone(), row.key.union.clone());
            match row.status {
                ClaimStatus::Active => {
                    active.insert(key);
                }
                ClaimStatus::Contested(why) => {
                    contested.insert(key, why);
                }
            }
        }
        assert_eq!(active, truth.active, "active claims");
        assert_eq!(contested, truth.contested, "contested claims");
    }

    fn claims(&self) -> impl Iterator<Item = &ClaimRow> {
        self.memory.claims.values().flat_map(BTreeMap::values)
    }

    /// The newest record of each account is its state.
    fn check_links(&self, history: &History) {
        let accounts: Vec<_> = self.memory.accounts.keys().collect();
        let linked: Vec<_> = self.published.linked.keys().collect();
        assert_eq!(accounts, linked, "accounts on the topic");
        for (account, row) in &self.memory.accounts {
            let linked = &self.published.linked[account];
            assert_eq!(shown(&linked.row), shown(row), "the row on the topic");
            let claims = self.memory.claims.get(account);
            let claims: Vec<&ClaimRow> = claims.into_iter().flat_map(BTreeMap::values).collect();
            let told: Vec<_> = linked.claims.iter().map(shown_claim).collect();
            let stored: Vec<_> = claims.iter().map(|c| shown_claim(c)).collect();
            assert_eq!(told, stored, "the claims on the topic");
            check_newest(history, row, linked, &claims);
        }
    }

    /// Flat, acyclic, and no more than needed; every id that was ever told resolves.
    fn check_merges(&self, history: &History) {
        let own = |row: &AccountRow| own_id(history.rules.namespace, &row.account, row.generation);
        let rows = self.memory.accounts.values();
        let merged = rows.clone().filter(|row| own(row) != row.user);
        let merges: BTreeMap<UserId, UserId> = merged.map(|row| (own(row), row.user)).collect();
        assert_eq!(self.published.merges, merges, "user-merges");
        let tombstones = self.memory.tombstones.values();
        let gone: BTreeSet<UserId> = tombstones.flat_map(|t| t.own_ids.clone()).collect();
        let living: BTreeSet<UserId> = rows.map(own).collect();
        for id in &self.published.told {
            assert!(
                living.contains(id) || gone.contains(id),
                "an id leads nowhere"
            );
        }
        assert!(living.is_disjoint(&gone), "an id is gone and current");
    }

    /// Registers on the topic, and a conflict for every contested claim.
    fn check_registers(&self) {
        let (told, stored) = (&self.published, &self.memory);
        assert_eq!(told.tombstones, stored.tombstones, "tombstones");
        for row in self.claims() {
            let open = matches!(row.status, ClaimStatus::Contested(why) if why != Why::Rejected);
            assert!(
                !open || told.conflicts.contains(&row.key),
                "an untold conflict"
            );
        }
        for (key, ruled) in &stored.rulings {
            assert_eq!(told.rulings.get(key), Some(ruled), "rulings");
        }
        for (key, ruled) in &stored.pairs {
            assert_eq!(told.pairs.get(key), Some(ruled), "pairs");
        }
    }

    /// What must not depend on the order: all but revisions, their causes and what was reported.
    fn joined(&self) -> (Vec<AccountRow>, Vec<ClaimRow>) {
        let rows = self.memory.accounts.values().map(|row| AccountRow {
            revision: 0,
            cause: unilink::model::EventId::parse("any").unwrap(),
            linked_at: Millis(0),
            ..row.clone()
        });
        let claims = self.claims().map(|row| ClaimRow {
            reported: false,
            ..row.clone()
        });
        (rows.collect(), claims.collect())
    }
}

fn assert_nothing(changes: &Changes) {
    let rows = (&changes.accounts, &changes.claims, &changes.erased);
    assert_eq!(rows, (&vec![], &vec![], &vec![]), "a replay writes rows");
    assert!(changes.tombstones.is_empty(), "a replay writes tombstones");
    assert!(changes.rulings.is_empty(), "a replay writes rulings");
    assert!(changes.pairs.is_empty(), "a replay writes pairs");
    assert!(
        changes.news.is_empty(),
        "a replay is news: {:?}",
        changes.news
    );
}

fn shown(row: &AccountRow) -> impl PartialEq + std::fmt::Debug + use<> {
    let external = row.external.as_ref().map(|(_, id)| id.as_str().to_owned());
    let reason = row.reason.map(|(_, reason)| reason);
    (
        row.account.clone(),
        (row.user, row.generation, row.first_seen_at, row.revision),
        (external, reason, row.cause.clone(), row.linked_at),
    )
}

fn shown_claim(row: &ClaimRow) -> (ClaimKey, Millis, &'static str, ClaimStatus) {
    (row.key.clone(), row.at, row.method.word(), row.status)
}

fn check_newest(history: &History, row: &AccountRow, linked: &Linked, claims: &[&ClaimRow]) {
    let platform = history.rules.apps.newest_platform(&row.account.app);
    assert_eq!(linked.platform.as_ref(), platform, "platform");
    let newest = |c: &&&ClaimRow| Some(&c.key.union.platform) == platform;
    let active = |c: &&&ClaimRow| c.status == ClaimStatus::Active;
    let now = claims.iter().filter(newest).find(active);
    let unionid = now.map(|c| &c.key.union.unionid);
    assert_eq!(linked.unionid.as_ref(), unionid, "unionid");
    let method = match now {
        Some(c) if c.verdict == Some(ClaimVerdict::Accept) => LinkMethod::Operator,
        Some(c) => LinkMethod::By(c.method),
        None if claims.iter().any(|c| active(&c)) => LinkMethod::Merge,
        None => LinkMethod::None,
    };
    assert_eq!(linked.method, method, "method");
    let reason = row.reason.map(|(_, reason)| reason);
    match (now, claims.iter().any(|c| newest(&c))) {
        (Some(_), _) => assert_eq!(reason, None, "a reason although linked"),
        (None, true) => assert_eq!(reason, Some(Reason::Contested), "the reason"),
        (None, false) => assert_ne!(reason, Some(Reason::Contested), "the reason"),
    }
}
