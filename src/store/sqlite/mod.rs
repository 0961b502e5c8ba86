//! The embedded store: SQLite, in the file that also holds the embedded log.
//!
//! Promises what [`Store`] promises. It plans on a reader's snapshot and writes in one transaction
//! that first checks that no planner could see anything else by now, so that planning overlaps with
//! the other work of the single writer. Openids of erased accounts stand nowhere in plain.
//! Only this directory knows the tables of `migrations/sqlite` (but for the log's).

mod answers;
mod apply;
mod birth;
mod deferred;
mod erase;
mod find;
mod jobs;
mod ledger;
mod operate;
mod outbox;
mod pauses;
mod plans;
mod prune;
mod rebuild;
mod redriven;
mod registers;
mod rows;
mod sends;
mod tokens;
mod totals;
mod view;
mod write;

use super::birth::Opens;
use super::marks::Marks;
use super::{
    AppToken, Batch, Birth, Claim, Claimed, CodeKey, Deferred, FoundAccount, FoundUser, Held,
    Identity, Mac, OutboxRow, Planner, Position, Prune, Release, Sending, Spent, Store, StoreError,
    Totals, Tracked,
};
use crate::model::{Account, AppId, EventId, Keys, Millis, Room, UnionKey, UserId, View};
use crate::sqlite::{Fault, File};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use uuid::Uuid;

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Unavailable(why) => Self::Unavailable(why),
            Fault::Corrupt(why) => Self::Corrupt(why),
        }
    }
}

/// The store in a SQLite file.
pub struct SqliteStore {
    file: Arc<File>,
    identity: Identity,
    namespace: Uuid,
    mac: Mac,
    changed: Notify,
    relayed: Marks,
}

impl SqliteStore {
    /// Opens the store in `file`, or makes it there. `namespace` is the one that `birth` holds the
    /// hash of: published own ids are found by it, and it stays in memory only.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] names what differs from the store's birth, and the remedy.
    pub async fn open(
        file: Arc<File>,
        birth: Birth,
        namespace: Uuid,
        mac: Mac,
    ) -> Result<Self, StoreError> {
        Self::open_as(Opens::Role, file, birth, namespace, mac).await
    }

    /// Opens the store for a rebuild: partitions and group may be others, and an earlier rebuild may
    /// have been interrupted.
    ///
    /// # Errors
    /// The store is of another namespace.
    pub async fn open_to_rebuild(
        file: Arc<File>,
        birth: Birth,
        namespace: Uuid,
        mac: Mac,
    ) -> Result<Self, StoreError> {
        Self::open_as(Opens::Rebuild, file, birth, namespace, mac).await
    }

    /// Opens the store for an operator's command, in a file that was opened as it is: nothing is made.
    ///
    /// # Errors
    /// As [`SqliteStore::open`], and if nobody has used the store yet.
    pub async fn open_to_operate(
        file: Arc<File>,
        birth: Birth,
        namespace: Uuid,
        mac: Mac,
    ) -> Result<Self, StoreError> {
        Self::open_as(Opens::Operator, file, birth, namespace, mac).await
    }

    async fn open_as(
        opens: Opens,
        file: Arc<File>,
        birth: Birth,
        namespace: Uuid,
        mac: Mac,
    ) -> Result<Self, StoreError> {
        let identity = birth::open(&file, birth, namespace, opens).await?;
        Ok(Self {
            file,
            identity,
            namespace,
            mac,
            changed: Notify::new(),
            relayed: Marks::default(),
        })
    }

    /// What an account is found by: the beginning of its own id in generation 0. Two accounts may
    /// share one, so whoever finds compares.
    fn anchor(&self, account: &Account) -> i64 {
        anchor_of(account.own_id(self.namespace, Millis(0)))
    }

    /// What claims on a unionid are found by.
    fn tag(&self, union: &UnionKey) -> i64 {
        let name = format!("{}\0{}", union.platform.as_str(), union.unionid.as_str());
        anchor_of(UserId(Uuid::new_v5(&self.namespace, name.as_bytes())))
    }

    fn mac(&self, account: &Account) -> [u8; 32] {
        (self.mac)(&account.key())
    }

    /// Wakes whoever waits in [`Store::changed`], and the next one who comes to wait.
    fn wake(&self) {
        self.changed.notify_waiters();
        self.changed.notify_one();
    }
}

