//! Erasure: nothing that names the account stays in plain, in whichever table it stood. What is
//! younger than the erasure belongs to the account's next life and stays. The account's row stays
//! without its name: it is what batches lock. (Old versions of rows go with the next vacuum.)

use super::rows::int;
use super::session::{Fault, Session, query};
use super::write::Writing;
use crate::model::Changes;
use crate::store::rules::{erased_at, expect_rows, tag};
use uuid::Uuid;

const COUNT: &str = "UPDATE store SET erasures = erasures + 1";
pub(super) const EMPTY_ACCOUNTS: &str = "UPDATE accounts SET key = NULL, user_id = NULL, generation = 0, \
     first_seen_at = 0, revision = 0, linked_at = 0, external_at = NULL, external = NULL, \
     reason_at = NULL, reason = NULL, cause = '' WHERE id = ANY($1::bigint[])";
pub(super) const DELETE_CLAIMS: &str = "DELETE FROM claims WHERE account = ANY($1::bigint[])";
pub(super) const DELETE_KEYS: &str = "DELETE FROM session_keys s USING unnest($1::bigint[], \
     $2::bigint[]) AS k(id, at) WHERE s.account = ANY(ARRAY[k.id]) AND s.at <= k.at";
/// A ledger row keeps the code's hash, so that the code is never sent again.
pub(super) const FORGET_ANSWERS: &str = "UPDATE ledger l SET answer = NULL, account = NULL, tag = NULL \
     FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS k(account, tag, at) \
     WHERE l.tag = ANY(ARRAY[k.tag]) AND l.account = k.account AND l.at <= k.at";
/// The event's fate stays; it waits no more. No index: one pass over a day's events.
const FORGET_TRACKED: &str = "UPDATE tracked t SET account = NULL, \
     state = CASE t.state WHEN 'deferred' THEN 'linked' ELSE t.state END \
     FROM unnest($1::text[], $2::bigint[]) AS k(account, at) \
     WHERE t.account = k.account AND t.at <= k.at";
/// What waits would have no effect. It ends here and not when it is due: its app may be parked, and
/// its record holds what the person sent. No index either.
const END_DEFERRED: &str = "UPDATE deferred d SET \
     done_at = least(greatest(since, next_at), expires_at), account = NULL, record = '', \
     leased = false FROM unnest($1::text[], $2::bigint[]) AS k(account, at) \
     WHERE d.done_at IS NULL AND d.account = k.account AND d.since <= k.at";
/// Whole tables against a list: by hashing the list, not by walking it for each row.
const HASH: &str = "SET LOCAL enable_hashjoin = on; SET LOCAL enable_seqscan = on";
const HASH_NO_MORE: &str = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_seqscan = off";
const PUT_TOMBSTONES: &str = "INSERT INTO tombstones (account, erased_at, revision, own_ids, \
     mac) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account) DO UPDATE SET \
     erased_at = excluded.erased_at, revision = excluded.revision, own_ids = excluded.own_ids, \
     mac = excluded.mac";
/// What comes twice is the same: own ids of one batch are either gone or an account's.
const PUT_OWN_IDS: &str = "INSERT INTO own_ids (own, account) \
     SELECT DISTINCT ON (k.own) k.own, k.account FROM unnest($1::uuid[], $2::bigint[]) \
     AS k(own, account) ORDER BY k.own ON CONFLICT (own) DO UPDATE SET account = excluded.account";

impl Writing<'_> {
    /// Empties erased accounts and writes tombstones.
    pub(super) async fn erase(&self, session: &mut Session) -> Result<(), Fault> {
        let changes = &self.planned.changes;
        if !changes.erased.is_empty() {
            session.exec(query(COUNT)).await?;
            self.delete(session).await?;
            self.forget(session).await?;
        }
        for stone in &changes.tombstones {
            let own_ids: Vec<Uuid> = stone.own_ids.iter().map(|id| id.0).collect();
            let put = query(PUT_TOMBSTONES)
                .bind(self.id(&stone.account)?)
                .bind(stone.erased_at.0)
                .bind(int(stone.revision))
                .bind(&own_ids)
                .bind((self.store.mac)(&stone.account.key()).to_vec());
            expect_rows("tombstones", 1, session.exec(put).await?)?;
            let nobody = vec![None::<i64>; own_ids.len()];
            let gone = query(PUT_OWN_IDS).bind(own_ids).bind(nobody);
            session.exec(gone).await?;
        }
        Ok(())
    }

    async fn delete(&self, session: &mut Session) -> Result<(), Fault> {
        let changes = &self.planned.changes;
        let (mut ids, mut ats) = (Vec::new(), Vec::new());
        for account in &changes.erased {
            ids.push(self.id(account)?);
            ats.push(erased_at(changes, account));
        }
        let keys = query(DELETE_KEYS).bind(&ids).bind(ats);
        session.exec(keys).await?;
        session.exec(query(DELETE_CLAIMS).bind(&ids)).await?;
        let meant = ids.len();
        let touched = session.exec(query(EMPTY_ACCOUNTS).bind(ids)).await?;
        Ok(expect_rows("erased accounts", meant, touched)?)
    }

    async fn forget(&self, session: &mut Session) -> Result<(), Fault> {
        let changes = &self.planned.changes;
        let (names, ats) = named(changes);
        let tags: Vec<i64> = names.iter().map(|n| tag(&(self.store.mac)(n))).collect();
        let answers = query(FORGET_ANSWERS).bind(&names).bind(tags).bind(&ats);
        session.exec(answers).await?;
        let owns: Vec<Uuid> = (changes.erased.iter()).map(|a| self.store.own(a)).collect();
        super::answers::forget(session, owns, ats.clone()).await?;
        session.run(HASH).await?;
        let tracked = query(FORGET_TRACKED).bind(&names).bind(&ats);
        session.exec(tracked).await?;
        session.run(HASH_NO_MORE).await
    }

    /// Notes the own ids of accounts whose first own id is not theirs any more: of a later life.
    pub(super) async fn own_ids(&self, session: &mut Session) -> Result<(), Fault> {
        let rows = self.planned.changes.accounts.iter();
        let (mut owns, mut ids) = (Vec::new(), Vec::new());
        for row in rows.filter(|a| a.generation.0 != 0) {
            owns.push(row.account.own_id(self.store.namespace, row.generation).0);
            ids.push(self.id(&row.account)?);
        }
        if !owns.is_empty() {
            let put = query(PUT_OWN_IDS).bind(owns).bind(ids);
            session.exec(put).await?;
        }
        Ok(())
    }
}

/// Ends what waits for erased accounts, once the batch has written and settled its own.
pub(super) async fn end_waiting(session: &mut Session, changes: &Changes) -> Result<(), Fault> {
    if changes.erased.is_empty() {
        return Ok(());
    }
    let (names, ats) = named(changes);
    session.run(HASH).await?;
    session
        .exec(query(END_DEFERRED).bind(names).bind(ats))
        .await?;
    session.run(HASH_NO_MORE).await
}

/// The erased accounts, and up to when what was noted of each is void.
fn named(changes: &Changes) -> (Vec<String>, Vec<i64>) {
    let erased = changes.erased.iter();
    erased.map(|a| (a.key(), erased_at(changes, a))).unzip()
}
