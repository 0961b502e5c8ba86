//! The lists: platforms, apps with their bindings, operators.

use super::check::Checker;
use super::{Operator, raw};
use crate::model::{App, AppId, AppKind, Binding, Component, Millis, PlatformId, TokenSource};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use std::collections::BTreeSet;
use std::path::PathBuf;

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

pub(super) fn components(c: &mut Checker<'_>, raw: &[raw::Component]) -> Vec<Component> {
    let mut known: Vec<Component> = Vec::with_capacity(raw.len());
    for (i, component) in raw.iter().enumerate() {
        let name = format!("components[{i}]");
        let file = component.access_token_file.trim();
        if file.is_empty() {
            let problem = "is empty; name the file that holds the component_access_token";
            c.problems.add(format!("{name}.access_token_file"), problem);
        }
        match AppId::parse(&component.appid) {
            Ok(id) if known.iter().any(|k| k.id == id) => {
                c.problems
                    .add(format!("{name}.appid"), "stands twice; remove one");
            }
            Ok(id) => known.push(Component {
                id,
                token_file: PathBuf::from(file),
            }),
            Err(e) => c.problems.add(format!("{name}.appid"), e.to_string()),
        }
    }
    known
}

/// What apps may refer to.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub platforms: &'a [PlatformId],
    pub components: &'a [Component],
}

pub(super) fn apps(c: &mut Checker<'_>, raw: &[raw::App], known: Known<'_>) -> Vec<App> {
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
            token: token_source(c, &name, app),
            component: component(c, &name, app, known.components),
            bindings: bindings(c, &name, &app.platforms, known.platforms),
            kind: app.kind,
            id,
        });
    }
    apps
}

/// `stable`, `plain` or `file:PATH`.
fn token_source(c: &mut Checker<'_>, app: &str, raw: &raw::App) -> TokenSource {
    let written = raw.token.as_deref().unwrap_or("stable");
    match (written, written.strip_prefix("file:").map(str::trim)) {
        (_, Some(path)) if !path.is_empty() => return TokenSource::File(PathBuf::from(path)),
        ("stable", _) => return TokenSource::Stable,
        ("plain", _) if raw.secret.is_some() => return TokenSource::Plain,
        ("plain", _) => {
            let problem = "is plain, and the app has no secret to ask for a token with; add it";
            c.problems.add(format!("{app}.token"), problem);
        }
        _ => {
            let problem = "must be stable, plain, or file:PATH of a file that is kept fresh";
            c.problems.add(format!("{app}.token"), problem);
        }
    }
    TokenSource::Stable
}

fn component(
    c: &mut Checker<'_>,
    app: &str,
    raw: &raw::App,
    known: &[Component],
) -> Option<Component> {
    let written = raw.component.as_deref()?;
    if matches!(raw.kind, AppKind::Website | AppKind::MobileApp) {
        let problem = "acts for official accounts and mini programs only; leave it out";
        c.problems.add(format!("{app}.component"), problem);
        return None;
    }
    let found = known.iter().find(|k| k.id.as_str() == written).cloned();
    if found.is_none() {
        let problem =
            "is no component of this file; add [[components]] with that appid, or correct it";
        c.problems.add(format!("{app}.component"), problem);
    }
    found
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
