//! The formats that others see: serde twins of `schemas/*.json`, and their conversion to and from
//! the model by hand. Bytes in, bytes out; no I/O, no keys of its own.
//!
//! What is read here comes from strangers: nothing panics on any input, and a [`FieldError`] names
//! the field and the remedy, never a value. What is written here is deterministic: the same news
//! under the same epoch are the same bytes.

pub mod dead;
pub mod decision;
pub mod event;
mod evidence;
pub mod field;
pub mod import;
pub mod linked;
pub mod linked_login;
pub mod login;
pub mod news;
pub mod operator;
pub mod register;
pub mod request;
pub mod schema;
mod secrets;
mod time;
mod whole;

pub use dead::{DeadLetter, Grave, redriven_from};
pub use decision::{DecisionWire, ErasureWire};
pub use event::{Context, Kind, Topics, header, kind, recorded_at};
pub use evidence::Mode;
pub use field::{FieldError, FieldKind};
pub use import::ImportWire;
pub use linked::{LinkedWire, parse_linked};
pub use linked_login::LinkedLogin;
pub use login::LoginWire;
pub use news::{account_of, record};
pub use operator::{OperatorKeys, SignatureError, Signer};
pub use register::Register;
pub use request::ErasureRequest;
pub use time::Time;
pub use whole::Whole;
