//! Reviews over random histories (`Fact::Review`, which a rebuild has of every account): on a state
//! that `plan` made they change nothing and say nothing, whichever accounts and in whatever order; on
//! a state that was put together from partitions of different moments they come to what the oracle
//! says of the facts that each partition has seen.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of the test too

#[allow(dead_code)]
mod history;
mod memory;
mod oracle;

use history::{Dice, History};
use memory::{Memory, deliver};
use oracle::{Oracle, Truth};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use unilink::model::{
    Account, Changes, ClaimRow, ClaimStatus, EventId, Fact, Millis, News, Review, Ruling, Tombstone,
};

/// Partitions of the topics.
const PARTITIONS: usize = 3;

fn cases() -> u32 {
    let value = std::env::var("UNILINK_CASES").ok();
    value.map_or(2_000, |v| v.parse().expect("a number"))
}

fn runner() -> TestRunner {
    TestRunner::new(Config {
        cases: cases(),
        failure_persistence: None,
        // A history is made of its seed: a smaller seed is no smaller history.
        max_shrink_iters: 0,
        ..Config::default()
    })
}

fn review(account: &Account) -> Fact {
    Fact::Review(Review {
        account: account.clone(),
        cause: EventId::parse("rebuild-2").unwrap(),
    })
}

/// Everything about an account goes to one partition, as all records with its key do.
fn partition(account: &Account) -> usize {
    account.key().bytes().map(usize::from).sum::<usize>() % PARTITIONS
}

/// Whose partition a fact shows in. A register of a pair goes with its first account.
fn home(fact: &Fact) -> usize {
    partition(match fact {
        Fact::Sighting(s) => &s.account,
        Fact::Erasure(e) => &e.account,
        Fact::Review(r) => &r.account,
        Fact::Decision(d) => match &d.ruling {
            Ruling::Claim { account, .. } => account,
            Ruling::Pair { a, .. } => a,
        },
    })
}

/// Delivers a history, and shows the state after each batch.
fn live(history: &History, dice: &mut Dice, mut after: impl FnMut(&[Fact], &Memory)) -> Memory {
    let mut memory = Memory::new(history.limit);
    let facts = history.order(dice);
    for (now, batch) in (1_000..).zip(history.batches(facts, dice)) {
        deliver(&mut memory, &batch, &history.rules, Millis(now));
        after(&batch, &memory);
    }
    memory
}

/// Reviews accounts, some together.
fn reviewed(
    memory: &mut Memory,
    history: &History,
    mut accounts: Vec<Account>,
    dice: &mut Dice,
) -> Vec<Changes> {
    dice.shuffle(&mut accounts);
    let size = *dice.pick(&[1, 2, 5, 500]);
    let pages = accounts.chunks(size).map(|page| {
        let facts: Vec<Fact> = page.iter().map(review).collect();
        deliver(memory, &facts, &history.rules, Millis(900_000))
    });
    pages.collect()
}

fn is_nothing(changes: &Changes) -> bool {
    let Changes {
        accounts,
        claims,
        erased,
        tombstones,
        rulings,
        pairs,
        news,
        ..
    } = changes;
    (accounts.is_empty() && claims.is_empty() && erased.is_empty() && tombstones.is_empty())
        && (rulings.is_empty() && pairs.is_empty() && news.is_empty())
}

fn held(memory: &Memory) -> Truth {
    let mut held = Truth::default();
    for (account, row) in &memory.accounts {
        held.users.insert(account.clone(), row.user);
        let life = (row.generation, row.first_seen_at);
        held.lives.insert(account.clone(), life);
    }
    for row in claims(memory) {
        let key = (row.key.account.clone(), row.key.union.clone());
        match row.status {
            ClaimStatus::Active => {
                held.active.insert(key);
            }
            ClaimStatus::Contested(why) => {
                held.contested.insert(key, why);
            }
        }
    }
    held
}

fn claims(memory: &Memory) -> impl Iterator<Item = &ClaimRow> {
    memory.claims.values().flat_map(BTreeMap::values)
}

