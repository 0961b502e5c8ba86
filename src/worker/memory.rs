//! The memory of resolution, over the store: what many resolutions ask at once becomes one query,
//! what they note at once becomes one transaction.

use crate::clock::Clock;
use crate::model::{Account, AppId, Millis};
use crate::resolve::ports::{
    Claim, Claimed, Found, HeldKeys, Mark, Memory, MemoryFault, Note, Release, Sending, Shelf,
    Shelved,
};
use crate::store::{self, CodeKey, Spent, Store, StoreError};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Requests that may queue before callers wait.
const QUEUE: usize = 4_096;
/// Requests in one round trip.
const ROUND: usize = 512;

type Answer<T> = oneshot::Sender<Result<T, MemoryFault>>;
/// A question with where its answer goes.
type Asked<Q, A> = (Q, Answer<A>);
/// What was found under each mark.
type Findings = Vec<Option<Found>>;

/// A store seen as a memory. The tasks behind it end when it is dropped.
pub struct StoreMemory {
    recalls: mpsc::Sender<Asked<Vec<Mark>, Findings>>,
    notes: mpsc::Sender<Asked<Note, ()>>,
    claims: mpsc::Sender<Asked<Claim, Claimed>>,
    releases: mpsc::Sender<Asked<Release, ()>>,
    sendings: mpsc::Sender<Asked<Mark, Option<Sending>>>,
    helds: mpsc::Sender<Asked<Account, HeldKeys>>,
    store: Arc<dyn Store>,
    clock: Clock,
}

impl StoreMemory {
    /// Starts the batching tasks.
    #[must_use]
    pub fn new(store: &Arc<dyn Store>, clock: &Clock) -> Self {
        let (recalls, recalled) = mpsc::channel(QUEUE);
        let (notes, noted) = mpsc::channel(QUEUE);
        let (claims, claimed) = mpsc::channel(QUEUE);
        let (releases, released) = mpsc::channel(QUEUE);
        let (sendings, looked_up) = mpsc::channel(QUEUE);
        let (helds, asked) = mpsc::channel(QUEUE);
        tokio::spawn(recall_loop(Arc::clone(store), recalled));
        tokio::spawn(note_loop(Arc::clone(store), noted));
        tokio::spawn(claim_loop(Arc::clone(store), Arc::clone(clock), claimed));
        tokio::spawn(release_loop(Arc::clone(store), released));
        tokio::spawn(sending_loop(Arc::clone(store), looked_up));
        tokio::spawn(held_loop(Arc::clone(store), asked));
        Self {
            recalls,
            notes,
            claims,
            releases,
            sendings,
            helds,
            store: Arc::clone(store),
            clock: Arc::clone(clock),
        }
    }
}

#[async_trait]
impl Memory for StoreMemory {
    async fn recall(&self, marks: Vec<Mark>) -> Result<Vec<Option<Found>>, MemoryFault> {
        ask(&self.recalls, marks).await
    }

    async fn remember(&self, note: Note) -> Result<(), MemoryFault> {
        ask(&self.notes, note).await
    }

    async fn claim(&self, claim: Claim) -> Result<Claimed, MemoryFault> {
        ask(&self.claims, claim).await
    }

    async fn release(&self, release: Release) -> Result<(), MemoryFault> {
        ask(&self.releases, release).await
    }

    async fn sending(&self, mark: Mark) -> Result<Option<Sending>, MemoryFault> {
        ask(&self.sendings, mark).await
    }

    async fn held(&self, account: Account) -> Result<HeldKeys, MemoryFault> {
        ask(&self.helds, account).await
    }
}

/// Tokens change every two hours: nothing is gained by gathering.
#[async_trait]
impl Shelf for StoreMemory {
    async fn token(&self, app: &AppId) -> Result<Option<Shelved>, MemoryFault> {
        let token = self.store.app_token(app).await;
        let token = token.map_err(|e| fault(&e))?;
        Ok(token.map(|token| Shelved {
            version: token.version,
            sealed: token.sealed,
        }))
    }

    async fn lease(
        &self,
        app: &AppId,
        seen: u64,
        now: Millis,
        until: Millis,
    ) -> Result<bool, MemoryFault> {
        let leased = self.store.lease_app_token(app, seen, now, until).await;
        leased.map_err(|e| fault(&e))
    }

    async fn put(
        &self,
        app: &AppId,
        seen: u64,
        sealed: Vec<u8>,
        expires_at: Millis,
    ) -> Result<bool, MemoryFault> {
        let put = self
            .store
            .put_app_token(app, seen, &sealed, expires_at)
            .await;
        put.map_err(|e| fault(&e))
    }

    async fn release(&self, app: &AppId, seen: u64) -> Result<(), MemoryFault> {
        let released = self.store.release_app_token(app, seen).await;
        released.map_err(|e| fault(&e))
    }

    async fn hasten(&self, app: &AppId) -> Result<(), MemoryFault> {
        let hastened = self.store.hasten(app, (self.clock)()).await;
        hastened.map(drop).map_err(|e| fault(&e))
    }
}

