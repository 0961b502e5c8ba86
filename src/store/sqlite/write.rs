//! Writing what a planner decided: accounts, claims, session keys, fates, positions.

use super::SqliteStore;
use super::apply::Planned;
use super::rows::{account_values, claim_values};
use super::view::Loaded;
use crate::model::{Account, Changes};
use crate::sqlite::{Insert, Tx, Val};
use crate::store::rules::{changes_view, expect_rows, fate, state_word};
use crate::store::{Batch, Position, StoreError};
use rustc_hash::FxHashSet;

const PUT_ACCOUNTS: Insert = Insert {
    head: "INSERT INTO accounts (id, anchor, key, user, generation, first_seen_at, revision, \
           external_at, external, reason_at, reason, cause, linked_at) VALUES",
    columns: 13,
    tail: "ON CONFLICT (id) DO UPDATE SET user = excluded.user, generation = excluded.generation, \
           first_seen_at = excluded.first_seen_at, revision = excluded.revision, \
           external_at = excluded.external_at, external = excluded.external, \
           reason_at = excluded.reason_at, reason = excluded.reason, cause = excluded.cause, \
           linked_at = excluded.linked_at",
};
const PUT_CLAIMS: Insert = Insert {
    head: "INSERT INTO claims (account, tag, platform, unionid, at, method, cause, why, verdict, \
           reported) VALUES",
    columns: 10,
    tail: "ON CONFLICT (account, tag) DO UPDATE SET at = excluded.at, \
           method = excluded.method, cause = excluded.cause, why = excluded.why, \
           verdict = excluded.verdict, reported = excluded.reported",
};
const PUT_SESSION_KEYS: Insert = Insert {
    head: "INSERT INTO session_keys (account, at, exchanged, sealed) VALUES",
    columns: 4,
    tail: "ON CONFLICT (account, at, exchanged) DO UPDATE SET sealed = excluded.sealed",
};
/// An account keeps its three newest keys: one is valid at a time (`docs/wechat.md` §3.3), and a
/// front end's data may be one or two logins late.
pub(super) const TRIM_SESSION_KEYS: Insert = Insert {
    head: "DELETE FROM session_keys WHERE (SELECT count(*) FROM session_keys n WHERE \
           n.account = session_keys.account AND (n.at, n.exchanged) > \
           (session_keys.at, session_keys.exchanged)) >= 3 AND account IN (VALUES",
    columns: 1,
    tail: ")",
};
pub(super) const DROP_SESSION_KEYS: Insert = Insert {
    head: "DELETE FROM session_keys WHERE account IN (VALUES",
    columns: 1,
    tail: ")",
};
/// A fate that is final is not taken back by a repeat that is deferred, nor by older news.
const PUT_TRACKED: Insert = Insert {
    head: "INSERT INTO tracked (event, state, account, reason, at) VALUES",
    columns: 5,
    tail: "ON CONFLICT (event) DO UPDATE SET state = excluded.state, account = excluded.account, \
           reason = excluded.reason, at = excluded.at WHERE excluded.at >= tracked.at \
           AND NOT (excluded.state = 'deferred' AND tracked.state <> 'deferred')",
};
const PUT_POSITIONS: Insert = Insert {
    head: "INSERT INTO positions (partition, offset, digest) VALUES",
    columns: 3,
    tail: "ON CONFLICT (partition) DO UPDATE SET offset = excluded.offset, \
           digest = excluded.digest",
};

