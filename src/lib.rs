//! unilink makes one user of one person across a company's WeChat apps.

pub mod bus;
pub mod link;
pub mod model;
pub mod sqlite;
pub mod store;
