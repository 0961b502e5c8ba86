//! Values as statements take them, and what goes wrong.

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteArguments;

/// `SQLITE_CORRUPT` and `SQLITE_NOTADB`.
const DAMAGED: [&str; 2] = ["11", "26"];

/// Why SQLite did not do it. Messages never contain bound values.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file is locked, full, or not reachable.
    #[error("{0}")]
    Unavailable(String),
    /// A row is not what it must be.
    #[error("{0}")]
    Corrupt(String),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::error::ErrorKind::Other;
        match &error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => {
                Self::Corrupt(error.to_string())
            }
            // A broken constraint will break again: trying later is no remedy.
            sqlx::Error::Database(e) if !matches!(e.kind(), Other) => {
                Self::Corrupt(error.to_string())
            }
            sqlx::Error::Database(e) if DAMAGED.contains(&e.code().as_deref().unwrap_or("")) => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// A bound value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Val {
    /// NULL.
    Null,
    /// INTEGER.
    Int(i64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

impl From<i64> for Val {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<u32> for Val {
    fn from(v: u32) -> Self {
        Self::Int(i64::from(v))
    }
}
impl From<bool> for Val {
    fn from(v: bool) -> Self {
        Self::Int(i64::from(v))
    }
}
impl From<&str> for Val {
    fn from(v: &str) -> Self {
        Self::Text(v.to_owned())
    }
}
impl From<String> for Val {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}
impl From<&[u8]> for Val {
    fn from(v: &[u8]) -> Self {
        Self::Blob(v.to_vec())
    }
}
impl From<Vec<u8>> for Val {
    fn from(v: Vec<u8>) -> Self {
        Self::Blob(v)
    }
}
impl<T: Into<Val>> From<Option<T>> for Val {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Null, Into::into)
    }
}

/// Values as sqlx wants them.
#[must_use]
pub fn bind(args: Vec<Val>) -> SqliteArguments {
    use sqlx::Arguments;
    let mut bound = SqliteArguments::default();
    bound.reserve(args.len(), 0);
    for arg in args {
        // Adding an owned value of these four types cannot fail.
        let _ = match arg {
            Val::Null => bound.add(None::<i64>),
            Val::Int(v) => bound.add(v),
            Val::Text(v) => bound.add(v),
            Val::Blob(v) => bound.add(v),
        };
    }
    bound
}
