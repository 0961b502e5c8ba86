//! The README stays true: the words, metrics, topics, commands and keys that it names exist in the
//! code, its configuration and its sample record are valid, both languages name the same ones, and
//! nothing in them leads to a machine of ours.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test says so by panicking"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use unilink::config::{Config, Environment};
use unilink::dlq::help::ADVICE;
use unilink::model::{DeadReason, Reason};
use unilink::telemetry::METRICS;

const ENGLISH: &str = include_str!("../README.md");
const CHINESE: &str = include_str!("../README.zh-CN.md");
const EXAMPLE: &str = include_str!("../unilink.example.toml");
const BOTH: [(&str, &str); 2] = [("README.md", ENGLISH), ("README.zh-CN.md", CHINESE)];
/// What begins as metrics do and is none: the header of a signature.
const NO_METRIC: &str = "unilink_signature";

type Words = BTreeSet<String>;

fn words<'a>(of: impl IntoIterator<Item = &'a str>) -> Words {
    of.into_iter().map(str::to_owned).collect()
}

/// The first cells of the table marked `<!-- table: NAME -->`, without their backticks.
fn first_cells(text: &str, name: &str) -> Words {
    let mark = format!("<!-- table: {name} -->");
    let (_, table) = text.split_once(&mark).expect("the table is marked");
    let rows = table
        .trim_start()
        .lines()
        .take_while(|l| l.starts_with('|'))
        .skip(2);
    let mut cells = Words::new();
    for row in rows {
        let cell = row.split('|').nth(1).expect("a cell").trim();
        let word = cell.trim_matches('`').to_owned();
        assert!(cells.insert(word), "{name}: {cell} stands twice");
    }
    assert!(!cells.is_empty(), "{name} has no rows");
    cells
}

/// The fenced blocks of one language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("\n```{language}\n");
    let mut found = Vec::new();
    for block in text.split(fence.as_str()).skip(1) {
        let (block, _) = block.split_once("\n```").expect("the fence is closed");
        found.push(block);
    }
    found
}

fn is_name(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'
}

/// The metrics that a text names.
fn metrics(text: &str) -> Words {
    let named = text.match_indices("unilink_").map(|(at, _)| {
        let rest = &text[at..];
        &rest[..rest.find(|c: char| !is_name(c)).unwrap_or(rest.len())]
    });
    words(named.filter(|name| *name != NO_METRIC))
}

/// The commands that `unilink --help` lists.
fn commands() -> Words {
    let help = Command::new(env!("CARGO_BIN_EXE_unilink"))
        .arg("--help")
        .output()
        .expect("runs");
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).expect("text");
    let (_, list) = help.split_once("Commands:\n").expect("commands");
    // Names are indented by two; the lines of a long description by more.
    let names = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    words(names.filter(|name| *name != "help"))
}

/// Whether the example shows a key of a section; optional ones stand there as comments.
fn example_has(key: &str) -> bool {
    let Some((section, name)) = key.split_once('.') else {
        return false;
    };
    let head = format!("[{section}]");
    EXAMPLE
        .lines()
        .skip_while(|line| *line != head)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .map(|line| line.trim_start_matches("# "))
        .any(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.trim_start().starts_with('='))
        })
}

#[test]
fn reasons_are_those_of_the_code() {
    let reasons = words(Reason::ALL.iter().map(|r| r.word()));
    let dead = words(DeadReason::ALL.iter().map(|r| r.word()));
    for (name, text) in BOTH {
        assert_eq!(first_cells(text, "reasons"), reasons, "{name}");
        assert_eq!(first_cells(text, "dead"), dead, "{name}");
    }
}

/// What `dlq show` says of a letter is what the README says.
#[test]
fn advice_on_dead_letters_is_that_of_the_code() {
    let rows = ADVICE.iter().map(|advice| {
        let (reason, meaning, remedy) = (advice.reason.word(), advice.meaning, advice.remedy);
        format!("| `{reason}` | {meaning} | {remedy} |")
    });
    for row in rows {
        assert!(ENGLISH.lines().any(|line| line == row), "{row}");
    }
}

#[test]
fn topics_are_those_of_the_defaults() {
    let config = Config::read("", "defaults", &Environment::default()).expect("valid");
    let topics = config.topics;
    let mut names = words([
        &*topics.logins,
        &*topics.account_links,
        &*topics.user_merges,
        &*topics.registers,
        &*topics.link_conflicts,
        &*topics.dlq,
    ]);
    // Off by default; the README calls it as its examples do.
    assert!(topics.linked_logins.is_none());
    names.insert("wechat.linked-logins".to_owned());
    for (name, text) in BOTH {
        assert_eq!(first_cells(text, "topics"), names, "{name}");
    }
}

