//! What `registers` remembers: tombstones first, since they void rulings, then rulings.

use super::{Done, PAGE, RebuildError, Site};
use crate::bus::Stored;
use crate::model::{
    Account, Changes, ClaimKey, ClaimVerdict, Keys, Millis, NeverPair, Ruled, View,
};
use crate::store::{Batch, Buried, Planner, Step, Write};
use crate::wire::{Register, register};
use std::collections::{BTreeMap, BTreeSet};

/// Rulings, the newest of each.
#[derive(Default)]
struct Rulings {
    claims: BTreeMap<ClaimKey, Ruled>,
    pairs: BTreeMap<NeverPair, Ruled>,
}

/// Takes them in.
pub(super) async fn load(site: &Site, done: &mut Done) -> Result<(), RebuildError> {
    let topic = &site.topics.registers;
    let mut reading = site.whole(topic).await?;
    site.watch.stage("registers read", reading.total());
    let mut rulings = Rulings::default();
    loop {
        let records = reading.next().await?;
        if records.is_empty() {
            break;
        }
        let mut stones = Vec::new();
        for record in &records {
            match parse(record) {
                Some(Register::Claim(key, ruled)) => keep(&mut rulings.claims, key, ruled),
                Some(Register::Pair(pair, ruled)) => keep(&mut rulings.pairs, pair, ruled),
                Some(Register::Tombstone { .. }) => stones.extend(stone(record)),
                None => done.unreadable += u64::from(record.value.is_some()),
            }
        }
        site.store.load_tombstones(&stones).await?;
        site.at(reading.read)?;
    }
    let claims: Vec<_> = rulings.claims.into_iter().collect();
    let pairs: Vec<_> = rulings.pairs.into_iter().collect();
    for claims in claims.chunks(PAGE) {
        apply(site, Loading { claims, pairs: &[] }).await?;
    }
    for pairs in pairs.chunks(PAGE) {
        apply(site, Loading { claims: &[], pairs }).await?;
    }
    Ok(())
}

/// A register; a tombstone only if its account can be told.
fn parse(record: &Stored) -> Option<Register> {
    let register = Register::parse(record.value.as_deref()?).ok()?;
    match &register {
        Register::Tombstone { own_ids, .. } => {
            let told = !own_ids.is_empty() && register::mac_in(&record.key).is_some();
            told.then_some(register)
        }
        _ => Some(register),
    }
}

fn stone(record: &Stored) -> Option<Buried> {
    let mac = register::mac_in(&record.key)?;
    match parse(record)? {
        Register::Tombstone {
            erased_at,
            own_ids,
            revision,
        } => Some(Buried {
            mac,
            erased_at,
            revision,
            own_ids,
        }),
        _ => None,
    }
}

fn keep<K: Ord>(rulings: &mut BTreeMap<K, Ruled>, key: K, ruled: Ruled) {
    match rulings.get(&key) {
        Some(standing) if rank(standing) >= rank(&ruled) => {}
        _ => {
            rulings.insert(key, ruled);
        }
    }
}

/// Of two rulings on one thing the larger stands, as in `link`.
fn rank(ruled: &Ruled) -> (Millis, &str, Option<ClaimVerdict>, &str) {
    (ruled.at, &ruled.author, ruled.verdict, &ruled.note)
}

async fn apply(site: &Site, mut loading: Loading<'_>) -> Result<(), RebuildError> {
    let claims = loading.claims.iter().map(|(key, _)| &key.account);
    let pairs = loading
        .pairs
        .iter()
        .flat_map(|(pair, _)| [&pair.a, &pair.b]);
    let accounts: BTreeSet<Account> = claims.chain(pairs).cloned().collect();
    let batch = Batch {
        keys: Keys {
            accounts,
            ..Keys::default()
        },
        ..Batch::default()
    };
    Ok(site.store.apply(&batch, &mut loading).await?)
}

/// Writes rulings that are later than the stored ones. One that an erasure voids is left out: it
/// would bring the name of the erased account back.
struct Loading<'a> {
    claims: &'a [(ClaimKey, Ruled)],
    pairs: &'a [(NeverPair, Ruled)],
}

impl Planner for Loading<'_> {
    fn step(&mut self, view: &View) -> Step {
        let void = |account: &Account, ruled: &Ruled| {
            let stone = view.tombstones.get(account);
            stone.is_some_and(|stone| ruled.at <= stone.erased_at)
        };
        let later = |stored: Option<&Ruled>, ruled: &Ruled| {
            stored.is_none_or(|stored| rank(stored) < rank(ruled))
        };
        let claims = self.claims.iter().filter(|(key, ruled)| {
            later(view.rulings.get(key), ruled) && !void(&key.account, ruled)
        });
        let pairs = self.pairs.iter().filter(|(pair, ruled)| {
            later(view.pairs.get(pair), ruled) && !void(&pair.a, ruled) && !void(&pair.b, ruled)
        });
        let changes = Changes {
            rulings: claims.cloned().collect(),
            pairs: pairs.cloned().collect(),
            ..Changes::default()
        };
        Step::Write(Box::new(Write {
            changes,
            ..Write::default()
        }))
    }
}
