//! Values and the texts of set-based statements: of a few fixed sizes each, so that all of them stay
//! prepared.

use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteArguments;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

/// Rows of one multi-row insert; what remains goes in smaller steps, so that a handful of
/// statements per table stay prepared.
pub(super) const INSERT_STEPS: [usize; 4] = [256, 32, 4, 1];
/// Keys of one multi-key read; the last step is filled up with NULLs, which find nothing.
const SELECT_STEPS: [usize; 3] = [4, 32, 256];
/// A bound value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Val {
    /// NULL.
    Null,
    /// INTEGER.
    Int(i64),
    /// TEXT.
    Text(String),
    /// BLOB.
    Blob(Vec<u8>),
}

impl From<i64> for Val {
    fn from(v: i64) -> Self {
        Self::Int(v)
    }
}
impl From<u32> for Val {
    fn from(v: u32) -> Self {
        Self::Int(i64::from(v))
    }
}
impl From<bool> for Val {
    fn from(v: bool) -> Self {
        Self::Int(i64::from(v))
    }
}
impl From<&str> for Val {
    fn from(v: &str) -> Self {
        Self::Text(v.to_owned())
    }
}
impl From<String> for Val {
    fn from(v: String) -> Self {
        Self::Text(v)
    }
}
impl From<&[u8]> for Val {
    fn from(v: &[u8]) -> Self {
        Self::Blob(v.to_vec())
    }
}
impl From<Vec<u8>> for Val {
    fn from(v: Vec<u8>) -> Self {
        Self::Blob(v)
    }
}
impl<T: Into<Val>> From<Option<T>> for Val {
    fn from(v: Option<T>) -> Self {
        v.map_or(Self::Null, Into::into)
    }
}

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

/// Values as sqlx wants them.
#[must_use]
pub fn bind(args: Vec<Val>) -> SqliteArguments {
    use sqlx::Arguments;
    let mut bound = SqliteArguments::default();
    bound.reserve(args.len(), 0);
    for arg in args {
        // Adding an owned value of these four types cannot fail.
        let _ = match arg {
            Val::Null => bound.add(None::<i64>),
            Val::Int(v) => bound.add(v),
            Val::Text(v) => bound.add(v),
            Val::Blob(v) => bound.add(v),
        };
    }
    bound
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
