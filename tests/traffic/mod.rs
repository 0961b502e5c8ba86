//! Logins of every sort, each with what it means: which claim it makes if it takes effect. Worked
//! out beside the product, from what the simulator handed out.

#![allow(dead_code, clippy::unwrap_used, reason = "a helper of tests")]

use crate::harness::{account, now};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use unilink::model::{Account, AppKind, Method, Millis, PlatformId, UnionId, UnionKey};
use unilink::simulate::{AppNo, Manner, Session, Simulator};

/// A posted event and its meaning.
#[derive(Clone, Debug)]
pub struct Planned {
    pub id: String,
    pub event: Value,
    pub account: Account,
    pub at: Millis,
    pub kind: Kind,
    /// What it claims if it takes effect.
    pub claim: Option<(UnionKey, Method)>,
}

/// What may become of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Resolved at once, whatever happens.
    Plain,
    /// A code that is alive; a kill or a fault may cost it.
    Code,
    /// A code that somebody spent, or that never was one.
    DeadCode,
    /// Encrypted data that waits for the key that the event of this id brings.
    Waits(String),
    /// Encrypted data whose key never comes.
    WaitsForEver,
}

/// An endless stream of them.
pub struct Traffic {
    sim: Arc<Simulator>,
    dice: StdRng,
    count: usize,
    /// Events that are posted some time after those they belong to.
    later: VecDeque<(usize, Planned)>,
    past: Vec<Planned>,
}

/// People who are in several apps and tell the truth.
const HONEST: u64 = 400;
/// Clusters of accounts whose claims contradict each other.
const CLUSTERS: usize = 40;
/// From this number on people log in with data that waits for its key, once each.
const WAITING: u64 = 1_000_000;
/// From this number on are those whose codes are dead.
const UNLUCKY: u64 = 2_000_000;
/// Remembered events, to be repeated.
const PAST: usize = 500;

impl Traffic {
    pub fn new(sim: Arc<Simulator>, seed: u64) -> Self {
        Self {
            sim,
            dice: StdRng::seed_from_u64(seed),
            count: 0,
            later: VecDeque::new(),
            past: Vec::new(),
        }
    }

    pub fn event(&mut self) -> Planned {
        self.count += 1;
        if self
            .later
            .front()
            .is_some_and(|(due, _)| *due <= self.count)
        {
            return self.later.pop_front().unwrap().1;
        }
        let planned = match self.dice.random_range(0..100) {
            0..25 => self.contradictory(),
            25..40 => self.provided(),
            40..60 => self.encrypted(),
            60..75 => self.by_code(),
            75..79 => self.dead_code(),
            79..89 => self.waiting(),
            89..91 => self.waiting_for_ever(),
            _ => self.repeated(),
        };
        if self.past.len() < PAST {
            self.past.push(planned.clone());
        } else {
            let place = self.dice.random_range(0..PAST);
            self.past[place] = planned.clone();
        }
        planned
    }

    fn id(&self) -> String {
        format!("kill-{}", self.count)
    }

    /// A moment of the last day; codes and their like are of now.
    fn moment(&mut self) -> Millis {
        now().plus(-self.dice.random_range(0..86_400_000))
    }

    fn app(&self, app: AppNo) -> String {
        self.sim.world().app(app).unwrap().id.as_str().to_owned()
    }

    fn apps(&self, fit: impl Fn(&unilink::simulate::SimApp) -> bool) -> Vec<AppNo> {
        let world = self.sim.world();
        let apps = world.numbers().zip(world.sim_apps());
        apps.filter(|(_, a)| fit(a)).map(|(n, _)| n).collect()
    }

    fn pick(&mut self, from: &[AppNo]) -> AppNo {
        from[self.dice.random_range(0..from.len())]
    }

    fn mini(&mut self) -> AppNo {
        let apps = self.apps(|a| a.kind == AppKind::MiniProgram && a.platform.is_some());
        self.pick(&apps)
    }

    #[allow(clippy::needless_pass_by_value)] // callers build it in place
    fn plan(
        &self,
        (app, openid, at): (&str, &str, Millis),
        more: Value,
        kind: Kind,
        claim: Option<(UnionKey, Method)>,
    ) -> Planned {
        let id = self.id();
        let mut event = json!({"id": id, "occurred_at": at.to_string(), "appid": app});
        let fields = event.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        Planned {
            account: account(app, openid),
            id,
            event,
            at,
            kind,
            claim,
        }
    }

    /// Unionids of a small cluster on openids of a small cluster: shared ones, several per account,
    /// two openids of one app.
    fn contradictory(&mut self) -> Planned {
        let cluster = self.dice.random_range(0..CLUSTERS);
        let apps = self.apps(|a| a.platform == Some(0));
        let place = self.dice.random_range(0..apps.len().min(3));
        let app = self.app(apps[place]);
        let openid = format!("oCluster{cluster}x{}", self.dice.random_range(0..4));
        let unionid = format!("uCluster{cluster}x{}", self.dice.random_range(0..4));
        let at = self.moment();
        let claim = Some((main(&unionid), Method::Provided));
        let more = json!({"openid": openid, "unionid": unionid});
        self.plan((&app, &openid, at), more, Kind::Plain, claim)
    }

