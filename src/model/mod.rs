//! The words of the product as types: identifiers that validate and redact themselves, login
//! events, facts, what the store holds, and the changes that [`crate::link::plan`] decides.
//!
//! Nothing here does I/O, knows SQL, Kafka, HTTP or serde formats other than its own postcard-free
//! plain data. Every other module may import this one; it imports nothing of the crate.

#[macro_use]
pub mod reason;
pub mod api;
pub mod apps;
pub mod changes;
pub mod fact;
pub mod ids;
pub mod login;
pub mod present;
pub mod room;
pub mod time;
pub mod view;

pub use api::Api;
pub use apps::{App, AppKind, Apps, Binding, Bound, Component, TokenSource};
pub use changes::{Changes, LinkMethod, Linked, News, Outcome, SightingResult};
pub use fact::{ClaimVerdict, Decision, Erasure, Fact, NewClaim, Review, Ruling, Sighting};
pub use ids::{
    Account, AppId, EventId, ExternalId, InvalidId, OpenId, PlatformId, UnionId, UnionKey, UserId,
};
pub use login::{EncryptedData, Evidence, Login, Payment, RawData, Secret, UserToken};
pub use present::{Presented, present};
pub use reason::{DeadReason, Method, Reason, Why};
pub use room::Room;
pub use time::Millis;
pub use view::{
    AccountRow, ClaimKey, ClaimRow, ClaimStatus, Keys, NeverPair, Ruled, SealedKey, Tombstone,
    UnionRead, View,
};
