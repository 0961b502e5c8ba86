//! What all workers of an app share: its access token, and how it was last configured. Whoever comes
//! second to a row waits for the first, and then finds its condition no longer met.

use super::PostgresStore;
use super::rows::{count, get, int, millis, nth};
use super::session::{Fault, Session, query};
use crate::model::{AppId, Millis};
use crate::store::{AppToken, StoreError};
use std::collections::BTreeMap;

pub(super) const READ: &str =
    "SELECT version, sealed, expires_at FROM tokens WHERE app = $1 AND version > 0";
/// A place for the lease of an app that has no token yet.
pub(super) const PLACE: &str = "INSERT INTO tokens (app, version, leased_until) VALUES ($1, 0, 0) \
     ON CONFLICT (app) DO NOTHING";
pub(super) const LEASE: &str = "UPDATE tokens SET leased_until = $4 \
     WHERE app = $1 AND version = $2 AND leased_until <= $3";
pub(super) const PUT: &str = "UPDATE tokens SET version = version + 1, sealed = $3, \
     expires_at = $4, leased_until = 0 WHERE app = $1 AND version = $2";
pub(super) const RELEASE: &str =
    "UPDATE tokens SET leased_until = 0 WHERE app = $1 AND version = $2";
pub(super) const NOTE: &str = "INSERT INTO noted_apps (app, hash) \
     SELECT * FROM unnest($1::text[], $2::bytea[]) ON CONFLICT (app) DO NOTHING";
pub(super) const NOTE_OTHER: &str = "UPDATE noted_apps n SET hash = k.hash \
     FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS k(app, hash, n) \
     WHERE n.app = ANY(ARRAY[k.app]) AND n.hash <> k.hash RETURNING k.n";

impl PostgresStore {
    pub(super) async fn read_token(&self, app: &AppId) -> Result<Option<AppToken>, Fault> {
        let rows = self.read(query(READ).bind(app.as_str())).await?;
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
    ) -> Result<bool, Fault> {
        let mut session = self.session().await?;
        place(&mut session, app, seen).await?;
        let lease = query(LEASE)
            .bind(app.as_str())
            .bind(int(seen))
            .bind(now.0)
            .bind(until.0);
        let leased = session.exec(lease).await? > 0;
        session.give_back();
        Ok(leased)
    }

    pub(super) async fn put_token(
        &self,
        app: &AppId,
        seen: u64,
        sealed: &[u8],
        expires_at: Millis,
    ) -> Result<bool, Fault> {
        let mut session = self.session().await?;
        place(&mut session, app, seen).await?;
        let put = query(PUT)
            .bind(app.as_str())
            .bind(int(seen))
            .bind(sealed)
            .bind(expires_at.0);
        let put = session.exec(put).await? > 0;
        session.give_back();
        Ok(put)
    }

    pub(super) async fn release_token(&self, app: &AppId, seen: u64) -> Result<(), Fault> {
        let release = query(RELEASE).bind(app.as_str()).bind(int(seen));
        self.read(release).await.map(drop)
    }

    pub(super) async fn note_all(&self, apps: &[(AppId, [u8; 32])]) -> Result<Vec<AppId>, Fault> {
        // In order: two workers that begin at the same moment do not wait for each other.
        let apps: BTreeMap<&AppId, &[u8; 32]> = apps.iter().map(|(a, hash)| (a, hash)).collect();
        let (names, hashes): (Vec<&AppId>, Vec<&[u8]>) = apps
            .into_iter()
            .map(|(a, hash)| (a, hash.as_slice()))
            .unzip();
        let texts: Vec<&str> = names.iter().map(|a| a.as_str()).collect();
        let mut session = self.session().await?;
        session.run("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        let note = query(NOTE).bind(&texts).bind(&hashes);
        session.exec(note).await?;
        let other = query(NOTE_OTHER).bind(&texts).bind(&hashes);
        let others = session.all(other).await?;
        session.commit().await?;
        session.give_back();
        let others = others.iter().map(|row| nth(row, 0, &names));
        let mut others = others.collect::<Result<Vec<_>, StoreError>>()?;
        others.sort_unstable();
        Ok(others.into_iter().map(|app| (*app).clone()).collect())
    }
}

async fn place(session: &mut Session, app: &AppId, seen: u64) -> Result<(), Fault> {
    if seen == 0 {
        session.exec(query(PLACE).bind(app.as_str())).await?;
    }
    Ok(())
}
