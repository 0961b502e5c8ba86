//! unilink makes one user of one person across a company's WeChat apps. `docs/ARCHITECTURE.md` is
//! the tour.

pub mod api;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dlq;
pub mod http;
pub mod intake;
pub mod link;
pub mod model;
pub mod outbox;
pub mod rebuild;
pub mod replay;
pub mod resolve;
pub mod seal;
pub mod shutdown;
pub mod simulate;
pub mod sqlite;
pub mod store;
pub mod tables;
pub mod telemetry;
pub mod wire;
pub mod worker;

/// Lets unit tests share helpers with the tests in `tests/`, which call the crate by its name.
#[cfg(test)]
extern crate self as unilink;
