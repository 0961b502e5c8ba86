//! What a rebuild does to the tables.

use super::PostgresStore;
use super::due::deferred;
use super::rows::{corrupt, count, get, int, int32, millis, parsed};
use super::session::{Fault, Session, query};
use crate::model::{Account, UserId};
use crate::store::rules::expect_rows;
use crate::store::{Buried, Deferred, Identity, Move, Rebirth, Rebuild, StoreError, UnderWay};
use async_trait::async_trait;
use sqlx::postgres::PgRow;
use uuid::Uuid;

/// The account's row holds its place; it is told by its own id of generation 0.
const HOLD: &str = "INSERT INTO accounts (own, marked) VALUES ($1, true) \
     ON CONFLICT (own) DO UPDATE SET marked = true RETURNING id";
const BURY: &str = "INSERT INTO tombstones (account, erased_at, revision, own_ids, mac) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (account) DO UPDATE SET \
     erased_at = excluded.erased_at, revision = excluded.revision, own_ids = excluded.own_ids, \
     mac = excluded.mac WHERE excluded.erased_at >= tombstones.erased_at";
const GONE: &str = "INSERT INTO own_ids (own, account) SELECT DISTINCT k.own, NULL::bigint \
     FROM unnest($1::uuid[]) AS k(own) ON CONFLICT (own) DO UPDATE SET account = NULL";
const REBORN: &str = "UPDATE store SET store = $1, epoch = $2, partitions = $3, \
     consumer_group = $4, erasures = erasures + 1";
const HEAD: &str = "INSERT INTO heads (partition, seq) VALUES ($1, $2) \
     ON CONFLICT (partition) DO UPDATE SET seq = excluded.seq";
const WALK: &str = "SELECT id, key FROM accounts WHERE id > $1 AND user_id IS NOT NULL \
     ORDER BY id LIMIT $2";
const PLACED: &str = "SELECT id, partition, \"offset\", silent, event, app, account, has_code, \
     waits_key, next_at, expires_at, attempts, record, since FROM deferred \
     WHERE done_at IS NULL AND (\"offset\" >= 0 OR partition >= $1) ORDER BY id LIMIT $2";
const MOVE: &str = "UPDATE deferred SET partition = $3, \"offset\" = $4, record = $5, \
     leased = false WHERE partition = $1 AND \"offset\" = $2 AND done_at IS NULL";

#[async_trait]
impl Rebuild for PostgresStore {
    async fn under_way(&self) -> Result<Option<UnderWay>, StoreError> {
        let rows = self.read(query("SELECT rebuilding FROM store")).await?;
        let word = rows.first().map(|row| get::<Option<String>>(row, 0));
        let word = word.transpose()?.flatten();
        word.as_deref().map(UnderWay::parse).transpose()
    }

    async fn begin(&self, what: UnderWay) -> Result<(), StoreError> {
        self.mark(Some(&what.text())).await
    }

