//! unilink makes one user of one person across a company's WeChat apps.

pub mod bus;
pub mod link;
pub mod model;
pub mod sqlite;
pub mod store;

/// Lets unit tests share helpers with the tests in `tests/`, which call the crate by its name.
#[cfg(test)]
extern crate self as unilink;
