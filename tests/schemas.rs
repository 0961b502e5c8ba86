//! `schemas/` is what the code says, samples that the code makes satisfy it, and broken ones do not.
//! `UNILINK_BLESS=1` rewrites the files.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test says so by panicking"
)]

mod samples;

use serde_json::{Value, json};
use std::path::Path;

fn files() -> Vec<(&'static str, Value)> {
    let all = unilink::wire::schema::all();
    all.into_iter()
        .map(|(name, schema)| (name, schema.to_value()))
        .collect()
}

fn schema(name: &str) -> jsonschema::Validator {
    let (_, schema) = files()
        .into_iter()
        .find(|(n, _)| *n == name)
        .expect("schema");
    jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("a valid schema")
}

#[test]
fn the_files_are_those_of_the_code() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let bless = std::env::var_os("UNILINK_BLESS").is_some();
    for (name, schema) in files() {
        let text = serde_json::to_string_pretty(&schema).expect("text") + "\n";
        let path = dir.join(name);
        if bless {
            std::fs::write(&path, &text).expect("writes");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == text,
            "schemas/{name} differs from the code: run with UNILINK_BLESS=1"
        );
    }
    // `openapi.json` is kept by hand and compared with the routes by `tests/api_http.rs`.
    let made = |name: &std::ffi::OsStr| name != "openapi.json";
    let kept = dir
        .read_dir()
        .expect("schemas/")
        .map(|f| f.expect("a file"));
    let kept = kept.filter(|f| made(&f.file_name())).count();
    assert_eq!(
        kept,
        files().len(),
        "schemas/ holds files that nothing makes"
    );
}

#[test]
fn what_the_code_writes_is_valid() {
    let samples = samples::all();
    for (name, _) in files() {
        assert!(
            samples.iter().any(|(n, _)| *n == name),
            "no sample of {name}"
        );
    }
    for (name, sample) in samples {
        let value: Value = serde_json::from_slice(&sample).expect("JSON");
        let schema = schema(name);
        let problems: Vec<_> = schema.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(problems.is_empty(), "{name}: {problems:?} in {value:#}");
    }
}

#[test]
fn each_field_of_each_sample_is_held_to_its_type() {
    let free = ["attributes"]; // opaque inside
    for (name, sample) in samples::all() {
        let schema = schema(name);
        let value: Value = serde_json::from_slice(&sample).expect("JSON");
        for field in value.as_object().expect("object").keys() {
            let mut broken = value.clone();
            broken[field] = json!({ "neither": ["text", "nor", "number"] });
            let opaque = free.contains(&field.as_str());
            assert_eq!(
                schema.is_valid(&broken),
                opaque,
                "{name}: {field} may be anything"
            );
        }
    }
}

#[test]
fn logins_that_the_parser_refuses_for_their_shape_are_invalid() {
    let schema = schema("login.json");
    let good =
        json!({"id": "e", "occurred_at": "2026-01-31T08:00:00Z", "appid": "wx1", "openid": "oA"});
    assert!(schema.is_valid(&good));
    for (field, value) in [
        ("id", json!("")),
        ("id", json!("with space")),
        ("appid", json!("wx:1")),
        ("occurred_at", json!("yesterday")),
        ("openid", Value::Null),
        ("code", json!("c")),
        ("is_snapshotuser", json!(2)),
        ("attributes", json!([])),
        ("unknown", json!(1)),
        ("openid", json!("x".repeat(65))),
    ] {
        let mut broken = good.clone();
        if field == "openid" && value.is_null() {
            broken.as_object_mut().expect("object").remove("openid");
        } else {
            broken[field] = value;
        }
        assert!(!schema.is_valid(&broken), "{broken}");
    }
}

#[test]
fn decisions_need_what_they_are_about() {
    let schema = schema("decision.json");
    for (name, sample) in samples::all() {
        if name != "decision.json" {
            continue;
        }
        let value: Value = serde_json::from_slice(&sample).expect("JSON");
        assert!(schema.is_valid(&value));
        for field in ["unionid", "other_openid", "author", "ruling"] {
            let mut broken = value.clone();
            if broken
                .as_object_mut()
                .expect("object")
                .remove(field)
                .is_some()
            {
                assert!(!schema.is_valid(&broken), "{broken}");
            }
        }
    }
}