/// The first eight bytes of an id.
fn anchor_of(id: UserId) -> i64 {
    let (high, _) = id.0.as_u64_pair();
    high.cast_signed()
}

#[async_trait]
impl Store for SqliteStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    async fn same(&self) -> Result<(), StoreError> {
        self.same_as_opened().await
    }

    async fn view(&self, keys: &Keys) -> Result<View, StoreError> {
        self.read_view(keys).await
    }

    async fn apply(&self, batch: &Batch, planner: &mut dyn Planner) -> Result<(), StoreError> {
        self.apply_batch(batch, planner).await
    }

    async fn positions(&self) -> Result<Vec<Position>, StoreError> {
        self.read_positions().await
    }

    async fn outbox(
        &self,
        after: &[(u32, u64)],
        bytes: usize,
    ) -> Result<Vec<(u32, OutboxRow)>, StoreError> {
        self.read_outbox(after, bytes).await
    }

    async fn outbox_row(&self, partition: u32, seq: u64) -> Result<Option<Uuid>, StoreError> {
        self.read_outbox_row(partition, seq).await
    }

    async fn outbox_head(&self, partition: u32) -> Result<u64, StoreError> {
        self.read_outbox_head(partition).await
    }

    async fn relayed(&self, partition: u32, seq: u64, inline_below: i64) -> Result<(), StoreError> {
        self.relayed.note(partition, seq, inline_below);
        Ok(())
    }

    /// A single waiter misses nothing: what changes between two waits ends the second at once. Of
    /// several waiters only one is told so, and what another process writes wakes nobody: callers
    /// poll as well.
    async fn changed(&self) {
        self.changed.notified().await;
    }

    async fn spent(&self, codes: &[CodeKey]) -> Result<Vec<Option<Spent>>, StoreError> {
        self.read_spent(codes).await
    }

    async fn spend(&self, answers: &[Spent]) -> Result<(), StoreError> {
        self.write_spent(answers).await
    }

    async fn claim(&self, claims: &[Claim], now: Millis) -> Result<Vec<Claimed>, StoreError> {
        self.claim_all(claims, now).await
    }

    async fn release(&self, releases: &[Release]) -> Result<(), StoreError> {
        self.release_all(releases).await
    }

    async fn sendings(&self, codes: &[CodeKey]) -> Result<Vec<Option<Sending>>, StoreError> {
        self.read_sends(codes).await
    }

    async fn held(&self, accounts: &[Account]) -> Result<Vec<Held>, StoreError> {
        self.read_held(accounts).await
    }

    async fn due(
        &self,
        now: Millis,
        lease_ms: i64,
        room: &Room,
    ) -> Result<Vec<Deferred>, StoreError> {
        self.lease_due(now, lease_ms, room).await
    }

    async fn next_due(&self) -> Result<Option<Millis>, StoreError> {
        self.read_next_due().await
    }

    async fn deferred_by_app(&self) -> Result<BTreeMap<AppId, u64>, StoreError> {
        self.count_deferred().await
    }

    async fn hasten(&self, app: &AppId, now: Millis) -> Result<u64, StoreError> {
        self.hasten_app(app, now).await
    }

    async fn app_token(&self, app: &AppId) -> Result<Option<AppToken>, StoreError> {
        self.read_token(app).await
    }

    async fn lease_app_token(
        &self,
        app: &AppId,
        seen: u64,
        now: Millis,
        until: Millis,
    ) -> Result<bool, StoreError> {
        self.lease_token(app, seen, now, until).await
    }

    async fn put_app_token(
        &self,
        app: &AppId,
        seen: u64,
        sealed: &[u8],
        expires_at: Millis,
    ) -> Result<bool, StoreError> {
        self.put_token(app, seen, sealed, expires_at).await
    }

    async fn release_app_token(&self, app: &AppId, seen: u64) -> Result<(), StoreError> {
        self.release_token(app, seen).await
    }

    async fn note_apps(&self, apps: &[(AppId, [u8; 32])]) -> Result<Vec<AppId>, StoreError> {
        self.note_all(apps).await
    }

    async fn find_accounts(
        &self,
        accounts: &[Account],
    ) -> Result<Vec<Option<FoundAccount>>, StoreError> {
        self.read_accounts(accounts).await
    }

    async fn find_user(&self, user: UserId) -> Result<FoundUser, StoreError> {
        self.read_user(user).await
    }

    async fn find_unionid(&self, union: &UnionKey) -> Result<Option<UserId>, StoreError> {
        self.read_unionid(union).await
    }

    async fn find_event(&self, event: &EventId) -> Result<Option<Tracked>, StoreError> {
        self.read_event(event).await
    }

    async fn totals(&self) -> Result<Totals, StoreError> {
        self.count_all().await
    }

    async fn prune(&self, what: Prune) -> Result<(), StoreError> {
        self.prune_all(what).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AccountRow, Changes, ClaimKey, ClaimRow, ClaimStatus, Method, PlatformId, UnionId,
    };
    use crate::sqlite::Options;
    use crate::store::{FoundUser, Step, Write};

    const NAMESPACE: Uuid = Uuid::from_u128(7);

    /// Writes an account with a claim, of one number.
    struct Put(u32);

    fn account(n: u32) -> Account {
        Account::from_key(&format!("wx1:o{n}")).expect("valid")
    }

    fn union(n: u32) -> UnionKey {
        UnionKey {
            platform: PlatformId::parse("main").expect("valid"),
            unionid: UnionId::parse(&format!("u{n}")).expect("valid"),
        }
    }

    fn keys(n: u32) -> Keys {
        Keys {
            accounts: [account(n)].into(),
            unionids: [union(n)].into(),
        }
    }

    impl Planner for Put {
        fn step(&mut self, _: &View) -> Step {
            let (account, cause) = (account(self.0), EventId::parse("e").expect("valid"));
            let row = AccountRow {
                user: account.own_id(NAMESPACE, Millis(0)),
                account: account.clone(),
                generation: Millis(0),
                first_seen_at: Millis(1),
                revision: 1,
                external: None,
                reason: None,
                cause: cause.clone(),
                linked_at: Millis(1),
            };
            let union = union(self.0);
            let claim = ClaimRow {
                key: ClaimKey { account, union },
                at: Millis(1),
                method: Method::Provided,
                cause,
                status: ClaimStatus::Active,
                verdict: None,
                reported: false,
            };
            let changes = Changes {
                accounts: vec![row],
                claims: vec![claim],
                ..Changes::default()
            };
            Step::Write(Box::new(Write {
                changes,
                ..Write::default()
            }))
        }
    }

    /// No two short names share eight bytes of a hash, so a second account is told to.
    #[tokio::test]
    async fn what_shares_an_anchor_or_a_tag_is_told_apart() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = File::open(&dir.path().join("u.db"), Options::default()).await;
        let file = file.expect("opens");
        let birth = Birth {
            partitions: 1,
            group: "g".into(),
            secrets_hash: [0; 32],
        };
        let mac: Mac = Arc::new(|_| [0; 32]);
        let store = SqliteStore::open(Arc::clone(&file), birth, NAMESPACE, mac);
        let store = store.await.expect("opens");
        store
            .apply(&Batch::default(), &mut Put(1))
            .await
            .expect("applies");
        let mut tx = file.begin().await.expect("begins");
        let anchor = vec![store.anchor(&account(2)).into()];
        let sql = "UPDATE accounts SET anchor = ?";
        tx.exec(sql, anchor).await.expect("runs");
        let tag = vec![store.tag(&union(2)).into()];
        tx.exec("UPDATE claims SET tag = ?", tag)
            .await
            .expect("runs");
        tx.commit().await.expect("commits");

        let view = store.view(&keys(2)).await.expect("reads");
        assert!(view.accounts.is_empty() && view.claims.is_empty() && view.unionids.is_empty());
        assert_eq!(store.find_unionid(&union(2)).await.expect("reads"), None);
        let own = account(2).own_id(NAMESPACE, Millis(0));
        assert_eq!(
            store.find_user(own).await.expect("reads"),
            FoundUser::Unknown
        );
        store
            .apply(&Batch::default(), &mut Put(2))
            .await
            .expect("applies");

        let view = store.view(&keys(2)).await.expect("reads");
        assert_eq!(view.accounts.len(), 1);
        assert_eq!(view.unionids[&union(2)].claims.len(), 1);
        let FoundUser::Is(user, members) = store.find_user(own).await.expect("reads") else {
            panic!("not found");
        };
        assert_eq!((user, members.len()), (own, 1), "linked by a shared tag");
        assert_eq!(members[0].row.account, account(2));
        let held = store.held(&[account(2)]).await.expect("reads");
        assert!(held[0].resolved);
    }
}
