//! Apps that operators have paused: nobody asks WeChat about them.

use super::StoreError;
use crate::model::{AppId, Millis};
use async_trait::async_trait;

/// An app that is paused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// The app; perhaps none of the configuration any more.
    pub app: AppId,
    /// Since when.
    pub at: Millis,
    /// By whom.
    pub author: String,
    /// Why, in the operator's words.
    pub note: String,
}

/// The pauses of a store.
#[async_trait]
pub trait Pauses: Send + Sync {
    /// All that stand, in the order of their apps.
    async fn paused(&self) -> Result<Vec<Pause>, StoreError>;

    /// Pauses an app. `false`: it is paused already, and that stays as it is.
    async fn pause(&self, pause: &Pause) -> Result<bool, StoreError>;

    /// Ends the pause of an app. `false`: there was none.
    async fn resume(&self, app: &AppId) -> Result<bool, StoreError>;
}