#[test]
fn on_a_state_that_plan_made_reviews_are_nothing() {
    let reviews = AtomicU64::new(0);
    let check = |seed: u64| {
        let history = History::generate(seed);
        let mut dice = Dice::new(seed ^ 0xd1ce);
        let mut memory = live(&history, &mut dice, |_, _| ());
        let before = held(&memory);
        // Also of accounts that are gone or were never there, and some twice.
        let known = memory.accounts.keys().chain(memory.tombstones.keys());
        let mut some: Vec<Account> = known.cloned().collect();
        some.push(Account::from_key("wx00:onobody").unwrap());
        let share = *dice.pick(&[1, 1, 2, 5]);
        some.retain(|_| dice.one_in(share));
        if dice.one_in(2) {
            // In batches of their own: two of one account in one batch are one.
            reviews.fetch_add(some.len() as u64, Ordering::Relaxed);
            for changes in reviewed(&mut memory, &history, some.clone(), &mut dice) {
                prop_assert!(is_nothing(&changes), "{seed}: {:?}", changes.news);
            }
        }
        reviews.fetch_add(some.len() as u64, Ordering::Relaxed);
        for changes in reviewed(&mut memory, &history, some, &mut dice) {
            prop_assert!(is_nothing(&changes), "{seed}: {:?}", changes.news);
        }
        prop_assert_eq!(held(&memory), before, "{}", seed);
        Ok(())
    };
    runner().run(&any::<u64>(), check).unwrap();
    eprintln!("{} reviews", reviews.into_inner());
}

/// The newest state of each partition, from before it was taken away.
struct Torn {
    memory: Memory,
    /// What each partition has seen.
    seen: Oracle,
    /// Whether partitions are of different moments.
    torn: bool,
    /// Accounts whose tombstone is younger than their row.
    buried: u64,
}

/// Puts a store together as `rebuild --from topics` finds it: what is about the accounts of a
/// partition stands as it stood when that partition was told last. Some tombstones are younger: of an
/// account that was erased after the database was copied, nothing else may be left on the topics.
fn torn(history: &History, dice: &mut Dice) -> Torn {
    let (mut batches, mut moments) = (Vec::new(), Vec::new());
    live(history, dice, |batch, memory| {
        batches.push(batch.to_vec());
        moments.push(Moment::of(memory));
    });
    let last = moments.len();
    let at: [usize; PARTITIONS] = std::array::from_fn(|_| dice.below(last + 1));
    let (mut whole, mut buried) = (Changes::default(), BTreeMap::new());
    for (p, upto) in at.iter().enumerate().filter(|(_, upto)| **upto > 0) {
        let moment = &moments[upto - 1];
        moment.take(p, &mut whole);
        for stone in moment.ended_by(&moments[last - 1], p) {
            whole.tombstones.retain(|t| t.account != stone.account);
            whole.tombstones.push(stone.clone());
            buried.insert(stone.account.clone(), last);
        }
    }
    let mut seen = Oracle::new(history.rules.namespace);
    for (n, facts) in batches.iter().enumerate() {
        for fact in facts {
            let upto = match fact {
                Fact::Erasure(e) => buried.get(&e.account),
                _ => None,
            };
            if n < *upto.unwrap_or(&at[home(fact)]) {
                seen.feed(fact);
            }
        }
    }
    // See `UnionRead::truncated`: so many claims may go at once.
    let mut memory = Memory::new(history.limit + buried.len());
    memory.apply(&whole);
    Torn {
        memory,
        seen,
        torn: at.iter().any(|one| *one != at[0]),
        buried: buried.len() as u64,
    }
}

/// All rows there are, of one moment.
struct Moment(Changes);

impl Moment {
    fn of(memory: &Memory) -> Self {
        let own = memory.rulings.iter();
        let own = own.map(|(k, r)| (k.clone(), r.clone()));
        let pairs = memory.pairs.iter();
        Self(Changes {
            accounts: memory.accounts.values().cloned().collect(),
            claims: claims(memory).cloned().collect(),
            tombstones: memory.tombstones.values().cloned().collect(),
            rulings: own.collect(),
            pairs: pairs.map(|(k, r)| (k.clone(), r.clone())).collect(),
            ..Changes::default()
        })
    }

