//! A store and a bus that stand before real ones and fail as told: away, or taking a request and
//! never answering it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)] // a helper of tests; each uses a part

use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use unilink::bus::{
    Assigned, Bus, BusError, Committed, Member, Next, Progress, Range, Record, Stored, Term,
    TopicSpec, TopicState, Unit,
};
use unilink::model::{Account, AppId, EventId, Keys, Millis, Room, UnionKey, UserId, View};
use unilink::store::{
    AppToken, Batch, Claim, Claimed, CodeKey, Deferred, FoundAccount, FoundUser, Held, Identity,
    OutboxRow, Pause, Pauses, Planner, Position, Prune, Release, Sending, Spent, Store, StoreError,
    Totals, Tracked,
};
use uuid::Uuid;

/// How a service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Every request fails.
    Away,
    /// No request is answered.
    Hangs,
}

/// Sets the mood of what stands behind it.
pub struct Gate(watch::Sender<Mood>);

impl Gate {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(Mood::Well)))
    }

    pub fn set(&self, mood: Mood) {
        self.0.send_replace(mood);
    }

    /// Lets a request through, or refuses it.
    async fn pass(&self) -> Result<(), String> {
        let mut mood = self.0.subscribe();
        let mood = mood.wait_for(|m| *m != Mood::Hangs).await;
        match *mood.expect("the gate stands") {
            Mood::Away => Err("connection refused".to_owned()),
            _ => Ok(()),
        }
    }
}

pub struct GatedStore {
    pub gate: Arc<Gate>,
    pub behind: Arc<dyn Store>,
}

impl GatedStore {
    async fn pass(&self) -> Result<&dyn Store, StoreError> {
        self.gate.pass().await.map_err(StoreError::Unavailable)?;
        Ok(&*self.behind)
    }
}

#[async_trait]
impl Pauses for GatedStore {
    async fn paused(&self) -> Result<Vec<Pause>, StoreError> {
        self.pass().await?.paused().await
    }
    async fn pause(&self, pause: &Pause) -> Result<bool, StoreError> {
        self.pass().await?.pause(pause).await
    }
    async fn resume(&self, app: &AppId) -> Result<bool, StoreError> {
        self.pass().await?.resume(app).await
    }
}

#[async_trait]
impl Store for GatedStore {
    fn identity(&self) -> &Identity {
        self.behind.identity()
    }
    async fn view(&self, keys: &Keys) -> Result<View, StoreError> {
        self.pass().await?.view(keys).await
    }
    async fn apply(&self, batch: &Batch, planner: &mut dyn Planner) -> Result<(), StoreError> {
        self.pass().await?.apply(batch, planner).await
    }
    async fn same(&self) -> Result<(), StoreError> {
        self.pass().await?.same().await
    }
    async fn positions(&self) -> Result<Vec<Position>, StoreError> {
        self.pass().await?.positions().await
    }
    async fn outbox(
        &self,
        after: &[(u32, u64)],
        bytes: usize,
    ) -> Result<Vec<(u32, OutboxRow)>, StoreError> {
        self.pass().await?.outbox(after, bytes).await
    }
    async fn outbox_row(&self, partition: u32, seq: u64) -> Result<Option<Uuid>, StoreError> {
        self.pass().await?.outbox_row(partition, seq).await
    }
    async fn outbox_head(&self, partition: u32) -> Result<u64, StoreError> {
        self.pass().await?.outbox_head(partition).await
    }
    async fn relayed(&self, p: u32, seq: u64, inline_below: i64) -> Result<(), StoreError> {
        self.pass().await?.relayed(p, seq, inline_below).await
    }
    async fn changed(&self) {
        self.behind.changed().await;
    }
    async fn spent(&self, codes: &[CodeKey]) -> Result<Vec<Option<Spent>>, StoreError> {
        self.pass().await?.spent(codes).await
    }
    async fn spend(&self, answers: &[Spent]) -> Result<(), StoreError> {
        self.pass().await?.spend(answers).await
    }
    async fn claim(&self, claims: &[Claim], now: Millis) -> Result<Vec<Claimed>, StoreError> {
        self.pass().await?.claim(claims, now).await
    }
    async fn release(&self, releases: &[Release]) -> Result<(), StoreError> {
        self.pass().await?.release(releases).await
    }
    async fn sendings(&self, codes: &[CodeKey]) -> Result<Vec<Option<Sending>>, StoreError> {
        self.pass().await?.sendings(codes).await
    }
    async fn held(&self, accounts: &[Account]) -> Result<Vec<Held>, StoreError> {
        self.pass().await?.held(accounts).await
    }
    async fn due(&self, now: Millis, lease: i64, room: &Room) -> Result<Vec<Deferred>, StoreError> {
        self.pass().await?.due(now, lease, room).await
    }
    async fn next_due(&self) -> Result<Option<Millis>, StoreError> {
        self.pass().await?.next_due().await
    }
    async fn deferred_by_app(&self) -> Result<BTreeMap<AppId, u64>, StoreError> {
        self.pass().await?.deferred_by_app().await
    }
    async fn hasten(&self, app: &AppId, now: Millis) -> Result<u64, StoreError> {
        self.pass().await?.hasten(app, now).await
    }
    async fn app_token(&self, app: &AppId) -> Result<Option<AppToken>, StoreError> {
        self.pass().await?.app_token(app).await
    }
    async fn lease_app_token(
        &self,
        app: &AppId,
        seen: u64,
        now: Millis,
        until: Millis,
    ) -> Result<bool, StoreError> {
        let behind = self.pass().await?;
        behind.lease_app_token(app, seen, now, until).await
    }
    async fn put_app_token(
        &self,
        app: &AppId,
        seen: u64,
        sealed: &[u8],
        expires_at: Millis,
    ) -> Result<bool, StoreError> {
        let behind = self.pass().await?;
        behind.put_app_token(app, seen, sealed, expires_at).await
    }
    async fn release_app_token(&self, app: &AppId, seen: u64) -> Result<(), StoreError> {
        self.pass().await?.release_app_token(app, seen).await
    }
    async fn note_apps(&self, apps: &[(AppId, [u8; 32])]) -> Result<Vec<AppId>, StoreError> {
        self.pass().await?.note_apps(apps).await
    }
    async fn find_accounts(&self, of: &[Account]) -> Result<Vec<Option<FoundAccount>>, StoreError> {
        self.pass().await?.find_accounts(of).await
    }
    async fn find_user(&self, user: UserId) -> Result<FoundUser, StoreError> {
        self.pass().await?.find_user(user).await
    }
    async fn find_unionid(&self, union: &UnionKey) -> Result<Option<UserId>, StoreError> {
        self.pass().await?.find_unionid(union).await
    }
    async fn find_event(&self, event: &EventId) -> Result<Option<Tracked>, StoreError> {
        self.pass().await?.find_event(event).await
    }
    async fn totals(&self) -> Result<Totals, StoreError> {
        self.pass().await?.totals().await
    }
    async fn prune(&self, what: Prune) -> Result<(), StoreError> {
        self.pass().await?.prune(what).await
    }
}

