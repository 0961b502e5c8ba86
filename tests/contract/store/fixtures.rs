//! Values for the contract's tests, and planners of a few lines.

use super::Home;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use unilink::bus::Record;
use unilink::model::{
    Account, AccountRow, AppId, Changes, ClaimKey, ClaimRow, ClaimStatus, EventId, Keys, Method,
    Millis, PlatformId, Room, SealedKey, Tombstone, UnionId, UnionKey, UserId, View, Why,
};
use unilink::store::{
    Batch, Birth, Deferred, OutboxRow, Planner, Prune, Step, Store, WaitsFor, Write,
};
use uuid::Uuid;

pub const NAMESPACE: Uuid = Uuid::from_u128(0x6f1e_d0c0_ffee_4bad_8bad_f00d_dead_beef);

/// Not an HMAC; enough to tell keys apart and not to show them.
pub fn mac(key: &str) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(format!("mac {key}")).into()
}

pub fn birth() -> Birth {
    Birth {
        partitions: 4,
        group: "unilink".into(),
        secrets_hash: [7; 32],
    }
}

pub async fn open(home: &dyn Home) -> Arc<dyn Store> {
    home.open_in(birth(), NAMESPACE).await.expect("opens")
}

pub type Session = Arc<dyn Store>;

pub async fn eight(home: &dyn Home) -> Vec<Session> {
    futures::future::join_all((0..8).map(|_| open(home))).await
}

/// What sessions say that are asked at the same moment.
pub async fn all<F>(sessions: &[Session], ask: impl Fn(Session, usize) -> F) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(sessions.len()));
    let mut tasks = JoinSet::new();
    for (n, session) in sessions.iter().enumerate() {
        let (asked, barrier) = (ask(Arc::clone(session), n), Arc::clone(&barrier));
        tasks.spawn(async move {
            barrier.wait().await;
            asked.await
        });
    }
    tasks.join_all().await
}

pub fn app(n: u32) -> AppId {
    AppId::parse(&format!("wxapp{n}")).expect("valid")
}

pub fn account(n: u32) -> Account {
    account_in(1, n)
}

pub fn account_in(in_app: u32, n: u32) -> Account {
    let key = format!("wxapp{in_app}:oPerson{n:06}");
    Account::from_key(&key).expect("valid")
}

pub fn union(n: u32) -> UnionKey {
    UnionKey {
        platform: PlatformId::parse("main").expect("valid"),
        unionid: UnionId::parse(&format!("uPerson{n:06}")).expect("valid"),
    }
}

pub fn event(n: u32) -> EventId {
    EventId::parse(&format!("event-{n}")).expect("valid")
}

pub fn own(account: &Account) -> UserId {
    account.own_id(NAMESPACE, Millis(0))
}

/// An account on its own.
pub fn row(account: &Account) -> AccountRow {
    AccountRow {
        account: account.clone(),
        generation: Millis(0),
        first_seen_at: Millis(1_000),
        user: own(account),
        revision: 1,
        external: None,
        reason: None,
        cause: event(1),
        linked_at: Millis(2_000),
    }
}

/// A claim that links.
pub fn claim(account: &Account, union: &UnionKey) -> ClaimRow {
    ClaimRow {
        key: ClaimKey {
            account: account.clone(),
            union: union.clone(),
        },
        at: Millis(1_000),
        method: Method::Code2Session,
        cause: event(1),
        status: ClaimStatus::Active,
        verdict: None,
        reported: false,
    }
}

pub fn contested(account: &Account, union: &UnionKey, why: Why) -> ClaimRow {
    ClaimRow {
        status: ClaimStatus::Contested(why),
        reported: true,
        ..claim(account, union)
    }
}

pub fn sealed(at: i64) -> SealedKey {
    SealedKey {
        at: Millis(at),
        sealed: format!("sealed {at}").into_bytes(),
        exchanged: at % 2 == 0,
    }
}

