//! Totals, counted. Each is one pass over a table.

use super::PostgresStore;
use super::rows::{count, get};
use super::session::{Fault, Session, Statement, query};
use crate::model::Method;
use crate::store::{StoreError, Totals};
use std::collections::BTreeMap;

/// Whole tables are meant here.
const WHOLE: &str = "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; \
     SET LOCAL enable_mergejoin = on; SET LOCAL enable_material = on";
const COUNTS: &str = "SELECT (SELECT count(*) FROM accounts WHERE user_id IS NOT NULL), \
     (SELECT count(DISTINCT user_id) FROM accounts), (SELECT count(*) FROM tombstones)";
/// The argument lists all methods, strongest first.
const LINKED: &str = "SELECT ($1::text[])[b.best], count(*) FROM (SELECT \
     min(array_position($1::text[], c.method)) AS best FROM claims c WHERE c.why IS NULL \
     GROUP BY c.account) b GROUP BY 1";
const UNRESOLVED: &str = "SELECT CASE WHEN coalesce(c.n, 0) > 0 THEN 'contested' \
     ELSE coalesce(a.reason, 'no_unionid') END AS word, count(*) FROM accounts a \
     LEFT JOIN (SELECT account, count(*) AS n, bool_or(why IS NULL) AS linked FROM claims \
     GROUP BY account) c ON c.account = a.id \
     WHERE a.user_id IS NOT NULL AND NOT coalesce(c.linked, false) GROUP BY word";
const CONTESTED: &str = "SELECT why, count(*) FROM claims WHERE why IS NOT NULL GROUP BY why";
const DEFERRED: &str = "SELECT app, count(*) FROM deferred WHERE done_at IS NULL GROUP BY app";

impl PostgresStore {
    pub(super) async fn count_all(&self) -> Result<Totals, Fault> {
        let mut methods: Vec<Method> = Method::ALL.to_vec();
        methods.sort_by_key(|m| (m.rank(), *m));
        let words: Vec<&str> = methods.into_iter().map(Method::word).collect();
        let mut session = self.session().await?;
        session.be_patient();
        session.snapshot().await?;
        session.run(WHOLE).await?;
        let rows = session.all(query(COUNTS)).await?;
        let row = rows
            .first()
            .ok_or_else(|| StoreError::Corrupt("no counts".into()))?;
        let totals = Totals {
            accounts: count(row, 0)?,
            users: count(row, 1)?,
            tombstones: count(row, 2)?,
            linked_by_method: by_word(&mut session, query(LINKED).bind(words)).await?,
            unresolved_by_reason: by_word(&mut session, query(UNRESOLVED)).await?,
            contested_by_why: by_word(&mut session, query(CONTESTED)).await?,
            deferred_by_app: by_word(&mut session, query(DEFERRED)).await?,
        };
        session.commit().await?;
        session.give_back();
        Ok(totals)
    }
}

async fn by_word(
    session: &mut Session,
    what: Statement<'_>,
) -> Result<BTreeMap<String, u64>, Fault> {
    let rows = session.all(what).await?;
    let counts = rows.iter().map(|row| Ok((get(row, 0)?, count(row, 1)?)));
    Ok(counts.collect::<Result<_, StoreError>>()?)
}
