//! Writing what a planner decided: accounts, claims, session keys, fates, positions. One statement
//! per kind, its values as arrays.
//!
//! Rows to replace are found by `= ANY(ARRAY[k.id])`: with a plain `=`, PostgreSQL also considers to
//! read the whole index in order, and does that for ever if the table was empty when it planned.

use super::PostgresStore;
use super::apply::Planned;
use super::lock::Locked;
use super::rows::{code, int, int32};
use super::session::{Fault, Session, Statement, query};
use crate::model::{Account, AccountRow, ClaimStatus, UnionKey};
use crate::store::rules::{changes_view, expect_rows, state_word};
use crate::store::{Batch, Position, StoreError, Tracked};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use uuid::Uuid;

pub(super) const MAKE_ACCOUNTS: &str = "INSERT INTO accounts (own, key, user_id, generation, first_seen_at, \
     revision, linked_at, external_at, external, reason_at, reason, cause) SELECT * FROM \
     unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], \
     $7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::text[], $12::text[]) \
     ON CONFLICT (own) DO NOTHING RETURNING own, id";
pub(super) const PUT_ACCOUNTS: &str = "UPDATE accounts t SET key = k.key, user_id = k.user_id, \
     generation = k.generation, first_seen_at = k.first_seen_at, revision = k.revision, \
     linked_at = k.linked_at, external_at = k.external_at, external = k.external, \
     reason_at = k.reason_at, reason = k.reason, cause = k.cause FROM \
     unnest($1::bigint[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], \
     $7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::text[], $12::text[]) \
     AS k(id, key, user_id, generation, first_seen_at, revision, linked_at, external_at, external, \
     reason_at, reason, cause) WHERE t.id = ANY(ARRAY[k.id])";
pub(super) const PUT_CLAIMS: &str = "INSERT INTO claims (account, unionid, platform, union_id, at, \
     method, cause, why, verdict, reported) SELECT * FROM unnest($1::bigint[], $2::bigint[], \
     $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::smallint[], \
     $10::boolean[]) ON CONFLICT (account, unionid) DO UPDATE SET at = excluded.at, \
     method = excluded.method, cause = excluded.cause, why = excluded.why, \
     verdict = excluded.verdict, reported = excluded.reported";
pub(super) const PUT_SESSION_KEYS: &str = "INSERT INTO session_keys (account, at, exchanged, sealed) \
     SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::bytea[]) \
     ON CONFLICT (account, at, exchanged) DO UPDATE SET sealed = excluded.sealed";
/// An account keeps its three newest keys: one is valid at a time (`docs/wechat.md` §3.3), and a
/// front end's data may be one or two logins late.
pub(super) const TRIM_SESSION_KEYS: &str = "DELETE FROM session_keys s USING \
     (SELECT o.account, o.at, o.exchanged FROM unnest($1::bigint[]) AS k(id) CROSS JOIN LATERAL \
     (SELECT x.account, x.at, x.exchanged FROM session_keys x WHERE x.account = k.id \
     ORDER BY x.at DESC, x.exchanged DESC OFFSET 3) o OFFSET 0) o \
     WHERE s.account = ANY(ARRAY[o.account]) AND s.at = ANY(ARRAY[o.at]) \
     AND s.exchanged = ANY(ARRAY[o.exchanged])";
pub(super) const DROP_SESSION_KEYS: &str =
    "DELETE FROM session_keys WHERE account = ANY($1::bigint[])";
/// A fate that is final is not taken back by a repeat that is deferred, nor by older news.
pub(super) const PUT_TRACKED: &str = "INSERT INTO tracked (event, state, account, reason, at) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) \
     ON CONFLICT (event) DO UPDATE SET state = excluded.state, account = excluded.account, \
     reason = excluded.reason, at = excluded.at WHERE excluded.at >= tracked.at \
     AND NOT (excluded.state = 'deferred' AND tracked.state <> 'deferred')";
