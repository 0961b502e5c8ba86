//! The lists: platforms, apps with their bindings, operators.

use super::check::Checker;
use super::{Operator, raw};
use crate::model::{App, AppId, Binding, Millis, PlatformId};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use std::collections::BTreeSet;

/// Longest operator id, in bytes: it stands in every decision.
const MAX_OPERATOR: usize = 64;

pub(super) fn platforms(c: &mut Checker<'_>, raw: &[raw::Platform]) -> Vec<PlatformId> {
    let mut known = Vec::with_capacity(raw.len());
    for (i, platform) in raw.iter().enumerate() {
        let key = format!("platforms[{i}].id");
        match PlatformId::parse(&platform.id) {
            Ok(id) if known.contains(&id) => c.problems.add(key, "stands twice; remove one"),
            Ok(id) => known.push(id),
            Err(e) => c.problems.add(key, e.to_string()),
        }
    }
    known
}

pub(super) fn apps(c: &mut Checker<'_>, raw: &[raw::App], platforms: &[PlatformId]) -> Vec<App> {
    let mut seen = BTreeSet::new();
    let mut apps = Vec::with_capacity(raw.len());
    for (i, app) in raw.iter().enumerate() {
        let id = match AppId::parse(&app.appid) {
            Ok(id) => id,
            Err(e) => {
                c.problems.add(format!("apps[{i}].appid"), e.to_string());
                continue;
            }
        };
        if !seen.insert(id.clone()) {
            let problem = format!("{id} stands twice; one [[apps]] may have several platforms");
            c.problems.add(format!("apps[{i}].appid"), problem);
        }
        let name = format!("apps[{i}] ({id})");
        let secret = app.secret.as_deref();
        apps.push(App {
            secret: secret.and_then(|s| c.secret(&format!("{name}.secret"), s)),
            bindings: bindings(c, &name, &app.platforms, platforms),
            kind: app.kind,
            id,
        });
    }
    apps
}

/// Oldest first, as they must be written: whoever reads the file sees the app's history.
fn bindings(
    c: &mut Checker<'_>,
    app: &str,
    raw: &[raw::Binding],
    platforms: &[PlatformId],
) -> Vec<Binding> {
    let mut found: Vec<Binding> = Vec::with_capacity(raw.len());
    for (i, binding) in raw.iter().enumerate() {
        let key = format!("{app}.platforms[{i}]");
        let since = match binding.since.as_deref() {
            None => Some(Millis(0)),
            Some(text) => Millis::parse_rfc3339(text),
        };
        let Some(since) = since else {
            let problem = "must be a time with an offset, like 2026-01-31T00:00:00Z";
            c.problems.add(format!("{key}.since"), problem);
            continue;
        };
        let Some(platform) = platforms.iter().find(|p| p.as_str() == binding.id) else {
            let problem =
                "is no platform of this file; add [[platforms]] with that id, or correct it";
            c.problems.add(format!("{key}.id"), problem);
            continue;
        };
        if found.last().is_some_and(|last| last.since >= since) {
            let problem = "must lie after the binding before it; write the oldest first \
                           (without since, a binding is as old as can be)";
            c.problems.add(format!("{key}.since"), problem);
        }
        found.push(Binding {
            platform: platform.clone(),
            since,
        });
    }
    found
}

pub(super) fn operators(c: &mut Checker<'_>, raw: &[raw::Operator]) -> Vec<Operator> {
    let mut found: Vec<Operator> = Vec::with_capacity(raw.len());
    for (i, operator) in raw.iter().enumerate() {
        let id = operator.id.trim();
        let plain = !id.is_empty() && id.len() <= MAX_OPERATOR && !id.chars().any(char::is_control);
        if !plain {
            let problem = format!("must be a name of 1 to {MAX_OPERATOR} bytes");
            c.problems.add(format!("operators[{i}].id"), problem);
        }
        if found.iter().any(|o| o.id == id) {
            c.problems
                .add(format!("operators[{i}].id"), "stands twice; remove one");
        }
        match verifying_key(&operator.key) {
            Some(key) => found.push(Operator {
                id: id.to_owned(),
                key,
            }),
            None => {
                let problem = "must be an ed25519 public key: 32 bytes in base64";
                c.problems.add(format!("operators[{i}].key"), problem);
            }
        }
    }
    found
}

/// Weak keys verify signatures that nobody made.
fn verifying_key(text: &str) -> Option<VerifyingKey> {
    let bytes: [u8; 32] = STANDARD.decode(text.trim()).ok()?.try_into().ok()?;
    VerifyingKey::from_bytes(&bytes)
        .ok()
        .filter(|key| !key.is_weak())
}
