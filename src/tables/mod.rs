//! Tables of accounts as files: what `export` writes and `import` reads, CSV or NDJSON, a row an
//! account, a row at a time.

mod frame;
mod read;
mod row;
mod write;

pub use read::Reader;
pub use row::{Columns, Faulty, Imported, READ};
pub use write::{WRITTEN, Writer};

/// How a table is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a header row (RFC 4180).
    Csv,
    /// A JSON object a line.
    Ndjson,
}

/// A table cannot be read any further.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file cannot be read or written.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The columns are not those of such a table.
    #[error("{0}")]
    Columns(String),
}
