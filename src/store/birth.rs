//! What a store is told at birth, held against what the configuration says later.

use super::{Birth, StoreError, UnderWay};
use uuid::Uuid;

/// The name whose id in the namespace is kept, to recognise the namespace itself.
const PROBE: &[u8] = b"unilink store";
/// The key of the configuration that a store can never change.
const NAMESPACE: &str = "identity.namespace";

/// What is kept of the namespace: anchors made in another one would never be found.
pub(super) fn probe(namespace: Uuid) -> Uuid {
    Uuid::new_v5(&namespace, PROBE)
}

/// Who opens a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opens {
    /// A role: the store is what it was, and whole.
    Role,
    /// A rebuild, which may change partitions and group.
    Rebuild,
    /// An operator's command: as a role, but a store that nobody has used yet is none.
    Operator,
}

/// For a store that has no row of its own yet.
pub(super) fn unborn(opens: Opens) -> Result<(), StoreError> {
    if opens != Opens::Operator {
        return Ok(());
    }
    Err(StoreError::Mismatch(
        "this store was never used: start a worker (or `unilink serve`) first".to_owned(),
    ))
}

/// Refuses a store in the middle of a rebuild.
pub(super) fn whole(under_way: Option<&str>, opens: Opens) -> Result<(), StoreError> {
    let Some(under_way) = under_way.map(UnderWay::parse).transpose()? else {
        return Ok(());
    };
    if opens == Opens::Rebuild {
        return Ok(());
    }
    let from = under_way.origin.word();
    Err(StoreError::Mismatch(format!(
        "this store is being rebuilt, or a rebuild was interrupted: if none is running, run \
         `unilink rebuild --from {from}` again"
    )))
}

/// Names the first thing that differs. The namespace is a secret: it is not shown.
pub(super) fn compare(
    kept: &Birth,
    told: &Birth,
    same_namespace: bool,
    opens: Opens,
) -> Result<(), StoreError> {
    let differs = |what: &str, kept: &str, told: &str| {
        let remedy = if what == NAMESPACE {
            "begin with an empty store"
        } else {
            "if the topics were made anew, run `unilink rebuild --from store`"
        };
        Err(StoreError::Mismatch(format!(
            "{what}: this store was made with {kept}, the configuration says {told}. Set it back, \
             or {remedy}"
        )))
    };
    if !same_namespace {
        return differs(NAMESPACE, "another one", "a different one");
    }
    if kept.secrets_hash != told.secrets_hash {
        return Err(StoreError::Mismatch(
            "seal.key_file: this store was made with another key file; what it sealed would not \
             open, and the codes it spent would not be known. Restore that file from your backup"
                .to_owned(),
        ));
    }
    if opens == Opens::Rebuild {
        return Ok(());
    }
    if kept.partitions != told.partitions {
        let (kept, told) = (kept.partitions.to_string(), told.partitions.to_string());
        return differs("the number of partitions of the login topic", &kept, &told);
    }
    if kept.group != told.group {
        let (kept, told) = (format!("{:?}", kept.group), format!("{:?}", told.group));
        return differs("the consumer group", &kept, &told);
    }
    Ok(())
}
