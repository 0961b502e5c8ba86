//! What resolution remembers while operators' work goes on: over the store, as for live workers, but
//! for two things. Whether an account is resolved is told by its newest platform, since an app may
//! have moved; and answers to questions are remembered.

use super::ground::{Ground, has_unionid};
use crate::clock::Clock;
use crate::model::{Account, Apps, Keys, Millis};
use crate::resolve::ports::{
    Answers, Asked, Claim, Claimed, Found, HeldKeys, Mark, Memory, MemoryFault, Note, Release,
    Sending,
};
use crate::store::{Answer, Operate, Question, Store, StoreError};
use crate::worker::memory::StoreMemory;
use async_trait::async_trait;
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Whether accounts have a unionid in their newest platform, for the window that is being resolved.
#[derive(Debug, Default)]
pub struct Resolved(Mutex<FxHashMap<Account, bool>>);

impl Resolved {
    /// Notes what was looked up.
    pub fn note(&self, accounts: FxHashMap<Account, bool>) {
        self.lock().extend(accounts);
    }

    /// The window is over.
    pub fn forget(&self) {
        self.lock().clear();
    }

    fn get(&self, account: &Account) -> Option<bool> {
        self.lock().get(account).copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, FxHashMap<Account, bool>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory of operators' work.
pub struct WorkMemory {
    live: StoreMemory,
    ground: Arc<dyn Ground>,
    known: Arc<Resolved>,
    apps: Arc<Apps>,
}

impl WorkMemory {
    /// Over the store, whose ledger is read and not written, and what the work is done on.
    #[must_use]
    pub fn new(
        store: &Arc<dyn Store>,
        ground: Arc<dyn Ground>,
        known: Arc<Resolved>,
        apps: Arc<Apps>,
        clock: &Clock,
    ) -> Self {
        Self {
            live: StoreMemory::new(store, clock),
            ground,
            known,
            apps,
        }
    }
}

#[async_trait]
impl Memory for WorkMemory {
    async fn recall(&self, marks: Vec<Mark>) -> Result<Vec<Option<Found>>, MemoryFault> {
        self.live.recall(marks).await
    }

    /// Codes are not sent, so that there is nothing to note of them.
    async fn remember(&self, _: Note) -> Result<(), MemoryFault> {
        Err(MemoryFault("operators' work sends no code".to_owned()))
    }

    /// As [`WorkMemory::remember`].
    async fn claim(&self, _: Claim) -> Result<Claimed, MemoryFault> {
        Err(MemoryFault("operators' work sends no code".to_owned()))
    }

    async fn release(&self, _: Release) -> Result<(), MemoryFault> {
        Ok(())
    }

    async fn sending(&self, mark: Mark) -> Result<Option<Sending>, MemoryFault> {
        self.live.sending(mark).await
    }

    async fn held(&self, account: Account) -> Result<HeldKeys, MemoryFault> {
        let held = self.ground.held(std::slice::from_ref(&account)).await;
        let held = held.map_err(|e| fault(&e))?.into_iter().next();
        let resolved = match self.known.get(&account) {
            Some(resolved) => resolved,
            None => {
                let keys = Keys {
                    accounts: [account.clone()].into(),
                    ..Keys::default()
                };
                let view = self.ground.view(&keys).await.map_err(|e| fault(&e))?;
                has_unionid(&view, &account, &self.apps)
            }
        };
        Ok(HeldKeys {
            resolved,
            keys: held.map(|held| held.keys).unwrap_or_default(),
        })
    }
}

/// Remembered answers, in a store.
pub struct StoreAnswers {
    /// Where they are looked for, in turn.
    pub read: Vec<Arc<dyn Operate>>,
    /// Where they are kept.
    pub kept: Arc<dyn Operate>,
}

#[async_trait]
impl Answers for StoreAnswers {
    async fn known(&self, asked: Asked, since: Millis) -> Result<Option<Found>, MemoryFault> {
        let question = [question(asked)];
        for store in &self.read {
            let found = store.answers(&question, since).await;
            let found = found.map_err(|e| fault(&e))?.into_iter().flatten().next();
            if let Some(answer) = found {
                return Ok(Some(Found {
                    at: answer.at,
                    sealed: Some(answer.sealed),
                }));
            }
        }
        Ok(None)
    }

    async fn keep(&self, answers: Vec<(Asked, Millis, Vec<u8>)>) -> Result<(), MemoryFault> {
        let answers = answers.into_iter().map(|(asked, at, sealed)| Answer {
            question: question(asked),
            at,
            sealed,
        });
        let answers: Vec<Answer> = answers.collect();
        self.kept
            .keep_answers(&answers)
            .await
            .map_err(|e| fault(&e))
    }
}

fn question(asked: Asked) -> Question {
    Question {
        account: asked.account,
        what: asked.what,
    }
}

fn fault(error: &StoreError) -> MemoryFault {
    MemoryFault(error.to_string())
}
