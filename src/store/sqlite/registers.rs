//! Operators' registers: rulings on claims and on pairs. They are joins over all history, so an
//! erasure keeps them, found by macs; it takes the openid out of them.

use super::SqliteStore;
use super::rows::{blob32, corrupt, get, ruled, ruled_values};
use super::view::{Source, union_key};
use crate::model::{Account, Changes, ClaimKey, NeverPair, View};
use crate::sqlite::{Insert, Select, Tx, Val};
use crate::store::StoreError;
use crate::store::rules::expect_rows;
use rustc_hash::FxHashMap;
use sqlx::sqlite::SqliteRow;

pub(super) const RULINGS: Select = Select {
    head: "SELECT mac, platform, unionid, verdict, at, author, note FROM rulings WHERE mac IN (",
    columns: 1,
    tail: ")",
};
pub(super) const PAIRS_A: Select = Select {
    head: "SELECT a_mac, b_mac, a, b, verdict, at, author, note FROM pairs WHERE a_mac IN (",
    columns: 1,
    tail: ")",
};
pub(super) const PAIRS_B: Select = Select {
    head: "SELECT a_mac, b_mac, a, b, verdict, at, author, note FROM pairs WHERE b_mac IN (",
    columns: 1,
    tail: ")",
};
const PUT_RULING: Insert = Insert {
    head: "INSERT INTO rulings (mac, platform, unionid, verdict, at, author, note) VALUES",
    columns: 7,
    tail: "ON CONFLICT (mac, platform, unionid) DO UPDATE SET verdict = excluded.verdict, \
           at = excluded.at, author = excluded.author, note = excluded.note",
};
const PUT_PAIR: Insert = Insert {
    head: "INSERT INTO pairs (a_mac, b_mac, a, b, verdict, at, author, note) VALUES",
    columns: 8,
    tail: "ON CONFLICT (a_mac, b_mac) DO UPDATE SET a = excluded.a, b = excluded.b, \
           verdict = excluded.verdict, at = excluded.at, author = excluded.author, \
           note = excluded.note",
};

/// Accounts by mac.
pub(super) type Macs = FxHashMap<[u8; 32], Account>;

/// Adds the rulings on claims of the accounts behind `macs`.
pub(super) async fn rulings(
    source: &mut Source<'_>,
    view: &mut View,
    macs: &Macs,
    keys: Vec<Val>,
) -> Result<(), StoreError> {
    for row in source.many(&RULINGS, keys).await? {
        let who = macs
            .get(&blob32(&row, 0)?)
            .ok_or_else(|| corrupt(&row, 0))?;
        let key = ClaimKey {
            account: who.clone(),
            union: union_key(&row, 1)?,
        };
        view.rulings.insert(key, ruled(&row, 3)?);
    }
    Ok(())
}

/// Adds the pairs that touch the accounts behind `keys`; `macs` has those of earlier steps too. A pair whose other half was erased shows
/// only to whoever asks for both halves: nobody else can meet it.
pub(super) async fn pairs(
    source: &mut Source<'_>,
    view: &mut View,
    macs: &Macs,
    keys: Vec<Val>,
) -> Result<(), StoreError> {
    let mut rows = source.many(&PAIRS_A, keys.clone()).await?;
    rows.append(&mut source.many(&PAIRS_B, keys).await?);
    for row in rows {
        let a = half(&row, 0, 2, macs)?;
        let b = half(&row, 1, 3, macs)?;
        if let (Some(a), Some(b)) = (a, b) {
            view.pairs.insert(NeverPair { a, b }, ruled(&row, 4)?);
        }
    }
    Ok(())
}

fn half(
    row: &SqliteRow,
    mac: usize,
    plain: usize,
    macs: &Macs,
) -> Result<Option<Account>, StoreError> {
    if let Some(asked) = macs.get(&blob32(row, mac)?) {
        return Ok(Some(asked.clone()));
    }
    let key: Option<&str> = get(row, plain)?;
    let account = key.map(Account::from_key).transpose();
    account.map_err(|_| corrupt(row, plain))
}

impl SqliteStore {
    /// Inserts or replaces registers.
    pub(super) async fn put_registers(
        &self,
        tx: &mut Tx<'_>,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        let mut values = Vec::with_capacity(changes.rulings.len() * PUT_RULING.columns);
        for (key, ruled) in &changes.rulings {
            values.extend([
                Val::Blob(self.mac(&key.account).to_vec()),
                key.union.platform.as_str().into(),
                key.union.unionid.as_str().into(),
            ]);
            ruled_values(ruled, &mut values);
        }
        let touched = tx.insert(&PUT_RULING, values).await?;
        expect_rows("rulings", changes.rulings.len(), touched)?;
        let mut values = Vec::with_capacity(changes.pairs.len() * PUT_PAIR.columns);
        for (pair, ruled) in &changes.pairs {
            values.extend([
                Val::Blob(self.mac(&pair.a).to_vec()),
                Val::Blob(self.mac(&pair.b).to_vec()),
                pair.a.key().into(),
                pair.b.key().into(),
            ]);
            ruled_values(ruled, &mut values);
        }
        let touched = tx.insert(&PUT_PAIR, values).await?;
        expect_rows("pairs", changes.pairs.len(), touched)
    }
}