impl SqliteStore {
    /// Writes the changes; says whether a planner could see any of it.
    pub(super) async fn write_changes(
        &self,
        tx: &mut Tx<'_>,
        planned: &Planned,
    ) -> Result<bool, StoreError> {
        let Planned {
            loaded, changes, ..
        } = planned;
        self.erase(tx, loaded, changes).await?;
        let mut values = Vec::with_capacity(changes.accounts.len() * PUT_ACCOUNTS.columns);
        for row in &changes.accounts {
            let id = id_of(loaded, &row.account)?;
            account_values(id, self.anchor(&row.account), row, &mut values);
        }
        let touched = tx.insert(&PUT_ACCOUNTS, values).await?;
        expect_rows("accounts", changes.accounts.len(), touched)?;
        self.put_own_ids(tx, loaded, changes).await?;
        let mut values = Vec::with_capacity(changes.claims.len() * PUT_CLAIMS.columns);
        for row in &changes.claims {
            let id = id_of(loaded, &row.key.account)?;
            claim_values(id, self.tag(&row.key.union), row, &mut values);
        }
        let touched = tx.insert(&PUT_CLAIMS, values).await?;
        expect_rows("claims", changes.claims.len(), touched)?;
        self.put_registers(tx, changes).await?;
        session_keys(tx, loaded, changes).await?;
        Ok(changes_view(changes))
    }
}

/// Keeps new keys, drops those of resolved accounts, and wakes what waits for either.
async fn session_keys(
    tx: &mut Tx<'_>,
    loaded: &Loaded,
    changes: &Changes,
) -> Result<(), StoreError> {
    let (mut values, mut ids) = (Vec::new(), Vec::new());
    for (account, key) in &changes.session_keys {
        let id = id_of(loaded, account)?;
        ids.push(id.into());
        values.extend([
            id.into(),
            key.at.0.into(),
            key.exchanged.into(),
            Val::Blob(key.sealed.clone()),
        ]);
    }
    let touched = tx.insert(&PUT_SESSION_KEYS, values).await?;
    expect_rows("session keys", changes.session_keys.len(), touched)?;
    tx.insert(&TRIM_SESSION_KEYS, ids).await?;
    // An account that is new in this batch has no older keys; most batches have only such.
    let resolved = changes.resolved.iter();
    let stored = resolved.filter(|a| loaded.view.accounts.contains_key(*a));
    let ids = stored.filter_map(|a| loaded.ids.get(a));
    let ids: Vec<Val> = ids.map(|id| (*id).into()).collect();
    tx.insert(&DROP_SESSION_KEYS, ids).await?;
    let keyed = changes.session_keys.iter().map(|(a, _)| a);
    let ready: Vec<&Account> = keyed.chain(&changes.resolved).collect();
    super::deferred::wake(tx, &ready).await
}

fn id_of(loaded: &Loaded, account: &Account) -> Result<i64, StoreError> {
    let id = loaded.ids.get(account).copied();
    id.ok_or_else(|| StoreError::Corrupt("a row of an account that is not stored".into()))
}

/// Notes fates.
pub(super) async fn tracked(
    tx: &mut Tx<'_>,
    batch: &Batch,
    gone: &FxHashSet<Account>,
) -> Result<(), StoreError> {
    let mut values = Vec::with_capacity(batch.tracked.len() * PUT_TRACKED.columns);
    for of in &batch.tracked {
        let erased = of.account.as_ref().is_some_and(|a| gone.contains(a));
        let named = of.account.as_ref().filter(|_| !erased);
        let text = |t: Option<&str>| t.map_or(Val::Null, Into::into);
        values.extend([
            of.event.as_str().into(),
            state_word(fate(of.state, erased)).into(),
            named.map_or(Val::Null, |a| a.key().into()),
            text(of.reason.as_deref()),
            of.at.0.into(),
        ]);
    }
    tx.insert(&PUT_TRACKED, values).await?;
    Ok(())
}

/// Notes how far the input was applied, as given.
pub(super) async fn positions(tx: &mut Tx<'_>, positions: &[Position]) -> Result<(), StoreError> {
    let values = positions.iter().flat_map(|p| {
        let digest = Val::Blob(p.digest.clone());
        [p.partition.into(), p.offset.into(), digest]
    });
    let values: Vec<Val> = values.collect();
    let touched = tx.insert(&PUT_POSITIONS, values).await?;
    expect_rows("positions", positions.len(), touched)
}
