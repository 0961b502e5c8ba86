//! unilink makes one user of one person across a company's WeChat apps.

pub mod bus;
pub mod model;
pub mod simulate;
pub mod sqlite;
pub mod store;
