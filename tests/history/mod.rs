//! Random histories: people who log in from several apps, and, in a third of them, everything that
//! contradicts: shared unionids, several unionids per account, two openids of one app, operators'
//! decisions, erasures. Times are small numbers, so that ties are common.

#![allow(clippy::unwrap_used)] // a helper of tests

use std::collections::BTreeSet;
use std::sync::Arc;
use unilink::link::Rules;
use unilink::model::{
    Account, App, AppId, AppKind, Apps, Binding, ClaimVerdict, Decision, Erasure, EventId,
    ExternalId, Fact, Method, Millis, NewClaim, OpenId, PlatformId, Reason, Ruling, SealedKey,
    Sighting, TokenSource, UnionId, UnionKey,
};
use uuid::Uuid;

/// SplitMix64: the same histories on every machine and with every version of every crate.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

pub struct History {
    pub rules: Rules,
    pub facts: Vec<Fact>,
    pub contradictory: bool,
    /// How many claims on a unionid a store may leave unread: see `UnionRead::truncated`.
    pub limit: usize,
    /// Most decisions and erasures in a batch, which `limit` allows for.
    pub removals: usize,
}

struct Maker {
    dice: Dice,
    apps: Vec<AppId>,
    rules: Rules,
    people: usize,
    /// The first time, and how many there are.
    times: (usize, usize),
    facts: Vec<Fact>,
    /// How much is wrong in this history, by sort.
    wrong_unionid: bool,
    second_openid: bool,
    crowd: bool,
    decisions: bool,
    erasures: bool,
}

const METHODS: [Method; 6] = [
    Method::Operator,
    Method::Code2Session,
    Method::Decrypted,
    Method::DecryptedEventKey,
    Method::Provided,
    Method::Imported,
];

impl History {
    pub fn generate(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let contradictory = dice.one_in(3);
        // Rarely more apps than one user may have accounts.
        let many_apps = contradictory && dice.one_in(60);
        let apps = if many_apps { 72 } else { 2 + dice.below(4) };
        let (apps, rules) = company(&mut dice, apps);
        let people = if many_apps { 1 } else { 1 + dice.below(5) };
        // Few times make ties; they lie around the moment when apps move.
        let times = *dice.pick(&[(1, 40), (1, 40), (17, 6)]);
        let mut flag = || contradictory && dice.one_in(2);
        let mut maker = Maker {
            wrong_unionid: flag(),
            second_openid: flag(),
            crowd: flag(),
            decisions: flag(),
            erasures: flag(),
            dice,
            apps,
            rules,
            people,
            times,
            facts: Vec::new(),
        };
        let logins = if many_apps {
            300
        } else {
            3 + maker.dice.below(28)
        };
        for _ in 0..logins {
            maker.login();
        }
        for _ in 0..maker.dice.below(8) {
            maker.decision();
        }
        for _ in 0..maker.dice.below(4) {
            maker.erasure();
        }
        let removals = 1 + maker.dice.below(3);
        Self {
            limit: 2 * maker.apps.len() + removals,
            removals,
            contradictory,
            rules: maker.rules,
            facts: maker.facts,
        }
    }

    /// All facts in a random order with duplicates; for each account the order around erasures is
    /// one whose outcome is defined.
    pub fn order(&self, dice: &mut Dice) -> Vec<Fact> {
        let mut facts = self.facts.clone();
        for _ in 0..dice.below(self.facts.len() + 1) {
            facts.push(dice.pick(&self.facts).clone());
        }
        dice.shuffle(&mut facts);
        let mortals: BTreeSet<Account> = facts.iter().filter_map(erased).cloned().collect();
        for account in mortals {
            let about: Vec<usize> = (0..facts.len())
                .filter(|i| life_of(&facts[*i]) == Some(&account))
                .collect();
            let mut own: Vec<Fact> = about.iter().map(|i| facts[*i].clone()).collect();
            if takes_later_events_along(&own) {
                // By time, or erasures first; at one time the erasure is the later.
                let first = dice.one_in(2);
                own.sort_by_key(|f| (first && erased(f).is_none(), time(f), erased(f).is_some()));
            }
            for (i, fact) in about.into_iter().zip(own) {
                facts[i] = fact;
            }
        }
        facts
    }

    /// Random boundaries, with no more decisions and erasures in a batch than `limit` allows for.
    pub fn batches(&self, facts: Vec<Fact>, dice: &mut Dice) -> Vec<Vec<Fact>> {
        let largest = *dice.pick(&[1, 3, 10, 300]);
        let size = 1 + dice.below(largest);
        let mut batches: Vec<Vec<Fact>> = vec![Vec::new()];
        let mut removals = 0;
        for fact in facts {
            removals += usize::from(!matches!(fact, Fact::Sighting(_)));
            let last = batches.last_mut().unwrap();
            if last.len() >= size || removals > self.removals {
                removals = usize::from(!matches!(fact, Fact::Sighting(_)));
                batches.push(vec![fact]);
            } else {
                last.push(fact);
            }
        }
        batches
    }
}

fn erased(fact: &Fact) -> Option<&Account> {
    match fact {
        Fact::Erasure(e) => Some(&e.account),
        _ => None,
    }
}

fn life_of(fact: &Fact) -> Option<&Account> {
    match fact {
        Fact::Sighting(s) => Some(&s.account),
        Fact::Erasure(e) => Some(&e.account),
        Fact::Decision(_) | Fact::Review(_) => None,
    }
}

fn time(fact: &Fact) -> Millis {
    match fact {
        Fact::Sighting(s) => s.at,
        Fact::Erasure(e) => e.erased_at,
        Fact::Decision(d) => d.at,
        Fact::Review(_) => Millis(0),
    }
}

