//! Leases of codes. One statement takes what is free, gives notice to holders whose lease ran out, and
//! leaves the rest; two workers that claim one code wait for each other in it.

use super::PostgresStore;
use super::rows::{blob32, get, millis};
use super::session::{Fault, query};
use crate::model::Millis;
use crate::store::sends::{Row, first_each, outcomes};
use crate::store::{Claim, Claimed, CodeKey, Release, Sending, StoreError};
use rustc_hash::FxHashMap;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// A row without a holder is whoever's comes; one with another holder only gets its notice.
pub(super) const CLAIM: &str = "INSERT INTO sends AS s (code, holder, until, at, claims, sent) \
     SELECT k.code, k.holder, k.until, $4, 1, false \
     FROM unnest($1::bytea[], $2::uuid[], $3::bigint[]) AS k(code, holder, until) \
     ON CONFLICT (code) DO UPDATE SET \
     holder = CASE WHEN coalesce(s.holder, excluded.holder) = excluded.holder \
     THEN excluded.holder END, \
     until = CASE WHEN coalesce(s.holder, excluded.holder) = excluded.holder \
     THEN excluded.until ELSE excluded.at + 5000 END, \
     sent = s.sent OR coalesce(s.holder, excluded.holder) <> excluded.holder, \
     at = excluded.at, claims = s.claims + 1 \
     WHERE s.holder = excluded.holder OR s.until <= excluded.at \
     RETURNING s.code, s.holder, s.until, s.sent, s.claims";
pub(super) const READ: &str = "SELECT s.code, s.holder, s.until, s.sent, s.claims \
     FROM unnest($1::bytea[]) AS k(code) \
     CROSS JOIN LATERAL (SELECT * FROM sends x WHERE x.code = k.code LIMIT 1) s";
pub(super) const RELEASE: &str = "UPDATE sends s SET holder = NULL, until = 0, \
     sent = s.sent OR k.sent FROM unnest($1::bytea[], $2::uuid[], $3::boolean[]) \
     AS k(code, holder, sent) WHERE s.code = ANY(ARRAY[k.code]) AND s.holder = k.holder";

impl PostgresStore {
    pub(super) async fn claim_all(
        &self,
        claims: &[Claim],
        now: Millis,
    ) -> Result<Vec<Claimed>, Fault> {
        let first = first_each(claims);
        if first.is_empty() {
            return Ok(Vec::new());
        }
        let mut session = self.session().await?;
        let claim = query(CLAIM)
            .bind(
                first
                    .iter()
                    .map(|c| c.code.0.as_slice())
                    .collect::<Vec<_>>(),
            )
            .bind(first.iter().map(|c| c.holder).collect::<Vec<_>>())
            .bind(first.iter().map(|c| c.until.0).collect::<Vec<_>>())
            .bind(now.0);
        let mut rows = FxHashMap::default();
        for row in session.all(claim).await? {
            rows.insert(CodeKey(blob32(&row, 0)?), read(&row)?);
        }
        let left = first.iter().filter(|c| !rows.contains_key(&c.code));
        let left: Vec<&[u8]> = left.map(|c| c.code.0.as_slice()).collect();
        if !left.is_empty() {
            for row in session.all(query(READ).bind(left)).await? {
                rows.insert(CodeKey(blob32(&row, 0)?), read(&row)?);
            }
        }
        session.give_back();
        Ok(outcomes(claims, &rows, now))
    }

    pub(super) async fn release_all(&self, releases: &[Release]) -> Result<(), Fault> {
        let mut releases = releases.to_vec();
        releases.sort_by_key(|r| (r.code, r.holder));
        let codes = releases.iter().map(|r| r.code.0.as_slice());
        let release = query(RELEASE)
            .bind(codes.collect::<Vec<_>>())
            .bind(releases.iter().map(|r| r.holder).collect::<Vec<_>>())
            .bind(releases.iter().map(|r| r.sent).collect::<Vec<_>>());
        self.read(release).await.map(drop)
    }

    pub(super) async fn read_sends(
        &self,
        codes: &[CodeKey],
    ) -> Result<Vec<Option<Sending>>, Fault> {
        let keys: Vec<&[u8]> = codes.iter().map(|c| c.0.as_slice()).collect();
        let mut found = FxHashMap::default();
        for row in self.read(query(READ).bind(keys)).await? {
            found.insert(CodeKey(blob32(&row, 0)?), read(&row)?.into());
        }
        Ok(codes.iter().map(|c| found.get(c).copied()).collect())
    }
}

/// From the columns after the code.
fn read(row: &PgRow) -> Result<Row, StoreError> {
    Ok(Row {
        holder: get::<Option<Uuid>>(row, 1)?,
        until: millis(row, 2)?,
        sent: get(row, 3)?,
        claims: get::<i32>(row, 4)?.into(),
    })
}
