//! Erasure: nothing that names the account stays in plain, in whichever table it stood. What is
//! younger than the erasure belongs to the account's next life and stays.

use super::SqliteStore;
use super::rows::int;
use super::view::Loaded;
use crate::model::{Changes, Tombstone};
use crate::sqlite::{Insert, Tx, Val};
use crate::store::StoreError;
use crate::store::rules::{erased_at, expect_rows, tag};

const PUT_TOMBSTONE: Insert = Insert {
    head: "INSERT INTO tombstones (mac, erased_at, revision, own_ids) VALUES",
    columns: 4,
    tail: "ON CONFLICT (mac) DO UPDATE SET erased_at = excluded.erased_at, \
           revision = excluded.revision, own_ids = excluded.own_ids",
};
const PUT_GONE: Insert = Insert {
    head: "INSERT INTO own_ids (own, account) VALUES",
    columns: 2,
    tail: "ON CONFLICT (own) DO UPDATE SET account = excluded.account",
};
const DELETE_ACCOUNTS: Insert = Insert {
    head: "DELETE FROM accounts WHERE id IN (VALUES",
    columns: 1,
    tail: ")",
};
pub(super) const DELETE_CLAIMS: Insert = Insert {
    head: "DELETE FROM claims WHERE account IN (VALUES",
    columns: 1,
    tail: ")",
};
pub(super) const DELETE_KEYS: Insert = Insert {
    head: "WITH k(account, at) AS (VALUES",
    columns: 2,
    tail: ") DELETE FROM session_keys WHERE (account, at, exchanged) IN (SELECT s.account, s.at, \
           s.exchanged FROM k CROSS JOIN session_keys s ON s.account = k.account AND s.at <= k.at)",
};
/// A ledger row keeps the code's hash, so that the code is never sent again.
pub(super) const FORGET_ANSWERS: Insert = Insert {
    head: "WITH k(account, tag, at) AS (VALUES",
    columns: 3,
    tail: ") UPDATE ledger SET answer = NULL, account = NULL, tag = NULL WHERE id IN (SELECT l.id \
           FROM k CROSS JOIN ledger l ON l.tag = k.tag AND l.account = k.account AND l.at <= k.at)",
};
/// The event's fate stays; it waits no more. No index: one pass over a day's events, for up to 256
/// erasures.
const FORGET_TRACKED: Insert = Insert {
    head: "WITH k(account, at) AS (VALUES",
    columns: 2,
    tail: ") UPDATE tracked SET account = NULL, \
           state = CASE state WHEN 'deferred' THEN 'linked' ELSE state END FROM k \
           WHERE tracked.account = k.account AND tracked.at <= k.at",
};
/// What waits would have no effect. It ends here and not when it is due: its app may be parked, and
/// its record holds what the person sent.
const END_DEFERRED: Insert = Insert {
    head: "WITH k(account, at) AS (VALUES",
    columns: 2,
    tail: ") UPDATE deferred SET done_at = min(max(since, next_at), expires_at), account = NULL, \
           record = x'', leased = 0 FROM k WHERE deferred.done_at IS NULL \
           AND deferred.account = k.account AND deferred.since <= k.at",
};
pub(super) const FORGET_A: Insert = Insert {
    head: "UPDATE pairs SET a = NULL WHERE a_mac IN (VALUES",
    columns: 1,
    tail: ")",
};
pub(super) const FORGET_B: Insert = Insert {
    head: "UPDATE pairs SET b = NULL WHERE b_mac IN (VALUES",
    columns: 1,
    tail: ")",
};

impl SqliteStore {
    /// Deletes erased accounts and writes tombstones.
    pub(super) async fn erase(
        &self,
        tx: &mut Tx<'_>,
        loaded: &Loaded,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        if !changes.erased.is_empty() {
            self.delete(tx, loaded, changes).await?;
            self.forget(tx, changes).await?;
        }
        self.bury(tx, &changes.tombstones).await
    }

