//! unilink makes one user of one person across a company's WeChat apps.

pub mod bus;
pub mod model;
pub mod seal;
pub mod sqlite;
pub mod store;
pub mod wire;
