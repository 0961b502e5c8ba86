//! Sessions on PostgreSQL that are in each other's way, with the real `plan`: whatever they do at
//! the same time, the store comes to what the oracle says of all facts, and every revision is told
//! once. Writing is slowed down here, so that others read between what a session read and what it
//! commits. Left out where the environment names no server.
//!
//! `UNILINK_RACES` sets the number of rounds (30 unless told), `UNILINK_SEED` the first seed.

use crate::contract::Home;
use crate::contract::fixtures::{NAMESPACE, open, outbox, record};
use crate::history::Dice;
use crate::oracle::{Oracle, Truth};
use crate::store_postgres::{self, PostgresHome};
use sqlx::Executor;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use unilink::link::{self, Rules};
use unilink::model::{
    Account, App, AppId, AppKind, Apps, Binding, ClaimStatus, ClaimVerdict, Decision, Erasure,
    EventId, ExternalId, Fact, Keys, Method, Millis, NewClaim, News, Outcome, PlatformId, Ruling,
    Sighting, TokenSource, UnionId, UnionKey, View,
};
use unilink::store::{Batch, Planner, Step, Store, Write};

const SESSIONS: usize = 6;
const APPS: usize = 4;
/// Openids of one app that make a unionid a hub.
const HUB: usize = 3;
/// Long enough for a session that nothing holds up to commit.
const A_WHILE: Duration = Duration::from_millis(500);

/// Between a batch's last look and its commit, up to 8 ms pass.
const LATE: &str = "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS \
    $$ BEGIN PERFORM pg_sleep(random() * 0.008); RETURN NULL; END $$; \
    CREATE TRIGGER late BEFORE INSERT ON claims FOR EACH STATEMENT EXECUTE FUNCTION late()";

fn setting(name: &str, otherwise: u64) -> u64 {
    let value = std::env::var(name).ok();
    value.map_or(otherwise, |v| v.parse().expect("a number"))
}

async fn home() -> Option<PostgresHome> {
    let home = store_postgres::home().await;
    if home.is_none() {
        eprintln!("left out: no PostgreSQL to run on");
    }
    home
}

fn app(n: usize) -> AppId {
    AppId::parse(&format!("wxapp{n}")).unwrap()
}

fn platform() -> PlatformId {
    PlatformId::parse("main").unwrap()
}

fn rules() -> Rules {
    let app = |n| App {
        id: app(n),
        kind: AppKind::MiniProgram,
        secret: None,
        token: TokenSource::default(),
        component: None,
        bindings: vec![Binding {
            platform: platform(),
            since: Millis(0),
        }],
    };
    Rules {
        namespace: NAMESPACE,
        apps: Arc::new(Apps::new((0..APPS).map(app).collect())),
    }
}

fn account(in_app: usize, openid: &str) -> Account {
    Account::from_key(&format!("wxapp{in_app}:{openid}")).unwrap()
}

fn union(unionid: &str) -> UnionKey {
    UnionKey {
        platform: platform(),
        unionid: UnionId::parse(unionid).unwrap(),
    }
}

fn cause(at: i64) -> EventId {
    EventId::parse(&format!("e{at}")).unwrap()
}

fn seen(account: &Account, at: i64, unions: &[&UnionKey]) -> Fact {
    let claims = unions.iter().map(|union| NewClaim {
        union: (*union).clone(),
        at: Millis(at),
        method: Method::Code2Session,
    });
    Fact::Sighting(Sighting {
        account: account.clone(),
        at: Millis(at),
        cause: cause(at),
        external_id: None,
        reason: None,
        claims: claims.collect(),
        session_key: None,
    })
}

/// Tells the company's own id for the person, which touches the account's row alone.
fn named(account: &Account, at: i64, id: &str) -> Fact {
    match seen(account, at, &[]) {
        Fact::Sighting(sighting) => Fact::Sighting(Sighting {
            external_id: Some(ExternalId::parse(id).unwrap()),
            ..sighting
        }),
        other => other,
    }
}