    async fn delete(
        &self,
        tx: &mut Tx<'_>,
        loaded: &Loaded,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        let stored = changes.erased.iter().filter_map(|a| {
            // Whoever is first seen after the erasure, in the same batch, has no row yet.
            let id = *loaded.ids.get(a).filter(|id| **id < loaded.first_new)?;
            Some((id, erased_at(changes, a)))
        });
        let stored: Vec<(i64, i64)> = stored.collect();
        let ids: Vec<Val> = stored.iter().map(|(id, _)| (*id).into()).collect();
        let keys = stored
            .iter()
            .flat_map(|(id, at)| [(*id).into(), (*at).into()]);
        let keys: Vec<Val> = keys.collect();
        tx.insert(&DELETE_KEYS, keys).await?;
        tx.insert(&DELETE_CLAIMS, ids.clone()).await?;
        let touched = tx.insert(&DELETE_ACCOUNTS, ids).await?;
        expect_rows("erased accounts", stored.len(), touched)
    }

    async fn forget(&self, tx: &mut Tx<'_>, changes: &Changes) -> Result<(), StoreError> {
        let (mut named, mut tagged, mut macs) = (Vec::new(), Vec::new(), Vec::new());
        for account in &changes.erased {
            let (key, mac) = (account.key(), self.mac(account));
            let at = erased_at(changes, account);
            named.extend([key.as_str().into(), at.into()]);
            tagged.extend([key.into(), tag(&mac).into(), at.into()]);
            macs.push(Val::Blob(mac.to_vec()));
        }
        tx.insert(&FORGET_ANSWERS, tagged).await?;
        let erased = changes.erased.iter().map(|a| (a, erased_at(changes, a)));
        self.forget_answers(tx, erased).await?;
        tx.insert(&FORGET_TRACKED, named).await?;
        tx.insert(&FORGET_A, macs.clone()).await?;
        tx.insert(&FORGET_B, macs).await?;
        Ok(())
    }

    /// Ends what waits for erased accounts, once the batch has written and settled its own.
    pub(super) async fn end_waiting(
        &self,
        tx: &mut Tx<'_>,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        let named = changes.erased.iter().flat_map(|account| {
            let at = erased_at(changes, account);
            [account.key().into(), at.into()]
        });
        tx.insert(&END_DEFERRED, named.collect()).await?;
        Ok(())
    }

    async fn bury(&self, tx: &mut Tx<'_>, tombstones: &[Tombstone]) -> Result<(), StoreError> {
        let (mut stones, mut gone) = (Vec::new(), Vec::new());
        for stone in tombstones {
            let own_ids = stone.own_ids.iter().map(|id| *id.0.as_bytes());
            let own_ids: Vec<[u8; 16]> = own_ids.collect();
            stones.extend([
                Val::Blob(self.mac(&stone.account).to_vec()),
                stone.erased_at.0.into(),
                int(stone.revision),
                Val::Blob(own_ids.concat()),
            ]);
            gone.extend(
                own_ids
                    .iter()
                    .flat_map(|id| [Val::Blob(id.to_vec()), Val::Null]),
            );
        }
        let touched = tx.insert(&PUT_TOMBSTONE, stones).await?;
        expect_rows("tombstones", tombstones.len(), touched)?;
        tx.insert(&PUT_GONE, gone).await?;
        Ok(())
    }

    /// Notes the own ids of accounts whose anchor is not their own id: those of a later life.
    pub(super) async fn put_own_ids(
        &self,
        tx: &mut Tx<'_>,
        loaded: &Loaded,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        let later = changes.accounts.iter().filter(|a| a.generation.0 != 0);
        let values = later.flat_map(|a| {
            let own = a.account.own_id(self.namespace, a.generation);
            let id = loaded
                .ids
                .get(&a.account)
                .map_or(Val::Null, |id| (*id).into());
            [Val::Blob(own.0.as_bytes().to_vec()), id]
        });
        let values: Vec<Val> = values.collect();
        tx.insert(&PUT_GONE, values).await?;
        Ok(())
    }
}
