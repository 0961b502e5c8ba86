//! The layout holds: every file says what it is for, files and functions stay readable in a sitting,
//! nothing panics outside tests, and the arrows between modules go one way only.

// Helpers of tests are no `#[test]`s; they fail by panicking all the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file without its tests.
const LONGEST_FILE: usize = 350;
/// Lines of a function.
const LONGEST_FUNCTION: usize = 70;

/// What each top-level module may import of the others. `cli` composes and may import everything.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &["model"]),
    ("telemetry", &[]),
    ("shutdown", &[]),
    ("bus", &["model", "sqlite"]),
    ("sqlite", &[]),
    ("seal", &[]),
    ("wire", &["model", "bus"]),
    ("link", &["model"]),
    ("config", &["model", "bus", "clock"]),
    ("store", &["model", "bus", "sqlite"]),
    ("resolve", &["model", "seal", "clock", "telemetry"]),
    (
        "intake",
        &["model", "bus", "config", "clock", "telemetry", "http"],
    ),
    ("api", &["model", "store", "telemetry", "clock", "http"]),
    ("http", &["model", "telemetry"]),
    ("outbox", &["model", "bus", "store", "clock", "telemetry"]),
    ("simulate", &["model"]),
    ("tables", &["model", "wire", "store"]),
    (
        "dlq",
        &["model", "wire", "bus", "seal", "store", "resolve", "clock"],
    ),
    (
        "replay",
        &[
            "model", "wire", "bus", "seal", "link", "store", "resolve", "worker", "clock",
        ],
    ),
    (
        "rebuild",
        &[
            "model", "wire", "bus", "seal", "link", "store", "resolve", "worker", "clock",
        ],
    ),
    (
        "worker",
        &[
            "model",
            "wire",
            "bus",
            "seal",
            "link",
            "store",
            "resolve",
            "outbox",
            "clock",
            "telemetry",
        ],
    ),
];

struct Source {
    path: PathBuf,
    module: String,
    /// The code before the file's test module.
    code: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    assert!(found.len() > 40, "only {} files found", found.len());
    found
}

fn collect(dir: &Path, found: &mut Vec<Source>) {
    let entries = fs::read_dir(dir).expect("src is readable");
    for path in entries.map(|e| e.expect("entry").path()) {
        if path.ends_with("tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).expect("readable");
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let below = path.strip_prefix(root().join("src")).expect("below src");
            let first = below.components().next().expect("a name");
            let module = Path::new(first.as_os_str()).with_extension("");
            found.push(Source {
                module: module.to_string_lossy().into_owned(),
                code: code.to_owned(),
                text: text.clone(),
                path: below.to_owned(),
            });
        }
    }
}

fn refuse(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

#[test]
fn every_file_says_what_it_is_for() {
    let faults: Vec<String> = sources()
        .iter()
        .filter(|s| !s.text.starts_with("//!"))
        .map(|s| s.path.display().to_string())
        .collect();
    refuse("files that do not open with //!", &faults);
}

#[test]
fn files_and_functions_can_be_read_in_a_sitting() {
    let mut faults = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.code.lines().collect();
        if lines.len() > LONGEST_FILE {
            faults.push(format!("{}: {} lines", source.path.display(), lines.len()));
        }
        let mut begun: Option<(usize, usize)> = None;
        for (number, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start();
            let is_fn = [
                "fn ",
                "pub fn ",
                "async fn ",
                "pub async fn ",
                "pub(super) fn ",
            ]
            .iter()
            .any(|p| words.starts_with(p));
            if is_fn {
                begun = Some((number, indent));
            } else if let Some((start, at)) = begun
                && indent == at
                && words == "}"
            {
                if number - start > LONGEST_FUNCTION {
                    let place = format!("{}:{}", source.path.display(), start + 1);
                    faults.push(format!("{place}: {} lines", number - start));
                }
                begun = None;
            }
        }
    }
    refuse("too long", &faults);
}

#[test]
fn nothing_panics_and_nothing_is_left_for_later() {
    let marks = [
        ".unwrap()",
        ".expect(",
        "panic!(",
        "unreachable!(",
        "todo!(",
        "unimplemented!(",
        "TODO",
        "FIXME",
        "dbg!(",
    ];
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            if marks.iter().any(|m| line.contains(m)) {
                let place = format!("{}:{}", source.path.display(), number + 1);
                faults.push(format!("{place}: {}", line.trim()));
            }
        }
    }
    refuse("panics or marks outside tests", &faults);
}

#[test]
fn the_arrows_go_one_way() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut faults = Vec::new();
    for source in sources() {
        if ["cli", "lib", "main"].contains(&source.module.as_str()) {
            continue;
        }
        let Some(allowed) = arrows.get(source.module.as_str()) else {
            faults.push(format!("{} stands in no row of ARROWS", source.module));
            continue;
        };
        for (number, line) in source.code.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for import in code.split("crate::").skip(1) {
                let module: String = import
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .collect();
                if module != source.module && !allowed.contains(&module.as_str()) {
                    let place = format!("{}:{}", source.path.display(), number + 1);
                    faults.push(format!("{place}: {} imports {module}", source.module));
                }
            }
        }
    }
    refuse("arrows that are not allowed", &faults);
}

/// `docs/ARCHITECTURE.md` shows these arrows, and every module that there is.
#[test]
fn the_architecture_page_shows_the_arrows() {
    let page = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("readable");
    let mut shown = BTreeMap::new();
    for row in page.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let module = cells[1].trim_matches('`').trim_end_matches('/');
        let mut imports: Vec<&str> = cells[3].split(", ").filter(|i| *i != "nothing").collect();
        imports.sort_unstable();
        shown.insert(module.trim_end_matches(".rs"), imports);
    }
    assert_eq!(shown.remove("cli"), Some(vec!["everything"]));
    let mut arrows = BTreeMap::new();
    for (module, allowed) in ARROWS {
        let mut imports = allowed.to_vec();
        imports.sort_unstable();
        arrows.insert(*module, imports);
    }
    assert_eq!(shown, arrows);
}

/// Stated as an absence: planning never waits, never asks the time, never meets a database.
#[test]
fn link_is_pure() {
    let banned = [
        "async ",
        ".await",
        "sqlx",
        "SystemTime",
        "Instant::now",
        "tokio",
        "rand::",
    ];
    let mut faults = Vec::new();
    for source in sources()
        .iter()
        .filter(|s| s.module == "link" || s.module == "model")
    {
        for (number, line) in source.code.lines().enumerate() {
            if banned.iter().any(|b| line.contains(b)) && !line.trim_start().starts_with("//") {
                faults.push(format!("{}:{}", source.path.display(), number + 1));
            }
        }
    }
    refuse("impure", &faults);
}

#[test]
fn every_migration_is_compiled_in() {
    for (backend, list) in [
        ("sqlite", "src/sqlite/connect.rs"),
        ("postgres", "src/store/postgres/schema.rs"),
    ] {
        let list = fs::read_to_string(root().join(list)).expect("readable");
        let dir = root().join("migrations").join(backend);
        let files = fs::read_dir(dir).expect("migrations are readable");
        let names = files.map(|f| f.expect("entry").file_name());
        let names: Vec<String> = names.map(|n| n.to_string_lossy().into_owned()).collect();
        assert!(names.len() > 2, "only {names:?}");
        let forgotten = names
            .into_iter()
            .filter(|name| !list.contains(&format!("migrations/{backend}/{name}\"")));
        refuse(
            "migrations that are not listed",
            &forgotten.collect::<Vec<_>>(),
        );
    }
}
