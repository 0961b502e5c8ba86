//! What the store is: written once, by whichever worker comes first, held against every later one.

use super::rows::{blob32, get, small};
use super::session::{Fault, Session, query};
use crate::store::birth::{Opens, compare, probe, unborn, whole};
use crate::store::{Birth, Identity, StoreError};
use uuid::Uuid;

const MAKE: &str = "INSERT INTO store (store, epoch, partitions, consumer_group, namespace_hash, \
     namespace_probe) VALUES ($1, 1, $2, $3, $4, $5) ON CONFLICT DO NOTHING";
const READ: &str = "SELECT store, epoch, partitions, consumer_group, namespace_hash, \
     namespace_probe, rebuilding FROM store";

/// Reads the identity, or writes it at birth.
pub(super) async fn open(
    session: &mut Session,
    birth: &Birth,
    namespace: Uuid,
    opens: Opens,
) -> Result<Identity, Fault> {
    let mut rows = session.all(query(READ)).await?;
    if rows.is_empty() {
        unborn(opens)?;
        let partitions = i32::try_from(birth.partitions)
            .map_err(|_| StoreError::Mismatch("too many partitions".into()))?;
        let make = query(MAKE)
            .bind(Uuid::new_v4())
            .bind(partitions)
            .bind(&birth.group)
            .bind(birth.secrets_hash.as_slice())
            .bind(probe(namespace));
        session.exec(make).await?;
        rows = session.all(query(READ)).await?;
    }
    let row = rows
        .first()
        .ok_or_else(|| StoreError::Corrupt("the store's own row is gone".into()))?;
    let kept = Identity {
        store: get(row, 0)?,
        epoch: small(row, 1)?,
        birth: Birth {
            partitions: small(row, 2)?,
            group: get(row, 3)?,
            secrets_hash: blob32(row, 4)?,
        },
    };
    let same_namespace = get::<Uuid>(row, 5)? == probe(namespace);
    compare(&kept.birth, birth, same_namespace, opens)?;
    whole(get(row, 6)?, opens)?;
    Ok(kept)
}
