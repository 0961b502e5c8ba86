//! A store from the topics: `registers`, then `account-links`, then every account decided anew. The
//! worker then replays what `logins` still holds.

use super::{Done, RebuildError, Site, codes, links, positions, registers, review};
use crate::bus::Assigned;
use crate::store::{Identity, Origin, Rebirth, UnderWay};

/// Rebuilds.
///
/// # Errors
/// Workers run, bus or store fail, or the topics are not there to rebuild from. Run it again then.
pub async fn from_topics(site: &Site) -> Result<Done, RebuildError> {
    refuse_empty(site).await?;
    let before = site.enter(Origin::Topics).await?;
    let mut done = Done::default();
    let identity = if before.is_some_and(|b| b.placed) {
        site.store.identity().clone()
    } else {
        load(site, &mut done).await?
    };
    done.epoch = identity.epoch;
    review::all(site, identity.epoch, &mut done).await?;
    site.store.finish().await?;
    Ok(done)
}

/// Topics that hold nothing are no truth to rebuild from.
async fn refuse_empty(site: &Site) -> Result<(), RebuildError> {
    let links = &site.topics.account_links;
    let bounds = site.bounds(links).await?;
    let held = bounds.iter().any(|(first, next)| first < next);
    if held || site.store.walk(0, 1).await?.is_empty() {
        return Ok(());
    }
    Err(RebuildError::Refused(format!(
        "topic {links} holds nothing, and the store holds accounts: if the topics were lost, run \
         `unilink rebuild --from store`"
    )))
}

/// Takes everything in and begins the next life.
async fn load(site: &Site, done: &mut Done) -> Result<Identity, RebuildError> {
    let group = site.bus.group().await?;
    registers::load(site, done).await?;
    let newest = links::load(site, done).await?;
    codes::keep_from_being_sent(site, &group, done).await?;
    let epoch = newest.max(site.store.identity().epoch) + 1;
    let outboxes = positions::outboxes(site, &group).await?;
    let identity = site
        .store
        .rebirth(&Rebirth {
            birth: site.birth.clone(),
            epoch,
            emptied: positions::emptied(&outboxes),
            keep_positions: false,
        })
        .await?;
    let bounds = site.bounds(&site.topics.logins).await?;
    let first = |one: &Assigned| {
        bounds
            .get(one.partition as usize)
            .map_or(0, |(first, _)| *first)
    };
    let places = group.iter().zip(&outboxes).map(|(one, outbox)| {
        let inline = positions::inline(one);
        outbox.place(&identity, first(one), inline)
    });
    site.bus.place(&places.collect::<Vec<_>>()).await?;
    let (origin, placed) = (Origin::Topics, true);
    site.store.begin(UnderWay { origin, placed }).await?;
    Ok(identity)
}
