//! What the store is: written once, held against every later opening.

use super::rows::{blob16, blob32, get, small};
use crate::sqlite::{File, Val};
use crate::store::birth::{Opens, compare, probe, unborn, whole};
use crate::store::{Birth, Identity, StoreError};
use uuid::Uuid;

/// Reads the identity, or writes it at birth.
pub(super) async fn open(
    file: &File,
    birth: Birth,
    namespace: Uuid,
    opens: Opens,
) -> Result<Identity, StoreError> {
    let probe = probe(namespace).into_bytes();
    let mut tx = file.begin().await?;
    let rows = tx
        .all(
            "SELECT store, epoch, partitions, consumer_group, namespace_hash, namespace_probe, \
             rebuilding FROM store",
            vec![],
        )
        .await?;
    let Some(row) = rows.first() else {
        unborn(opens)?;
        let identity = Identity {
            store: Uuid::new_v4(),
            epoch: 1,
            birth,
        };
        tx.exec(
            "INSERT INTO store VALUES (1, ?, ?, ?, ?, ?, ?, 0, NULL)",
            vec![
                identity.store.as_bytes().as_slice().into(),
                identity.epoch.into(),
                identity.birth.partitions.into(),
                identity.birth.group.as_str().into(),
                Val::Blob(identity.birth.secrets_hash.to_vec()),
                Val::Blob(probe.to_vec()),
            ],
        )
        .await?;
        tx.commit().await?;
        return Ok(identity);
    };
    let kept = Identity {
        store: Uuid::from_bytes(blob16(row, 0)?),
        epoch: small(row, 1)?,
        birth: Birth {
            partitions: small(row, 2)?,
            group: get::<String>(row, 3)?,
            secrets_hash: blob32(row, 4)?,
        },
    };
    let same_namespace = blob16(row, 5)? == probe;
    compare(&kept.birth, &birth, same_namespace, opens)?;
    whole(get(row, 6)?, opens)?;
    Ok(kept)
}
