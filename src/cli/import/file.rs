//! The table as it lies on disk: it is read twice, to look through it before anything goes.

use crate::cli::Failure;
use crate::tables::{Format, Reader, TableError};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// A table that can be read again.
pub struct Table {
    file: File,
    name: String,
    format: Format,
    /// How large it is, in bytes.
    pub bytes: u64,
}

impl Table {
    /// Opens a file; of stdin, keeps a copy that nobody else can see until the command ends.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: Option<&Path>, format: Format) -> Result<Self, Failure> {
        let name = path.map_or("stdin".to_owned(), |path| path.display().to_string());
        let failed = |e: std::io::Error| Failure::Failed(format!("{name}: {e}"));
        let file = match path {
            Some(path) => File::open(path).map_err(failed)?,
            None => {
                let mut copy = tempfile::tempfile().map_err(failed)?;
                std::io::copy(&mut std::io::stdin().lock(), &mut copy).map_err(failed)?;
                copy
            }
        };
        let about = file.metadata().map_err(failed)?;
        if !about.is_file() {
            let why = format!("{name} is no file: write it to one, or pipe it in as -");
            return Err(Failure::Usage(why));
        }
        Ok(Self {
            bytes: about.len(),
            file,
            name,
            format,
        })
    }

    /// Reads it from its beginning.
    ///
    /// # Errors
    /// It cannot be read, or its columns are none of ours.
    pub fn reader(&self) -> Result<Reader<impl Read>, Failure> {
        let file = self.file.try_clone().map_err(|e| self.failed(e.into()))?;
        let mut file = file;
        let begin = file.seek(SeekFrom::Start(0));
        begin.map_err(|e| self.failed(e.into()))?;
        Reader::new(file, self.format).map_err(|e| self.failed(e))
    }

    /// How far the reader got, in bytes: a little ahead of the line that it gave last.
    ///
    /// # Errors
    /// The file does not say.
    pub fn read_so_far(&self) -> Result<u64, Failure> {
        // The reader's handle is a copy of this one: both stand at one place.
        let at = (&self.file).stream_position();
        at.map_err(|e| self.failed(e.into()))
    }

    /// The failure of reading it.
    #[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
    pub fn failed(&self, error: TableError) -> Failure {
        Failure::Failed(format!("{}: {error}", self.name))
    }
}
