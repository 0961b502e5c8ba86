//! The ledger of spent codes, and what is held of accounts for the ladder.

use super::SqliteStore;
use super::rows::{blob32, corrupt, get, millis, parsed_or_null};
use crate::model::{Account, Millis, SealedKey};
use crate::sqlite::{Insert, Select, Tx, Val};
use crate::store::rules::tag;
use crate::store::{CodeKey, Held, Spent, StoreError};
use rustc_hash::FxHashMap;

pub(super) const READ: Select = Select {
    head: "SELECT code, account, at, answer FROM ledger WHERE code IN (",
    columns: 1,
    tail: ")",
};
const WRITE: Insert = Insert {
    head: "INSERT INTO ledger (code, at, account, tag, answer) VALUES",
    columns: 5,
    tail: "ON CONFLICT (code) DO NOTHING",
};
pub(super) const ERASED: Select = Select {
    head: "SELECT mac, erased_at FROM tombstones WHERE mac IN (",
    columns: 1,
    tail: ")",
};
pub(super) const RESOLVED: Select = Select {
    head: "SELECT a.key, EXISTS (SELECT 1 FROM claims c WHERE c.account = a.id \
           AND c.why IS NULL) FROM accounts a WHERE a.anchor IN (",
    columns: 1,
    tail: ")",
};
pub(super) const KEYS: Select = Select {
    head: "WITH k(anchor) AS (VALUES",
    columns: 1,
    tail: ") SELECT a.key, s.at, s.sealed, s.exchanged FROM k CROSS JOIN accounts a \
           ON a.anchor = k.anchor CROSS JOIN session_keys s ON s.account = a.id",
};

impl SqliteStore {
    pub(super) async fn read_spent(
        &self,
        codes: &[CodeKey],
    ) -> Result<Vec<Option<Spent>>, StoreError> {
        let mut snapshot = self.file.snapshot().await?;
        let keys = codes.iter().map(|c| Val::Blob(c.0.to_vec())).collect();
        let mut found = FxHashMap::default();
        let parse: fn(&str) -> _ = Account::from_key;
        for row in snapshot.many(&READ, keys).await? {
            let code = CodeKey(blob32(&row, 0)?);
            let spent = Spent {
                code,
                account: parsed_or_null(&row, 1, parse)?,
                at: millis(&row, 2)?,
                answer: get(&row, 3)?,
            };
            found.insert(code, spent);
        }
        Ok(codes.iter().map(|c| found.get(c).cloned()).collect())
    }

    pub(super) async fn write_spent(&self, answers: &[Spent]) -> Result<(), StoreError> {
        if answers.is_empty() {
            return Ok(());
        }
        let macs = answers
            .iter()
            .map(|s| s.account.as_ref().map(|a| self.mac(a)));
        let macs: Vec<Option<[u8; 32]>> = macs.collect();
        let mut tx = self.file.begin().await?;
        let erased = erased(&mut tx, &macs).await?;
        let mut values = Vec::with_capacity(answers.len() * WRITE.columns);
        for (spent, mac) in answers.iter().zip(macs) {
            let named = spent.account.as_ref().zip(mac);
            let void = named.is_some_and(|(_, m)| erased.get(&m).is_some_and(|e| *e >= spent.at));
            let named = named.filter(|_| !void);
            let answer = spent.answer.as_ref().filter(|_| !void);
            values.extend([
                Val::Blob(spent.code.0.to_vec()),
                spent.at.0.into(),
                named.map_or(Val::Null, |(a, _)| a.key().into()),
                named.map_or(Val::Null, |(_, mac)| tag(&mac).into()),
                answer.map_or(Val::Null, |a| Val::Blob(a.clone())),
            ]);
        }
        tx.insert(&WRITE, values).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn read_held(&self, accounts: &[Account]) -> Result<Vec<Held>, StoreError> {
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<Val> = accounts.iter().map(|a| self.anchor(a).into()).collect();
        let mut snapshot = self.file.snapshot().await?;
        let mut held: FxHashMap<String, Held> = FxHashMap::default();
        for row in snapshot.many(&RESOLVED, keys.clone()).await? {
            held.entry(get(&row, 0)?).or_default().resolved = get(&row, 1)?;
        }
        for row in snapshot.many(&KEYS, keys).await? {
            let of = held.get_mut(get::<&str>(&row, 0)?);
            let key = SealedKey {
                at: millis(&row, 1)?,
                sealed: get(&row, 2)?,
                exchanged: get(&row, 3)?,
            };
            let keys = &mut of.ok_or_else(|| corrupt(&row, 0))?.keys;
            // An account asked for twice has its keys read twice.
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        for of in held.values_mut() {
            of.keys
                .sort_by_key(|k| std::cmp::Reverse((k.at, k.exchanged)));
        }
        let found = accounts.iter().map(|a| held.get(&a.key()).cloned());
        Ok(found.map(Option::unwrap_or_default).collect())
    }
}

/// Up to when these accounts are erased, where they are.
/// Until when what is about these accounts is void, by mac.
pub(super) async fn erased(
    tx: &mut Tx<'_>,
    macs: &[Option<[u8; 32]>],
) -> Result<FxHashMap<[u8; 32], Millis>, StoreError> {
    let keys = macs.iter().flatten().map(|m| Val::Blob(m.to_vec()));
    let mut erased = FxHashMap::default();
    for row in tx.many(&ERASED, keys.collect()).await? {
        erased.insert(blob32(&row, 0)?, millis(&row, 1)?);
    }
    Ok(erased)
}
