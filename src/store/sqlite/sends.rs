//! Leases of codes: what is free is taken, holders whose lease ran out get notice, the rest is left.

use super::SqliteStore;
use super::rows::{blob32, corrupt, get, millis};
use crate::model::Millis;
use crate::sqlite::{Select, Val};
use crate::store::sends::{Row, first_each, outcomes};
use crate::store::{Claim, Claimed, CodeKey, Release, Sending, StoreError};
use rustc_hash::FxHashMap;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

/// A row without a holder is whoever's comes; one with another holder only gets its notice. Keys that
/// are NULL fill the statement up.
pub(super) const CLAIM: Select = Select {
    head: "WITH k(code, holder, until, at) AS (VALUES",
    columns: 4,
    tail: ") INSERT INTO sends (code, holder, until, at, claims, sent) \
           SELECT code, holder, until, at, 1, 0 FROM k WHERE code IS NOT NULL \
           ON CONFLICT (code) DO UPDATE SET \
           holder = CASE WHEN coalesce(holder, excluded.holder) = excluded.holder \
           THEN excluded.holder END, \
           until = CASE WHEN coalesce(holder, excluded.holder) = excluded.holder \
           THEN excluded.until ELSE excluded.at + 5000 END, \
           sent = sent OR coalesce(holder, excluded.holder) <> excluded.holder, \
           at = excluded.at, claims = claims + 1 \
           WHERE holder = excluded.holder OR until <= excluded.at \
           RETURNING code, holder, until, sent, claims",
};
pub(super) const READ: Select = Select {
    head: "SELECT code, holder, until, sent, claims FROM sends WHERE code IN (",
    columns: 1,
    tail: ")",
};
pub(super) const RELEASE: &str = "UPDATE sends SET holder = NULL, until = 0, sent = sent OR ?3 \
     WHERE code = ?1 AND holder = ?2";

impl SqliteStore {
    pub(super) async fn claim_all(
        &self,
        claims: &[Claim],
        now: Millis,
    ) -> Result<Vec<Claimed>, StoreError> {
        let first = first_each(claims);
        if first.is_empty() {
            return Ok(Vec::new());
        }
        let values = first.iter().flat_map(|claim| {
            [
                key(claim.code),
                blob(claim.holder),
                claim.until.0.into(),
                now.0.into(),
            ]
        });
        let mut rows = FxHashMap::default();
        let mut tx = self.file.begin().await?;
        for row in tx.many(&CLAIM, values.collect()).await? {
            rows.insert(CodeKey(blob32(&row, 0)?), read(&row)?);
        }
        let left = first.iter().filter(|c| !rows.contains_key(&c.code));
        let left: Vec<Val> = left.map(|c| key(c.code)).collect();
        for row in tx.many(&READ, left).await? {
            rows.insert(CodeKey(blob32(&row, 0)?), read(&row)?);
        }
        tx.commit().await?;
        Ok(outcomes(claims, &rows, now))
    }

    pub(super) async fn release_all(&self, releases: &[Release]) -> Result<(), StoreError> {
        let mut tx = self.file.begin().await?;
        for release in releases {
            let args = vec![key(release.code), blob(release.holder), release.sent.into()];
            tx.exec(RELEASE, args).await?;
        }
        Ok(tx.commit().await?)
    }

    pub(super) async fn read_sends(
        &self,
        codes: &[CodeKey],
    ) -> Result<Vec<Option<Sending>>, StoreError> {
        let mut snapshot = self.file.snapshot().await?;
        let keys = codes.iter().map(|c| key(*c)).collect();
        let mut found = FxHashMap::default();
        for row in snapshot.many(&READ, keys).await? {
            found.insert(CodeKey(blob32(&row, 0)?), read(&row)?.into());
        }
        Ok(codes.iter().map(|c| found.get(c).copied()).collect())
    }
}

fn key(code: CodeKey) -> Val {
    Val::Blob(code.0.to_vec())
}

fn blob(holder: Uuid) -> Val {
    Val::Blob(holder.as_bytes().to_vec())
}

/// From the columns after the code.
fn read(row: &SqliteRow) -> Result<Row, StoreError> {
    let holder = get::<Option<&[u8]>>(row, 1)?.map(Uuid::from_slice);
    Ok(Row {
        holder: holder.transpose().map_err(|_| corrupt(row, 1))?,
        until: millis(row, 2)?,
        sent: get(row, 3)?,
        claims: get(row, 4)?,
    })
}