const PUT_POSITIONS: &str = "INSERT INTO positions (partition, \"offset\", digest) \
     SELECT * FROM unnest($1::integer[], $2::bigint[], $3::bytea[]) \
     ON CONFLICT (partition) DO UPDATE SET \"offset\" = excluded.\"offset\", \
     digest = excluded.digest";

/// Accounts, column by column.
#[derive(Default)]
pub(super) struct AccountColumns {
    /// Keys of rows to make, in order.
    pub owns: Vec<Uuid>,
    /// Ids of rows to replace.
    pub ids: Vec<i64>,
    keys: Vec<Option<String>>,
    users: Vec<Option<Uuid>>,
    generations: Vec<i64>,
    first_seen_at: Vec<i64>,
    revisions: Vec<i64>,
    linked_at: Vec<i64>,
    external_at: Vec<Option<i64>>,
    external: Vec<Option<String>>,
    reason_at: Vec<Option<i64>>,
    reason: Vec<Option<&'static str>>,
    causes: Vec<String>,
}

impl AccountColumns {
    pub(super) fn with_capacity(n: usize) -> Self {
        Self {
            owns: Vec::with_capacity(n),
            keys: Vec::with_capacity(n),
            users: Vec::with_capacity(n),
            causes: Vec::with_capacity(n),
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, row: &AccountRow) {
        self.keys.push(Some(row.account.key()));
        self.users.push(Some(row.user.0));
        self.generations.push(row.generation.0);
        self.first_seen_at.push(row.first_seen_at.0);
        self.revisions.push(int(row.revision));
        self.linked_at.push(row.linked_at.0);
        let external = row.external.as_ref();
        self.external_at.push(external.map(|(at, _)| at.0));
        self.external
            .push(external.map(|(_, id)| id.as_str().to_owned()));
        self.reason_at.push(row.reason.map(|(at, _)| at.0));
        self.reason
            .push(row.reason.map(|(_, reason)| reason.word()));
        self.causes.push(row.cause.as_str().to_owned());
    }

    /// A row that only holds the place of an account.
    pub(super) fn push_place(&mut self) {
        self.keys.push(None);
        self.users.push(None);
        for zero in [
            &mut self.generations,
            &mut self.first_seen_at,
            &mut self.revisions,
            &mut self.linked_at,
        ] {
            zero.push(0);
        }
        self.external_at.push(None);
        self.external.push(None);
        self.reason_at.push(None);
        self.reason.push(None);
        self.causes.push(String::new());
    }

    pub(super) fn insert(mut self) -> Statement<'static> {
        let first = query(MAKE_ACCOUNTS).bind(std::mem::take(&mut self.owns));
        self.bind(first)
    }

    fn update(mut self) -> Statement<'static> {
        let first = query(PUT_ACCOUNTS).bind(std::mem::take(&mut self.ids));
        self.bind(first)
    }

    fn bind(self, statement: Statement<'static>) -> Statement<'static> {
        statement
            .bind(self.keys)
            .bind(self.users)
            .bind(self.generations)
            .bind(self.first_seen_at)
            .bind(self.revisions)
            .bind(self.linked_at)
            .bind(self.external_at)
            .bind(self.external)
            .bind(self.reason_at)
            .bind(self.reason)
            .bind(self.causes)
    }
}

/// A plan with the row ids of all that it names, for writing.
pub(super) struct Writing<'a> {
    pub store: &'a PostgresStore,
    pub planned: &'a Planned,
    pub locked: &'a Locked,
    /// Accounts of the changes: they live after the batch.
    born: FxHashSet<&'a Account>,
    /// Accounts whose stored life ends in the batch.
    ended: FxHashSet<&'a Account>,
}

