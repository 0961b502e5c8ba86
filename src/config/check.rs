//! Small checks that every section uses: numbers, durations, addresses, secrets. Each notes what is
//! wrong and answers with something harmless, so that the rest is checked too.

use super::environment::Environment;
use super::problem::Problems;
use crate::clock::parse_duration;
use crate::model::Secret;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// A secret file longer than this is not the file that was meant.
const MAX_SECRET: usize = 4_096;

pub(super) struct Checker<'a> {
    pub problems: Problems,
    pub env: &'a Environment,
    /// Variables that some `env:NAME` names.
    pub used: BTreeSet<String>,
}

impl Checker<'_> {
    /// A number within limits.
    pub(super) fn number(&mut self, key: &str, value: u64, limits: RangeInclusive<u64>) -> u64 {
        if !limits.contains(&value) {
            let (low, high) = (limits.start(), limits.end());
            self.problems
                .add(key, format!("must be from {low} to {high}"));
        }
        value
    }

    /// A number within limits, as a size.
    pub(super) fn size(&mut self, key: &str, value: u64, limits: RangeInclusive<u64>) -> usize {
        usize::try_from(self.number(key, value, limits)).unwrap_or(usize::MAX)
    }

    /// A number within limits that fits 32 bits.
    pub(super) fn small(&mut self, key: &str, value: u64, limits: RangeInclusive<u32>) -> u32 {
        let wide = u64::from(*limits.start())..=u64::from(*limits.end());
        u32::try_from(self.number(key, value, wide)).unwrap_or(u32::MAX)
    }

    /// A duration within limits.
    pub(super) fn duration(&mut self, key: &str, text: &str, limits: (&str, &str)) -> Duration {
        let low = parse_duration(limits.0).unwrap_or_default();
        let high = parse_duration(limits.1).unwrap_or(Duration::MAX);
        let found = parse_duration(text).filter(|d| (low..=high).contains(d));
        found.unwrap_or_else(|| {
            let (low, high) = limits;
            let problem =
                format!("must be a time from {low} to {high}, written like 250ms, 5s, 2m");
            self.problems.add(key, problem);
            Duration::ZERO
        })
    }

    /// Days.
    pub(super) fn days(&mut self, key: &str, value: u64) -> Duration {
        // Ten years; Kafka itself would take more, nobody means it.
        Duration::from_secs(86_400 * self.number(key, value, 1..=3_650))
    }

    /// A secret as it is written: the value, `env:NAME` or `file:PATH`.
    pub(super) fn secret(&mut self, key: &str, written: &str) -> Option<Secret> {
        let found = match (written.strip_prefix("env:"), written.strip_prefix("file:")) {
            (Some(name), _) => {
                self.used.insert(name.to_owned());
                let unset = || format!("the variable {name} is not set (or not UTF-8)");
                self.env.get(name).map(str::to_owned).ok_or_else(unset)
            }
            (_, Some(path)) => std::fs::read_to_string(path)
                .map_err(|e| format!("the file {path} cannot be read: {}", e.kind())),
            _ => Ok(written.to_owned()),
        };
        let found = found.map(|text| zeroize::Zeroizing::new(text).trim().to_owned());
        let problem = match found {
            Err(problem) => problem,
            Ok(text) if text.is_empty() => {
                "is empty; write the value, env:NAME or file:PATH".to_owned()
            }
            Ok(text) if text.len() > MAX_SECRET => format!("is longer than {MAX_SECRET} bytes"),
            Ok(text) => return Some(Secret::new(text)),
        };
        self.problems.add(key, problem);
        None
    }

    /// Keys that callers must show: they travel in a header.
    pub(super) fn keys(&mut self, key: &str, written: &[String]) -> Vec<Secret> {
        let mut keys = Vec::with_capacity(written.len());
        for (i, written) in written.iter().enumerate() {
            let name = format!("{key}[{i}]");
            let Some(secret) = self.secret(&name, written) else {
                continue;
            };
            if !secret.expose().bytes().all(|b| (0x21..=0x7e).contains(&b)) {
                let problem = "must be visible ASCII without spaces: it travels in a header";
                self.problems.add(name, problem);
            } else if keys.contains(&secret) {
                self.problems.add(name, "stands twice; remove one");
            } else {
                keys.push(secret);
            }
        }
        keys
    }

    /// An address to listen on; whoever can be reached from elsewhere needs keys.
    pub(super) fn listen(&mut self, section: &str, text: &str, has_keys: bool) -> SocketAddr {
        let key = format!("{section}.listen");
        let Ok(address) = text.parse::<SocketAddr>() else {
            self.problems.add(
                key,
                "must be an IP address and port, like 127.0.0.1:8080 or [::]:8080",
            );
            return (Ipv4Addr::LOCALHOST, 0).into();
        };
        if !address.ip().is_loopback() && !has_keys {
            let problem = format!(
                "is not loopback and {section}.keys is empty: anybody could call; set \
                 {section}.keys, or listen on 127.0.0.1"
            );
            self.problems.add(key, problem);
        }
        address
    }
}
