//! What all workers of an app share: its access token, and how it was last configured.

use super::SqliteStore;
use super::rows::{count, get, int, millis};
use crate::model::{AppId, Millis};
use crate::sqlite::{Tx, Val};
use crate::store::{AppToken, StoreError};
use std::collections::BTreeMap;

pub(super) const READ: &str =
    "SELECT version, sealed, expires_at FROM tokens WHERE app = ? AND version > 0";
/// A place for the lease of an app that has no token yet.
const PLACE: &str = "INSERT INTO tokens (app, version, leased_until) VALUES (?, 0, 0) \
     ON CONFLICT (app) DO NOTHING";
pub(super) const LEASE: &str = "UPDATE tokens SET leased_until = ?4 \
     WHERE app = ?1 AND version = ?2 AND leased_until <= ?3";
pub(super) const PUT: &str = "UPDATE tokens SET version = version + 1, sealed = ?3, \
     expires_at = ?4, leased_until = 0 WHERE app = ?1 AND version = ?2";
pub(super) const RELEASE: &str = "UPDATE tokens SET leased_until = 0 WHERE app = ? AND version = ?";
const NOTE: &str = "INSERT INTO noted_apps (app, hash) VALUES (?, ?) ON CONFLICT (app) DO NOTHING";
pub(super) const NOTE_OTHER: &str = "UPDATE noted_apps SET hash = ?2 WHERE app = ?1 AND hash <> ?2";

impl SqliteStore {
    pub(super) async fn read_token(&self, app: &AppId) -> Result<Option<AppToken>, StoreError> {
        let rows = self.file.all(READ, vec![app.as_str().into()]).await?;
        let token = rows.first().map(|row| {
            Ok(AppToken {
                version: count(row, 0)?,
                sealed: get(row, 1)?,
                expires_at: millis(row, 2)?,
            })
        });
        token.transpose()
    }

    pub(super) async fn lease_token(
        &self,
        app: &AppId,
        seen: u64,
        now: Millis,
        until: Millis,
    ) -> Result<bool, StoreError> {
        let mut tx = self.file.begin().await?;
        place(&mut tx, app, seen).await?;
        let args = vec![app.as_str().into(), int(seen), now.0.into(), until.0.into()];
        let leased = tx.exec(LEASE, args).await? > 0;
        tx.commit().await?;
        Ok(leased)
    }

    pub(super) async fn put_token(
        &self,
        app: &AppId,
        seen: u64,
        sealed: &[u8],
        expires_at: Millis,
    ) -> Result<bool, StoreError> {
        let mut tx = self.file.begin().await?;
        place(&mut tx, app, seen).await?;
        let args = vec![
            app.as_str().into(),
            int(seen),
            sealed.into(),
            expires_at.0.into(),
        ];
        let put = tx.exec(PUT, args).await? > 0;
        tx.commit().await?;
        Ok(put)
    }

    pub(super) async fn release_token(&self, app: &AppId, seen: u64) -> Result<(), StoreError> {
        let mut tx = self.file.begin().await?;
        tx.exec(RELEASE, vec![app.as_str().into(), int(seen)])
            .await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn note_all(
        &self,
        apps: &[(AppId, [u8; 32])],
    ) -> Result<Vec<AppId>, StoreError> {
        let apps: BTreeMap<&AppId, &[u8; 32]> = apps.iter().map(|(a, hash)| (a, hash)).collect();
        let mut others = Vec::new();
        let mut tx = self.file.begin().await?;
        for (app, hash) in apps {
            let args = vec![app.as_str().into(), Val::Blob(hash.to_vec())];
            tx.exec(NOTE, args.clone()).await?;
            if tx.exec(NOTE_OTHER, args).await? > 0 {
                others.push(app.clone());
            }
        }
        tx.commit().await?;
        Ok(others)
    }
}

async fn place(tx: &mut Tx<'_>, app: &AppId, seen: u64) -> Result<(), StoreError> {
    if seen == 0 {
        tx.exec(PLACE, vec![app.as_str().into()]).await?;
    }
    Ok(())
}
