//! The store on PostgreSQL 13 or later, for any number of workers.
//!
//! Promises what [`Store`] promises. A batch is planned without locks; what changes nothing ends
//! there. Else the keys that the plan rests on are locked in order, read again, and the plan is
//! written if it still holds (`apply`, `lock`). Openids of erased accounts stand nowhere in plain.
//! Only this directory knows the tables of `migrations/postgres`.

mod answers;
mod apply;
mod birth;
mod columns;
mod connect;
mod deferred;
mod due;
mod erase;
mod find;
mod jobs;
mod ledger;
mod lock;
mod operate;
mod outbox;
mod pauses;
mod plans;
mod prune;
mod rebuild;
mod redriven;
mod registers;
mod rows;
mod schema;
mod sends;
mod session;
mod tokens;
mod totals;
mod view;
mod write;

pub use connect::PostgresOptions;
pub use schema::migrate;

use super::birth::Opens;
use super::marks::Marks;
use super::{
    AppToken, Batch, Birth, Claim, Claimed, CodeKey, Deferred, FoundAccount, FoundUser, Held,
    Identity, Mac, OutboxRow, Planner, Position, Prune, Release, Sending, Spent, Store, StoreError,
    Totals, Tracked,
};
use crate::model::{Account, AppId, EventId, Keys, Millis, Room, UnionKey, UserId, View};
use async_trait::async_trait;
use session::{Fault, Losses, Session, Statement};
use sqlx::postgres::{PgPool, PgRow};
use std::collections::BTreeMap;
use tokio::sync::Notify;
use uuid::Uuid;

/// The store in a PostgreSQL database.
pub struct PostgresStore {
    pool: PgPool,
    losses: Losses,
    identity: Identity,
    namespace: Uuid,
    mac: Mac,
    changed: Notify,
    relayed: Marks,
}

impl PostgresStore {
    /// Connects to the store, or gives it its birth if its tables are empty. `namespace` is the one
    /// that `birth` holds the hash of: accounts are found by it, and it stays in memory only.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] names what differs from the store's birth or from this program's
    /// schema, and the remedy: [`migrate`] is never run from here.
    pub async fn connect(
        options: PostgresOptions,
        birth: Birth,
        namespace: Uuid,
        mac: Mac,
    ) -> Result<Self, StoreError> {
        Self::connect_as(Opens::Role, options, birth, namespace, mac).await
    }

    /// Connects to the store for a rebuild: partitions and group may be others, and an earlier
    /// rebuild may have been interrupted.
    ///
    /// # Errors
    /// The store is of another namespace or schema.
    pub async fn connect_to_rebuild(
        options: PostgresOptions,
        birth: Birth,
        namespace: Uuid,
        mac: Mac,
    ) -> Result<Self, StoreError> {
        Self::connect_as(Opens::Rebuild, options, birth, namespace, mac).await
    }

    /// Connects to the store for an operator's command: nothing is made or brought up to date.
    ///
    /// # Errors
    /// As [`PostgresStore::connect`], and if nobody has used the store yet.
    pub async fn connect_to_operate(
        options: PostgresOptions,
        birth: Birth,
        namespace: Uuid,
        mac: Mac,
    ) -> Result<Self, StoreError> {
        Self::connect_as(Opens::Operator, options, birth, namespace, mac).await
    }

    async fn connect_as(
        opens: Opens,
        options: PostgresOptions,
        birth: Birth,
        namespace: Uuid,
        mac: Mac,
    ) -> Result<Self, StoreError> {
        let losses = Losses::default();
        let pool = connect::pool(&options, &losses)?;
        let mut session = Session::new(&pool, &losses).await?;
        schema::check(&mut session).await?;
        let identity = birth::open(&mut session, &birth, namespace, opens).await?;
        session.give_back();
        Ok(Self {
            pool,
            losses,
            identity,
            namespace,
            mac,
            changed: Notify::new(),
            relayed: Marks::default(),
        })
    }

    /// What an account is found by: its own id in generation 0.
    fn own(&self, account: &Account) -> Uuid {
        account.own_id(self.namespace, Millis(0)).0
    }

    /// What a unionid is found by.
    fn tag(&self, union: &UnionKey) -> Uuid {
        let name = format!("{}\0{}", union.platform.as_str(), union.unionid.as_str());
        Uuid::new_v5(&self.namespace, name.as_bytes())
    }

    async fn session(&self) -> Result<Session, Fault> {
        Session::new(&self.pool, &self.losses).await
    }

    /// One statement on its own.
    async fn read(&self, what: Statement<'_>) -> Result<Vec<PgRow>, Fault> {
        let mut session = self.session().await?;
        let rows = session.all(what).await?;
        session.give_back();
        Ok(rows)
    }

