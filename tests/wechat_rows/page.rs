//! `docs/wechat-apis.md` says what the tests show: every code of the table stands there at every API in the sense
//! that the code gives it, every header and every kind of push too, and every test that it names is one.

use std::collections::BTreeSet;
use std::path::Path;
use unilink::model::Api;
use unilink::resolve::codes::{self, Action};

const PAGE: &str = include_str!("../../docs/wechat-apis.md");

/// The cells of all rows of tables.
fn rows() -> Vec<Vec<String>> {
    let lines: Vec<&str> = PAGE.lines().collect();
    let heads = |n: usize| lines.get(n + 1).is_some_and(|next| next.starts_with("|--"));
    let rows = (0..lines.len()).filter(|n| lines[*n].starts_with("| ") && !heads(*n));
    let rows = rows.map(|n| {
        let cells = lines[n].trim_matches('|').split('|');
        cells.map(|c| c.trim().to_owned()).collect()
    });
    rows.collect()
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
    assert!(rows.len() > 90, "only {} rows", rows.len());
    for row in rows {
        assert_eq!(row.len(), 4, "{row:?}");
        let tests: Vec<&str> = quoted(&row[3]).collect();
        assert!(!tests.is_empty(), "no test: {row:?}");
        for test in tests {
            let is = [format!("fn {test}()"), format!("fn {test}(\n")];
            assert!(is.iter().any(|f| all.contains(f)), "{test} is no test");
        }
    }
}

/// What a first cell calls several APIs.
const EXCHANGE: [Api; 4] = [
    Api::Code2Session,
    Api::ComponentCode2Session,
    Api::OauthToken,
    Api::ComponentOauthToken,
];
const APIS: [(&str, Api); 11] = [
    ("sns/jscode2session", Api::Code2Session),
    ("sns/component/jscode2session", Api::ComponentCode2Session),
    ("sns/oauth2/access_token", Api::OauthToken),
    (
        "sns/oauth2/component/access_token",
        Api::ComponentOauthToken,
    ),
    ("sns/userinfo", Api::SnsUserinfo),
    ("cgi-bin/stable_token", Api::AppToken),
    ("cgi-bin/token", Api::AppToken),
    ("cgi-bin/user/info", Api::UserInfo),
    ("cgi-bin/user/info/batchget", Api::UserInfo),
    ("wxa/getpaidunionid", Api::PaidUnionid),
    ("wxa/checksession", Api::CheckSession),
];

/// Whether a row is about the API.
fn about(cell: &str, (name, api): (&str, Api)) -> bool {
    match cell {
        "Exchange" => EXCHANGE.contains(&api),
        "Any with the app's token" => codes::by_app_token(api),
        cell => quoted(cell).any(|word| word == name),
    }
}

fn numbers(cell: &str) -> BTreeSet<i64> {
    let words = cell.split(|c: char| !(c.is_ascii_digit() || c == '-'));
    words.filter_map(|word| word.parse().ok()).collect()
}

/// How a row that stands for this says what unilink does; any of these.
fn said(action: Action, api: Api) -> &'static [&'static str] {
    match action {
        Action::Transient => &["again with backoff"],
        Action::MinuteLimit => &["next minute"],
        Action::DailyQuota => &["midnight"],
        Action::AppTokenBad => &["refreshes once"],
        Action::CodeDead => &["`code_dead`"],
        Action::UserBlocked => &["`user_blocked`"],
        Action::BadInput if api == Api::SnsUserinfo => &["`user_token_refused`"],
        Action::BadInput => &["`refused`"],
        Action::Reauthorise if api == Api::SnsUserinfo => &["`user_token_refused`"],
        Action::Reauthorise => &["`code_dead`"],
        Action::Configuration | Action::Component => &["parked", "the same: here the AppSecret"],
        Action::SessionStale => &["`session_superseded`"],
        Action::PaymentGone => &["`payment_gone`"],
        Action::Unknown => &["five times", "five minutes"],
    }
}

#[test]
fn every_code_stands_at_every_api_in_the_sense_that_the_code_gives_it() {
    let rows = rows();
    let mut missing = Vec::new();
    for (name, api) in APIS {
        let own: Vec<_> = rows.iter().filter(|r| about(&r[0], (name, api))).collect();
        for code in codes::all() {
            let action = codes::action(api, code);
            let mut fitting = own.iter().filter(|row| match action {
                Action::Unknown => row[1] == "unknown",
                _ => numbers(&row[1]).contains(&code),
            });
            let told =
                fitting.any(|row| said(action, api).iter().any(|word| row[2].contains(word)));
            // What is said of a code that is unknown here would be wrong.
            let wrong =
                action == Action::Unknown && own.iter().any(|row| numbers(&row[1]).contains(&code));
            if !told || wrong {
                missing.push((name, code, action));
            }
        }
        let whole = |row: &&&Vec<String>| row[1].split([',', ';']).any(|word| word.trim() == "0");
        assert!(own.iter().find(whole).is_some(), "no success: {name}");
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Whole app or one API: the page says what the code does.
#[test]
fn what_a_refusal_parks_stands_there() {
    for row in rows() {
        let parks_app = row[2].starts_with("the app is parked");
        let parks_api =
            row[2].starts_with("this API is parked") || row[2].contains("needs a token is parked");
        for (_, api) in APIS.iter().filter(|api| about(&row[0], **api)) {
            for code in numbers(&row[1]) {
                let of_one = codes::of_one_api(*api, Some(code));
                assert!(!parks_app || !of_one, "{row:?} {code}");
                assert!(!parks_api || of_one, "{row:?} {code}");
            }
        }
    }
}

/// The text between two marks of a source.
fn between<'a>(source: &'a str, from: &str, to: &str) -> &'a str {
    let begin = source.find(from).expect(from);
    let end = source[begin..].find(to).expect(to);
    &source[begin..begin + end]
}

/// The literals of a source that stand in quotes.
fn literals(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').skip(1).step_by(2)
}

#[test]
fn every_header_of_cloud_run_stands_there() {
    let source = include_str!("../../src/intake/cloud.rs");
    let source = between(source, "const VIA", "struct Names");
    let headers: Vec<&str> = literals(source).collect();
    assert_eq!(headers.len(), 7, "{headers:?}");
    for header in headers {
        let stands = rows()
            .iter()
            .any(|row| quoted(&row[0]).any(|word| word == header));
        assert!(stands, "{header}");
    }
}

#[test]
fn every_push_and_what_it_counts_as_stands_there() {
    let events = include_str!("../../src/intake/push/event.rs");
    let kinds: Vec<&str> = literals(between(events, "fn word", "fn of")).collect();
    let front = include_str!("../../src/intake/push/mod.rs");
    let others = ["url_check", "refused", "unavailable", "without_openid"];
    for kind in others {
        assert!(
            front.contains(&format!("\"{kind}\"")),
            "nothing is counted as {kind}"
        );
    }
    assert!(kinds.len() >= 7, "{kinds:?}");
    let counted: BTreeSet<String> = rows()
        .iter()
        .flat_map(|row| {
            let words: Vec<String> = quoted(&row[0]).map(str::to_owned).collect();
            words
        })
        .collect();
    for kind in kinds.iter().chain(&others) {
        assert!(counted.contains(*kind), "{kind}");
    }
    let known: Vec<&str> = literals(between(events, "let events = [", "];")).collect();
    assert_eq!(known.len(), 5, "{known:?}");
    for event in known {
        let is = |row: &Vec<String>| quoted(&row[1]).any(|word| word.eq_ignore_ascii_case(event));
        assert!(rows().iter().any(is), "{event}");
    }
}
