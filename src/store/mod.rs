//! The store: accounts, claims, the outbox, the ledger of spent codes, deferred work and input
//! positions. A trait, its adapters beside it; SQL lives in the adapters only.
//!
//! The store decides nothing about identity: [`Store::apply`] reads what a [`Planner`] asks for,
//! and writes, in one transaction, what it answers.

mod birth;
mod jobs;
mod marks;
mod operate;
mod pauses;
pub mod postgres;
mod rebuild;
mod records;
mod redriven;
mod rules;
mod sends;
pub mod sqlite;
mod types;

pub use jobs::{Answer, Hold, Job, JobNote, NewJob, Question};
pub use operate::{Audit, Operate, Page, State, Which};
pub use pauses::{Pause, Pauses};
pub use rebuild::{Buried, Move, Origin, Rebirth, Rebuild, UnderWay};
pub use redriven::{LetterPlace, Redrive, Redriven, Redrives};
pub use sends::{Claim, Claimed, NOTICE_MS, Release, Sending};
pub use types::{
    AppToken, Batch, Birth, CodeKey, Deferred, FoundAccount, FoundUser, HELD_KEYS, Held, Identity,
    Mac, OutboxRow, Position, Prune, Settled, Spent, StoreError, Totals, Tracked, TrackedState,
    WaitsFor, Write,
};

use crate::model::{Account, AppId, EventId, Keys, Millis, Room, UnionKey, UserId, View};
use async_trait::async_trait;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Decides, from what the store holds. May be asked again from the start with fresher data.
pub trait Planner: Send {
    /// Answers with keys to read, or with what to write.
    fn step(&mut self, view: &View) -> Step;
}

/// A planner's answer.
#[derive(Debug)]
pub enum Step {
    /// Read these too, then ask again with the fuller view.
    Read(Keys),
    /// Write this.
    Write(Box<Write>),
}

/// The database of one installation.
#[async_trait]
pub trait Store: Pauses + Send + Sync {
    /// What it is.
    fn identity(&self) -> &Identity;

    /// Whether it is still what it was when it was opened: `Mismatch` from the moment that a rebuild
    /// begins, and for good once it has made another life of it.
    async fn same(&self) -> Result<(), StoreError>;

    /// Reads, without locks and from one snapshot, what the keys name.
    async fn view(&self, keys: &Keys) -> Result<View, StoreError>;

    /// Applies a batch in one transaction. What the planner writes about or asks for no other writer
    /// changes between what it saw and the commit; accounts of [`Batch::keys`] that it does not
    /// write about may be changed. Nothing is written if it fails.
    async fn apply(&self, batch: &Batch, planner: &mut dyn Planner) -> Result<(), StoreError>;

    /// Input positions of all partitions that have one.
    async fn positions(&self) -> Result<Vec<Position>, StoreError>;

    /// Rows of the outbox after (partition, sequence), with their partitions, in order within each; of
    /// each partition until about `bytes` are read (at least one row, if there is one).
    async fn outbox(
        &self,
        after: &[(u32, u64)],
        bytes: usize,
    ) -> Result<Vec<(u32, OutboxRow)>, StoreError>;

    /// The id of the row at `seq`, if the row is still there.
    async fn outbox_row(&self, partition: u32, seq: u64) -> Result<Option<Uuid>, StoreError>;

    /// The last sequence written for the partition (0 before any).
    async fn outbox_head(&self, partition: u32) -> Result<u64, StoreError>;

    /// Notes that rows up to `seq` are published, and that records below input offset
    /// `inline_below` will not be handled again. They may be pruned (but for the newest row).
    async fn relayed(&self, partition: u32, seq: u64, inline_below: i64) -> Result<(), StoreError>;

    /// Resolves once something may have been added to the outbox or to deferred work.
    async fn changed(&self);

    /// What these codes were exchanged for.
    async fn spent(&self, codes: &[CodeKey]) -> Result<Vec<Option<Spent>>, StoreError>;

    /// Records answers. A code that has one keeps it; an account erased since keeps none.
    async fn spend(&self, answers: &[Spent]) -> Result<(), StoreError>;

