//! Totals, counted. Each is one pass over a table.

use super::SqliteStore;
use super::rows::{count, get};
use crate::model::Method;
use crate::sqlite::Snapshot;
use crate::store::{StoreError, Totals};
use std::collections::BTreeMap;

const COUNTS: &str = "SELECT (SELECT count(*) FROM accounts), \
     (SELECT count(DISTINCT user) FROM accounts), (SELECT count(*) FROM tombstones)";
/// The argument lists all methods as JSON, strongest first.
const LINKED: &str = "SELECT m.value, count(*) FROM (SELECT min(w.key) AS best FROM claims c \
     CROSS JOIN json_each(?1) w ON w.value = c.method WHERE c.why IS NULL GROUP BY c.account) b \
     CROSS JOIN json_each(?1) m ON m.key = b.best GROUP BY m.value";
const UNRESOLVED: &str = "SELECT CASE WHEN EXISTS (SELECT 1 FROM claims c WHERE c.account = a.id) \
     THEN 'contested' ELSE coalesce(a.reason, 'no_unionid') END AS word, count(*) FROM accounts a \
     WHERE NOT EXISTS (SELECT 1 FROM claims c WHERE c.account = a.id AND c.why IS NULL) \
     GROUP BY word";
const CONTESTED: &str = "SELECT why, count(*) FROM claims WHERE why IS NOT NULL GROUP BY why";
const DEFERRED: &str = "SELECT app, count(*) FROM deferred WHERE done_at IS NULL GROUP BY app";

impl SqliteStore {
    pub(super) async fn count_all(&self) -> Result<Totals, StoreError> {
        let mut snapshot = self.file.snapshot().await?;
        let rows = snapshot.all(COUNTS, vec![]).await?;
        let row = rows
            .first()
            .ok_or_else(|| StoreError::Corrupt("no counts".into()))?;
        let mut methods: Vec<Method> = Method::ALL.to_vec();
        methods.sort_by_key(|m| (m.rank(), *m));
        let words: Vec<&str> = methods.into_iter().map(Method::word).collect();
        let words = serde_json::Value::from(words).to_string();
        Ok(Totals {
            accounts: count(row, 0)?,
            users: count(row, 1)?,
            tombstones: count(row, 2)?,
            linked_by_method: by_word(&mut snapshot, LINKED, vec![words.into()]).await?,
            unresolved_by_reason: by_word(&mut snapshot, UNRESOLVED, vec![]).await?,
            contested_by_why: by_word(&mut snapshot, CONTESTED, vec![]).await?,
            deferred_by_app: by_word(&mut snapshot, DEFERRED, vec![]).await?,
        })
    }
}

async fn by_word(
    snapshot: &mut Snapshot<'_>,
    sql: &'static str,
    args: Vec<crate::sqlite::Val>,
) -> Result<BTreeMap<String, u64>, StoreError> {
    let rows = snapshot.all(sql, args).await?;
    rows.iter()
        .map(|row| Ok((get(row, 0)?, count(row, 1)?)))
        .collect()
}
