//! From evidence to facts: what WeChat's answers and encrypted data say about an account.
//!
//! [`wechat`] asks WeChat, [`body`] reads what it answers, [`codes`] tells what an error means,
//! [`failure`] what a failed call leaves behind, and [`decrypt`] opens `encryptedData`. [`exchange`]
//! spends codes, once each; [`ladder`] joins the rungs.

pub mod body;
mod climb;
pub mod codes;
pub mod decrypt;
pub mod exchange;
pub mod failure;
mod flights;
pub mod gate;
pub mod ladder;
mod notes;
pub mod ports;
pub mod wechat;
