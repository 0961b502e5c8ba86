//! Statements over many rows, in a few fixed sizes each, so that they stay prepared.

use super::value::Val;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

/// Rows of one multi-row insert; what remains goes in smaller steps, so that a handful of
/// statements per table stay prepared.
pub(super) const INSERT_STEPS: [usize; 4] = [256, 32, 4, 1];
/// Keys of one multi-key read; the last step is filled up with NULLs, which find nothing.
const SELECT_STEPS: [usize; 3] = [4, 32, 256];

/// A multi-row insert: `head` up to and with `VALUES`, one row's `(?, …)`, and what follows.
#[derive(Debug)]
pub struct Insert {
    /// `INSERT INTO t (a, b) VALUES`.
    pub head: &'static str,
    /// How many columns.
    pub columns: usize,
    /// `ON CONFLICT …`, or empty.
    pub tail: &'static str,
}

/// A read of many keys: `head` and `tail` enclose the list of keys.
#[derive(Debug)]
pub struct Select {
    /// `SELECT … WHERE (a, b) IN (VALUES`, or `WITH k(a, b) AS (VALUES`.
    pub head: &'static str,
    /// How many columns a key has.
    pub columns: usize,
    /// What follows the keys, from `)` on.
    pub tail: &'static str,
}

/// Cuts keys into statements of a few fixed sizes.
pub(super) fn steps(what: &Select, keys: Vec<Val>) -> Vec<(Arc<str>, Vec<Val>)> {
    let columns = what.columns.max(1);
    let mut left = keys.len() / columns;
    let mut keys = keys.into_iter();
    let mut out = Vec::new();
    let [.., largest] = SELECT_STEPS;
    while left > 0 {
        let step = SELECT_STEPS
            .into_iter()
            .find(|s| *s >= left)
            .unwrap_or(largest);
        let mut args: Vec<Val> = keys.by_ref().take(step * columns).collect();
        args.resize(step * columns, Val::Null);
        out.push((rows_sql(what.head, columns, what.tail, step), args));
        left = left.saturating_sub(step);
    }
    out
}

/// The texts of multi-row statements, made once each: sqlx caches prepared statements by text.
type Texts = HashMap<(&'static str, &'static str, usize), Arc<str>>;
static TEXTS: LazyLock<Mutex<Texts>> = LazyLock::new(Mutex::default);

pub(super) fn rows_sql(
    head: &'static str,
    columns: usize,
    tail: &'static str,
    rows: usize,
) -> Arc<str> {
    let mut known = TEXTS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let text = known.entry((head, tail, rows)).or_insert_with(|| {
        let row = format!("({})", vec!["?"; columns].join(","));
        format!("{head} {} {tail}", vec![row; rows].join(",")).into()
    });
    Arc::clone(text)
}
