//! CSV, a record at a time: so that each is known by the line that it begins in, whatever blank lines,
//! line ends and quoted line breaks there are.

use std::io::{BufRead, Error, Read, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest record, in bytes.
const MAX_RECORD: usize = 64 * 1024;

/// Hands out one record with each reading, ended by a line feed; blank lines are passed over.
pub(super) struct Framed<R> {
    from: R,
    /// The line that the record handed out last begins in, from 1.
    at: Arc<AtomicU64>,
    lines: u64,
    record: Vec<u8>,
    given: usize,
}

/// Where in a record one is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// At the beginning of a field.
    Begin,
    /// In a field without quotes, or behind them.
    Plain,
    /// Inside quotes.
    Quoted,
    /// Behind a quote inside quotes: it ends them, unless another follows.
    Quote,
}

impl Within {
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Begin | Self::Quote, b'"') => Self::Quoted,
            (Self::Quoted, b'"') => Self::Quote,
            (Self::Quoted, _) => Self::Quoted,
            (_, b',') => Self::Begin,
            _ => Self::Plain,
        }
    }
}

impl<R: BufRead> Framed<R> {
    /// Over a file; the second tells the line of the record handed out last.
    pub(super) fn new(from: R) -> (Self, Arc<AtomicU64>) {
        let at = Arc::new(AtomicU64::new(0));
        let framed = Self {
            from,
            at: Arc::clone(&at),
            lines: 0,
            record: Vec::new(),
            given: 0,
        };
        (framed, at)
    }

    /// Reads the next record.
    fn frame(&mut self) -> Result<()> {
        (self.given, self.record) = (0, Vec::new());
        let mut within = Within::Begin;
        loop {
            let begins = self.record.len();
            let rest = (MAX_RECORD - begins) as u64;
            let line = self
                .from
                .by_ref()
                .take(rest)
                .read_until(b'\n', &mut self.record)?;
            if line == 0 && begins == 0 {
                return Ok(());
            }
            self.lines += u64::from(line > 0);
            if begins == 0 {
                self.at.store(self.lines, Ordering::Relaxed);
            }
            if self.record.len() >= MAX_RECORD {
                let line = self.at.load(Ordering::Relaxed);
                let why = format!("line {line}: longer than 64 KiB; is a quote not closed?");
                return Err(Error::other(why));
            }
            within = self.record[begins..]
                .iter()
                .fold(within, |w, b| w.after(*b));
            // A line feed is no comma and no quote: inside quotes it leaves one there.
            if within == Within::Quoted && line > 0 {
                continue;
            }
            while matches!(self.record.last(), Some(b'\n' | b'\r')) {
                self.record.pop();
            }
            if self.record.is_empty() {
                within = Within::Begin;
                continue;
            }
            self.record.push(b'\n');
            return Ok(());
        }
    }
}

impl<R: BufRead> Read for Framed<R> {
    fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        if self.given == self.record.len() {
            self.frame()?;
        }
        let rest = &self.record[self.given..];
        let count = rest.len().min(to.len());
        to[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}
