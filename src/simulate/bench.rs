//! Events for measuring: half of them `encryptedData` with its session key, half a unionid in plain,
//! 6 of 10 from an account not seen before. Each is a function of its number.

use super::crypto::Encrypted;
use super::dice::mix;
use super::people::Event;
use super::world::{AppNo, World};
use crate::model::{AppKind, Millis};

/// Accounts per block. A person has one account in each quarter of it, so that merges reach back
/// 25,000 accounts and not just to the batch before.
const BLOCK: u64 = 100_000;
/// Apps per person: two mini programs (encrypted) and two others (provided), in turn.
const APPS: u64 = 4;

/// The stream of events.
pub struct Bench<'a> {
    world: &'a World,
    apps: [AppNo; 4],
    /// Time of event 0; each further event is one millisecond later.
    base: Millis,
}

impl<'a> Bench<'a> {
    /// A stream in `world`. `None` unless it has two mini programs and two other apps on one
    /// platform, as the default world has.
    #[must_use]
    pub fn new(world: &'a World, base: Millis) -> Option<Self> {
        let of = |mini: bool| {
            let apps = world.numbers().zip(world.sim_apps());
            let mut fit = apps.filter_map(move |(n, app)| {
                let fits = app.platform == Some(0) && (app.kind == AppKind::MiniProgram) == mini;
                fits.then_some(n)
            });
            Some([fit.next()?, fit.next()?])
        };
        let ([a, c], [b, d]) = (of(true)?, of(false)?);
        Some(Self {
            world,
            apps: [a, b, c, d],
            base,
        })
    }

    /// How many accounts the first `events` events show.
    #[must_use]
    pub fn accounts(events: u64) -> u64 {
        events / 10 * 6 + (events % 10).min(6)
    }

    /// The account behind event `i`: even ones come encrypted.
    fn account(i: u64) -> u64 {
        let (ten, one) = (i / 10, i % 10);
        if one < 6 {
            return ten * 6 + one;
        }
        // A repeat: any account so far, of the same parity.
        let pairs = ten * 3 + 3;
        mix(&[i, 0xbe7c]) % pairs * 2 + i % 2
    }

    /// Person and app of an account.
    fn whose(&self, account: u64) -> (u64, AppNo) {
        let (block, at) = (account / BLOCK, account % BLOCK);
        // Pairs of accounts (one encrypted, one provided) belong to a person in two rounds.
        let pair = at / 2;
        let per_round = BLOCK / APPS;
        let person = block * per_round + (pair + (at % 2) * (per_round / 2)) % per_round;
        let app = (pair / per_round) * 2 + at % 2;
        let app = usize::try_from(app).unwrap_or(0) % self.apps.len();
        (person, self.apps[app])
    }

    /// Event `i`.
    #[must_use]
    pub fn event(&self, i: u64) -> Event {
        let account = Self::account(i);
        let (person, app) = self.whose(account);
        let at = self.base.plus(i64::try_from(i).unwrap_or(i64::MAX));
        let encrypted = account.is_multiple_of(2);
        (self.world).told(format!("bench-{i}"), (person, app), at, encrypted)
    }
}

impl World {
    /// A login of which everything is told at once: with the unionid in plain, or in `encryptedData`
    /// beside its session key. For measuring; nothing is remembered of it.
    #[must_use]
    pub fn told(
        &self,
        id: String,
        (person, app): (u64, AppNo),
        at: Millis,
        encrypted: bool,
    ) -> Event {
        let mut event = Event {
            id,
            occurred_at: at.to_string(),
            appid: self.app(app).map_or("", |a| a.id.as_str()).to_owned(),
            openid: Some(self.openid_text(person, app)),
            ..Event::default()
        };
        if encrypted {
            let Encrypted {
                encrypted_data, iv, ..
            } = self.encrypted(person, app, 0, at);
            event.session_key = Some(self.session_key(person, app, 0));
            event.encrypted_data = Some(encrypted_data);
            event.iv = Some(iv);
        } else {
            event.unionid = self.unionid_text(person, app);
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn the_mix_is_as_promised() {
        let world = World::new(1).unwrap();
        let bench = Bench::new(&world, Millis(1_700_000_000_000)).unwrap();
        let events = 200_000u64;
        let mut accounts = HashSet::new();
        let mut people: HashMap<u64, HashSet<AppNo>> = HashMap::new();
        for i in 0..events {
            let account = Bench::account(i);
            assert_eq!(account % 2, i % 2);
            accounts.insert(account);
            let (person, app) = bench.whose(account);
            people.entry(person).or_default().insert(app);
        }
        assert_eq!(accounts.len() as u64, Bench::accounts(events));
        assert_eq!(people.len(), 25_000 + 20_000);
        let full = people.values().filter(|apps| apps.len() == 4).count();
        assert_eq!(full, 25_000);
        let distinct: HashSet<_> = (0..BLOCK).map(|a| bench.whose(a)).collect();
        assert_eq!(distinct.len() as u64, BLOCK);
    }

    #[test]
    fn events_carry_one_sort_of_evidence_and_repeat_exactly() {
        let world = World::new(1).unwrap();
        let bench = Bench::new(&world, Millis(1_700_000_000_000)).unwrap();
        for i in 0..40 {
            let event = bench.event(i);
            assert_eq!(event.unionid.is_some(), i % 2 == 1);
            assert_eq!(event.encrypted_data.is_some(), i % 2 == 0);
            assert_eq!(event.json().unwrap(), bench.event(i).json().unwrap());
        }
    }
}
