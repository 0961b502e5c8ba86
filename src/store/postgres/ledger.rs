//! The ledger of spent codes, and what is held of accounts for the ladder.

use super::PostgresStore;
use super::apply::SHARED;
use super::rows::{blob32, get, key_or_null, millis, nth};
use super::session::{Fault, query};
use crate::model::{Account, Millis, SealedKey};
use crate::store::rules::tag;
use crate::store::{CodeKey, Held, Spent};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use uuid::Uuid;

pub(super) const READ: &str = "SELECT l.code, l.account, l.at, l.answer \
     FROM unnest($1::bytea[]) AS k(code) \
     CROSS JOIN LATERAL (SELECT * FROM ledger x WHERE x.code = k.code LIMIT 1) l";
pub(super) const WRITE: &str = "INSERT INTO ledger (code, at, account, tag, answer) \
     SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[]) \
     ON CONFLICT (code) DO NOTHING";
pub(super) const ERASED: &str = "SELECT k.n, t.erased_at \
     FROM unnest($1::uuid[]) WITH ORDINALITY AS k(own, n) \
     CROSS JOIN LATERAL (SELECT x.id FROM accounts x WHERE x.own = k.own AND x.marked LIMIT 1) a \
     CROSS JOIN LATERAL (SELECT x.erased_at FROM tombstones x WHERE x.account = a.id LIMIT 1) t";
pub(super) const HELD: &str = "SELECT k.n, r.resolved, s.at, s.sealed, s.exchanged \
     FROM unnest($1::uuid[]) WITH ORDINALITY AS k(own, n) \
     CROSS JOIN LATERAL (SELECT x.id FROM accounts x WHERE x.own = k.own LIMIT 1) a \
     CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM claims x WHERE x.account = a.id \
     AND x.why IS NULL OFFSET 0) AS resolved) r \
     LEFT JOIN LATERAL (SELECT * FROM session_keys x WHERE x.account = a.id \
     ORDER BY x.at DESC, x.exchanged DESC OFFSET 0) s ON true";

impl PostgresStore {
    pub(super) async fn read_spent(&self, codes: &[CodeKey]) -> Result<Vec<Option<Spent>>, Fault> {
        if codes.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<&[u8]> = codes.iter().map(|c| c.0.as_slice()).collect();
        let mut found = FxHashMap::default();
        for row in self.read(query(READ).bind(keys)).await? {
            let code = CodeKey(blob32(&row, 0)?);
            let spent = Spent {
                code,
                account: key_or_null(&row, 1)?,
                at: millis(&row, 2)?,
                answer: get(&row, 3)?,
            };
            found.insert(code, spent);
        }
        Ok(codes.iter().map(|c| found.get(c).cloned()).collect())
    }

    pub(super) async fn write_spent(&self, answers: &[Spent]) -> Result<(), Fault> {
        // The first answer to a code is kept. In order: two writers do not wait for each other.
        let mut first: BTreeMap<CodeKey, &Spent> = BTreeMap::new();
        for spent in answers {
            first.entry(spent.code).or_insert(spent);
        }
        if first.is_empty() {
            return Ok(());
        }
        let named = first.values().filter_map(|s| s.account.as_ref());
        let named: Vec<&Account> = named.collect();
        let owns: Vec<Uuid> = named.iter().map(|a| self.own(a)).collect();
        let mut session = self.session().await?;
        // An erasure forgets what was committed before it, and shows to what begins after it.
        session.run(SHARED).await?;
        let mut erased: FxHashMap<&Account, Millis> = FxHashMap::default();
        for row in session.all(query(ERASED).bind(owns)).await? {
            erased.insert(*nth(&row, 0, &named)?, millis(&row, 1)?);
        }
        let void = |s: &Spent| {
            let until = s.account.as_ref().and_then(|a| erased.get(a));
            until.is_some_and(|e| *e >= s.at)
        };
        let (mut accounts, mut tags, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for spent in first.values() {
            let whole = !void(spent);
            let key = spent.account.as_ref().filter(|_| whole).map(Account::key);
            tags.push(key.as_ref().map(|key| tag(&(self.mac)(key))));
            accounts.push(key);
            kept.push(spent.answer.as_deref().filter(|_| whole));
        }
        let write = query(WRITE)
            .bind(first.keys().map(|c| c.0.as_slice()).collect::<Vec<_>>())
            .bind(first.values().map(|s| s.at.0).collect::<Vec<_>>())
            .bind(accounts)
            .bind(tags)
            .bind(kept);
        session.exec(write).await?;
        session.commit().await?;
        session.give_back();
        Ok(())
    }

    pub(super) async fn read_held(&self, accounts: &[Account]) -> Result<Vec<Held>, Fault> {
        let mut held = vec![Held::default(); accounts.len()];
        if accounts.is_empty() {
            return Ok(held);
        }
        let owns: Vec<Uuid> = accounts.iter().map(|a| self.own(a)).collect();
        let places: Vec<usize> = (0..accounts.len()).collect();
        for row in self.read(query(HELD).bind(owns)).await? {
            let Some(of) = held.get_mut(*nth(&row, 0, &places)?) else {
                continue;
            };
            of.resolved = get(&row, 1)?;
            if get::<Option<i64>>(&row, 2)?.is_some() {
                of.keys.push(SealedKey {
                    at: millis(&row, 2)?,
                    sealed: get(&row, 3)?,
                    exchanged: get(&row, 4)?,
                });
            }
        }
        Ok(held)
    }
}