fn erased(account: &Account, at: i64) -> Fact {
    Fact::Erasure(Erasure {
        account: account.clone(),
        erased_at: Millis(at),
        cause: cause(at),
    })
}

fn ruled(ruling: Ruling, at: i64) -> Fact {
    Fact::Decision(Decision {
        ruling,
        at: Millis(at),
        author: "op".into(),
        note: "a test".into(),
        cause: cause(at),
    })
}

fn rejected(account: &Account, union: &UnionKey, at: i64) -> Fact {
    let ruling = Ruling::Claim {
        account: account.clone(),
        union: union.clone(),
        verdict: Some(ClaimVerdict::Reject),
    };
    ruled(ruling, at)
}

fn apart(one: &Account, other: &Account, at: i64) -> Fact {
    let ruling = Ruling::Pair {
        a: one.min(other).clone(),
        b: one.max(other).clone(),
        never: true,
    };
    ruled(ruling, at)
}

/// Decides by `link::plan`, and tells revisions as lines of text.
struct Planning<'a> {
    facts: &'a [Fact],
    rules: &'a Rules,
    /// Called whenever it has decided, which is before that is written.
    decided: &'a mut (dyn FnMut() + Send),
}

impl Planner for Planning<'_> {
    fn step(&mut self, view: &View) -> Step {
        match link::plan(view, self.facts, self.rules, Millis(1_000_000)) {
            Outcome::Read(keys) => Step::Read(keys),
            Outcome::Done(changes) => {
                let told = changes.news.iter().filter_map(|news| match news {
                    News::Linked(linked) => {
                        let row = &linked.row;
                        Some(record(&format!(
                            "{} {} {}",
                            row.account.key(),
                            row.revision,
                            row.user
                        )))
                    }
                    News::Unlinked { account, revision } => {
                        Some(record(&format!("{} {revision} gone", account.key())))
                    }
                    _ => None,
                });
                let outbox = [(0, told.collect())].into();
                (self.decided)();
                Step::Write(Box::new(Write {
                    changes: *changes,
                    outbox,
                }))
            }
        }
    }
}

async fn deliver(store: &dyn Store, rules: &Rules, facts: &[Fact]) {
    deliver_and(store, rules, facts, &mut || ()).await;
}

async fn deliver_and(
    store: &dyn Store,
    rules: &Rules,
    facts: &[Fact],
    decided: &mut (dyn FnMut() + Send),
) {
    let batch = Batch {
        keys: link::keys(facts),
        ..Batch::default()
    };
    let mut planning = Planning {
        facts,
        rules,
        decided,
    };
    store.apply(&batch, &mut planning).await.expect("applies");
}

fn truth(facts: &[Fact]) -> Truth {
    let mut oracle = Oracle::new(NAMESPACE);
    for fact in facts {
        oracle.feed(fact);
    }
    oracle.truth()
}