    async fn load_tombstones(&self, stones: &[Buried]) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        session.run("BEGIN").await?;
        for stone in stones {
            bury(&mut session, stone).await?;
        }
        session.commit().await?;
        session.give_back();
        Ok(())
    }

    async fn rebirth(&self, rebirth: &Rebirth) -> Result<Identity, StoreError> {
        let identity = Identity {
            store: Uuid::new_v4(),
            epoch: rebirth.epoch,
            birth: rebirth.birth.clone(),
        };
        let mut session = self.session().await?;
        session.run("BEGIN").await?;
        let reborn = query(REBORN)
            .bind(identity.store)
            .bind(int32(identity.epoch))
            .bind(int32(identity.birth.partitions))
            .bind(identity.birth.group.as_str());
        let touched = session.exec(reborn).await?;
        expect_rows("the store's own row", 1, touched)?;
        empty(&mut session, rebirth).await?;
        session.commit().await?;
        session.give_back();
        Ok(identity)
    }

    async fn finish(&self) -> Result<(), StoreError> {
        self.mark(None).await
    }

    async fn walk(&self, after: i64, limit: usize) -> Result<Vec<(i64, Account)>, StoreError> {
        let parse: fn(&str) -> _ = Account::from_key;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.read(query(WALK).bind(after).bind(limit)).await?;
        rows.iter()
            .map(|row| Ok((get(row, 0)?, parsed(row, 1, parse)?)))
            .collect()
    }

    async fn tombstones(&self) -> Result<Vec<Buried>, StoreError> {
        let sql = "SELECT mac, erased_at, revision, own_ids FROM tombstones";
        let rows = self.read(query(sql)).await?;
        rows.iter().map(buried).collect()
    }

    async fn placed(
        &self,
        partitions: u32,
        limit: usize,
    ) -> Result<(Vec<Deferred>, i64), StoreError> {
        let lowest = "SELECT coalesce(min(\"offset\"), 0) FROM deferred";
        let lowest = self.read(query(lowest)).await?;
        let lowest = lowest.first().map(|row| get::<i64>(row, 0)).transpose()?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = query(PLACED).bind(int32(partitions)).bind(limit);
        let rows = self.read(rows).await?;
        let rows = rows.iter().map(deferred).collect::<Result<_, _>>()?;
        Ok((rows, lowest.unwrap_or_default().min(0)))
    }

    async fn replace(&self, moved: &[Move]) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        session
            .run("BEGIN; DELETE FROM deferred WHERE done_at IS NOT NULL")
            .await?;
        for one in moved {
            let put = query(MOVE)
                .bind(int32(one.from.0))
                .bind(one.from.1)
                .bind(int32(one.to.0))
                .bind(one.to.1)
                .bind(one.record.as_slice());
            expect_rows("deferred work moved", 1, session.exec(put).await?)?;
        }
        session.commit().await?;
        session.give_back();
        Ok(())
    }
}

impl PostgresStore {
    async fn mark(&self, word: Option<&str>) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        let put = query("UPDATE store SET rebuilding = $1").bind(word);
        expect_rows("the store's own row", 1, session.exec(put).await?)?;
        session.give_back();
        Ok(())
    }
}

async fn bury(session: &mut Session, stone: &Buried) -> Result<(), Fault> {
    let Some(first) = stone.own_ids.first() else {
        let why = "a tombstone without any own id";
        return Err(StoreError::Corrupt(why.into()).into());
    };
    let rows = session.all(query(HOLD).bind(first.0)).await?;
    let id = rows.first().map(|row| get::<i64>(row, 0)).transpose()?;
    let own_ids: Vec<Uuid> = stone.own_ids.iter().map(|id| id.0).collect();
    let put = query(BURY)
        .bind(id)
        .bind(stone.erased_at.0)
        .bind(int(stone.revision))
        .bind(&own_ids)
        .bind(stone.mac.as_slice());
    session.exec(put).await?;
    session.exec(query(GONE).bind(own_ids)).await?;
    Ok(())
}

async fn empty(session: &mut Session, rebirth: &Rebirth) -> Result<(), Fault> {
    let partitions = int32(rebirth.birth.partitions);
    for sql in [
        "DELETE FROM outbox WHERE partition >= $1",
        "DELETE FROM heads WHERE partition >= $1",
    ] {
        session.exec(query(sql).bind(partitions)).await?;
    }
    for (partition, seq) in &rebirth.emptied {
        let delete = query("DELETE FROM outbox WHERE partition = $1").bind(int32(*partition));
        session.exec(delete).await?;
        let head = query(HEAD).bind(int32(*partition)).bind(int(*seq));
        session.exec(head).await?;
    }
    // Some may be about people who were erased since.
    session.run("DELETE FROM answers").await?;
    if !rebirth.keep_positions {
        session.run("DELETE FROM positions").await?;
    }
    Ok(())
}

fn buried(row: &PgRow) -> Result<Buried, StoreError> {
    let mac: &[u8] = get(row, 0)?;
    Ok(Buried {
        mac: mac.try_into().map_err(|_| corrupt(row, 0))?,
        erased_at: millis(row, 1)?,
        revision: count(row, 2)?,
        own_ids: get::<Vec<Uuid>>(row, 3)?.into_iter().map(UserId).collect(),
    })
}
