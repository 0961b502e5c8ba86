//! The events, one a line, as gateways would send them; made beforehand, since making them is not
//! the product's work.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use unilink::clock;
use unilink::simulate::{Bench, World};

/// Chooses people and ids.
const SEED: u64 = 1;

/// The world the events come from.
pub fn world() -> World {
    World::new(SEED).expect("a world")
}

fn path(dir: &Path) -> PathBuf {
    dir.join("events.ndjson")
}

/// Writes them.
pub fn write(dir: &Path, events: u64) {
    let world = world();
    // The last one happened just now.
    let base = clock::now().plus(-i64::try_from(events).expect("a number"));
    let bench = Bench::new(&world, base).expect("apps");
    let mut out = BufWriter::new(File::create(path(dir)).expect("a file"));
    for i in 0..events {
        let json = bench.event(i).json().expect("JSON");
        out.write_all(&json).expect("written");
        out.write_all(b"\n").expect("written");
    }
    out.flush().expect("written");
}

/// The events, for several readers.
pub struct Events(Mutex<BufReader<File>>);

impl Events {
    /// Opens what [`write`] wrote.
    pub fn open(dir: &Path) -> Self {
        let file = File::open(path(dir)).expect("events");
        Self(Mutex::new(BufReader::with_capacity(1 << 16, file)))
    }

    /// The next `count` lines, or what is left.
    pub fn next(&self, count: usize) -> Vec<u8> {
        let mut file = self.0.lock().expect("sound");
        let mut lines = Vec::new();
        for _ in 0..count {
            file.read_until(b'\n', &mut lines).expect("read");
        }
        lines
    }
}
