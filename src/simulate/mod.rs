//! A stand-in for WeChat and for the people who log in, for `simulate`, `demo`, tests and benchmarks.
//!
//! - [`World`]: which apps and platforms there are, and everybody's ids in them, computed from a seed.
//! - [`Simulator`]: what WeChat remembers (sessions, spent codes, tokens) and answers; [`server`] puts
//!   it on HTTP. [`Api`] lists what can be asked, [`Request`] asks it without HTTP.
//! - [`push`]: the messages that WeChat sends of its own accord.
//! - [`Population`]: what people do, as the events a gateway would post, and the [`Truth`] about them.
//! - [`Bench`]: an endless, cheap stream of events for measuring.
//!
//! Promises: the same seed gives the same world, people and faults; nothing is stored per person
//! but two bytes per app for the current session, and what was changed by hand; what a code or a
//! token did is remembered only while it lives. It follows `docs/wechat.md`; where WeChat's
//! behaviour is unknown, a setting chooses.

mod answer;
mod api;
mod bench;
mod code;
mod codes;
mod command;
mod component;
mod configuration;
mod crypto;
mod dice;
mod exchange;
mod faults;
mod followers;
mod gate;
mod identify;
mod ids;
mod issue;
mod limits;
mod mini;
mod oauth;
mod payment;
mod people;
pub mod push;
mod recent;
mod request;
mod scope;
pub mod server;
mod session;
mod settings;
mod simulator;
mod stats;
mod tokens;
mod trouble;
mod world;

pub use answer::{Action, Reply};
pub use api::{Api, Verb};
pub use bench::Bench;
pub use component::Component;
pub use crypto::Encrypted;
pub use faults::{Fault, FaultError, Faults};
pub use limits::Limits;
pub use oauth::{Grant, Scope as OauthScope};
pub use payment::Payment;
pub use people::{Event, Expected, Found, Outcome, Population, Trace, Truth, Verdict};
pub use request::{Params, Request};
pub use scope::Scope;
pub use session::{MAX_PEOPLE, Manner, Session};
pub use settings::Settings;
pub use simulator::{Clock, LoginError, Simulator};
pub use stats::{ApiStats, CodeStats, PushStats, Resend, Stats};
pub use tokens::{Family, TokenStats};
pub use trouble::Trouble;
pub use world::{AppNo, AppSpec, MAX_APPS, SimApp, World, WorldError};
