//! Deferred resolutions that are due: leased, fairly between apps. Workers that look at the same
//! moment pass over each other's rows. An app's are made due when something changed for it.

use super::PostgresStore;
use super::apply::{TRIES, pause};
use super::rows::{count, get, key_or_null, millis, parsed, small};
use super::session::{Fault, query};
use crate::model::{AppId, EventId, Millis, Room};
use crate::store::rules::{expect_rows, in_turns};
use crate::store::{Deferred, StoreError, WaitsFor};
use rustc_hash::FxHashMap;
use sqlx::postgres::PgRow;
use std::collections::BTreeMap;

macro_rules! due {
    ($kind:literal, $order:literal, $all:literal) => {
        concat!(
            "WITH RECURSIVE apps(app) AS (\
             (SELECT d.app FROM deferred d WHERE d.done_at IS NULL AND ",
            $kind,
            " ORDER BY d.app LIMIT 1) UNION ALL SELECT (SELECT d.app FROM deferred d \
             WHERE d.done_at IS NULL AND ",
            $kind,
            " AND d.app > apps.app ORDER BY d.app LIMIT 1) FROM apps WHERE app IS NOT NULL) \
             SELECT d.id, d.app FROM apps CROSS JOIN LATERAL (SELECT * FROM deferred d \
             WHERE d.done_at IS NULL AND ",
            $kind,
            " AND d.app = apps.app AND d.next_at <= $1 ORDER BY ",
            $order,
            " LIMIT $2 FOR UPDATE SKIP LOCKED) d ORDER BY ",
            $all
        )
    };
}
/// Due rows of each app, up to a limit each: codes newest first …
pub(super) const DUE_CODES: &str = due!(
    "d.has_code",
    "d.since DESC",
    "d.since DESC, d.\"offset\" DESC"
);
/// … the others by the time at which they were due.
pub(super) const DUE_OTHERS: &str = due!("NOT d.has_code", "d.next_at", "d.next_at, d.since, d.id");
pub(super) const TAKE: &str = "SELECT d.id, d.partition, d.\"offset\", d.silent, d.event, d.app, \
     d.account, d.has_code, d.waits_key, d.next_at, d.expires_at, d.attempts, d.record, d.since \
     FROM unnest($1::bigint[]) AS k(id) \
     CROSS JOIN LATERAL (SELECT * FROM deferred x WHERE x.id = k.id LIMIT 1) d";
const LEASE: &str = "UPDATE deferred SET next_at = $2, leased = true, woken = false \
     WHERE id = ANY($1::bigint[])";
pub(super) const NEXT: &str =
    "SELECT next_at FROM deferred WHERE done_at IS NULL ORDER BY next_at + 0 LIMIT 1";

macro_rules! later {
    ($kind:literal) => {
        concat!(
            "SELECT d.id FROM deferred d WHERE d.done_at IS NULL AND ",
            $kind,
            " AND d.app = $1 AND d.next_at > $2 \
             AND (d.leased OR NOT d.waits_key OR d.next_at < d.expires_at)"
        )
    };
}
/// Open rows of an app whose time has not come: those that wait for it, and those under way. What waits
/// for a key and goes on before its end does so because of the app, too.
pub(super) const LATER: &str = concat!(
    "SELECT array_agg(x.id ORDER BY x.id) FROM (",
    later!("d.has_code"),
    " UNION ALL ",
    later!("NOT d.has_code"),
    ") x"
);
/// Where somebody else has the row, this waits for him and looks again what it has become.
pub(super) const HASTEN: &str = "UPDATE deferred d SET woken = d.woken OR d.leased, \
     next_at = CASE WHEN d.leased THEN d.next_at ELSE $2 END \
     WHERE d.id = ANY($1::bigint[]) AND coalesce(d.done_at, -1) = -1 AND d.next_at > $2 \
     AND (d.leased OR NOT d.waits_key OR d.next_at < d.expires_at) RETURNING d.leased";
/// Rows of one [`HASTEN`].
const SLICE: usize = 5_000;

