//! Topics from the store: every account, every id that is not current and every register is told
//! anew, under the next epoch and with the revisions they have. It goes through the outbox, so that
//! the next worker publishes it exactly once.

use super::positions::{self, Outbox};
use super::{Done, PAGE, RebuildError, Site};
use crate::bus::{Assigned, Progress, Record, partition_of};
use crate::model::{Account, AccountRow, ClaimRow, Keys, Linked, News, View, present};
use crate::store::{
    Batch, Identity, Move, Origin, Planner, Rebirth, Step, Store, StoreError, UnderWay, Write,
};
use crate::worker::{Records, RecoverError, check_topic};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rebuilds.
///
/// # Errors
/// Workers run, or bus or store fail. Run it again then.
pub async fn from_store(site: &Site) -> Result<Done, RebuildError> {
    site.enter(Origin::Store).await?;
    let mut done = Done::default();
    let group = site.bus.group().await?;
    let same = is_same_topic(site, &group).await?;
    let mut outboxes = Vec::with_capacity(group.len());
    for one in &group {
        outboxes.push(Outbox::emptied(site, one).await?);
    }
    let epoch = site.store.identity().epoch + 1;
    if !same {
        move_deferred(site, &mut done).await?;
    }
    let identity = site
        .store
        .rebirth(&Rebirth {
            birth: site.birth.clone(),
            epoch,
            emptied: positions::emptied(&outboxes),
            keep_positions: same,
        })
        .await?;
    let places = places(site, (&group, &outboxes), &identity, same).await?;
    site.bus.place(&places).await?;
    let (origin, placed) = (Origin::Store, true);
    site.store.begin(UnderWay { origin, placed }).await?;
    done.epoch = epoch;
    tell_accounts(site, epoch, &mut done).await?;
    tell_tombstones(site, epoch, &mut done).await?;
    site.store.finish().await?;
    Ok(done)
}