/// The known limit of `plan`: an erasure that comes after later events of an older life.
fn takes_later_events_along(own: &[Fact]) -> bool {
    let mut erased_at = None;
    let mut life: Option<(Millis, Millis)> = None;
    for fact in own {
        let at = time(fact);
        if Some(at) <= erased_at {
            continue;
        }
        if erased(fact).is_none() {
            life = Some(life.map_or((at, at), |(a, b)| (a.min(at), b.max(at))));
            continue;
        }
        erased_at = Some(at);
        match life {
            Some((first, last)) if first <= at && last > at => return true,
            Some((first, _)) if first <= at => life = None,
            _ => {}
        }
    }
    false
}

fn company(dice: &mut Dice, apps: usize) -> (Vec<AppId>, Rules) {
    let platform = |p: usize| PlatformId::parse(&format!("p{p}")).unwrap();
    let one_platform = apps > 64;
    let make = |n: usize, dice: &mut Dice| {
        let second = dice.one_in(4) && !one_platform;
        let mut bindings = vec![Binding {
            platform: platform(usize::from(second)),
            since: Millis(0),
        }];
        if dice.one_in(4) && !one_platform {
            bindings.push(Binding {
                platform: platform(2),
                since: Millis(20),
            });
        }
        App {
            id: AppId::parse(&format!("wx{n:02}")).unwrap(),
            kind: AppKind::MiniProgram,
            secret: None,
            token: TokenSource::default(),
            component: None,
            bindings,
        }
    };
    let apps: Vec<App> = (0..apps).map(|n| make(n, dice)).collect();
    let ids = apps.iter().map(|app| app.id.clone()).collect();
    let rules = Rules {
        namespace: Uuid::from_u128(0x5eed),
        apps: Arc::new(Apps::new(apps)),
    };
    (ids, rules)
}

impl Maker {
    fn at(&mut self) -> Millis {
        let (from, times) = self.times;
        Millis(i64::try_from(from + self.dice.below(times)).unwrap())
    }

    fn account(&mut self, person: usize) -> Account {
        let second = self.second_openid && self.dice.one_in(4);
        let crowd = self.crowd && self.dice.one_in(2);
        let suffix = match (second, crowd) {
            (_, true) => format!("c{}", self.dice.below(6)),
            (true, _) => "b".to_owned(),
            _ => "a".to_owned(),
        };
        Account {
            app: self.dice.pick(&self.apps).clone(),
            openid: OpenId::parse(&format!("o{person}{suffix}")).unwrap(),
        }
    }

    fn union(&mut self, account: &Account, person: usize, at: Millis) -> UnionKey {
        let foreign = self.wrong_unionid && self.dice.one_in(4);
        let shared = self.crowd && self.dice.one_in(2);
        let whose = match (shared, foreign) {
            (true, _) => 0,
            (_, true) => self.dice.below(self.people + 3),
            _ => person,
        };
        let platform = self.rules.apps.platform_at(&account.app, at);
        UnionKey {
            platform: platform.unwrap().clone(),
            unionid: UnionId::parse(&format!("u{whose}")).unwrap(),
        }
    }

    fn cause(&mut self) -> EventId {
        // Ids in no order, now and then two events with one id.
        EventId::parse(&format!("e{}", self.dice.below(500))).unwrap()
    }

    fn login(&mut self) {
        let person = self.dice.below(self.people);
        let account = self.account(person);
        let at = self.at();
        let mut claims = Vec::new();
        let brought = [0, 1, 1, 1, 2][self.dice.below(5)];
        for _ in 0..brought {
            let learnt = at.plus(i64::try_from(self.dice.below(3)).unwrap());
            let union = self.union(&account, person, learnt);
            claims.push(NewClaim {
                union,
                at: learnt,
                method: *self.dice.pick(&METHODS),
            });
        }
        let reason = claims.is_empty() && !self.dice.one_in(4);
        let external = self.dice.one_in(4);
        let key = self.dice.one_in(6);
        let sighting = Sighting {
            account,
            at,
            cause: self.cause(),
            external_id: external
                .then(|| ExternalId::parse(&format!("x{}", self.dice.below(3))).unwrap()),
            reason: reason.then(|| *self.dice.pick(&Reason::ALL[..Reason::ALL.len() - 1])),
            claims,
            session_key: key.then(|| SealedKey {
                at,
                sealed: vec![1],
                exchanged: false,
            }),
        };
        self.facts.push(Fact::Sighting(sighting));
    }

    fn decision(&mut self) {
        if !self.decisions {
            return;
        }
        let person = self.dice.below(self.people);
        let account = self.account(person);
        let at = self.at();
        let stranger = self.dice.below(self.people);
        let other = if self.dice.one_in(3) {
            stranger
        } else {
            person
        };
        let other = self.account(other);
        let ruling = if self.dice.one_in(2) && account != other {
            Ruling::Pair {
                a: account.clone().min(other.clone()),
                b: account.max(other),
                never: !self.dice.one_in(4),
            }
        } else {
            let verdicts = [None, Some(ClaimVerdict::Accept), Some(ClaimVerdict::Reject)];
            Ruling::Claim {
                union: self.union(&account, person, at),
                account,
                verdict: *self.dice.pick(&verdicts),
            }
        };
        let decision = Decision {
            ruling,
            at,
            author: format!("op{}", self.dice.below(2)),
            note: format!("n{}", self.dice.below(2)),
            cause: self.cause(),
        };
        self.facts.push(Fact::Decision(decision));
    }

    fn erasure(&mut self) {
        if !self.erasures {
            return;
        }
        let person = self.dice.below(self.people);
        let erasure = Erasure {
            account: self.account(person),
            erased_at: self.at(),
            cause: self.cause(),
        };
        self.facts.push(Fact::Erasure(erasure));
    }
}