impl PostgresStore {
    pub(super) async fn lease_due(
        &self,
        now: Millis,
        lease_ms: i64,
        room: &Room,
    ) -> Result<Vec<Deferred>, Fault> {
        // Polled all the time: mostly there is nothing to take.
        if room.total == 0 || self.read_next_due().await?.is_none_or(|next| next > now) {
            return Ok(Vec::new());
        }
        let mut session = self.session().await?;
        session.run("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        let most = i64::try_from(room.most_of_an_app()).unwrap_or(i64::MAX);
        let codes = session.all(query(DUE_CODES).bind(now.0).bind(most));
        let codes = candidates(&codes.await?)?;
        let others = session.all(query(DUE_OTHERS).bind(now.0).bind(most));
        let others = candidates(&others.await?)?;
        let ids = in_turns([codes, others], room);
        let next_at = now.plus(lease_ms);
        let mut taken = FxHashMap::default();
        for row in session.all(query(TAKE).bind(&ids)).await? {
            let row = (get::<i64>(&row, 0)?, deferred(&row)?);
            taken.insert(row.0, Deferred { next_at, ..row.1 });
        }
        let lease = query(LEASE).bind(&ids).bind(next_at.0);
        let touched = session.exec(lease).await?;
        expect_rows("leases", ids.len(), touched)?;
        session.commit().await?;
        session.give_back();
        Ok(ids.iter().filter_map(|id| taken.remove(id)).collect())
    }

    pub(super) async fn hasten_app(&self, app: &AppId, now: Millis) -> Result<u64, Fault> {
        let later = query(LATER).bind(app.as_str()).bind(now.0);
        let rows = self.read(later).await?;
        let ids = rows.first().map(|row| get::<Option<Vec<i64>>>(row, 0));
        // Found before the first is written: what comes back from an attempt meanwhile is not
        // hastened again.
        let ids = ids.transpose()?.flatten().unwrap_or_default();
        let mut hastened = 0;
        for slice in ids.chunks(SLICE) {
            hastened += self.hasten_slice(slice, now).await?;
        }
        if hastened > 0 {
            self.wake();
        }
        Ok(hastened)
    }

    async fn hasten_slice(&self, ids: &[i64], now: Millis) -> Result<u64, Fault> {
        for n in 1..TRIES {
            match self.read(query(HASTEN).bind(ids).bind(now.0)).await {
                // A batch settles some of these in another order.
                Err(Fault::Again(_)) => tokio::time::sleep(pause(n)).await,
                touched => return hastened(&touched?),
            }
        }
        hastened(&self.read(query(HASTEN).bind(ids).bind(now.0)).await?)
    }

    pub(super) async fn read_next_due(&self) -> Result<Option<Millis>, Fault> {
        let rows = self.read(query(NEXT)).await?;
        Ok(rows.first().map(|row| millis(row, 0)).transpose()?)
    }

    pub(super) async fn count_deferred(&self) -> Result<BTreeMap<AppId, u64>, Fault> {
        let sql = "SELECT app, count(*) FROM deferred WHERE done_at IS NULL GROUP BY app";
        let rows = self.read(query(sql)).await?;
        let counts = rows
            .iter()
            .map(|row| Ok((parsed(row, 0, AppId::parse)?, count(row, 1)?)));
        Ok(counts.collect::<Result<_, StoreError>>()?)
    }
}

/// How many of these rows no attempt is under way for.
fn hastened(rows: &[PgRow]) -> Result<u64, Fault> {
    let mut hastened = 0;
    for row in rows {
        hastened += u64::from(!get::<bool>(row, 0)?);
    }
    Ok(hastened)
}

/// Ids with their app, in order.
fn candidates(rows: &[PgRow]) -> Result<Vec<(i64, String)>, StoreError> {
    rows.iter()
        .map(|row| Ok((get(row, 0)?, get(row, 1)?)))
        .collect()
}

/// A row as `TAKE` reads it.
pub(super) fn deferred(row: &PgRow) -> Result<Deferred, StoreError> {
    Ok(Deferred {
        partition: small(row, 1)?,
        offset: get(row, 2)?,
        silent: get(row, 3)?,
        event: parsed(row, 4, EventId::parse)?,
        app: parsed(row, 5, AppId::parse)?,
        account: key_or_null(row, 6)?,
        has_code: get(row, 7)?,
        waits_for: match get(row, 8)? {
            true => WaitsFor::SessionKey,
            false => WaitsFor::Time,
        },
        next_at: millis(row, 9)?,
        expires_at: millis(row, 10)?,
        attempts: small(row, 11)?,
        record: get(row, 12)?,
        since: millis(row, 13)?,
    })
}
