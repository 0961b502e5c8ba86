//! Where facts are applied: the store itself, or a shadow of it.

use crate::model::{Account, Apps, Keys, View, present};
use crate::store::{Batch, Held, Planner, Store, StoreError};
use async_trait::async_trait;
use std::sync::Arc;

/// What work is done on.
#[async_trait]
pub trait Ground: Send + Sync {
    /// Reads accounts.
    async fn view(&self, keys: &Keys) -> Result<View, StoreError>;
    /// Applies a batch in one transaction; see [`Store::apply`].
    async fn apply(&self, batch: &Batch, planner: &mut dyn Planner) -> Result<(), StoreError>;
    /// What is held of accounts, in their order.
    async fn held(&self, accounts: &[Account]) -> Result<Vec<Held>, StoreError>;
}

/// The store itself.
pub struct Real(pub Arc<dyn Store>);

#[async_trait]
impl Ground for Real {
    async fn view(&self, keys: &Keys) -> Result<View, StoreError> {
        self.0.view(keys).await
    }

    async fn apply(&self, batch: &Batch, planner: &mut dyn Planner) -> Result<(), StoreError> {
        self.0.apply(batch, planner).await
    }

    async fn held(&self, accounts: &[Account]) -> Result<Vec<Held>, StoreError> {
        self.0.held(accounts).await
    }
}

/// Whether the account has a unionid in its newest platform, as far as the view shows it.
#[must_use]
pub fn has_unionid(view: &View, account: &Account, apps: &Apps) -> bool {
    let Some(row) = view.accounts.get(account) else {
        return false;
    };
    let claims = view.claims.get(account).map_or(&[][..], Vec::as_slice);
    present(row, claims, apps).unionid.is_some()
}
