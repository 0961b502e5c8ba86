//! What a store is told at birth, held against what the configuration says later.

use super::{Birth, StoreError};
use uuid::Uuid;

/// The name whose id in the namespace is kept, to recognise the namespace itself.
const PROBE: &[u8] = b"unilink store";

/// What is kept of the namespace: anchors made in another one would never be found.
pub(super) fn probe(namespace: Uuid) -> Uuid {
    Uuid::new_v5(&namespace, PROBE)
}

/// Names the first thing that differs. The namespace is a secret: it is not shown.
pub(super) fn compare(kept: &Birth, told: &Birth, same_namespace: bool) -> Result<(), StoreError> {
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
    if !same_namespace {
        return differs("identity.namespace", "another one", "a different one");
    }
    if kept.secrets_hash != told.secrets_hash {
        return Err(StoreError::Mismatch(
            "seal.key_file: this store was made with another key file; what it sealed would not \
             open, and the codes it spent would not be known. Restore that file from your backup"
                .to_owned(),
        ));
    }
    Ok(())
}
