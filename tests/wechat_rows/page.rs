//! `docs/wechat-apis.md` says what the tests show: every code of the table stands there, and every test
//! that it names is one.

use std::collections::BTreeSet;
use std::path::Path;
use unilink::resolve::codes;

const PAGE: &str = include_str!("../../docs/wechat-apis.md");

/// The cells of all rows of tables.
fn rows() -> Vec<Vec<String>> {
    let rows = PAGE.lines().filter(|l| l.starts_with("| "));
    let rows = rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells.map(|c| c.trim().to_owned()).collect::<Vec<_>>()
    });
    rows.filter(|cells| !cells[0].starts_with("API") && !cells[0].starts_with("--"))
        .collect()
}

/// The text of all files that hold tests.
fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|e| e == "rs") {
            all.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// The words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_row_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    for folder in ["tests", "src"] {
        sources(&root.join(folder), &mut all);
    }
    let rows = rows();
    assert!(rows.len() > 40, "only {} rows", rows.len());
    for row in rows {
        assert_eq!(row.len(), 4, "{row:?}");
        let tests: Vec<&str> = quoted(&row[3]).collect();
        assert!(!tests.is_empty(), "no test: {row:?}");
        for test in tests {
            assert!(all.contains(&format!("fn {test}()")), "{test} is no test");
        }
    }
}

#[test]
fn every_code_of_the_table_stands_there() {
    let mut named = BTreeSet::new();
    for row in rows() {
        for word in row[1].split(|c: char| !(c.is_ascii_digit() || c == '-')) {
            named.extend(word.parse::<i64>());
        }
    }
    let missing: Vec<i64> = codes::all().filter(|code| !named.contains(code)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_api_that_is_called_has_a_success() {
    let ok: String = rows()
        .into_iter()
        .filter(|row| row[1] == "0")
        .map(|row| row[0].clone())
        .collect();
    for api in [
        "sns/jscode2session",
        "sns/component/jscode2session",
        "sns/oauth2/access_token",
        "sns/oauth2/component/access_token",
        "sns/userinfo",
        "cgi-bin/stable_token",
        "cgi-bin/token",
        "cgi-bin/user/info",
        "cgi-bin/user/info/batchget",
        "wxa/getpaidunionid",
        "wxa/checksession",
    ] {
        assert!(ok.contains(&format!("`{api}`")), "{api}");
    }
}