/// What the store holds of the accounts that the facts are about.
async fn held(store: &dyn Store, facts: &[Fact]) -> Truth {
    let keys: Keys = link::keys(facts);
    let view = store.view(&keys).await.expect("reads");
    let mut held = Truth::default();
    for (account, row) in &view.accounts {
        held.users.insert(account.clone(), row.user);
        let life = (row.generation, row.first_seen_at);
        held.lives.insert(account.clone(), life);
    }
    for row in view.claims.values().flatten() {
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

/// Each account's revisions are told once each, in order, and the last is the user of the state.
async fn told_is_gapless(store: &dyn Store, held: &Truth) {
    let mut told: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut after = 0;
    loop {
        let rows = outbox(store, 0, after, 1 << 20).await;
        let Some(last) = rows.last() else { break };
        after = last.seq;
        for record in rows.into_iter().flat_map(|r| r.records) {
            let text = String::from_utf8(record.value.unwrap()).unwrap();
            let mut words = text.split(' ');
            let mut word = || words.next().unwrap().to_owned();
            let (who, revision, user) = (word(), word().parse().unwrap(), word());
            let before = told.insert(who, (revision, user)).map_or(0, |(n, _)| n);
            assert_eq!(revision, before + 1, "a revision out of order");
        }
    }
    for (account, user) in &held.users {
        assert_eq!(told[&account.key()].1, user.to_string(), "what is told");
    }
}

/// What a round begins with, one after the other, and what races then.
#[derive(Default)]
struct Round {
    before: Vec<Fact>,
    racing: Vec<Fact>,
    clock: i64,
}

impl Round {
    fn at(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    /// Different accounts, the same unionids. No row of an account stands for such a unionid: it was
    /// left by an erased account, or it is a hub, whose claimants nobody has to look at.
    fn of_unionids(seed: u64) -> Self {
        let (mut round, mut dice) = (Self::default(), Dice::new(seed));
        let unions: Vec<UnionKey> = (0..4).map(|n| union(&format!("u{seed}x{n}"))).collect();
        for (n, union) in unions.iter().enumerate() {
            match dice.below(4) {
                // Nobody has heard of it.
                0 => {}
                // A hub, that an operator dissolves.
                1 => {
                    let app = dice.below(APPS);
                    for k in 0..HUB {
                        let who = account(app, &format!("oh{seed}x{n}x{k}"));
                        let at = round.at();
                        round.before.push(seen(&who, at, &[union]));
                        if k == 0 {
                            let at = round.at();
                            round.racing.push(rejected(&who, union, at));
                        }
                    }
                }
                _ => {
                    let who = account(0, &format!("og{seed}x{n}"));
                    let (at, end) = (round.at(), round.at());
                    round.before.push(seen(&who, at, &[union]));
                    round.before.push(erased(&who, end));
                }
            }
        }
        for n in 0..2 * SESSIONS {
            let who = account(dice.below(APPS), &format!("o{seed}x{n}"));
            let at = round.at();
            round.racing.push(seen(&who, at, &[dice.pick(&unions)]));
        }
        dice.shuffle(&mut round.racing);
        round
    }

    /// The same accounts, different unionids: each login of an account tells another, and operators
    /// keep accounts apart that are being merged.
    fn of_accounts(seed: u64) -> Self {
        let (mut round, mut dice) = (Self::default(), Dice::new(seed));
        let who = |n: usize| account(n % APPS, &format!("o{seed}x{n}"));
        for n in 0..3 {
            let at = round.at();
            let union = union(&format!("u{seed}x{n}"));
            round.before.push(seen(&who(n), at, &[&union]));
        }
        for turn in 0..2 * SESSIONS {
            let at = round.at();
            let n = dice.below(6);
            // Mostly the person's own.
            let whose = if dice.one_in(3) { dice.below(3) } else { n % 3 };
            let some = union(&format!("u{seed}x{whose}"));
            round.racing.push(seen(&who(n), at, &[&some]));
            if turn % 4 == 0 {
                let (one, other) = (dice.below(6), dice.below(6));
                if one != other {
                    let at = round.at();
                    round.racing.push(apart(&who(one), &who(other), at));
                }
            }
        }
        dice.shuffle(&mut round.racing);
        round
    }
}

/// Races rounds on one database, and holds each against the oracle.
async fn race(make: fn(u64) -> Round) {
    let Some(home) = home().await else { return };
    let mut raw = home.raw().await;
    raw.execute(LATE).await.expect("runs");
    let mut stores = Vec::new();
    for _ in 0..SESSIONS {
        stores.push(open(&home).await);
    }
    let rules = Arc::new(rules());
    let first = setting("UNILINK_SEED", 1);
    let mut wrong = Vec::new();
    let mut all = Vec::new();
    let (mut merged, mut contested) = (0, BTreeSet::new());
    let rounds = setting("UNILINK_RACES", 30);
    for seed in first..first + rounds {
        let round = make(seed);
        for fact in &round.before {
            deliver(&*stores[0], &rules, std::slice::from_ref(fact)).await;
        }
        let line = Arc::new(tokio::sync::Barrier::new(SESSIONS));
        let mut sessions = tokio::task::JoinSet::new();
        for (n, store) in stores.iter().enumerate() {
            let facts = round.racing.iter().skip(n).step_by(SESSIONS);
            let facts: Vec<Fact> = facts.cloned().collect();
            let (store, rules, line) = (Arc::clone(store), Arc::clone(&rules), Arc::clone(&line));
            sessions.spawn(async move {
                line.wait().await;
                for fact in &facts {
                    deliver(&*store, &rules, std::slice::from_ref(fact)).await;
                }
            });
        }
        while let Some(done) = sessions.join_next().await {
            done.expect("session");
        }
        let facts = [round.before, round.racing].concat();
        let (is, should) = (held(&*stores[0], &facts).await, truth(&facts));
        let users: BTreeSet<_> = should.users.values().collect();
        merged += should.users.len() - users.len();
        contested.extend(should.contested.values().copied());
        if is != should {
            wrong.push((seed, is, should));
        }
        all.extend(facts);
    }
    let count = wrong.len();
    if let Some((seed, is, should)) = wrong.into_iter().next() {
        panic!("{count} of {rounds} rounds are wrong, first {seed}: {is:#?}\nbut {should:#?}");
    }
    if rounds >= 30 {
        assert!(
            merged > 30 && contested.len() >= 2,
            "{merged} {contested:?}"
        );
    }
    told_is_gapless(&*stores[0], &held(&*stores[0], &all).await).await;
    home.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn different_accounts_on_the_same_unionids() {
    race(Round::of_unionids).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_accounts_on_different_unionids() {
    race(Round::of_accounts).await;
}

/// Three stores on one database, for batches that come between the looks of another.
struct Between {
    rules: Arc<Rules>,
    stores: [Arc<dyn Store>; 3],
}

impl Between {
    async fn new(home: &PostgresHome, before: &[Fact]) -> Self {
        let between = Self {
            rules: Arc::new(rules()),
            stores: [open(home).await, open(home).await, open(home).await],
        };
        for fact in before {
            deliver(
                &*between.stores[0],
                &between.rules,
                std::slice::from_ref(fact),
            )
            .await;
        }
        between
    }

    /// Delivers a fact; when it has been decided for the first and for the second time, calls these.
    /// At the second time, what it rests on is held fast.
    async fn deliver(
        &self,
        store: usize,
        fact: &Fact,
        mut first: impl FnMut() + Send,
        mut second: impl FnMut() + Send,
    ) {
        let mut looks = 0;
        let mut decided = || {
            looks += 1;
            match looks {
                1 => first(),
                2 => second(),
                _ => {}
            }
        };
        let facts = std::slice::from_ref(fact);
        deliver_and(&*self.stores[store], &self.rules, facts, &mut decided).await;
        assert!(looks >= 2, "it was to look twice");
    }

    /// Has something else go on, and waits a while for its end.
    fn beside(begun: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let going = tokio::spawn(begun);
        let since = Instant::now();
        while !going.is_finished() && since.elapsed() < A_WHILE {
            std::thread::sleep(Duration::from_millis(5));
        }
        going
    }

    /// Delivers with nobody in between.
    fn plain(self: &Arc<Self>, store: usize, fact: &Fact) -> impl Future<Output = ()> + use<> {
        let (between, fact) = (Arc::clone(self), fact.clone());
        async move {
            let facts = std::slice::from_ref(&fact);
            deliver(&*between.stores[store], &between.rules, facts).await;
        }
    }

    async fn check(&self, facts: &[Fact]) {
        let is = held(&*self.stores[0], facts).await;
        assert_eq!(is, truth(facts));
        told_is_gapless(&*self.stores[0], &is).await;
    }
}

/// Has `second` come while `first` has decided, with what it rests on held fast, and not yet written.
/// For that, `nudge` moves something that `first` rests on after its first look.
async fn comes_between(before: &[Fact], first: &Fact, nudge: &Fact, second: &Fact) {
    let Some(home) = home().await else { return };
    let between = Arc::new(Between::new(&home, before).await);
    let mut nudged = None;
    let mut other = None;
    let nudging = || nudged = Some(Between::beside(between.plain(1, nudge)));
    let coming = || other = Some(Between::beside(between.plain(1, second)));
    between.deliver(0, first, nudging, coming).await;
    nudged.unwrap().await.expect("session");
    other.unwrap().await.expect("session");
    let three = [first, nudge, second].map(Clone::clone);
    between.check(&[before, &three].concat()).await;
    home.close().await;
}

/// Nobody's row stands for the unionid: only its own key can keep the two apart.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_who_claim_what_an_erased_one_left_are_one() {
    let (gone, a, b, u) = (
        account(0, "og"),
        account(1, "oa"),
        account(2, "ob"),
        union("u"),
    );
    let before = [seen(&gone, 1, &[&u]), erased(&gone, 2)];
    let (first, second) = (seen(&a, 4, &[&u]), seen(&b, 5, &[&u]));
    comes_between(&before, &first, &seen(&a, 3, &[]), &second).await;
}

/// Who claims a hub looks at nobody, while an operator makes a person's unionid of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_claims_a_hub_that_is_dissolved_is_linked() {
    let (b, u) = (account(2, "ob"), union("u"));
    let crowd = ["oa", "oc", "od"].map(|openid| account(1, openid));
    let before: Vec<Fact> = (1..)
        .zip(&crowd)
        .map(|(at, who)| seen(who, at, &[&u]))
        .collect();
    let (first, second) = (rejected(&crowd[0], &u, 5), seen(&b, 6, &[&u]));
    // An earlier time is a change of the account that is ruled about.
    comes_between(&before, &first, &seen(&crowd[0], 0, &[]), &second).await;
}

/// The first takes the account to another user while the second waits for it, and the third comes
/// while the second writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_in_a_row_on_one_account_lose_nothing() {
    let Some(home) = home().await else { return };
    let (a, b) = (account(0, "oa"), account(1, "ob"));
    let u = union("u");
    let before = [seen(&b, 1, &[&u]), seen(&a, 9, &[])];
    let (first, second, third) = (seen(&a, 6, &[&u]), named(&a, 10, "x"), named(&a, 11, "y"));
    let nudge = seen(&a, 5, &[]);
    let between = Arc::new(Between::new(&home, &before).await);
    let (mut nudged, mut other) = (None, None);
    let last = Arc::new(std::sync::Mutex::new(None));
    let nudging = || nudged = Some(Between::beside(between.plain(1, &nudge)));
    let coming = || {
        let (between, last) = (Arc::clone(&between), Arc::clone(&last));
        let (second, third) = (second.clone(), third.clone());
        other = Some(Between::beside(async move {
            let coming = || {
                *last.lock().unwrap() = Some(Between::beside(between.plain(2, &third)));
            };
            between.deliver(1, &second, || (), coming).await;
        }));
    };
    between.deliver(0, &first, nudging, coming).await;
    nudged.unwrap().await.expect("session");
    other.unwrap().await.expect("session");
    let last = last.lock().unwrap().take();
    last.unwrap().await.expect("session");
    let all = [&before[..], &[first, second, third, nudge]].concat();
    between.check(&all).await;
    let view = between.stores[0].view(&link::keys(&all)).await.unwrap();
    let external = view.accounts[&a].external.as_ref();
    assert_eq!(
        external.map(|(at, id)| (at.0, id.as_str())),
        Some((11, "y"))
    );
    home.close().await;
}