pub struct GatedBus {
    pub gate: Arc<Gate>,
    pub behind: Arc<dyn Bus>,
    /// How often somebody joined.
    pub joined: Arc<AtomicU64>,
    /// The next assignment tells where the relay stood a unit ago.
    pub behindhand: Arc<AtomicBool>,
}

impl GatedBus {
    async fn pass(&self) -> Result<&dyn Bus, BusError> {
        self.gate.pass().await.map_err(BusError::Unavailable)?;
        Ok(&*self.behind)
    }
}

#[async_trait]
impl Bus for GatedBus {
    async fn publish(&self, records: Vec<Record>) -> Result<(), BusError> {
        self.pass().await?.publish(records).await
    }
    async fn join(&self) -> Result<Arc<dyn Member>, BusError> {
        let behind = self.pass().await?.join().await?;
        self.joined.fetch_add(1, Ordering::Relaxed);
        let (gate, behindhand) = (Arc::clone(&self.gate), Arc::clone(&self.behindhand));
        Ok(Arc::new(GatedMember {
            gate,
            behind,
            behindhand,
        }))
    }
    async fn read(&self, range: &Range, limit: usize) -> Result<Vec<Stored>, BusError> {
        self.pass().await?.read(range, limit).await
    }
    async fn topics(&self, wanted: &[TopicSpec]) -> Result<Vec<TopicState>, BusError> {
        self.pass().await?.topics(wanted).await
    }
    async fn offsets_at(&self, topic: &Arc<str>, at: Millis) -> Result<Vec<i64>, BusError> {
        self.pass().await?.offsets_at(topic, at).await
    }
    async fn group(&self) -> Result<Vec<Assigned>, BusError> {
        self.pass().await?.group().await
    }
    async fn place(&self, progress: &[Progress]) -> Result<(), BusError> {
        self.pass().await?.place(progress).await
    }
}

struct GatedMember {
    gate: Arc<Gate>,
    behind: Arc<dyn Member>,
    behindhand: Arc<AtomicBool>,
}

impl GatedMember {
    async fn pass(&self) -> Result<&dyn Member, BusError> {
        self.gate.pass().await.map_err(BusError::Unavailable)?;
        Ok(&*self.behind)
    }
}

#[async_trait]
impl Member for GatedMember {
    async fn next(&self, wait: Duration, limit: usize) -> Result<Next, BusError> {
        let mut next = self.pass().await?.next(wait, limit).await?;
        if let Next::Given(_, assigned) = &mut next
            && self.behindhand.swap(false, Ordering::Relaxed)
        {
            for relay in assigned.iter_mut().filter_map(|a| a.relay.as_mut()) {
                (relay.seq, relay.row) = (relay.seq.saturating_sub(1), Uuid::new_v4());
            }
        }
        Ok(next)
    }
    async fn start(&self, term: Term, at: &[(u32, i64)]) -> Result<(), BusError> {
        self.pass().await?.start(term, at).await
    }
    async fn commit(&self, unit: Unit) -> Result<Committed, BusError> {
        self.pass().await?.commit(unit).await
    }
}
