//! A stand-in for WeChat and for the people who log in, for `simulate`, `demo`, tests and benchmarks.
//!
//! - [`World`]: which apps and platforms there are, and everybody's ids in them, computed from a seed.
//! - [`Simulator`]: what WeChat remembers (sessions, spent codes) and answers; [`server`] puts it on HTTP.
//! - [`Population`]: what people do, as the events a gateway would post, and the [`Truth`] about them.
//! - [`Bench`]: an endless, cheap stream of events for measuring.
//!
//! Promises: the same seed gives the same world, people and faults; nothing is stored per person
//! but two bytes per app for the current session; what a code did is remembered only while it lives.
//! It follows `docs/wechat.md`; where WeChat's behaviour is unknown, a setting chooses.

mod answer;
mod bench;
mod code;
mod codes;
mod crypto;
mod dice;
mod exchange;
mod faults;
mod ids;
mod people;
pub mod server;
mod session;
mod simulator;
mod stats;
mod world;

pub use answer::{Action, Api, Params, Reply};
pub use bench::Bench;
pub use crypto::Encrypted;
pub use faults::{Fault, FaultError, Faults};
pub use people::{Event, Expected, Found, Outcome, Population, Trace, Truth, Verdict};
pub use session::{MAX_PEOPLE, Manner, Session};
pub use simulator::{Clock, LoginError, Settings, Simulator};
pub use stats::{ApiStats, CodeStats, Resend, Stats};
pub use world::{AppNo, AppSpec, MAX_APPS, SimApp, World, WorldError};
