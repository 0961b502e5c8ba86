//! The contract of the bus on every backend (the test names show which), and what each backend
//! promises beyond it.

mod contract {
    pub mod bus;
    pub mod embedded;
    mod embedded_alone;
    mod embedded_kill;
}

bus_contract!(embedded, crate::contract::embedded::Embedded);