    /// Takes leases of codes at `now`, for each code one attempt at a time; what each claim came to, in
    /// their order. A holder that claims again goes on, whatever its lease; one whose lease ran out
    /// loses it to nobody before it had [`NOTICE_MS`] of notice.
    async fn claim(&self, claims: &[Claim], now: Millis) -> Result<Vec<Claimed>, StoreError>;

    /// Gives leases of codes back, where their holders still have them.
    async fn release(&self, releases: &[Release]) -> Result<(), StoreError>;

    /// What is known of the sending of these codes, in their order; `None`: none was ever claimed.
    async fn sendings(&self, codes: &[CodeKey]) -> Result<Vec<Option<Sending>>, StoreError>;

    /// What is held of these accounts, in their order.
    async fn held(&self, accounts: &[Account]) -> Result<Vec<Held>, StoreError>;

    /// Takes as many due resolutions as there is room for and leases them until `now + lease_ms`:
    /// codes newest first, then the others by due time, fairly between apps.
    async fn due(
        &self,
        now: Millis,
        lease_ms: i64,
        room: &Room,
    ) -> Result<Vec<Deferred>, StoreError>;

    /// When the next waiting resolution is due.
    async fn next_due(&self) -> Result<Option<Millis>, StoreError>;

    /// Waiting resolutions per app.
    async fn deferred_by_app(&self) -> Result<BTreeMap<AppId, u64>, StoreError>;

    /// Resolutions of the app that wait for a time are due at once, after those that are due
    /// already: something changed that could help. So are those that wait for a session key and
    /// would go on before their end even without one. One whose attempt is under way keeps its lease,
    /// and has another attempt at once if this one does not end it. One that is being deferred at
    /// this very moment keeps its time. Returns how many are due now that were not. Wakes
    /// [`Store::changed`].
    async fn hasten(&self, app: &AppId, now: Millis) -> Result<u64, StoreError>;

    /// The app's token; `None` if nobody has got one yet.
    async fn app_token(&self, app: &AppId) -> Result<Option<AppToken>, StoreError>;

    /// Takes the right to refresh the app's token until `until`. Whether it was free at `now`
    /// (nobody's lease runs past `now`) and the version is still `seen` (0: there is none yet).
    async fn lease_app_token(
        &self,
        app: &AppId,
        seen: u64,
        now: Millis,
        until: Millis,
    ) -> Result<bool, StoreError>;

    /// Puts a token in the place of version `seen`, as version `seen + 1`, and gives the lease
    /// back. `false`: another was faster, nothing changed. It is not asked who has the lease, so
    /// that a token that was got too slowly is not lost.
    async fn put_app_token(
        &self,
        app: &AppId,
        seen: u64,
        sealed: &[u8],
        expires_at: Millis,
    ) -> Result<bool, StoreError>;

    /// Gives the right to refresh back, if the version is still `seen`. It is not asked who has it:
    /// only for one whose lease still runs.
    async fn release_app_token(&self, app: &AppId, seen: u64) -> Result<(), StoreError>;

    /// Notes how each app is configured now (a keyed hash); returns those that were noted otherwise
    /// before (not those that were not noted), in their order. Of several that note the same at the
    /// same moment one is told.
    async fn note_apps(&self, apps: &[(AppId, [u8; 32])]) -> Result<Vec<AppId>, StoreError>;

    /// Looks accounts up, in their order.
    async fn find_accounts(
        &self,
        accounts: &[Account],
    ) -> Result<Vec<Option<FoundAccount>>, StoreError>;

    /// Looks a user id up.
    async fn find_user(&self, user: UserId) -> Result<FoundUser, StoreError>;

    /// The users whose accounts claim the unionid actively (one, or none).
    async fn find_unionid(&self, union: &UnionKey) -> Result<Option<UserId>, StoreError>;

    /// The fate of an event.
    async fn find_event(&self, event: &EventId) -> Result<Option<Tracked>, StoreError>;

    /// Counts everything (slow on large stores: for summaries, not for scrapes).
    async fn totals(&self) -> Result<Totals, StoreError>;

    /// Removes what is no longer needed.
    async fn prune(&self, what: Prune) -> Result<(), StoreError>;
}
