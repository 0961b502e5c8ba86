//! What processes used, as the kernel tells it (Linux). Servers are found by the port they listen
//! on; one on another machine, or in another name space of processes, is left out.

use serde::Serialize;
use std::fs;
use std::path::Path;

/// Clock ticks of `/proc/PID/stat` in a second; Linux tells all programs 100.
const TICKS: f64 = 100.0;

/// Figures of one timed stretch.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Measured {
    /// How many events it finished.
    pub events: u64,
    /// By the clock.
    pub seconds: f64,
    /// Events in a second.
    pub rate: f64,
    /// CPU seconds of our own processes, for a million events.
    pub cpu_per_million: f64,
    /// The same of PostgreSQL, all of its processes.
    pub postgres_cpu_per_million: Option<f64>,
    /// The same of the broker.
    pub kafka_cpu_per_million: Option<f64>,
    /// Largest resident set of one of our own processes, in MiB.
    pub peak_mib: f64,
    /// Load of the machine over the last minute, when it ended.
    pub load: f64,
}

/// Fields of `/proc/PID/stat` from the state on.
fn stat(pid: u32) -> Option<Vec<f64>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold spaces, but no more parentheses follow it.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields = fields.split_whitespace().skip(1);
    Some(fields.map(|f| f.parse().unwrap_or(0.0)).collect())
}

fn ticks(pid: u32, fields: std::ops::Range<usize>) -> f64 {
    let stat = stat(pid).unwrap_or_default();
    stat.get(fields).unwrap_or_default().iter().sum::<f64>() / TICKS
}

/// CPU seconds of a process so far, of all its threads.
pub fn cpu(pid: u32) -> f64 {
    ticks(pid, 10..12)
}

/// Largest resident set of a process that lives, in MiB.
pub fn peak(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Load of the machine over the last minute.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|t| t.parse().ok());
    first.unwrap_or(0.0)
}

/// A server and its children.
#[derive(Clone, Copy)]
pub struct Server(Option<u32>);

impl Server {
    /// The one that listens on a port of this machine.
    pub fn listening(port: u16) -> Self {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
        let mut sockets = tables.iter().flat_map(|table| listening(table, port));
        Self(sockets.find_map(|inode| owner(&format!("socket:[{inode}]"))))
    }

    /// CPU seconds so far, of children that have ended too.
    pub fn cpu(self) -> Option<f64> {
        let own = ticks(self.0?, 10..14);
        let all = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
        let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
        let parent = |pid: u32| stat(pid).and_then(|s| s.first().copied());
        let children = pids.filter(|pid| parent(*pid) == self.0.map(f64::from));
        Some(own + children.map(cpu).sum::<f64>())
    }
}

/// Inodes of the sockets of a table that listen on a port.
fn listening(table: &str, port: u16) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap_or_default();
    let port = format!(":{port:04X}");
    let lines = text
        .lines()
        .map(|l| l.split_whitespace().collect::<Vec<_>>());
    let listens = |l: &Vec<&str>| l.len() > 9 && l[1].ends_with(&port) && l[3] == "0A";
    lines.filter(listens).map(|l| l[9].to_owned()).collect()
}

/// The first process that has a socket.
fn owner(socket: &str) -> Option<u32> {
    let all = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let mut pids: Vec<u32> = all
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    pids.into_iter().find(|pid| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"));
        let mut files = files.into_iter().flatten().filter_map(Result::ok);
        files.any(|f| fs::read_link(f.path()).is_ok_and(|at| at == Path::new(socket)))
    })
}
