//! Codes that were handled before the database was lost, and with it the memory of their answers.
//!
//! The replay that follows meets them again. Those past their life are not sent anyway. Of younger ones
//! whose logins were finished it is noted that they are lost, so that none is sent twice; what they
//! bought stands in `account-links`. Of logins that were under way nobody knows any longer whether the
//! code was sent: it is noted that it may have been, as of one whose worker was killed. Then it is sent
//! once more, and if WeChat says that it was used, its answer is what was lost.

use super::{CHUNK, Done, RebuildError, Site};
use crate::bus::{Assigned, Range, Stored};
use crate::model::{App, Evidence, Millis, Secret};
use crate::resolve::exchange::CODE_LIFE_MS;
use crate::resolve::ledger::{code_mark, lost_code};
use crate::resolve::ports::{Mark, Note};
use crate::store::{Claim, Claimed, CodeKey, Release, Spent};
use crate::worker::Decoded;
use std::sync::Arc;
use uuid::Uuid;

/// An event may be as much older than its record as codes live, and clocks differ by some seconds.
const LOOK_BACK_MS: i64 = CODE_LIFE_MS + 60_000;

/// Notes the codes of what the group has finished, and of what its workers may have had in hand.
pub(super) async fn keep_from_being_sent(
    site: &Site,
    group: &[Assigned],
    done: &mut Done,
) -> Result<(), RebuildError> {
    let now = (site.clock)();
    let bounds = site.bounds(&site.topics.logins).await?;
    for (one, (first, next)) in group.iter().zip(&bounds) {
        under_way(site, one, (*first, *next), done).await?;
        let mut to = one.input.unwrap_or(0).min(*next);
        while to > *first {
            let from = (*first).max(to.saturating_sub_unsigned(CHUNK as u64));
            let mut range = Range {
                topic: Arc::clone(&site.topics.logins),
                partition: one.partition,
                from,
                to,
            };
            let mut recent = false;
            loop {
                let records = site.bus.read(&range, CHUNK).await?;
                let Some(last) = records.last() else { break };
                range.from = last.offset + 1;
                recent |= records[0].timestamp > now.0 - LOOK_BACK_MS;
                done.codes += note(site, &records, now).await?;
            }
            if !recent {
                break;
            }
            to = from;
        }
    }
    Ok(())
}

/// Notes of what follows the group's position, as far as a worker reads ahead, that it may have been sent.
async fn under_way(
    site: &Site,
    one: &Assigned,
    (first, next): (i64, i64),
    done: &mut Done,
) -> Result<(), RebuildError> {
    let mut range = Range {
        topic: Arc::clone(&site.topics.logins),
        partition: one.partition,
        from: one.input.unwrap_or(0).max(first),
        to: next,
    };
    let mut left = site.read_ahead;
    while left > 0 {
        let mut records = site.bus.read(&range, CHUNK).await?;
        let Some(last) = records.last() else { break };
        range.from = last.offset + 1;
        records.truncate(left);
        left -= records.len();
        done.unsure += may_be_sent(site, &records, (site.clock)()).await?;
    }
    Ok(())
}

async fn may_be_sent(site: &Site, records: &[Stored], now: Millis) -> Result<u64, RebuildError> {
    let codes = young(site, records, now);
    let marks = codes.map(|(app, code)| CodeKey(code_mark(&site.keys, &app, &code).0));
    let marks: Vec<CodeKey> = marks.collect();
    let known = site.store.spent(&marks).await?;
    let unknown = marks.into_iter().zip(known).filter(|(_, k)| k.is_none());
    let claims = unknown.map(|(code, _)| Claim {
        code,
        holder: Uuid::new_v4(),
        until: now,
    });
    let claims: Vec<Claim> = claims.collect();
    if claims.is_empty() {
        return Ok(0);
    }
    let claimed = site.store.claim(&claims, now).await?;
    // Whoever had one in the copy that was restored has said as much.
    let mine = claims.iter().zip(claimed);
    let mine = mine.filter(|(_, came)| matches!(came, Claimed::Mine { .. }));
    let sent = mine.map(|(claim, _)| Release {
        code: claim.code,
        holder: claim.holder,
        sent: true,
    });
    let sent: Vec<Release> = sent.collect();
    site.store.release(&sent).await?;
    Ok(sent.len() as u64)
}

/// The codes of these logins that WeChat may still take.
fn young<'a>(
    site: &'a Site,
    records: &'a [Stored],
    now: Millis,
) -> impl Iterator<Item = (App, Secret)> + 'a {
    let young = records
        .iter()
        .filter(move |r| r.timestamp > now.0 - LOOK_BACK_MS);
    young.filter_map(|record| {
        let Decoded::Login(login) = site.decoder.decode(record) else {
            return None;
        };
        let app = site.rules.apps.get(&login.app)?.clone();
        match login.evidence {
            Evidence::Code { code, .. } => Some((app, code)),
            _ => None,
        }
    })
}

/// Notes those of which no answer is remembered.
async fn note(site: &Site, records: &[Stored], now: Millis) -> Result<u64, RebuildError> {
    let codes = young(site, records, now);
    let codes = codes.map(|(app, code)| lost_code(&site.keys, &app, &code, now));
    let codes: Vec<(Mark, Note)> = codes.collect::<Result<_, _>>()?;
    let asked: Vec<CodeKey> = codes.iter().map(|(mark, _)| CodeKey(mark.0)).collect();
    let known = site.store.spent(&asked).await?;
    let unknown = codes
        .into_iter()
        .zip(known)
        .filter(|(_, known)| known.is_none());
    let lost = unknown.map(|((_, note), _)| Spent {
        code: CodeKey(note.mark.0),
        account: note.account,
        at: note.at,
        answer: Some(note.sealed),
    });
    let lost: Vec<Spent> = lost.collect();
    if !lost.is_empty() {
        site.store.spend(&lost).await?;
    }
    Ok(lost.len() as u64)
}
