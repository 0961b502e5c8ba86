//! What only operators' commands do to a store, beside running workers: walking its accounts, and
//! noting who did what.

use super::{Answer, FoundAccount, Hold, Job, NewJob, Question, Redrives, Store, StoreError};
use crate::model::{AppId, Millis};
use async_trait::async_trait;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Rows that one page of [`Operate::browse`] looks at, however few of them match: some hundredths of a
/// second, so that a walk through ten million accounts takes half a minute and never one long
/// statement. (An index of unresolved accounts would make each account that is resolved later cost
/// a new entry in all indexes of its row.)
pub(super) const LOOKED_AT: i64 = 20_000;

/// Which accounts to walk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    /// Of this app; `None`: of any.
    pub app: Option<AppId>,
    /// In this state.
    pub state: State,
}

/// How an account stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// However it stands.
    #[default]
    Any,
    /// It has no unionid in the platform that was its app's newest when it was last written, and says
    /// why. (One that changed platform since says so only once it is written again.)
    Unresolved,
    /// One of its claims is contested, decided by an operator or not.
    Contested,
}

/// Some accounts on the way through a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Accounts with their claims, each with its place, in the order of places.
    pub found: Vec<(i64, FoundAccount)>,
    /// The place to go on after; `None` at the end. A page may be empty and not the last.
    pub next: Option<i64>,
}

/// Something an operator did. Holds no identifier and no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// When.
    pub at: Millis,
    /// Who.
    pub author: String,
    /// What: the command's word.
    pub action: String,
    /// Why, in the operator's words.
    pub note: String,
    /// What was asked for.
    pub detail: BTreeMap<String, String>,
    /// What it came to.
    pub counts: BTreeMap<String, u64>,
}

/// A store as operators' commands use it.
#[async_trait]
pub trait Operate: Store + Redrives {
    /// Living accounts after the place `after` (0: from the first), at most `limit` of them. Each page
    /// looks at a bounded number of rows. Accounts that come while it goes on may be missed.
    async fn browse(&self, which: &Which, after: i64, limit: usize) -> Result<Page, StoreError>;

    /// Notes what an operator did.
    async fn audit(&self, entry: &Audit) -> Result<(), StoreError>;

    /// What operators did, newest first, at most `limit` entries.
    async fn audits(&self, limit: usize) -> Result<Vec<Audit>, StoreError>;

    /// Begins a job, held at once. Its progress is noted with [`super::Write::job`].
    async fn begin_job(&self, job: &NewJob, hold: Hold) -> Result<(), StoreError>;

    /// Takes or renews the hold on a job that is not done. `false`: another's stands past `now`.
    async fn hold_job(&self, hold: Hold, now: Millis) -> Result<bool, StoreError>;

    /// Gives the hold back, if it is still this holder's.
    async fn let_go(&self, job: Uuid, holder: Uuid) -> Result<(), StoreError>;

    /// A job.
    async fn job(&self, id: Uuid) -> Result<Option<Job>, StoreError>;

    /// Jobs, newest first, at most `limit` of them.
    async fn jobs(&self, limit: usize) -> Result<Vec<Job>, StoreError>;

    /// What was answered to these questions at `since` or later, in their order.
    async fn answers(
        &self,
        asked: &[Question],
        since: Millis,
    ) -> Result<Vec<Option<Answer>>, StoreError>;

    /// Keeps answers; of two to one question the later stays. None is kept from before its account's
    /// erasure, and an erasure takes away what is.
    async fn keep_answers(&self, answers: &[Answer]) -> Result<(), StoreError>;
}

/// A map as it stands in a column.
pub(super) fn text_of<T: serde::Serialize>(map: &BTreeMap<String, T>) -> String {
    serde_json::to_string(map).unwrap_or_else(|_| "{}".to_owned())
}

/// What a column says.
pub(super) fn map_of<T: serde::de::DeserializeOwned>(
    text: &str,
) -> Result<BTreeMap<String, T>, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Corrupt("an audit's JSON".to_owned()))
}
