//! What every adapter holds to, free of SQL: codes and words in tables, and small decisions.

use super::{Deferred, StoreError, TrackedState};
use crate::model::{Account, Changes, ClaimVerdict, Room, View};
use rustc_hash::{FxHashMap, FxHashSet};

/// Claims read of one unionid, those rejected not counted. Three openids of one app already say
/// that it is shared, so a real one has a handful; a placeholder may have millions.
pub(super) const UNIONID_LIMIT: usize = 256;

/// Whether no row changes that a planner reads; session keys and wake-ups are none of those.
pub(super) fn is_empty(changes: &Changes) -> bool {
    !changes_view(changes) && changes.session_keys.is_empty() && changes.resolved.is_empty()
}

/// Whether rows change that a planner reads.
pub(super) fn changes_view(changes: &Changes) -> bool {
    !(changes.accounts.is_empty()
        && changes.claims.is_empty()
        && changes.erased.is_empty()
        && changes.tombstones.is_empty()
        && changes.rulings.is_empty()
        && changes.pairs.is_empty())
}

/// Up to when what was noted under an erased account is void: up to the erasure if a later life begins
/// in the same batch, else whenever it was noted. (A login from before the erasure may have been read
/// long after it: what was noted of it then is younger than the erasure, and void all the same.)
pub(super) fn erased_at(changes: &Changes, account: &Account) -> i64 {
    if !changes.accounts.iter().any(|row| row.account == *account) {
        return i64::MAX;
    }
    let stone = changes.tombstones.iter().find(|t| t.account == *account);
    stone.map_or(i64::MAX, |t| t.erased_at.0)
}

/// How old the marker of finished work is: as its last lease, and never older than the work.
pub(super) fn ended_at(work: &Deferred) -> i64 {
    work.since.0.max(work.next_at.0).min(work.expires_at.0)
}

/// What the ledger finds an account's rows by.
pub(super) fn tag(mac: &[u8; 32]) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *mac;
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Rows touched must be as many as were meant.
pub(super) fn expect_rows(what: &str, meant: usize, touched: u64) -> Result<(), StoreError> {
    if u64::try_from(meant).is_ok_and(|m| m == touched) {
        return Ok(());
    }
    Err(StoreError::Corrupt(format!(
        "{what}: {touched} rows were written where {meant} were meant"
    )))
}

/// 0 accepted, 1 none, 2 rejected.
pub(super) fn verdict_code(verdict: Option<ClaimVerdict>) -> i64 {
    match verdict {
        Some(ClaimVerdict::Accept) => 0,
        None => 1,
        Some(ClaimVerdict::Reject) => 2,
    }
}

/// The verdict behind a code, or nothing if there is none.
pub(super) fn verdict_of(code: i64) -> Option<Option<ClaimVerdict>> {
    match code {
        0 => Some(Some(ClaimVerdict::Accept)),
        1 => Some(None),
        2 => Some(Some(ClaimVerdict::Reject)),
        _ => None,
    }
}

/// The fate of an event as it is noted: one whose account is erased waits for nothing.
pub(super) fn fate(state: TrackedState, erased: bool) -> TrackedState {
    match state {
        TrackedState::Deferred if erased => TrackedState::Linked,
        state => state,
    }
}

/// The word for a fate in a table.
pub(super) fn state_word(state: TrackedState) -> &'static str {
    match state {
        TrackedState::Linked => "linked",
        TrackedState::Deferred => "deferred",
        TrackedState::Dead => "dead",
    }
}

/// The fate behind a word.
pub(super) fn state_of(word: &str) -> Option<TrackedState> {
    match word {
        "linked" => Some(TrackedState::Linked),
        "deferred" => Some(TrackedState::Deferred),
        "dead" => Some(TrackedState::Dead),
        _ => None,
    }
}

/// The candidates in the order in which they are taken, sort by sort: first one of each app, then the
/// second of each, as far as there is room.
pub(super) fn in_turns<const N: usize>(sorts: [Vec<(i64, String)>; N], room: &Room) -> Vec<i64> {
    let mut taken: FxHashMap<String, usize> = FxHashMap::default();
    let mut ids = Vec::new();
    for candidates in sorts {
        let mut seen: FxHashMap<String, u32> = FxHashMap::default();
        let mut ranked: Vec<(u32, i64)> = Vec::with_capacity(candidates.len());
        for (id, app) in candidates {
            let taken = taken.entry(app.clone()).or_default();
            if *taken >= room.of(&app) {
                continue;
            }
            *taken += 1;
            let round = seen.entry(app).or_default();
            ranked.push((*round, id));
            *round += 1;
        }
        // Stable: what comes first within a round stays first.
        ranked.sort_by_key(|(round, _)| *round);
        ids.extend(ranked.into_iter().map(|(_, id)| id));
    }
    ids.truncate(room.total);
    ids
}

/// Accounts of which only a tombstone is left after the batch: their names are not written.
pub(super) fn gone(
    view: &View,
    changes: &Changes,
    stored: impl Fn(&Account) -> bool,
) -> FxHashSet<Account> {
    let absent = |a: &&Account| !stored(a);
    let mut gone: FxHashSet<Account> = (view.tombstones.keys())
        .filter(absent)
        .chain(changes.tombstones.iter().map(|t| &t.account).filter(absent))
        .chain(&changes.erased)
        .cloned()
        .collect();
    if !gone.is_empty() {
        for row in &changes.accounts {
            gone.remove(&row.account);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AppId;

    #[test]
    fn apps_take_turns_as_far_as_there_is_room() {
        let owned = |ids: &[(i64, &str)]| -> Vec<(i64, String)> {
            ids.iter()
                .map(|(id, app)| (*id, (*app).to_owned()))
                .collect()
        };
        let flood = owned(&[(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c"), (6, "b")]);
        let others = owned(&[(7, "a"), (8, "c")]);
        let due = |room: &Room| in_turns([flood.clone(), others.clone()], room);
        assert_eq!(due(&Room::for_any(100)), [1, 4, 5, 2, 6, 3, 7, 8]);
        assert_eq!(due(&Room::for_any(4)), [1, 4, 5, 2]);
        let mut room = Room::for_any(100);
        room.per_app = 1;
        assert_eq!(due(&room), [1, 4, 5]);
        room.left.insert(AppId::parse("a").expect("an id"), 0);
        room.left.insert(AppId::parse("c").expect("an id"), 2);
        assert_eq!(due(&room), [4, 5, 8]);
    }
}
