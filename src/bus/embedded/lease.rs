//! One worker at a time: an exclusive lock on `<file>.lease`. The system frees it the moment its
//! process ends, however it ends. The lock file itself stays: deleting it would let two processes
//! lock two files of one name.

use crate::bus::BusError;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// The lock; freed when dropped.
pub struct Lease {
    _locked: File,
}

impl Lease {
    /// Takes the lease of the log in `database`.
    pub fn take(database: &Path) -> Result<Self, BusError> {
        let path = beside(database);
        let broken =
            |e: std::io::Error| BusError::Refused(format!("cannot lock {}: {e}", path.display()));
        let mut options = OpenOptions::new();
        let file = options.create(true).truncate(false).write(true);
        let file = file.open(&path).map_err(broken)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _locked: file }),
            Err(TryLockError::Error(error)) => Err(broken(error)),
            Err(TryLockError::WouldBlock) => Err(BusError::Refused(format!(
                "another worker holds {}: the embedded bus serves one worker at a time; stop that \
                 one, or give this one a store of its own (store.url)",
                path.display()
            ))),
        }
    }
}

fn beside(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".lease");
    name.into()
}
