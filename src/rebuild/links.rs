//! What `account-links` remembers: the newest record of each account is its row and its claims, a
//! null its erasure. Nothing is published for them: they are what was published.

use super::{Done, RebuildError, Site};
use crate::bus::Stored;
use crate::link::Rules;
use crate::model::{
    Account, AccountRow, Changes, ClaimRow, ClaimStatus, Keys, Linked, Millis, Reason, Tombstone,
    View,
};
use crate::store::{Batch, Planner, Step, Write};
use crate::wire::{header, parse_linked};
use std::collections::BTreeMap;

/// What a record says of its account.
enum Told {
    Linked(Box<Linked>),
    /// It was erased, with this revision, before this time.
    Null(u64, Millis),
}

/// Takes them in; the newest epoch seen.
pub(super) async fn load(site: &Site, done: &mut Done) -> Result<u32, RebuildError> {
    let topic = &site.topics.account_links;
    let mut reading = site.whole(topic).await?;
    site.watch.stage("accounts read", reading.total());
    let mut newest = 0;
    loop {
        let records = reading.next().await?;
        if records.is_empty() {
            return Ok(newest);
        }
        let mut told = BTreeMap::new();
        for record in &records {
            let Some((epoch, account, one)) = read(record) else {
                done.unreadable += 1;
                continue;
            };
            newest = newest.max(epoch);
            told.insert(account, one);
        }
        let batch = Batch {
            keys: Keys {
                accounts: told.keys().cloned().collect(),
                ..Keys::default()
            },
            ..Batch::default()
        };
        let mut loading = Loading {
            told: &told,
            rules: &site.rules,
        };
        site.store.apply(&batch, &mut loading).await?;
        site.at(reading.read)?;
    }
}

fn read(record: &Stored) -> Option<(u32, Account, Told)> {
    let account = Account::from_key(std::str::from_utf8(&record.key).ok()?).ok()?;
    let Some(value) = &record.value else {
        let number = |name| {
            let text = std::str::from_utf8(header(&record.headers, name)?).ok()?;
            text.parse::<u64>().ok()
        };
        let told = Told::Null(number("revision")?, Millis(record.timestamp));
        let epoch = number("epoch").and_then(|epoch| u32::try_from(epoch).ok());
        return Some((epoch.unwrap_or_default(), account, told));
    };
    let wire = parse_linked(value).ok()?;
    let linked = wire.to_linked().ok()?;
    // A record under another account's key is none of ours.
    (linked.row.account == account).then(|| (wire.epoch, account, Told::Linked(Box::new(linked))))
}

struct Loading<'a> {
    told: &'a BTreeMap<Account, Told>,
    rules: &'a Rules,
}

impl Planner for Loading<'_> {
    fn step(&mut self, view: &View) -> Step {
        let mut changes = Changes::default();
        for (account, told) in self.told {
            let stored = view.accounts.get(account);
            match told {
                Told::Linked(linked) => self.linked(view, stored, linked, &mut changes),
                Told::Null(revision, at) => {
                    self.null(view, (account, stored), (*revision, *at), &mut changes);
                }
            }
        }
        Step::Write(Box::new(Write {
            changes,
            ..Write::default()
        }))
    }
}

impl Loading<'_> {
    fn linked(
        &self,
        view: &View,
        stored: Option<&AccountRow>,
        linked: &Linked,
        changes: &mut Changes,
    ) {
        let account = &linked.row.account;
        if stored.is_some_and(|row| row.revision >= linked.row.revision) {
            return;
        }
        let stone = view.tombstones.get(account);
        if stored.is_some_and(|row| row.generation != linked.row.generation) {
            end_life(view, account, changes);
            changes.tombstones.extend(stone.cloned());
        }
        let stands = |claim: &ClaimRow| {
            let ruled = view.rulings.get(&claim.key)?;
            let void = stone.is_some_and(|stone| ruled.at <= stone.erased_at);
            ruled.verdict.filter(|_| !void)
        };
        let claims = linked.claims.iter().map(|claim| ClaimRow {
            verdict: stands(claim),
            ..claim.clone()
        });
        changes.claims.extend(claims);
        changes.accounts.push(self.row(linked));
    }

    /// The row, with the reason that the claims make: a record tells it only where it shows.
    fn row(&self, linked: &Linked) -> AccountRow {
        let newest = self.rules.apps.newest_platform(&linked.row.account.app);
        let on_newest = |claim: &&ClaimRow| Some(&claim.key.union.platform) == newest;
        let mut on_newest = linked.claims.iter().filter(on_newest).peekable();
        let reason = if on_newest.peek().is_none() {
            linked.row.reason
        } else if on_newest.any(|claim| claim.status == ClaimStatus::Active) {
            None
        } else {
            Some((linked.row.first_seen_at, Reason::Contested))
        };
        AccountRow {
            reason,
            ..linked.row.clone()
        }
    }

    fn null(
        &self,
        view: &View,
        (account, stored): (&Account, Option<&AccountRow>),
        (revision, at): (u64, Millis),
        changes: &mut Changes,
    ) {
        if stored.is_some_and(|row| row.revision >= revision) {
            return;
        }
        let stone = view.tombstones.get(account);
        if stored.is_none() && stone.is_some_and(|stone| stone.revision >= revision) {
            return;
        }
        // Without its tombstone, all that is known is that it was erased before the null.
        let own = |generation| account.own_id(self.rules.namespace, generation);
        let mut stone = stone.cloned().unwrap_or_else(|| Tombstone {
            account: account.clone(),
            erased_at: at,
            own_ids: vec![own(Millis(0))],
            revision,
        });
        if let Some(row) = stored {
            let own = own(row.generation);
            if !stone.own_ids.contains(&own) {
                stone.own_ids.push(own);
            }
            end_life(view, account, changes);
        }
        stone.revision = stone.revision.max(revision);
        changes.tombstones.push(stone);
    }
}

/// Drops the stored life. Registers that outlive it are written again, as stores ask for.
fn end_life(view: &View, account: &Account, changes: &mut Changes) {
    let at = view.tombstones.get(account).map(|stone| stone.erased_at);
    let lives = |ruled_at: Millis| at.is_none_or(|at| ruled_at > at);
    changes.erased.push(account.clone());
    let rulings = view.rulings.iter();
    let rulings = rulings.filter(|(key, ruled)| key.account == *account && lives(ruled.at));
    let rulings: Vec<_> = rulings.map(|(k, r)| (k.clone(), r.clone())).collect();
    changes.rulings.extend(rulings);
    for (pair, ruled) in &view.pairs {
        let about = pair.a == *account || pair.b == *account;
        let known = changes.pairs.iter().any(|(other, _)| other == pair);
        if about && lives(ruled.at) && !known {
            changes.pairs.push((pair.clone(), ruled.clone()));
        }
    }
}