/// Whether the login topic is the one that the store has read, with as many partitions.
async fn is_same_topic(site: &Site, group: &[Assigned]) -> Result<bool, RebuildError> {
    let identity = site.store.identity();
    if identity.birth.partitions != site.birth.partitions {
        return Ok(false);
    }
    let positions = site.store.positions().await?;
    for position in &positions {
        match check_topic(&site.bus, &site.topics.logins, position).await {
            Ok(()) => {}
            Err(RecoverError::Store(StoreError::Mismatch(_))) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    // Right after a rebuild there are no positions; what the bus was told then tells it.
    let own = |one: &Assigned| one.relay.is_some_and(|relay| relay.store == identity.store);
    Ok(!positions.is_empty() || group.iter().all(own))
}

async fn places(
    site: &Site,
    (group, outboxes): (&[Assigned], &[Outbox]),
    identity: &Identity,
    same: bool,
) -> Result<Vec<Progress>, RebuildError> {
    let bounds = site.bounds(&site.topics.logins).await?;
    let applied = site.store.positions().await?;
    let places = group.iter().zip(outboxes).map(|(one, outbox)| {
        let first = bounds.get(one.partition as usize);
        let first = first.map_or(0, |(first, _)| *first);
        if !same {
            return outbox.place(identity, first, -1);
        }
        let applied = applied.iter().find(|p| p.partition == one.partition);
        let input = one.input.or(applied.map(|p| p.offset));
        outbox.place(identity, input.unwrap_or(first), positions::inline(one))
    });
    Ok(places.collect())
}

/// Resolutions that go on later get places that no record of the new topic has.
async fn move_deferred(site: &Site, done: &mut Done) -> Result<(), RebuildError> {
    // Formats and topics do not matter here, only the seal.
    let records = site.records(site.store.identity().epoch);
    let partitions = site.birth.partitions.max(1);
    loop {
        let (placed, mut lowest) = site.store.placed(partitions, PAGE).await?;
        let mut moved = Vec::with_capacity(placed.len());
        for row in &placed {
            let from = (row.partition, row.offset);
            let kept = records.recover(from, &row.record);
            let mut record = kept.ok_or_else(|| {
                let why = "deferred work does not open: is a ring key missing in the key file?";
                RebuildError::Refused(why.to_owned())
            })?;
            lowest -= 1;
            let to = (partition_of(&record.key, partitions), lowest);
            (record.partition, record.offset) = to;
            let record = records.keep(&record);
            moved.push(Move { from, to, record });
        }
        site.store.replace(&moved).await?;
        done.moved += moved.len() as u64;
        if moved.is_empty() {
            return Ok(());
        }
    }
}

async fn tell_accounts(site: &Site, epoch: u32, done: &mut Done) -> Result<(), RebuildError> {
    let total = site.store.totals().await?.accounts;
    site.watch.stage("accounts written", total);
    let records = site.records(epoch);
    let mut after = 0;
    loop {
        let page = site.store.walk(after, PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = *last;
        let keys = Keys {
            accounts: page.into_iter().map(|(_, account)| account).collect(),
            ..Keys::default()
        };
        let view = site.store.view(&keys).await?;
        let news = keys.accounts.iter().flat_map(|a| about(site, &view, a));
        put(site, news.map(|news| records.news(&news)), done).await?;
        done.accounts += keys.accounts.len() as u64;
        site.at(done.accounts)?;
    }
}

/// Everything that is told of an account.
fn about(site: &Site, view: &View, account: &Account) -> Vec<News> {
    let Some(row) = view.accounts.get(account) else {
        return Vec::new();
    };
    let rulings = view.rulings.iter().filter(|(k, _)| k.account == *account);
    let pairs = view.pairs.iter();
    let pairs = pairs.filter(|(pair, _)| pair.a == *account || pair.b == *account);
    let mut news: Vec<News> = rulings
        .map(|(key, ruled)| News::RulingKept(key.clone(), ruled.clone()))
        .chain(pairs.map(|(pair, ruled)| News::PairKept(pair.clone(), ruled.clone())))
        .collect();
    let claims = view.claims.get(account).map_or(&[][..], Vec::as_slice);
    news.push(linked(site, row, claims));
    let own = account.own_id(site.rules.namespace, row.generation);
    if own != row.user {
        news.push(News::Merged {
            account: account.clone(),
            from: own,
            into: row.user,
            cause: row.cause.clone(),
            at: row.linked_at,
        });
    }
    news
}

fn linked(site: &Site, row: &AccountRow, claims: &[ClaimRow]) -> News {
    let mut claims = claims.to_vec();
    claims.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let shown = present(row, &claims, &site.rules.apps);
    News::Linked(Box::new(Linked {
        row: row.clone(),
        previous_user: None,
        platform: shown.platform,
        unionid: shown.unionid,
        method: shown.method,
        claims,
    }))
}

async fn tell_tombstones(site: &Site, epoch: u32, done: &mut Done) -> Result<(), RebuildError> {
    let stones = site.store.tombstones().await?;
    site.watch.stage("tombstones written", stones.len() as u64);
    let records: Records = site.records(epoch);
    for page in stones.chunks(PAGE) {
        // Nobody can tell their accounts, and with them their partitions: any will do.
        let told = page.iter().map(|stone| (0, records.buried(stone)));
        put(site, told, done).await?;
    }
    Ok(())
}

/// Puts records into the outbox, one row for each partition.
async fn put(
    site: &Site,
    records: impl Iterator<Item = (u32, Record)>,
    done: &mut Done,
) -> Result<(), RebuildError> {
    let mut outbox: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    for (partition, record) in records {
        outbox.entry(partition).or_default().push(record);
        done.told += 1;
    }
    let store: Arc<dyn Store> = Arc::clone(&site.store) as Arc<dyn Store>;
    store.apply(&Batch::default(), &mut Telling(outbox)).await?;
    Ok(())
}

/// Writes nothing but the outbox.
struct Telling(BTreeMap<u32, Vec<Record>>);

impl Planner for Telling {
    fn step(&mut self, _: &View) -> Step {
        Step::Write(Box::new(Write {
            outbox: self.0.clone(),
            ..Write::default()
        }))
    }
}
