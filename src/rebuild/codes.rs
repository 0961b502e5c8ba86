//! Codes that were handled before the database was lost, and with it the memory of their answers.
//!
//! The replay that follows meets them again. Those past their life are not sent anyway; younger ones
//! are noted as lost, so that none is sent twice. What they bought stands in `account-links`.

use super::{CHUNK, Done, RebuildError, Site};
use crate::bus::{Assigned, Range, Stored};
use crate::model::{Evidence, Millis};
use crate::resolve::exchange::CODE_LIFE_MS;
use crate::resolve::ledger::lost_code;
use crate::resolve::ports::{Mark, Note};
use crate::store::{CodeKey, Spent};
use crate::worker::Decoded;
use std::sync::Arc;

/// An event may be as much older than its record as codes live, and clocks differ by some seconds.
const LOOK_BACK_MS: i64 = CODE_LIFE_MS + 60_000;

/// Notes the codes of what the group has finished.
pub(super) async fn keep_from_being_sent(
    site: &Site,
    group: &[Assigned],
    done: &mut Done,
) -> Result<(), RebuildError> {
    let now = (site.clock)();
    let bounds = site.bounds(&site.topics.logins).await?;
    for (one, (first, next)) in group.iter().zip(&bounds) {
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

/// Notes those of which no answer is remembered.
async fn note(site: &Site, records: &[Stored], now: Millis) -> Result<u64, RebuildError> {
    let mut codes: Vec<(Mark, Note)> = Vec::new();
    for record in records
        .iter()
        .filter(|r| r.timestamp > now.0 - LOOK_BACK_MS)
    {
        let Decoded::Login(login) = site.decoder.decode(record) else {
            continue;
        };
        if let (Evidence::Code { code, .. }, Some(app)) =
            (&login.evidence, site.rules.apps.get(&login.app))
        {
            codes.push(lost_code(&site.keys, app, code, now)?);
        }
    }
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
