//! What a piece of work is, and how far it has got: both are kept with its job, as JSON.

use super::counts::Counts;
use crate::model::AppId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is to be done. Fixed once it has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// What is gone through.
    pub what: What,
    /// Whether WeChat is asked.
    pub asks: bool,
    /// Whether it is asked again what it answered before the work began.
    pub again: bool,
}

/// What is gone through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A range of the login topic.
    Logins(Logins),
    /// Accounts of an app.
    Accounts(Accounts),
}

/// Accounts of an app that have no unionid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// The app.
    pub app: String,
    /// Whether the list of its followers is gone through afterwards.
    pub followers: bool,
    /// How many accounts there were when it was begun.
    pub total: u64,
}

/// A range of the login topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logins {
    /// By partition, the first offset, and the first that is not wanted.
    pub ranges: BTreeMap<u32, (i64, i64)>,
    /// Of these apps only; none: of all.
    pub apps: Vec<String>,
    /// Only accounts that have no unionid.
    pub only_unresolved: bool,
}

impl Logins {
    /// Records in the range, as far as offsets tell.
    #[must_use]
    pub fn total(&self) -> u64 {
        let sizes = self.ranges.values().map(|(from, to)| (to - from).max(0));
        u64::try_from(sizes.sum::<i64>()).unwrap_or(0)
    }

    /// Whether the app is wanted.
    #[must_use]
    pub fn wants(&self, app: &AppId) -> bool {
        self.apps.is_empty() || self.apps.iter().any(|wanted| wanted == app.as_str())
    }

    /// Whether all there is in the range is wanted.
    #[must_use]
    pub fn wants_all(&self) -> bool {
        self.apps.is_empty() && !self.only_unresolved
    }
}

/// How far it has got. Holds nobody's identifiers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Of the total.
    pub done: u64,
    /// By partition, the next offset.
    pub offsets: BTreeMap<u32, i64>,
    /// The account that was looked at last, by its place in the store.
    pub place: i64,
    /// Whether all accounts were looked at.
    pub walked: bool,
    /// Where the page of followers begins that is at hand, sealed; `None`: at the first.
    pub page: Option<String>,
    /// Whether all pages were gone through.
    pub listed: bool,
    /// How many follow, as WeChat told last.
    pub followers: u64,
    /// Numbers at the beginning of the page at hand, if some of it was gone through.
    pub before: Option<Counts>,
}

impl What {
    /// How much there is to be gone through, as far as is known.
    #[must_use]
    pub fn total(&self, progress: &Progress) -> u64 {
        match self {
            Self::Logins(logins) => logins.total(),
            Self::Accounts(accounts) => accounts.total + progress.followers,
        }
    }
}

impl Kept {
    /// As the work goes on from here: what will be gone through again is not counted yet.
    #[must_use]
    pub fn gone_back(mut self) -> Self {
        if let Some(before) = self.progress.before.take() {
            self.progress.done -= (self.counts.records - before.records).min(self.progress.done);
            self.counts.go_back_to(&before);
        }
        self
    }
}

/// What is kept with a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// How far.
    pub progress: Progress,
    /// What it came to.
    pub counts: Counts,
}

/// As JSON for a column.
pub(super) fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
