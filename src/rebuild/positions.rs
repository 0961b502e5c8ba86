//! Where group and relay go on after a rebuild.
//!
//! Sequences never go back, so that the largest one in the tail of `account-links` stays a position
//! to fall back on. Where the store has the row that was relayed last, what follows it was never
//! published and stays; elsewhere the outbox belongs to another history and is emptied.

use super::{RebuildError, Site};
use crate::bus::{Assigned, Progress, RelayPosition};
use crate::store::{Identity, Store};
use crate::worker::lost_relay;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// The outbox of one partition.
pub(super) struct Outbox {
    partition: u32,
    /// The last sequence that counts as relayed.
    seq: u64,
    /// Its row, if it is there.
    row: Uuid,
    /// Whether what follows stays.
    kept: bool,
}

impl Outbox {
    /// Emptied, going on after everything that was ever numbered.
    pub async fn emptied(site: &Site, one: &Assigned) -> Result<Self, RebuildError> {
        let relay = relay(site, one).await?;
        let head = site.store.outbox_head(one.partition).await?;
        Ok(Self {
            partition: one.partition,
            seq: head.max(relay.seq),
            row: Uuid::nil(),
            kept: false,
        })
    }

    /// The position that makes a worker go on here.
    pub fn place(&self, identity: &Identity, input: i64, inline: i64) -> Progress {
        Progress {
            partition: self.partition,
            input,
            relay: RelayPosition {
                store: identity.store,
                seq: self.seq,
                row: self.row,
                inline,
            },
        }
    }
}

/// All outboxes, in the order of `group`.
pub(super) async fn outboxes(site: &Site, group: &[Assigned]) -> Result<Vec<Outbox>, RebuildError> {
    let mut outboxes = Vec::with_capacity(group.len());
    for one in group {
        outboxes.push(match kept(site, one).await? {
            Some(kept) => kept,
            None => Outbox::emptied(site, one).await?,
        });
    }
    Ok(outboxes)
}

/// Of these, the partitions that are emptied, with the sequence to go on after.
pub(super) fn emptied(outboxes: &[Outbox]) -> BTreeMap<u32, u64> {
    let emptied = outboxes.iter().filter(|outbox| !outbox.kept);
    emptied
        .map(|outbox| (outbox.partition, outbox.seq))
        .collect()
}

/// The highest offset whose inline records are out.
pub(super) fn inline(one: &Assigned) -> i64 {
    let input = one.input.map_or(-1, |input| input - 1);
    one.relay.map_or(input, |relay| relay.inline)
}

async fn kept(site: &Site, one: &Assigned) -> Result<Option<Outbox>, RebuildError> {
    let relay = relay(site, one).await?;
    let row = site.store.outbox_row(one.partition, relay.seq).await?;
    let fits = if relay.row.is_nil() {
        // No row to compare: nothing was relayed yet, or since the last rebuild.
        let own = relay.store == site.store.identity().store;
        let head = site.store.outbox_head(one.partition).await?;
        relay.seq == 0 || (own && head >= relay.seq)
    } else {
        row == Some(relay.row)
    };
    Ok(fits.then(|| Outbox {
        partition: one.partition,
        seq: relay.seq,
        row: row.unwrap_or_default(),
        kept: true,
    }))
}

async fn relay(site: &Site, one: &Assigned) -> Result<RelayPosition, RebuildError> {
    if let Some(relay) = one.relay {
        return Ok(relay);
    }
    let store: Arc<dyn Store> = Arc::clone(&site.store) as Arc<dyn Store>;
    let links = &site.topics.account_links;
    Ok(lost_relay(&site.bus, &store, links, one.partition).await?)
}
