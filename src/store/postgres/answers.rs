//! What WeChat answered to operators' questions.

use super::PostgresStore;
use super::apply::SHARED;
use super::ledger::ERASED;
use super::rows::{get, millis, nth};
use super::session::{Fault, Session, query};
use crate::model::{Account, Millis};
use crate::store::{Answer, Question};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use uuid::Uuid;

pub(super) const READ: &str = "SELECT k.n, a.at, a.sealed \
     FROM unnest($1::uuid[], $2::bytea[]) WITH ORDINALITY AS k(own, what, n) \
     CROSS JOIN LATERAL (SELECT x.at, x.sealed FROM answers x \
     WHERE x.own = k.own AND x.what = k.what LIMIT 1) a";
pub(super) const KEEP: &str = "INSERT INTO answers (own, what, at, sealed) \
     SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::bytea[]) \
     ON CONFLICT (own, what) DO UPDATE SET at = excluded.at, sealed = excluded.sealed \
     WHERE excluded.at >= answers.at";
pub(super) const FORGET: &str = "DELETE FROM answers a USING unnest($1::uuid[], $2::bigint[]) \
     AS k(own, at) WHERE a.own = ANY(ARRAY[k.own]) AND a.at <= k.at";

/// Forgets what was answered about erased accounts, up to when each was.
pub(super) async fn forget(
    session: &mut Session,
    owns: Vec<Uuid>,
    ats: Vec<i64>,
) -> Result<(), Fault> {
    session.exec(query(FORGET).bind(owns).bind(ats)).await?;
    Ok(())
}

impl PostgresStore {
    pub(super) async fn read_answers(
        &self,
        asked: &[Question],
        since: Millis,
    ) -> Result<Vec<Option<Answer>>, Fault> {
        let mut answers = vec![None; asked.len()];
        if asked.is_empty() {
            return Ok(answers);
        }
        let owns: Vec<Uuid> = asked.iter().map(|q| self.own(&q.account)).collect();
        let whats: Vec<&[u8]> = asked.iter().map(|q| q.what.as_slice()).collect();
        let places: Vec<usize> = (0..asked.len()).collect();
        for row in self.read(query(READ).bind(owns).bind(whats)).await? {
            let at = millis(&row, 1)?;
            let place = *nth(&row, 0, &places)?;
            if let (Some(slot), Some(question)) = (answers.get_mut(place), asked.get(place))
                && at >= since
            {
                *slot = Some(Answer {
                    question: question.clone(),
                    at,
                    sealed: get(&row, 2)?,
                });
            }
        }
        Ok(answers)
    }

    pub(super) async fn write_answers(&self, answers: &[Answer]) -> Result<(), Fault> {
        let accounts: Vec<&Account> = answers.iter().map(|a| &a.question.account).collect();
        let owns: Vec<Uuid> = accounts.iter().map(|a| self.own(a)).collect();
        if answers.is_empty() {
            return Ok(());
        }
        let mut session = self.session().await?;
        // As with the ledger: an erasure shows to what begins after it.
        session.run(SHARED).await?;
        let mut erased: FxHashMap<&Account, Millis> = FxHashMap::default();
        for row in session.all(query(ERASED).bind(&owns)).await? {
            erased.insert(*nth(&row, 0, &accounts)?, millis(&row, 1)?);
        }
        let void = |a: &Answer| {
            let until = erased.get(&a.question.account);
            until.is_some_and(|until| *until >= a.at)
        };
        let keyed = owns.into_iter().zip(answers).filter(|(_, a)| !void(a));
        // Once each, the newest, in order: two writers do not wait for each other.
        let mut kept: BTreeMap<(Uuid, [u8; 16]), &Answer> = BTreeMap::new();
        for (own, answer) in keyed {
            let slot = kept.entry((own, answer.question.what)).or_insert(answer);
            if answer.at >= slot.at {
                *slot = answer;
            }
        }
        let keep = query(KEEP)
            .bind(kept.keys().map(|(own, _)| *own).collect::<Vec<_>>())
            .bind(kept.keys().map(|(_, w)| w.as_slice()).collect::<Vec<_>>())
            .bind(kept.values().map(|a| a.at.0).collect::<Vec<_>>())
            .bind(
                kept.values()
                    .map(|a| a.sealed.as_slice())
                    .collect::<Vec<_>>(),
            );
        session.exec(keep).await?;
        session.commit().await?;
        session.give_back();
        Ok(())
    }
}
