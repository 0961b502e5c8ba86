//! What the store is: written once, held against every later opening.

use super::rows::{blob16, blob32, get, small};
use crate::sqlite::{File, Val};
use crate::store::{Birth, Identity, StoreError};
use uuid::Uuid;

/// The name whose id in the namespace is kept, to recognise the namespace itself.
const PROBE: &[u8] = b"unilink store";

/// Reads the identity, or writes it at birth.
pub(super) async fn open(
    file: &File,
    birth: Birth,
    namespace: Uuid,
) -> Result<Identity, StoreError> {
    let probe = Uuid::new_v5(&namespace, PROBE).into_bytes();
    let mut tx = file.begin().await?;
    let rows = tx
        .all(
            "SELECT store, epoch, partitions, consumer_group, namespace_hash, namespace_probe \
             FROM store",
            vec![],
        )
        .await?;
    let Some(row) = rows.first() else {
        let identity = Identity {
            store: Uuid::new_v4(),
            epoch: 1,
            birth,
        };
        tx.exec(
            "INSERT INTO store VALUES (1, ?, ?, ?, ?, ?, ?, 0)",
            vec![
                identity.store.as_bytes().as_slice().into(),
                identity.epoch.into(),
                identity.birth.partitions.into(),
                identity.birth.group.as_str().into(),
                Val::Blob(identity.birth.namespace_hash.to_vec()),
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
            namespace_hash: blob32(row, 4)?,
        },
    };
    compare(&kept.birth, &birth, blob16(row, 5)? == probe)?;
    Ok(kept)
}

/// Names the first thing that differs. The namespace is a secret: it is not shown.
fn compare(kept: &Birth, told: &Birth, same_namespace: bool) -> Result<(), StoreError> {
    let differs = |what: &str, kept: &str, told: &str| {
        Err(StoreError::Mismatch(format!(
            "{what}: this store was made with {kept}, the configuration says {told}. Set it back, \
             or begin with an empty store"
        )))
    };
    if kept.partitions != told.partitions {
        let (kept, told) = (kept.partitions.to_string(), told.partitions.to_string());
        return differs("the number of partitions of the login topic", &kept, &told);
    }
    if kept.group != told.group {
        let (kept, told) = (format!("{:?}", kept.group), format!("{:?}", told.group));
        return differs("the consumer group", &kept, &told);
    }
    if kept.namespace_hash != told.namespace_hash || !same_namespace {
        return differs("identity.namespace", "another one", "a different one");
    }
    Ok(())
}
