//! The simulated people: what each of them does, and what is true about them. Both are computed
//! per person from the seed; nothing is kept. The mix holds dirt on purpose, of the sorts that make
//! a careless linker merge strangers.

mod emit;
mod event;
mod plan;
mod rules;
mod truth;

pub use event::Event;
pub use truth::{Expected, Found, Outcome, Trace, Truth, Verdict};

use super::dice::Dice;
use super::simulator::Simulator;
use super::world::World;
use crate::model::InvalidId;
use emit::Emitter;

/// Share of people whose events arrive out of order.
const SHUFFLED: f64 = 0.15;

/// People numbered from 0, in the world of a simulator. They assume that the world's bindings are
/// older than their events.
#[derive(Clone, Copy, Debug)]
pub struct Population {
    people: u64,
    seed: u64,
    every_way: bool,
}

impl Population {
    /// So many people (at most [`super::MAX_PEOPLE`]); the seed decides what they do.
    #[must_use]
    pub fn new(people: u64, seed: u64) -> Self {
        Self {
            people: people.min(super::MAX_PEOPLE),
            seed,
            every_way: false,
        }
    }

    /// The same people, whose logins also arrive in the ways in which only WeChat's other APIs find
    /// the unionid: OAuth codes, user tokens, payments. The truth expects every API to be asked; it
    /// takes who follows from [`World::follows`].
    #[must_use]
    pub fn in_every_way(self) -> Self {
        Self {
            every_way: true,
            ..self
        }
    }

    /// How many there are.
    #[must_use]
    pub fn people(&self) -> u64 {
        self.people
    }

    /// The person's events in the order in which they are posted. Codes are given out now and live
    /// for minutes, so ask when you post. Asking twice gives the same logins with new codes, keys
    /// and times.
    #[must_use]
    pub fn events(&self, person: u64, sim: &Simulator) -> Vec<Event> {
        let emitter = Emitter {
            population: self,
            sim,
            person,
        };
        let mut events = Vec::new();
        for login in plan::logins(sim.world(), self, person) {
            let made = emitter.login(&login);
            let again = made.first().filter(|_| login.twice).cloned();
            events.extend(made);
            events.extend(again);
        }
        self.shuffle(person, &mut events);
        events
    }

    fn shuffle(&self, person: u64, events: &mut [Event]) {
        let mut dice = Dice::new(&[self.seed, person, 0x0dd]);
        if !dice.chance(SHUFFLED) {
            return;
        }
        for last in (1..events.len()).rev() {
            let other = dice.below(last as u64 + 1);
            events.swap(last, usize::try_from(other).unwrap_or(last));
        }
    }

    /// What is true about the person, and what each event should come to.
    ///
    /// # Errors
    /// None in practice: generated ids are valid.
    pub fn truth(&self, person: u64, world: &World) -> Result<Truth, InvalidId> {
        rules::truth(self, person, world)
    }

    /// Codes, data and events of a login share its number; `part` tells its events apart.
    fn event_id(&self, person: u64, n: u8, part: char) -> String {
        format!("sim-{:x}-{person}-{n}{part}", self.seed)
    }
}
