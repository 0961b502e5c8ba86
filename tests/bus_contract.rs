//! The contract of the bus on every backend (the test names show which), and what each backend
//! promises beyond it.

// Helpers of tests are no `#[test]`s; they fail by panicking all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod services;

mod contract {
    pub mod bus;
    pub mod embedded;
    mod embedded_alone;
    mod embedded_kill;
    pub mod kafka;
    mod kafka_alone;
    mod kafka_kill;
    mod relay;
}

bus_contract!(embedded, crate::contract::embedded::Embedded);
bus_contract!(kafka, crate::contract::kafka::Kafka);
