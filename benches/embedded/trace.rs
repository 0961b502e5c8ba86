//! Statements with their values in a file: written while the product runs, read one by one.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Result, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use unilink::sqlite::{Trace, Val};

/// Bytes written or read at once.
const BUFFER: usize = 1 << 20;
/// Stands for a text's number where the text is new and follows.
const NEW_TEXT: u32 = u32::MAX;

fn path(dir: &Path) -> PathBuf {
    dir.join("statements")
}

/// Writes them down.
pub struct Recorder(Mutex<Writing>);

struct Writing {
    out: BufWriter<File>,
    texts: HashMap<String, u32>,
    /// Write transactions committed so far.
    commits: u64,
}

impl Recorder {
    /// Begins the file.
    pub fn create(dir: &Path) -> Self {
        let file = File::create(path(dir)).expect("a file");
        Self(Mutex::new(Writing {
            out: BufWriter::with_capacity(BUFFER, file),
            texts: HashMap::new(),
            commits: 0,
        }))
    }

    /// Writes what is left.
    pub fn finish(&self) {
        self.0.lock().expect("sound").out.flush().expect("written");
    }
}

impl Trace for Recorder {
    fn statement(&self, sql: &str, args: &[Val], reader: bool) {
        let mut writing = self.0.lock().expect("sound");
        writing.statement(sql, args, reader).expect("written");
    }
}

impl Writing {
    fn statement(&mut self, sql: &str, args: &[Val], reader: bool) -> Result<()> {
        if let Some(text) = self.texts.get(sql) {
            self.out.write_all(&text.to_le_bytes())?;
        } else {
            let number = u32::try_from(self.texts.len()).expect("few texts");
            self.texts.insert(sql.to_owned(), number);
            self.out.write_all(&NEW_TEXT.to_le_bytes())?;
            self.bytes(sql.as_bytes())?;
        }
        self.out.write_all(&[u8::from(reader)])?;
        self.out.write_all(&self.commits.to_le_bytes())?;
        self.out.write_all(&length(args.len()))?;
        for arg in args {
            self.value(arg)?;
        }
        self.commits += u64::from(sql == "COMMIT");
        Ok(())
    }

    fn value(&mut self, value: &Val) -> Result<()> {
        match value {
            Val::Null => self.out.write_all(&[0]),
            Val::Int(v) => {
                self.out.write_all(&[1])?;
                self.out.write_all(&v.to_le_bytes())
            }
            Val::Text(v) => {
                self.out.write_all(&[2])?;
                self.bytes(v.as_bytes())
            }
            Val::Blob(v) => {
                self.out.write_all(&[3])?;
                self.bytes(v)
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(&length(bytes.len()))?;
        self.out.write_all(bytes)
    }
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).expect("short").to_le_bytes()
}

/// A statement as it was.
pub struct Statement {
    /// Its text.
    pub sql: &'static str,
    /// Its values.
    pub args: Vec<Val>,
    /// Whether it ran outside write transactions.
    pub reader: bool,
    /// Write transactions committed before it.
    pub commits: u64,
}

/// Reads them back, in order.
pub struct Recording {
    file: BufReader<File>,
    texts: Vec<&'static str>,
}

impl Recording {
    /// Opens what a [`Recorder`] wrote.
    pub fn open(dir: &Path) -> Self {
        let file = File::open(path(dir)).expect("a recording");
        Self {
            file: BufReader::with_capacity(BUFFER, file),
            texts: Vec::new(),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn length(&mut self) -> Result<usize> {
        Ok(usize::try_from(u32::from_le_bytes(self.take()?)).expect("a length"))
    }

    fn bytes(&mut self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.length()?];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String> {
        Ok(String::from_utf8(self.bytes()?).expect("UTF-8"))
    }

    fn value(&mut self) -> Result<Val> {
        Ok(match self.take::<1>()? {
            [0] => Val::Null,
            [1] => Val::Int(i64::from_le_bytes(self.take()?)),
            [2] => Val::Text(self.text()?),
            _ => Val::Blob(self.bytes()?),
        })
    }

    fn statement(&mut self, text: u32) -> Result<Statement> {
        if text == NEW_TEXT {
            // Statements have a few hundred texts; they live as long as this process.
            let sql: &'static str = self.text()?.leak();
            self.texts.push(sql);
        }
        let number = usize::try_from(text).expect("a number");
        let sql = self.texts.get(number).or(self.texts.last());
        let sql = sql.copied().expect("a text");
        let reader = self.take::<1>()? == [1];
        let commits = u64::from_le_bytes(self.take()?);
        let count = self.length()?;
        let mut args = Vec::with_capacity(count);
        for _ in 0..count {
            args.push(self.value()?);
        }
        Ok(Statement {
            sql,
            args,
            reader,
            commits,
        })
    }
}

impl Iterator for Recording {
    type Item = Statement;

    fn next(&mut self) -> Option<Statement> {
        let text = u32::from_le_bytes(self.take().ok()?);
        Some(self.statement(text).expect("a whole statement"))
    }
}
