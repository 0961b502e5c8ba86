//! Why SQLite did not do it: told apart by whether it may work later.

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
