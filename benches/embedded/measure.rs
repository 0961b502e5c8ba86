//! What a phase used, as the kernel tells it (Linux).

use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Clock ticks of `/proc/self/stat` in a second; Linux tells all programs 100.
const TICKS: f64 = 100.0;

/// Figures of one phase.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// By the clock.
    pub seconds: f64,
    /// User and system time, of all threads.
    pub cpu_seconds: f64,
    /// Largest resident set, in MiB.
    pub peak_mib: f64,
}

/// A measurement under way.
pub struct Watch {
    begun: Instant,
    cpu: f64,
}

impl Watch {
    /// Begins now.
    pub fn start() -> Self {
        Self {
            begun: Instant::now(),
            cpu: cpu(),
        }
    }

    /// Ends now.
    pub fn stop(&self) -> Measured {
        Measured {
            seconds: self.begun.elapsed().as_secs_f64(),
            cpu_seconds: cpu() - self.cpu,
            peak_mib: peak(),
        }
    }
}

fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name before may hold spaces, but no more parentheses follow it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / TICKS
}

fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
