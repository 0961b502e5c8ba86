//! Test: each statement of the hot paths reaches its rows through an index, one probe per key,
//! however SQLite's planner is minded.

#[cfg(test)]
mod tests {
    use crate::sqlite::{File, Insert, Options, Select};
    use crate::store::sqlite::{
        deferred, erase, find, ledger, operate, registers, sends, tokens, view, write,
    };

    /// Scans that are meant: key lists, and recursions over them.
    const MEANT: [&str; 8] = [
        "SCAN (subquery",
        "SCAN k",
        "SCAN apps",
        "SCAN looked",
        "SCAN hit",
        "SCAN json_each",
        "VALUES CLAUSE",
        "CONSTANT ROW",
    ];

    fn select(what: &Select) -> String {
        rows(what.head, what.columns, what.tail)
    }

    fn insert(what: &Insert) -> String {
        rows(what.head, what.columns, what.tail)
    }

    fn rows(head: &str, columns: usize, tail: &str) -> String {
        let row = format!("({})", vec!["?"; columns].join(","));
        format!("{head} {row},{row} {tail}")
    }

    #[tokio::test]
    async fn no_hot_statement_scans_a_table() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = File::open(&dir.path().join("u.db"), Options::default()).await;
        let file = file.expect("opens");
        let selects = [
            &view::ACCOUNTS,
            &view::CLAIMS,
            &view::UNIONIDS,
            &view::REJECTED,
            &view::TOMBSTONES,
            &view::FINISHED,
            &registers::RULINGS,
            &registers::PAIRS_A,
            &registers::PAIRS_B,
            &deferred::READY,
            &deferred::TAKE,
            &ledger::READ,
            &ledger::ERASED,
            &ledger::RESOLVED,
            &ledger::KEYS,
            &sends::CLAIM,
            &sends::READ,
            &find::BY_ANCHOR,
            &find::BY_ID,
            &find::LINKED_UNIONIDS,
            &find::LINKED_ACCOUNTS,
        ];
        let inserts = [
            &deferred::WAKE,
            &deferred::DONE,
            &erase::DELETE_CLAIMS,
            &erase::DELETE_KEYS,
            &erase::FORGET_ANSWERS,
            &erase::FORGET_A,
            &erase::FORGET_B,
            &write::TRIM_SESSION_KEYS,
            &write::DROP_SESSION_KEYS,
        ];
        let single = [
            deferred::DUE_CODES,
            deferred::DUE_OTHERS,
            deferred::NEXT,
            deferred::AGAIN,
            deferred::LATER,
            deferred::HASTEN,
            deferred::WAKE_LEASED,
            sends::RELEASE,
            tokens::READ,
            tokens::LEASE,
            tokens::PUT,
            tokens::RELEASE,
            tokens::NOTE_OTHER,
            find::BY_OWN,
            operate::ANY,
            operate::UNRESOLVED,
            operate::CONTESTED,
        ];
        let mut texts: Vec<String> = selects.into_iter().map(select).collect();
        texts.extend(inserts.into_iter().map(insert));
        texts.extend(single.map(str::to_owned));
        for text in texts {
            let sql: &'static str = format!("EXPLAIN QUERY PLAN {text}").leak();
            for row in file.all(sql, vec![]).await.expect("explains") {
                let step: String = crate::store::sqlite::rows::get(&row, 3).expect("text");
                let scans = step.starts_with("SCAN") && !MEANT.iter().any(|m| step.contains(m));
                assert!(!scans, "{step}\n{text}");
            }
        }
    }
}