impl Writing<'_> {
    /// The row of an account that is locked.
    pub(super) fn id(&self, account: &Account) -> Result<i64, StoreError> {
        let known = self.planned.loaded.ids.get(account).copied();
        known
            .or_else(|| self.locked.accounts.get(&self.store.own(account)).copied())
            .ok_or_else(|| StoreError::Corrupt("a row of an account that is not locked".into()))
    }

    /// The row of an account that lives after the batch.
    fn living(&self, account: &Account) -> Result<i64, StoreError> {
        let lives = self.born.contains(account)
            || (self.planned.loaded.view.accounts.contains_key(account)
                && !self.ended.contains(account));
        if !lives {
            let why = "a row of an account that is not stored";
            return Err(StoreError::Corrupt(why.into()));
        }
        self.id(account)
    }

    fn unionid(&self, union: &UnionKey) -> Result<i64, StoreError> {
        let known = self.planned.loaded.unionids.get(union).copied();
        known
            .or_else(|| self.locked.unionids.get(&self.store.tag(union)).copied())
            .ok_or_else(|| StoreError::Corrupt("a claim on a unionid that is not locked".into()))
    }

    async fn accounts(&self, session: &mut Session) -> Result<(), Fault> {
        let rows = &self.planned.changes.accounts;
        let made = &self.locked.made;
        let exact = |account: &Account| {
            let made = made.get(account).copied().unwrap_or_default();
            made && !self.locked.replanned && !self.ended.contains(account)
        };
        let mut columns = AccountColumns::default();
        for row in rows.iter().filter(|row| !exact(&row.account)) {
            columns.ids.push(self.id(&row.account)?);
            columns.push(row);
        }
        if self.locked.replanned {
            // Made with a content that is not planned any more.
            let void = made
                .iter()
                .filter(|(a, full)| **full && !self.born.contains(a));
            for (account, _) in void {
                columns.ids.push(self.id(account)?);
                columns.push_place();
            }
        }
        let meant = columns.ids.len();
        if meant > 0 {
            let touched = session.exec(columns.update()).await?;
            expect_rows("accounts", meant, touched)?;
        }
        Ok(())
    }

    async fn claims(&self, session: &mut Session) -> Result<(), Fault> {
        let claims = &self.planned.changes.claims;
        if claims.is_empty() {
            return Ok(());
        }
        let (mut accounts, mut unionids) = (Vec::new(), Vec::new());
        for claim in claims {
            accounts.push(self.living(&claim.key.account)?);
            unionids.push(self.unionid(&claim.key.union)?);
        }
        let platform = claims.iter().map(|c| c.key.union.platform.as_str());
        let unionid = claims.iter().map(|c| c.key.union.unionid.as_str());
        let why = claims.iter().map(|c| match c.status {
            ClaimStatus::Active => None,
            ClaimStatus::Contested(why) => Some(why.word()),
        });
        let put = query(PUT_CLAIMS)
            .bind(accounts)
            .bind(unionids)
            .bind(platform.collect::<Vec<_>>())
            .bind(unionid.collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.at.0).collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.method.word()).collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.cause.as_str()).collect::<Vec<_>>())
            .bind(why.collect::<Vec<_>>())
            .bind(claims.iter().map(|c| code(c.verdict)).collect::<Vec<_>>())
            .bind(claims.iter().map(|c| c.reported).collect::<Vec<_>>());
        let touched = session.exec(put).await?;
        Ok(expect_rows("claims", claims.len(), touched)?)
    }

    /// Keeps new keys, drops those of resolved accounts, and wakes what waits for either.
    async fn session_keys(&self, session: &mut Session) -> Result<(), Fault> {
        let changes = &self.planned.changes;
        if !changes.session_keys.is_empty() {
            let mut keys = BTreeMap::new();
            for (account, key) in &changes.session_keys {
                let id = self.living(account)?;
                keys.insert((id, key.at.0, key.exchanged), key.sealed.as_slice());
            }
            let ids: Vec<i64> = keys.keys().map(|(id, ..)| *id).collect();
            let put = query(PUT_SESSION_KEYS)
                .bind(&ids)
                .bind(keys.keys().map(|(_, at, _)| *at).collect::<Vec<_>>())
                .bind(keys.keys().map(|(.., x)| *x).collect::<Vec<_>>())
                .bind(keys.values().copied().collect::<Vec<_>>());
            let touched = session.exec(put).await?;
            expect_rows("session keys", keys.len(), touched)?;
            let mut trimmed = ids;
            trimmed.dedup();
            session.exec(query(TRIM_SESSION_KEYS).bind(trimmed)).await?;
        }
        // An account that is new in this batch has no older keys; most batches have only such.
        let resolved = changes.resolved.iter();
        let stored = resolved.filter(|a| !self.locked.made.contains_key(*a));
        let stored: Vec<i64> = stored.filter_map(|a| self.id(a).ok()).collect();
        if !stored.is_empty() {
            session.exec(query(DROP_SESSION_KEYS).bind(stored)).await?;
        }
        let keyed = changes.session_keys.iter().map(|(a, _)| a);
        let ready = keyed.chain(&changes.resolved);
        super::deferred::wake(session, ready.map(Account::key).collect()).await
    }
}