async fn ask<Q, A>(queue: &mpsc::Sender<(Q, Answer<A>)>, question: Q) -> Result<A, MemoryFault> {
    let (answer, answered) = oneshot::channel();
    let gone = || MemoryFault("it is shutting down".to_owned());
    queue.send((question, answer)).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

/// The next round: at least one request, and whatever else waits; `None` when nobody can ask.
async fn round<T>(queue: &mut mpsc::Receiver<T>) -> Option<Vec<T>> {
    let mut taken = Vec::new();
    (queue.recv_many(&mut taken, ROUND).await > 0).then_some(taken)
}

fn fault(error: &StoreError) -> MemoryFault {
    MemoryFault(error.to_string())
}

/// Gives each asker its answer, or all of them the one fault. An asker that left is no error.
fn deal<A>(answers: Vec<Answer<A>>, result: Result<Vec<A>, StoreError>) {
    match result {
        Ok(results) => {
            for (answer, result) in answers.into_iter().zip(results) {
                answer.send(Ok(result)).ok();
            }
        }
        Err(error) => {
            for answer in answers {
                answer.send(Err(fault(&error))).ok();
            }
        }
    }
}

async fn recall_loop(store: Arc<dyn Store>, mut queue: mpsc::Receiver<Asked<Vec<Mark>, Findings>>) {
    while let Some(asked) = round(&mut queue).await {
        let (questions, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let codes: Vec<CodeKey> = questions.iter().flatten().map(|m| CodeKey(m.0)).collect();
        let found = store.spent(&codes).await.map(|rows| {
            let mut rows = rows.into_iter().map(|row| {
                row.map(|spent| Found {
                    at: spent.at,
                    sealed: spent.answer,
                })
            });
            questions
                .iter()
                .map(|marks| rows.by_ref().take(marks.len()).collect())
                .collect()
        });
        deal(answers, found);
    }
}

async fn note_loop(store: Arc<dyn Store>, mut queue: mpsc::Receiver<Asked<Note, ()>>) {
    while let Some(asked) = round(&mut queue).await {
        let (notes, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let spent: Vec<Spent> = notes
            .into_iter()
            .map(|note| Spent {
                code: CodeKey(note.mark.0),
                account: note.account,
                at: note.at,
                answer: Some(note.sealed),
            })
            .collect();
        let done = store.spend(&spent).await.map(|()| vec![(); answers.len()]);
        deal(answers, done);
    }
}

async fn claim_loop(
    store: Arc<dyn Store>,
    clock: Clock,
    mut queue: mpsc::Receiver<Asked<Claim, Claimed>>,
) {
    while let Some(asked) = round(&mut queue).await {
        let (claims, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let claims = claims.into_iter().map(|claim| store::Claim {
            code: CodeKey(claim.mark.0),
            holder: claim.holder,
            until: claim.until,
        });
        let claims: Vec<store::Claim> = claims.collect();
        let claimed = store.claim(&claims, clock()).await;
        let claimed = claimed.map(|all| all.into_iter().map(claimed_of).collect());
        deal(answers, claimed);
    }
}

fn claimed_of(claimed: store::Claimed) -> Claimed {
    match claimed {
        store::Claimed::Mine { first, sent } => Claimed::Mine { first, sent },
        store::Claimed::Held { holder, until } => Claimed::Held { holder, until },
    }
}

async fn release_loop(store: Arc<dyn Store>, mut queue: mpsc::Receiver<Asked<Release, ()>>) {
    while let Some(asked) = round(&mut queue).await {
        let (releases, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let releases = releases.into_iter().map(|release| store::Release {
            code: CodeKey(release.mark.0),
            holder: release.holder,
            sent: release.sent,
        });
        let releases: Vec<store::Release> = releases.collect();
        let done = store.release(&releases).await;
        let done = done.map(|()| vec![(); answers.len()]);
        deal(answers, done);
    }
}

async fn sending_loop(
    store: Arc<dyn Store>,
    mut queue: mpsc::Receiver<Asked<Mark, Option<Sending>>>,
) {
    while let Some(asked) = round(&mut queue).await {
        let (marks, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let codes: Vec<CodeKey> = marks.iter().map(|mark| CodeKey(mark.0)).collect();
        let found = store.sendings(&codes).await.map(|rows| {
            let sending = |row: store::Sending| Sending {
                held: row.holder.is_some(),
                until: row.until,
                sent: row.sent,
            };
            rows.into_iter().map(|row| row.map(sending)).collect()
        });
        deal(answers, found);
    }
}

async fn held_loop(store: Arc<dyn Store>, mut queue: mpsc::Receiver<Asked<Account, HeldKeys>>) {
    while let Some(asked) = round(&mut queue).await {
        let (accounts, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let held = store.held(&accounts).await.map(|rows| {
            rows.into_iter()
                .map(|row| HeldKeys {
                    resolved: row.resolved,
                    keys: row.keys,
                })
                .collect()
        });
        deal(answers, held);
    }
}