    /// The tombstones of accounts that live here and are gone later.
    fn ended_by<'l>(&'l self, later: &'l Self, part: usize) -> impl Iterator<Item = &'l Tombstone> {
        let lives = |all: &Changes, who: &Account| all.accounts.iter().any(|r| r.account == *who);
        let stones = later.0.tombstones.iter();
        stones.filter(move |t| {
            partition(&t.account) == part
                && lives(&self.0, &t.account)
                && !lives(&later.0, &t.account)
        })
    }

    fn take(&self, part: usize, into: &mut Changes) {
        let here = |account: &Account| partition(account) == part;
        let rows = self.0.accounts.iter().filter(|r| here(&r.account));
        into.accounts.extend(rows.cloned());
        let rows = self.0.claims.iter().filter(|c| here(&c.key.account));
        into.claims.extend(rows.cloned());
        let stones = self.0.tombstones.iter().filter(|t| here(&t.account));
        into.tombstones.extend(stones.cloned());
        let rulings = self.0.rulings.iter().filter(|(k, _)| here(&k.account));
        into.rulings.extend(rulings.cloned());
        let pairs = self.0.pairs.iter().filter(|(k, _)| here(&k.a));
        into.pairs.extend(pairs.cloned());
    }
}

/// Each revision follows the row's, and the last that is told is the row that stands.
fn told_follows(before: &Memory, after: &Memory, all: &[Changes]) -> Result<(), TestCaseError> {
    let rows = before.accounts.values();
    let mut last: BTreeMap<Account, u64> = rows.map(|r| (r.account.clone(), r.revision)).collect();
    for news in all.iter().flat_map(|changes| &changes.news) {
        match news {
            News::Linked(linked) => {
                let row = &linked.row;
                let before = last.insert(row.account.clone(), row.revision);
                prop_assert_eq!(before.map(|r| r + 1), Some(row.revision), "a gap");
            }
            // The last that was told of it may be on no topic any more.
            News::Unlinked { account, revision } => {
                let before = last.remove(account);
                prop_assert!(before.is_some_and(|r| r < *revision), "a null that is old");
            }
            _ => {}
        }
    }
    for row in after.accounts.values() {
        prop_assert_eq!(last[&row.account], row.revision, "a row that was not told");
    }
    Ok(())
}

#[test]
fn partitions_of_different_moments_come_to_what_each_has_seen() {
    let [differed, parts, ended] = [const { AtomicU64::new(0) }; 3];
    let check = |seed: u64| {
        let history = History::generate(seed);
        let mut dice = Dice::new(seed ^ 0x7042);
        let begun = dice.below(1 << 30) as u64;
        let Torn {
            mut memory,
            seen,
            torn,
            buried,
        } = torn(&history, &mut Dice::new(begun));
        let before = torn_again(&history, begun);
        let truth = seen.truth();
        parts.fetch_add(u64::from(torn), Ordering::Relaxed);
        ended.fetch_add(buried, Ordering::Relaxed);
        differed.fetch_add(u64::from(held(&memory) != truth), Ordering::Relaxed);
        let all: Vec<Account> = memory.accounts.keys().cloned().collect();
        let changes = reviewed(&mut memory, &history, all.clone(), &mut dice);
        prop_assert_eq!(held(&memory), truth, "{}", seed);
        told_follows(&before, &memory, &changes)?;
        for changes in reviewed(&mut memory, &history, all, &mut dice) {
            prop_assert!(is_nothing(&changes), "{seed}: again: {:?}", changes.news);
        }
        Ok(())
    };
    runner().run(&any::<u64>(), check).unwrap();
    let [torn, differed, ended] = [parts, differed, ended].map(AtomicU64::into_inner);
    eprintln!(
        "{torn} states of different moments, {differed} that needed a review, \
         {ended} lives that should have ended"
    );
    if cases() >= 1_000 {
        let few = u64::from(cases()) / 20;
        assert!(
            differed > few && ended > few / 40,
            "too few: {differed}, {ended}"
        );
    }
}

/// The same state once more: memories are not copied.
fn torn_again(history: &History, begun: u64) -> Memory {
    torn(history, &mut Dice::new(begun)).memory
}
