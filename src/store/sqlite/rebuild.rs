//! What a rebuild does to the tables.

use super::SqliteStore;
use super::deferred::deferred;
use super::rows::{blob32, corrupt, count, get, int, len, millis, parsed};
use crate::model::{Account, UserId};
use crate::sqlite::{Insert, Tx, Val};
use crate::store::rules::expect_rows;
use crate::store::{Buried, Deferred, Identity, Move, Rebirth, Rebuild, StoreError, UnderWay};
use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

const BURY: Insert = Insert {
    head: "INSERT INTO tombstones (mac, erased_at, revision, own_ids) VALUES",
    columns: 4,
    tail: "ON CONFLICT (mac) DO UPDATE SET erased_at = excluded.erased_at, \
           revision = excluded.revision, own_ids = excluded.own_ids \
           WHERE excluded.erased_at >= tombstones.erased_at",
};
const GONE: Insert = Insert {
    head: "INSERT INTO own_ids (own, account) VALUES",
    columns: 2,
    tail: "ON CONFLICT (own) DO UPDATE SET account = excluded.account",
};
const REBORN: &str = "UPDATE store SET store = ?, epoch = ?, partitions = ?, consumer_group = ?, \
     version = version + 1";
const HEAD: &str = "INSERT INTO heads (partition, seq) VALUES (?, ?) \
     ON CONFLICT (partition) DO UPDATE SET seq = excluded.seq";
const PLACED: &str = "SELECT id, partition, offset, silent, event, app, account, has_code, \
     waits_key, next_at, expires_at, attempts, record, since FROM deferred \
     WHERE done_at IS NULL AND (offset >= 0 OR partition >= ?) ORDER BY id LIMIT ?";
const MOVE: &str = "UPDATE deferred SET partition = ?3, offset = ?4, record = ?5, leased = 0 \
     WHERE partition = ?1 AND offset = ?2 AND done_at IS NULL";

#[async_trait]
impl Rebuild for SqliteStore {
    async fn under_way(&self) -> Result<Option<UnderWay>, StoreError> {
        let rows = self
            .file
            .all("SELECT rebuilding FROM store", vec![])
            .await?;
        let word = rows.first().map(|row| get::<Option<String>>(row, 0));
        let word = word.transpose()?.flatten();
        word.as_deref().map(UnderWay::parse).transpose()
    }

    async fn begin(&self, what: UnderWay) -> Result<(), StoreError> {
        self.mark(what.text().into()).await
    }

    async fn load_tombstones(&self, stones: &[Buried]) -> Result<(), StoreError> {
        let (mut buried, mut gone) = (Vec::new(), Vec::new());
        for stone in stones {
            let own_ids: Vec<[u8; 16]> = stone.own_ids.iter().map(|id| *id.0.as_bytes()).collect();
            buried.extend([
                Val::Blob(stone.mac.to_vec()),
                stone.erased_at.0.into(),
                int(stone.revision),
                Val::Blob(own_ids.concat()),
            ]);
            let ids = own_ids.iter().map(|id| Val::Blob(id.to_vec()));
            gone.extend(ids.flat_map(|id| [id, Val::Null]));
        }
        let mut tx = self.file.begin().await?;
        tx.insert(&BURY, buried).await?;
        tx.insert(&GONE, gone).await?;
        tx.exec("UPDATE store SET version = version + 1", vec![])
            .await?;
        Ok(tx.commit().await?)
    }

    async fn rebirth(&self, rebirth: &Rebirth) -> Result<Identity, StoreError> {
        let identity = Identity {
            store: Uuid::new_v4(),
            epoch: rebirth.epoch,
            birth: rebirth.birth.clone(),
        };
        let mut tx = self.file.begin().await?;
        let values = vec![
            identity.store.as_bytes().as_slice().into(),
            identity.epoch.into(),
            identity.birth.partitions.into(),
            identity.birth.group.as_str().into(),
        ];
        expect_rows("the store's own row", 1, tx.exec(REBORN, values).await?)?;
        empty(&mut tx, rebirth).await?;
        tx.commit().await?;
        Ok(identity)
    }