    fn provided(&mut self) -> Planned {
        let person = self.dice.random_range(0..HONEST);
        let every = self.apps(|_| true);
        let app = self.pick(&every);
        let world = self.sim.world();
        let openid = world.openid_text(person, app);
        let union = world.unionid(person, app).unwrap();
        // Now and then somebody else's, which contradicts what stronger evidence says.
        let wrong = self.dice.random_range(0..12) == 0;
        let union = if wrong && union.is_some() {
            self.sim.world().unionid(person + 1, app).unwrap()
        } else {
            union
        };
        let given = union.filter(|_| self.dice.random_range(0..4) > 0);
        let at = self.moment();
        let mut more = json!({"openid": openid});
        if let Some(union) = &given {
            more["unionid"] = union.unionid.as_str().into();
        }
        let claim = given.map(|union| (union, Method::Provided));
        let app = self.app(app);
        self.plan((&app, &openid, at), more, Kind::Plain, claim)
    }

    fn session(&mut self, person: u64, manner: Manner) -> Session {
        let app = self.mini();
        self.sim.login(app, person, manner).unwrap()
    }

    fn names(&self, session: &Session) -> (String, String, UnionKey) {
        let world = self.sim.world();
        let union = world.unionid(session.person, session.app).unwrap();
        let openid = world.openid_text(session.person, session.app);
        (self.app(session.app), openid, union.unwrap())
    }

    fn encrypted(&mut self) -> Planned {
        let person = self.dice.random_range(0..HONEST);
        let session = self.session(person, Manner::default());
        let (app, openid, union) = self.names(&session);
        let data = self.sim.encrypted_in(&session);
        let more = json!({"openid": openid, "session_key": self.sim.session_key(&session),
            "encryptedData": data.encrypted_data, "iv": data.iv});
        let at = self.moment();
        let claim = Some((union, Method::DecryptedEventKey));
        self.plan((&app, &openid, at), more, Kind::Plain, claim)
    }

    fn by_code(&mut self) -> Planned {
        let person = self.dice.random_range(0..HONEST);
        let session = self.session(person, Manner::default());
        let (app, openid, union) = self.names(&session);
        let more = json!({"code": self.sim.code(&session)});
        let claim = Some((union, Method::Code2Session));
        self.plan((&app, &openid, now()), more, Kind::Code, claim)
    }

    fn dead_code(&mut self) -> Planned {
        let person = UNLUCKY + self.count as u64;
        let session = self.session(person, Manner::default());
        let (app, openid, _) = self.names(&session);
        let mut code = self.sim.code(&session);
        if self.count.is_multiple_of(2) {
            self.sim.spend_elsewhere(&code);
        } else {
            code = format!("0a{}never{}", self.count, "0".repeat(16));
        }
        let more = json!({"code": code});
        self.plan((&app, &openid, now()), more, Kind::DeadCode, None)
    }

    /// Data first or the code first, close together: the code's exchange shows no unionid, and its
    /// session key opens the data.
    fn waiting(&mut self) -> Planned {
        let person = WAITING + self.count as u64;
        let manner = Manner {
            unionid: false,
            ..Manner::default()
        };
        let session = self.session(person, manner);
        let (app, openid, union) = self.names(&session);
        let at = now();
        let code = json!({"code": self.sim.code(&session)});
        let mut key = self.plan((&app, &openid, at), code, Kind::Code, None);
        key.id = format!("key-{}", self.count);
        key.event["id"] = key.id.as_str().into();
        let data = self.sim.encrypted_in(&session);
        let more = json!({"openid": openid, "encryptedData": data.encrypted_data, "iv": data.iv});
        let claim = Some((union, Method::Decrypted));
        let kind = Kind::Waits(key.id.clone());
        let data = self.plan((&app, &openid, at), more, kind, claim);
        let (first, second) = if self.count.is_multiple_of(3) {
            (key, data)
        } else {
            (data, key)
        };
        let due = self.count + [1, 20, 120][self.count % 3];
        let place = self.later.partition_point(|(d, _)| *d <= due);
        self.later.insert(place, (due, second));
        first
    }

    fn waiting_for_ever(&mut self) -> Planned {
        let person = WAITING + self.count as u64;
        let session = self.session(person, Manner::default());
        let (app, openid, _) = self.names(&session);
        let data = self.sim.encrypted_in(&session);
        let more = json!({"openid": openid, "encryptedData": data.encrypted_data, "iv": data.iv});
        self.plan((&app, &openid, now()), more, Kind::WaitsForEver, None)
    }

    fn repeated(&mut self) -> Planned {
        if self.past.is_empty() {
            return self.provided();
        }
        self.past[self.dice.random_range(0..self.past.len())].clone()
    }
}

fn main(unionid: &str) -> UnionKey {
    UnionKey {
        platform: PlatformId::parse("main").unwrap(),
        unionid: UnionId::parse(unionid).unwrap(),
    }
}
