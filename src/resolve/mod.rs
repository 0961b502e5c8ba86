//! From evidence to facts: what WeChat's answers and encrypted data say about an account.
//!
//! [`wechat`] sends requests, [`body`] reads what comes back, [`codes`] tells what an error means,
//! [`failure`] what a failed call leaves behind, and [`decrypt`] opens `encryptedData`. [`caller`] is
//! the one way to WeChat: [`gate`] before ([`pauses`] close it), the reaction to errors after. [`tokens`] has the apps'
//! access tokens, [`followers`] gathers questions, [`exchange`] spends codes, once each; [`asking`]
//! asks about accounts, `rungs` and `session_keys` join them, and [`ladder`] bounds what is under way
//! (`slots`) and how long it is waited for (`patience`). `turns` calls those who wait for a refused app.

pub mod asking;
mod backoff;
pub mod body;
pub mod book;
mod breaker;
mod by_book;
mod by_code;
pub mod caller;
mod climb;
pub mod codes;
pub mod decrypt;
pub mod exchange;
pub mod failure;
mod flights;
pub mod followers;
pub mod gate;
mod kept;
pub mod ladder;
pub mod ledger;
mod notes;
mod patience;
pub mod pauses;
pub mod ports;
mod rate;
mod refusal;
mod rungs;
mod sending;
mod session_keys;
mod slots;
pub mod tokens;
mod turns;
pub mod wechat;

pub use session_keys::KEY_WAIT_MS;

#[cfg(test)]
mod tests;