    async fn finish(&self) -> Result<(), StoreError> {
        self.mark(Val::Null).await
    }

    async fn walk(&self, after: i64, limit: usize) -> Result<Vec<(i64, Account)>, StoreError> {
        let sql = "SELECT id, key FROM accounts WHERE id > ? ORDER BY id LIMIT ?";
        let parse: fn(&str) -> _ = Account::from_key;
        let rows = self.file.all(sql, vec![after.into(), len(limit)]).await?;
        rows.iter()
            .map(|row| Ok((get(row, 0)?, parsed(row, 1, parse)?)))
            .collect()
    }

    async fn tombstones(&self) -> Result<Vec<Buried>, StoreError> {
        let sql = "SELECT mac, erased_at, revision, own_ids FROM tombstones";
        let rows = self.file.all(sql, vec![]).await?;
        rows.iter().map(buried).collect()
    }

    async fn placed(
        &self,
        partitions: u32,
        limit: usize,
    ) -> Result<(Vec<Deferred>, i64), StoreError> {
        let lowest = "SELECT coalesce(min(offset), 0) FROM deferred";
        let lowest = self.file.all(lowest, vec![]).await?;
        let lowest = lowest.first().map(|row| get::<i64>(row, 0)).transpose()?;
        let args = vec![partitions.into(), len(limit)];
        let rows = self.file.all(PLACED, args).await?;
        let rows = rows.iter().map(deferred).collect::<Result<_, _>>()?;
        Ok((rows, lowest.unwrap_or_default().min(0)))
    }

    async fn replace(&self, moved: &[Move]) -> Result<(), StoreError> {
        let mut tx = self.file.begin().await?;
        tx.exec("DELETE FROM deferred WHERE done_at IS NOT NULL", vec![])
            .await?;
        for one in moved {
            let values = vec![
                one.from.0.into(),
                one.from.1.into(),
                one.to.0.into(),
                one.to.1.into(),
                Val::Blob(one.record.clone()),
            ];
            expect_rows("deferred work moved", 1, tx.exec(MOVE, values).await?)?;
        }
        Ok(tx.commit().await?)
    }
}

impl SqliteStore {
    async fn mark(&self, word: Val) -> Result<(), StoreError> {
        let mut tx = self.file.begin().await?;
        let marked = tx
            .exec("UPDATE store SET rebuilding = ?", vec![word])
            .await?;
        expect_rows("the store's own row", 1, marked)?;
        Ok(tx.commit().await?)
    }
}

async fn empty(tx: &mut Tx<'_>, rebirth: &Rebirth) -> Result<(), StoreError> {
    let partitions = rebirth.birth.partitions;
    for sql in [
        "DELETE FROM outbox WHERE partition >= ?",
        "DELETE FROM heads WHERE partition >= ?",
    ] {
        tx.exec(sql, vec![partitions.into()]).await?;
    }
    for (partition, seq) in &rebirth.emptied {
        let sql = "DELETE FROM outbox WHERE partition = ?";
        tx.exec(sql, vec![(*partition).into()]).await?;
        tx.exec(HEAD, vec![(*partition).into(), int(*seq)]).await?;
    }
    // Some may be about people who were erased since.
    tx.exec("DELETE FROM answers", vec![]).await?;
    if !rebirth.keep_positions {
        tx.exec("DELETE FROM positions", vec![]).await?;
    }
    Ok(())
}

fn buried(row: &SqliteRow) -> Result<Buried, StoreError> {
    let own_ids: &[u8] = get(row, 3)?;
    let (own_ids, rest) = own_ids.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(corrupt(row, 3));
    }
    Ok(Buried {
        mac: blob32(row, 0)?,
        erased_at: millis(row, 1)?,
        revision: count(row, 2)?,
        own_ids: own_ids
            .iter()
            .map(|id| UserId(Uuid::from_bytes(*id)))
            .collect(),
    })
}