#[test]
fn metrics_exist() {
    let known = words(METRICS.iter().map(|m| m.name));
    for (name, text) in BOTH {
        let named = metrics(text);
        assert!(named.len() > 5, "{name}: {named:?}");
        let strange: Vec<_> = named.difference(&known).collect();
        assert!(strange.is_empty(), "{name} names {strange:?}");
    }
    assert_eq!(metrics(ENGLISH), metrics(CHINESE));
}

#[test]
fn commands_are_those_of_the_binary() {
    let known = commands();
    for (name, text) in BOTH {
        let cells = first_cells(text, "commands");
        let listed = cells.iter().map(|c| c.trim_start_matches("unilink "));
        assert_eq!(words(listed), known, "{name}");
        for line in blocks(text, "sh").into_iter().flat_map(str::lines) {
            let run = line
                .strip_prefix("unilink ")
                .or_else(|| line.strip_prefix("cargo run --release -- "));
            let command = run.and_then(|run| run.split_whitespace().next());
            assert!(
                command.is_none_or(|c| known.contains(c)),
                "{name}: {line} runs no command of ours"
            );
        }
    }
}

#[test]
fn keys_of_the_configuration_exist() {
    assert!(example_has("identity.namespace") && !example_has("intake.namespace"));
    for (name, text) in BOTH {
        for key in first_cells(text, "config") {
            assert!(example_has(&key), "{name}: {key} is no key");
        }
        for key in ["worker.deferred_per_app", "bus.group"] {
            assert!(text.contains(key) && example_has(key), "{name}: {key}");
        }
    }
    assert_eq!(
        first_cells(ENGLISH, "config"),
        first_cells(CHINESE, "config")
    );
}

#[test]
fn the_minimal_configuration_is_valid() {
    let (_, rest) = ENGLISH
        .split_once("cat > unilink.toml <<'END'\n")
        .expect("stands there");
    let (text, _) = rest.split_once("\nEND\n").expect("ends");
    let config = Config::read(text, "README.md", &Environment::default()).expect("valid");
    assert_eq!(config.apps().iter().count(), 1);
}

#[test]
fn the_sample_record_satisfies_its_schema() {
    let schema = include_str!("../schemas/account.linked.json");
    let schema: serde_json::Value = serde_json::from_str(schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let [sample] = blocks(ENGLISH, "json")[..] else {
        panic!("one JSON block is expected");
    };
    let sample = serde_json::from_str(sample).expect("JSON");
    let wrong: Vec<String> = validator
        .iter_errors(&sample)
        .map(|e| e.to_string())
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_first_commands_are_the_demo_and_the_tests() {
    assert_eq!(
        blocks(ENGLISH, "sh")[..2],
        ["cargo run --release -- demo", "tests/all.sh"]
    );
}

/// What the README calls all tests is what has to hold before anything lands.
#[test]
fn the_test_command_is_run_before_anything_lands() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path| std::fs::read_to_string(root.join(path)).expect("readable");
    let landing = read(".ci/run");
    assert!(landing.lines().any(|line| line == "tests/all.sh"));
    // Installing a package that the README does not name would surprise whoever runs it.
    let scripts = read("tests/install.sh") + &read("tests/services/kafka-and-postgres.sh");
    let named = scripts.split("missing+=(").skip(1);
    let packages = named.map(|rest| rest.split(')').next().expect("closed"));
    let packages: Words = words(packages);
    assert!(packages.len() >= 5, "{packages:?}");
    for (name, text) in BOTH {
        for package in &packages {
            assert!(text.contains(package), "{name} does not name {package}");
        }
    }
}

#[test]
fn both_languages_run_the_same() {
    for language in ["sh", "text", "json"] {
        assert!(!blocks(ENGLISH, language).is_empty(), "{language}");
        assert_eq!(
            blocks(ENGLISH, language),
            blocks(CHINESE, language),
            "{language}"
        );
    }
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, text) in BOTH {
        let other = BOTH.iter().find(|(n, _)| *n != name).expect("two").0;
        let first = text.lines().next().expect("a line");
        assert!(
            first.contains(&format!("]({other})")),
            "{name} opens without a link to {other}"
        );
        for link in text.split("](").skip(1) {
            let (target, _) = link.split_once(')').expect("closed");
            assert!(root.join(target).exists(), "{name} links to {target}");
        }
    }
}

#[test]
fn no_line_names_a_machines_path() {
    for (name, text) in BOTH {
        for line in text.lines() {
            for path in ["/root", "/home/", "/work/", "/tmp/", "/Users/", "C:\\"] {
                assert!(!line.contains(path), "{name}: {line}");
            }
        }
    }
}