impl PostgresStore {
    /// Writes the changes; says whether a planner could see any of it.
    pub(super) async fn write_changes(
        &self,
        session: &mut Session,
        planned: &Planned,
        locked: &Locked,
    ) -> Result<bool, Fault> {
        let writing = Writing {
            store: self,
            planned,
            locked,
            born: planned
                .changes
                .accounts
                .iter()
                .map(|r| &r.account)
                .collect(),
            ended: planned.changes.erased.iter().collect(),
        };
        writing.erase(session).await?;
        writing.accounts(session).await?;
        writing.own_ids(session).await?;
        writing.claims(session).await?;
        writing.registers(session).await?;
        writing.session_keys(session).await?;
        Ok(changes_view(&planned.changes))
    }
}

/// Notes fates. An event that comes twice in a batch is noted twice, in order.
pub(super) async fn tracked(
    session: &mut Session,
    batch: &Batch,
    gone: &FxHashSet<Account>,
) -> Result<(), Fault> {
    let mut rounds: Vec<BTreeMap<&str, &Tracked>> = Vec::new();
    let mut seen: FxHashMap<&str, usize> = FxHashMap::default();
    for fate in &batch.tracked {
        let round = seen.entry(fate.event.as_str()).or_default();
        if rounds.len() == *round {
            rounds.push(BTreeMap::new());
        }
        if let Some(fates) = rounds.get_mut(*round) {
            fates.insert(fate.event.as_str(), fate);
        }
        *round += 1;
    }
    for fates in rounds {
        // In the order of the events: two batches with the same do not wait for each other.
        let named = |f: &&Tracked| {
            f.account
                .as_ref()
                .filter(|a| !gone.contains(*a))
                .map(Account::key)
        };
        let put = query(PUT_TRACKED)
            .bind(fates.keys().copied().collect::<Vec<_>>())
            .bind(
                fates
                    .values()
                    .map(|f| state_word(f.state))
                    .collect::<Vec<_>>(),
            )
            .bind(fates.values().map(named).collect::<Vec<_>>())
            .bind(
                fates
                    .values()
                    .map(|f| f.reason.as_deref())
                    .collect::<Vec<_>>(),
            )
            .bind(fates.values().map(|f| f.at.0).collect::<Vec<_>>());
        session.exec(put).await?;
    }
    Ok(())
}

/// Notes how far the input was applied, as given.
pub(super) async fn positions(session: &mut Session, given: &[Position]) -> Result<(), Fault> {
    if given.is_empty() {
        return Ok(());
    }
    let given: BTreeMap<u32, &Position> = given.iter().map(|p| (p.partition, p)).collect();
    let put = query(PUT_POSITIONS)
        .bind(given.keys().map(|p| int32(*p)).collect::<Vec<_>>())
        .bind(given.values().map(|p| p.offset).collect::<Vec<_>>())
        .bind(
            given
                .values()
                .map(|p| p.digest.as_slice())
                .collect::<Vec<_>>(),
        );
    let touched = session.exec(put).await?;
    Ok(expect_rows("positions", given.len(), touched)?)
}
