//! From evidence to facts: what WeChat's answers and encrypted data say about an account.
//!
//! [`wechat`] asks WeChat, [`body`] reads what it answers, [`codes`] tells what an error means,
//! [`failure`] what a failed call leaves behind, and [`decrypt`] opens `encryptedData`.

pub mod body;
pub mod codes;
pub mod decrypt;
pub mod failure;
pub mod wechat;