    /// Wakes whoever waits in [`Store::changed`], and the next one who comes to wait.
    fn wake(&self) {
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn same(&self) -> Result<(), StoreError> {
        Ok(self.same_as_opened().await?)
    }

    async fn view(&self, keys: &Keys) -> Result<View, StoreError> {
        Ok(self.read_view(keys).await?)
    }

    async fn apply(&self, batch: &Batch, planner: &mut dyn Planner) -> Result<(), StoreError> {
        Ok(self.apply_batch(batch, planner).await?)
    }

    async fn positions(&self) -> Result<Vec<Position>, StoreError> {
        Ok(self.read_positions().await?)
    }

    async fn outbox(
        &self,
        after: &[(u32, u64)],
        bytes: usize,
    ) -> Result<Vec<(u32, OutboxRow)>, StoreError> {
        Ok(self.read_outbox(after, bytes).await?)
    }

    async fn outbox_row(&self, partition: u32, seq: u64) -> Result<Option<Uuid>, StoreError> {
        Ok(self.read_outbox_row(partition, seq).await?)
    }

    async fn outbox_head(&self, partition: u32) -> Result<u64, StoreError> {
        Ok(self.read_outbox_head(partition).await?)
    }

    async fn relayed(&self, partition: u32, seq: u64, inline_below: i64) -> Result<(), StoreError> {
        Ok(self.note_relayed(partition, seq, inline_below).await?)
    }

    /// A single waiter misses nothing of this process: what changes between two waits ends the
    /// second at once. What another process writes wakes nobody: callers poll as well.
    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn spent(&self, codes: &[CodeKey]) -> Result<Vec<Option<Spent>>, StoreError> {
        Ok(self.read_spent(codes).await?)
    }

    async fn spend(&self, answers: &[Spent]) -> Result<(), StoreError> {
        Ok(self.write_spent(answers).await?)
    }

    async fn claim(&self, claims: &[Claim], now: Millis) -> Result<Vec<Claimed>, StoreError> {
        Ok(self.claim_all(claims, now).await?)
    }

    async fn release(&self, releases: &[Release]) -> Result<(), StoreError> {
        Ok(self.release_all(releases).await?)
    }

    async fn sendings(&self, codes: &[CodeKey]) -> Result<Vec<Option<Sending>>, StoreError> {
        Ok(self.read_sends(codes).await?)
    }

    async fn held(&self, accounts: &[Account]) -> Result<Vec<Held>, StoreError> {
        Ok(self.read_held(accounts).await?)
    }

    async fn due(
        &self,
        now: Millis,
        lease_ms: i64,
        room: &Room,
    ) -> Result<Vec<Deferred>, StoreError> {
        Ok(self.lease_due(now, lease_ms, room).await?)
    }

    async fn next_due(&self) -> Result<Option<Millis>, StoreError> {
        Ok(self.read_next_due().await?)
    }

    async fn deferred_by_app(&self) -> Result<BTreeMap<AppId, u64>, StoreError> {
        Ok(self.count_deferred().await?)
    }

    async fn hasten(&self, app: &AppId, now: Millis) -> Result<u64, StoreError> {
        Ok(self.hasten_app(app, now).await?)
    }

    async fn app_token(&self, app: &AppId) -> Result<Option<AppToken>, StoreError> {
        Ok(self.read_token(app).await?)
    }

    async fn lease_app_token(
        &self,
        app: &AppId,
        seen: u64,
        now: Millis,
        until: Millis,
    ) -> Result<bool, StoreError> {
        Ok(self.lease_token(app, seen, now, until).await?)
    }

    async fn put_app_token(
        &self,
        app: &AppId,
        seen: u64,
        sealed: &[u8],
        expires_at: Millis,
    ) -> Result<bool, StoreError> {
        Ok(self.put_token(app, seen, sealed, expires_at).await?)
    }

    async fn release_app_token(&self, app: &AppId, seen: u64) -> Result<(), StoreError> {
        Ok(self.release_token(app, seen).await?)
    }

    async fn note_apps(&self, apps: &[(AppId, [u8; 32])]) -> Result<Vec<AppId>, StoreError> {
        Ok(self.note_all(apps).await?)
    }

    async fn find_accounts(
        &self,
        accounts: &[Account],
    ) -> Result<Vec<Option<FoundAccount>>, StoreError> {
        Ok(self.read_accounts(accounts).await?)
    }

    async fn find_user(&self, user: UserId) -> Result<FoundUser, StoreError> {
        Ok(self.read_user(user).await?)
    }

    async fn find_unionid(&self, union: &UnionKey) -> Result<Option<UserId>, StoreError> {
        Ok(self.read_unionid(union).await?)
    }

    async fn find_event(&self, event: &EventId) -> Result<Option<Tracked>, StoreError> {
        Ok(self.read_event(event).await?)
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        Ok(self.count_all().await?)
    }

    async fn prune(&self, what: Prune) -> Result<(), StoreError> {
        Ok(self.prune_all(what).await?)
    }
}
