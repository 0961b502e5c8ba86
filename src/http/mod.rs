//! What both HTTP surfaces share: the listener with its limits and its drain, the keys, the shape
//! of errors, reading a body within bounds, and `/livez`, `/readyz`, `/metrics`, `/openapi.json`.
//!
//! Paths are never logged: look-ups carry openids in them.

mod body;
mod error;
mod keys;
mod lobby;
mod ops;
mod params;
mod serve;

pub use body::{Bounds, read};
pub use error::{HttpError, Place};
pub use keys::{Caller, Keys};
pub use lobby::{Door, lobby};
pub use ops::{OPERATIONS, Ops, Ready, Service, service};
pub use params::{InPath, InQuery};
pub use serve::{Listening, serve};
