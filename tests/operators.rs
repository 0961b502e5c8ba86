//! Operators' commands, with the real binary, on the embedded profile and on a real Kafka and PostgreSQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop"
)]

#[path = "operators/app.rs"]
mod app;
#[path = "operators/dlq.rs"]
mod dlq;
mod fleet;
mod harness;
mod services;
#[path = "rebuild/site.rs"]
mod site;
#[path = "operators/tables.rs"]
mod tables;
