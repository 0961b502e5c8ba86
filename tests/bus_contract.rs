//! The contract of the bus, on every backend; the test names show which.

mod contract {
    pub mod bus;
    pub mod embedded;
}

bus_contract!(embedded, crate::contract::embedded::Embedded);
