//! The JSON Schemas of all values, generated from the twins. `schemas/` holds them; a test compares.

use super::{decision, import, linked, linked_login, login, news, register, request};
use crate::model::{Method, Reason, Why};
use schemars::{Schema, schema_for};
use serde_json::{Value, json};

/// Every schema, with its file's name in `schemas/`.
#[must_use]
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("login.json", schema_for!(login::LoginWire)),
        ("decision.json", schema_for!(decision::DecisionWire)),
        ("erasure.json", schema_for!(decision::ErasureWire)),
        ("import.json", schema_for!(import::ImportWire)),
        ("erasure-request.json", schema_for!(request::ErasureRequest)),
        ("account.linked.json", schema_for!(linked::LinkedWire<'_>)),
        ("user.merged.json", schema_for!(news::MergedWire<'_>)),
        ("link.conflict.json", schema_for!(news::ConflictWire<'_>)),
        (
            "linked-login.json",
            schema_for!(linked_login::LinkedLoginWire<'_>),
        ),
        ("register.json", register::schema()),
    ]
}

/// Methods of claims; both kinds of `decrypted` are one word on the wire.
pub(super) fn claim_methods() -> Value {
    let words = Method::ALL
        .iter()
        .filter(|m| **m != Method::DecryptedEventKey);
    json!(words.map(|m| m.word()).collect::<Vec<_>>())
}

/// Methods of accounts.
pub(super) fn link_methods() -> Value {
    let words = Method::ALL
        .iter()
        .filter(|m| **m != Method::DecryptedEventKey);
    let words = words.map(|m| m.word()).chain(["merge", "none"]);
    json!(words.collect::<Vec<_>>())
}

/// Reasons for being unresolved, and none.
pub(super) fn reasons() -> Value {
    let words = Reason::ALL.iter().map(|r| Some(r.word())).chain([None]);
    json!(words.collect::<Vec<_>>())
}

/// Why a claim is contested, and none.
pub(super) fn whys() -> Value {
    let words = Why::ALL.iter().map(|w| Some(w.word())).chain([None]);
    json!(words.collect::<Vec<_>>())
}

/// Why a claim is contested.
pub(super) fn conflict_whys() -> Value {
    json!(Why::ALL.iter().map(|w| w.word()).collect::<Vec<_>>())
}
