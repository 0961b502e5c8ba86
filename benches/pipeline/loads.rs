//! The loads: events as gateways send them, made into records as the intake makes them, before
//! anything is timed.
//!
//! People are numbered. Those below [`Loads::stored`] / 2 are stored before with two accounts each,
//! in the first two apps; everybody above is new.

use clap::ValueEnum;
use serde::Serialize;
use std::sync::Arc;
use unilink::bus::Record;
use unilink::cli::prepare::Gatekeeper;
use unilink::clock;
use unilink::config::Config;
use unilink::intake::Prepare;
use unilink::model::{AppKind, Millis};
use unilink::seal::PublicKey;
use unilink::simulate::{AppNo, Event, World};

/// Chooses people and ids.
const SEED: u64 = 1;
/// The first person whom nobody knows; far above those stored.
const NEW: u64 = 1 << 40;
/// Of so many repeats one is new.
const ONE_IN: u64 = 20;
/// Events sealed by one thread at a time.
const CHUNK: usize = 4_096;

/// What comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Accounts that nobody knows, each with its unionid; the second half of them joins the first
    AllNew,
    /// 19 of 20 events are of accounts that are stored, and say nothing new; one is a new account,
    /// in turn of a person who is stored and of one who is not
    MostlyRepeat,
    /// As all-new, but the unionid has to be decrypted, and the evidence comes sealed
    Decrypt,
}

impl Load {
    /// As on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("a name");
        value.get_name().to_owned()
    }

    /// How many accounts `events` events make.
    pub fn new_accounts(self, events: u64) -> u64 {
        match self {
            Self::AllNew | Self::Decrypt => events,
            Self::MostlyRepeat => events.div_ceil(ONE_IN),
        }
    }
}

/// Makes events.
#[derive(Clone)]
pub struct Loads {
    /// The company.
    pub world: Arc<World>,
    /// Two mini programs, then another app, all on one platform.
    pub apps: [AppNo; 3],
    /// Accounts stored before.
    pub stored: u64,
    /// The time of event 0; each further event is a millisecond later.
    base: Millis,
}

/// The simulated company, in which WeChat blocks nobody.
pub fn world() -> World {
    let mut world = World::new(SEED).expect("a world");
    world.blocked_share = 0.0;
    world
}

impl Loads {
    /// Beside so many accounts that are stored.
    pub fn new(stored: u64) -> Self {
        let world = Arc::new(world());
        let on_first = |mini: bool| {
            let apps = world.numbers().zip(world.sim_apps());
            let fit = apps.filter(move |(_, app)| {
                app.platform == Some(0) && (app.kind == AppKind::MiniProgram) == mini
            });
            fit.map(|(number, _)| number).collect::<Vec<_>>()
        };
        let (mini, other) = (on_first(true), on_first(false));
        Self {
            apps: [mini[0], mini[1], other[0]],
            world,
            stored,
            base: clock::now().plus(-3_600_000),
        }
    }

    /// Person and app of event `i` of `events`.
    fn whose(&self, load: Load, i: u64, events: u64) -> (u64, AppNo) {
        let half = events.div_ceil(2);
        match load {
            Load::AllNew | Load::Decrypt if i < half => (NEW + i, self.apps[0]),
            Load::AllNew | Load::Decrypt => (NEW + i - half, self.apps[1]),
            Load::MostlyRepeat if i.is_multiple_of(2 * ONE_IN) => (NEW + i, self.apps[0]),
            // Each person's third account once: the step shares no factor with their number.
            Load::MostlyRepeat if i.is_multiple_of(ONE_IN) => {
                let people = (self.stored / 2).max(1);
                (i / ONE_IN * coprime(people) % people, self.apps[2])
            }
            Load::MostlyRepeat => {
                let account = scattered(i) % self.stored.max(1);
                (account / 2, self.apps[usize::from(account % 2 == 1)])
            }
        }
    }

    /// Event `i` of `events`.
    pub fn event(&self, load: Load, i: u64, events: u64) -> Event {
        let (person, app) = self.whose(load, i, events);
        let at = self.base.plus(i64::try_from(i).expect("a number"));
        let id = format!("{}-{i}", load.name());
        (self.world).told(id, (person, app), at, load == Load::Decrypt)
    }

    /// The records of a load, as an intake with this configuration publishes them.
    pub fn records(&self, load: Load, events: u64, config: &Config, to: &PublicKey) -> Vec<Record> {
        let gatekeeper = Gatekeeper::new(config, to.clone());
        let all: Vec<u64> = (0..events).collect();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let prepare = |i: &u64| {
            let json = self.event(load, *i, events).json().expect("JSON");
            gatekeeper
                .prepare(&json, clock::now())
                .expect("taken")
                .record
        };
        let mut records = Vec::with_capacity(all.len());
        for round in all.chunks(CHUNK * cores) {
            std::thread::scope(|scope| {
                let chunks = round.chunks(CHUNK);
                let work = chunks.map(|c| scope.spawn(move || c.iter().map(prepare).collect()));
                for done in work.collect::<Vec<_>>() {
                    let done: Vec<Record> = done.join().expect("prepared");
                    records.extend(done);
                }
            });
        }
        records
    }
}

fn scattered(i: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        >> 16
}

/// A step that comes round to each of `people` once.
fn coprime(people: u64) -> u64 {
    const PRIMES: [u64; 4] = [7_919, 7_907, 7_901, 7_883];
    let fit = PRIMES.iter().find(|p| !people.is_multiple_of(**p));
    fit.copied().unwrap_or(1)
}
