//! Each rule by name, told as facts and what a store and a consumer of the topics then know.

mod contests;
mod erasures;
mod looking;
#[path = "../../../tests/memory/mod.rs"]
mod memory;
mod news;
mod turns;
mod users;

use super::{Rules, keys, plan};
use crate::model::*;
use memory::{Memory, Published, deliver};
use std::sync::Arc;
use uuid::Uuid;

/// A store and its topics.
struct World {
    memory: Memory,
    published: Published,
    rules: Rules,
    now: i64,
    /// The news of the last batch.
    news: Vec<News>,
}

impl World {
    /// Apps `wx0`, `wx1`, … of platform `p`; `moved` went from `old` to `p` at 50.
    fn new() -> Self {
        let app = |id: &str, bindings| App {
            id: AppId::parse(id).expect("a literal of the test"),
            kind: AppKind::MiniProgram,
            secret: None,
            token: TokenSource::default(),
            component: None,
            bindings,
        };
        let since = |p: &str, at| Binding {
            platform: PlatformId::parse(p).expect("a literal of the test"),
            since: Millis(at),
        };
        let mut apps: Vec<App> = (0..70)
            .map(|n| app(&format!("wx{n}"), vec![since("p", 0)]))
            .collect();
        apps.push(app("moved", vec![since("old", 0), since("p", 50)]));
        Self {
            memory: Memory::new(1_000),
            published: Published::default(),
            rules: Rules {
                namespace: Uuid::from_u128(1),
                apps: Arc::new(Apps::new(apps)),
            },
            now: 1_000,
            news: Vec::new(),
        }
    }

    /// One batch.
    fn take(&mut self, facts: &[Fact]) -> Changes {
        self.now += 1;
        let now = Millis(self.now);
        let changes = deliver(&mut self.memory, facts, &self.rules, now);
        self.published.take(&changes.news);
        self.news.clone_from(&changes.news);
        changes
    }

    /// Each fact a batch of its own.
    fn each(&mut self, facts: &[Fact]) {
        for fact in facts {
            self.take(std::slice::from_ref(fact));
        }
    }

    fn row(&self, of: &str) -> &AccountRow {
        &self.memory.accounts[&account(of)]
    }

    fn user(&self, of: &str) -> UserId {
        self.row(of).user
    }

    fn linked(&self, of: &str) -> &Linked {
        &self.published.linked[&account(of)]
    }

    fn own(&self, of: &str, generation: i64) -> UserId {
        account(of).own_id(self.rules.namespace, Millis(generation))
    }

    fn claim(&self, of: &str, union: &str) -> &ClaimRow {
        &self.memory.claims[&account(of)][&unionid(union)]
    }

    fn why(&self, of: &str, union: &str) -> Option<Why> {
        match self.claim(of, union).status {
            ClaimStatus::Active => None,
            ClaimStatus::Contested(why) => Some(why),
        }
    }

    fn conflicts(&self) -> usize {
        let conflict = |n: &&News| matches!(n, News::Conflict { .. });
        self.news.iter().filter(conflict).count()
    }
}

/// `app:openid`.
fn account(key: &str) -> Account {
    Account::from_key(key).expect("a literal of the test")
}

/// `unionid` in platform `p`, or `platform/unionid`.
fn unionid(key: &str) -> UnionKey {
    let (platform, unionid) = key.split_once('/').unwrap_or(("p", key));
    UnionKey {
        platform: PlatformId::parse(platform).expect("a literal of the test"),
        unionid: UnionId::parse(unionid).expect("a literal of the test"),
    }
}

fn event(id: &str) -> EventId {
    EventId::parse(id).expect("a literal of the test")
}

/// An account is seen, with claims of the same time.
fn seen_by(key: &str, at: i64, method: Method, unionids: &[&str]) -> Fact {
    let claim = |union: &&str| NewClaim {
        union: unionid(union),
        at: Millis(at),
        method,
    };
    Fact::Sighting(Sighting {
        account: account(key),
        at: Millis(at),
        cause: event(&format!("e{at}")),
        external_id: None,
        reason: None,
        claims: unionids.iter().map(claim).collect(),
        session_key: None,
    })
}

fn seen(key: &str, at: i64, unionids: &[&str]) -> Fact {
    seen_by(key, at, Method::Provided, unionids)
}

/// The same fact with more told.
fn with(fact: Fact, change: impl FnOnce(&mut Sighting)) -> Fact {
    match fact {
        Fact::Sighting(mut sighting) => {
            change(&mut sighting);
            Fact::Sighting(sighting)
        }
        other => other,
    }
}

fn ruled(key: &str, union: &str, at: i64, verdict: Option<ClaimVerdict>) -> Fact {
    decision(
        Ruling::Claim {
            account: account(key),
            union: unionid(union),
            verdict,
        },
        at,
    )
}

fn accept(key: &str, union: &str, at: i64) -> Fact {
    ruled(key, union, at, Some(ClaimVerdict::Accept))
}

fn reject(key: &str, union: &str, at: i64) -> Fact {
    ruled(key, union, at, Some(ClaimVerdict::Reject))
}

fn never(a: &str, b: &str, at: i64, never: bool) -> Fact {
    let (a, b) = (account(a), account(b));
    decision(Ruling::Pair { a, b, never }, at)
}

fn decision(ruling: Ruling, at: i64) -> Fact {
    Fact::Decision(Decision {
        ruling,
        at: Millis(at),
        author: "op".into(),
        note: "seen the person".into(),
        cause: event(&format!("d{at}")),
    })
}

fn erased(key: &str, at: i64) -> Fact {
    Fact::Erasure(Erasure {
        account: account(key),
        erased_at: Millis(at),
        cause: event(&format!("x{at}")),
    })
}