pub fn tombstone(account: &Account, erased_at: i64) -> Tombstone {
    Tombstone {
        account: account.clone(),
        erased_at: Millis(erased_at),
        own_ids: vec![own(account)],
        revision: 2,
    }
}

pub fn record(text: &str) -> Record {
    Record {
        topic: "links".into(),
        key: b"key".to_vec(),
        value: Some(text.as_bytes().to_vec()),
        headers: vec![],
        partition: None,
    }
}

pub fn deferred(offset: i64) -> Deferred {
    Deferred {
        partition: 0,
        offset,
        silent: false,
        event: event(1),
        app: app(1),
        account: None,
        has_code: false,
        waits_for: WaitsFor::Time,
        next_at: Millis(100 + offset),
        expires_at: Millis(1_000_000),
        attempts: 0,
        record: vec![1, 2, 3],
        since: Millis(10 + offset),
    }
}

pub fn accounts(accounts: &[Account]) -> Keys {
    Keys {
        accounts: accounts.iter().cloned().collect(),
        ..Keys::default()
    }
}

pub fn unions(unions: &[UnionKey]) -> Keys {
    Keys {
        unionids: unions.iter().cloned().collect(),
        ..Keys::default()
    }
}

/// Nothing is old enough.
pub fn prune_nothing() -> Prune {
    Prune {
        tracked_before: Millis(0),
        ledger_before: Millis(0),
        session_keys_before: Millis(0),
    }
}

/// A planner made of a function.
pub struct Plan<F>(pub F);

impl<F: FnMut(&View) -> Step + Send> Planner for Plan<F> {
    fn step(&mut self, view: &View) -> Step {
        (self.0)(view)
    }
}

pub fn write(changes: Changes) -> Step {
    Step::Write(Box::new(Write {
        changes,
        ..Write::default()
    }))
}

/// Applies a batch that writes what it is told to, whatever the store holds.
pub async fn apply(store: &dyn Store, batch: &Batch, changes: Changes) {
    let mut plan = Plan(|_: &View| write(changes.clone()));
    store.apply(batch, &mut plan).await.expect("applies");
}

/// Writes rows as they are.
pub async fn put(store: &dyn Store, rows: Vec<AccountRow>, claims: Vec<ClaimRow>) {
    let changes = Changes {
        accounts: rows,
        claims,
        ..Changes::default()
    };
    apply(store, &Batch::default(), changes).await;
}

/// Publishes one record in each of the partitions.
pub async fn publish(store: &dyn Store, partitions: &[u32], text: &str) {
    let outbox: BTreeMap<u32, Vec<Record>> = partitions
        .iter()
        .map(|p| (*p, vec![record(text)]))
        .collect();
    let mut plan = Plan(|_: &View| {
        Step::Write(Box::new(Write {
            outbox: outbox.clone(),
            ..Write::default()
        }))
    });
    let batch = Batch::default();
    store.apply(&batch, &mut plan).await.expect("applies");
}

/// Adds deferred resolutions.
/// Rows of one partition's outbox after a sequence.
pub async fn outbox(store: &dyn Store, partition: u32, after: u64, bytes: usize) -> Vec<OutboxRow> {
    let rows = store.outbox(&[(partition, after)], bytes).await;
    let rows = rows.expect("reads").into_iter();
    rows.map(|(of, row)| {
        assert_eq!(of, partition);
        row
    })
    .collect()
}

pub async fn defer(store: &dyn Store, defer: Vec<Deferred>) {
    let batch = Batch {
        defer,
        ..Batch::default()
    };
    apply(store, &batch, Changes::default()).await;
}

/// The offsets of what is due.
pub async fn due(store: &dyn Store, now: i64) -> Vec<i64> {
    let due = store
        .due(Millis(now), 1_000, &Room::for_any(100))
        .await
        .expect("leases");
    due.iter().map(|d| d.offset).collect()
}
