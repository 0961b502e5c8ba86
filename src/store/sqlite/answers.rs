//! What WeChat answered to operators' questions.

use super::SqliteStore;
use super::ledger::erased;
use super::rows::{blob16, corrupt, get, millis};
use crate::model::{Account, Millis};
use crate::sqlite::{Insert, Select, Tx, Val};
use crate::store::{Answer, Question, StoreError};
use rustc_hash::FxHashMap;

pub(super) const READ: Select = Select {
    head: "WITH k(own, what) AS (VALUES",
    columns: 2,
    tail: ") SELECT a.own, a.what, a.at, a.sealed FROM k CROSS JOIN answers a \
           ON a.own = k.own AND a.what = k.what",
};
const KEEP: Insert = Insert {
    head: "INSERT INTO answers (own, what, at, sealed) VALUES",
    columns: 4,
    tail: "ON CONFLICT (own, what) DO UPDATE SET at = excluded.at, sealed = excluded.sealed \
           WHERE excluded.at >= answers.at",
};
pub(super) const FORGET: Insert = Insert {
    head: "WITH k(own, at) AS (VALUES",
    columns: 2,
    tail: ") DELETE FROM answers WHERE (own, what) IN (SELECT a.own, a.what FROM k \
           CROSS JOIN answers a ON a.own = k.own AND a.at <= k.at)",
};

impl SqliteStore {
    /// What an account's answers are found by: its own id in generation 0.
    fn own_of(&self, account: &Account) -> [u8; 16] {
        *account.own_id(self.namespace, Millis(0)).0.as_bytes()
    }

    pub(super) async fn read_answers(
        &self,
        asked: &[Question],
        since: Millis,
    ) -> Result<Vec<Option<Answer>>, StoreError> {
        let keys: Vec<([u8; 16], [u8; 16])> = asked
            .iter()
            .map(|q| (self.own_of(&q.account), q.what))
            .collect();
        let values = keys.iter().flat_map(|(own, what)| {
            let blob = |bytes: &[u8; 16]| Val::Blob(bytes.to_vec());
            [blob(own), blob(what)]
        });
        let mut snapshot = self.file.snapshot().await?;
        let mut found = FxHashMap::default();
        for row in snapshot.many(&READ, values.collect()).await? {
            let key = (blob16(&row, 0)?, blob16(&row, 1)?);
            let sealed: Vec<u8> = get(&row, 3).map_err(|_| corrupt(&row, 3))?;
            found.insert(key, (millis(&row, 2)?, sealed));
        }
        let told = keys.iter().zip(asked).map(|(key, question)| {
            let (at, sealed) = found.get(key).filter(|(at, _)| *at >= since)?;
            Some(Answer {
                question: question.clone(),
                at: *at,
                sealed: sealed.clone(),
            })
        });
        Ok(told.collect())
    }

    pub(super) async fn write_answers(&self, answers: &[Answer]) -> Result<(), StoreError> {
        let macs = answers.iter().map(|a| Some(self.mac(&a.question.account)));
        let macs: Vec<Option<[u8; 32]>> = macs.collect();
        let mut tx = self.file.begin().await?;
        let erased = erased(&mut tx, &macs).await?;
        let mut values = Vec::with_capacity(answers.len() * KEEP.columns);
        for (answer, mac) in answers.iter().zip(macs) {
            let until = mac.and_then(|mac| erased.get(&mac));
            if until.is_some_and(|until| *until >= answer.at) {
                continue;
            }
            values.extend([
                Val::Blob(self.own_of(&answer.question.account).to_vec()),
                Val::Blob(answer.question.what.to_vec()),
                answer.at.0.into(),
                Val::Blob(answer.sealed.clone()),
            ]);
        }
        tx.insert(&KEEP, values).await?;
        Ok(tx.commit().await?)
    }

    /// Forgets what was answered about erased accounts, up to when each was.
    pub(super) async fn forget_answers(
        &self,
        tx: &mut Tx<'_>,
        erased: impl Iterator<Item = (&Account, i64)>,
    ) -> Result<(), StoreError> {
        let keys = erased.flat_map(|(account, at)| {
            let own = Val::Blob(self.own_of(account).to_vec());
            [own, at.into()]
        });
        tx.insert(&FORGET, keys.collect()).await?;
        Ok(())
    }
}
