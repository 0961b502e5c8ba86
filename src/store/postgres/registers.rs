//! Operators' registers: rulings on claims and on pairs. They are joins over all history, so an
//! erasure keeps them; it takes the openid out of the account that they are about. They change only
//! in batches that lock every account they are about, and say so in the account's row.

use super::rows::code;
use super::session::{Fault, Session, query};
use super::write::Writing;
use crate::store::rules::expect_rows;
use std::collections::BTreeMap;

const PUT_RULING: &str = "INSERT INTO rulings (account, platform, union_id, verdict, at, author, note) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (account, platform, union_id) DO UPDATE SET \
     verdict = excluded.verdict, at = excluded.at, author = excluded.author, note = excluded.note";
const PUT_PAIR: &str = "INSERT INTO pairs (a, b, verdict, at, author, note) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (a, b) DO UPDATE SET verdict = excluded.verdict, \
     at = excluded.at, author = excluded.author, note = excluded.note";
pub(super) const MARK: &str = "UPDATE accounts t SET marked = true, key = coalesce(t.key, k.key) \
     FROM unnest($1::bigint[], $2::text[]) AS k(id, key) WHERE t.id = ANY(ARRAY[k.id]) \
     AND (NOT t.marked OR t.key IS DISTINCT FROM coalesce(t.key, k.key))";

impl Writing<'_> {
    /// Inserts or replaces registers. Operators make few of them: one statement each.
    pub(super) async fn registers(&self, session: &mut Session) -> Result<(), Fault> {
        let changes = &self.planned.changes;
        for (key, ruled) in &changes.rulings {
            let put = query(PUT_RULING)
                .bind(self.id(&key.account)?)
                .bind(key.union.platform.as_str())
                .bind(key.union.unionid.as_str())
                .bind(code(ruled.verdict))
                .bind(ruled.at.0)
                .bind(&ruled.author)
                .bind(&ruled.note);
            expect_rows("rulings", 1, session.exec(put).await?)?;
        }
        for (pair, ruled) in &changes.pairs {
            let put = query(PUT_PAIR)
                .bind(self.id(&pair.a)?)
                .bind(self.id(&pair.b)?)
                .bind(code(ruled.verdict))
                .bind(ruled.at.0)
                .bind(&ruled.author)
                .bind(&ruled.note);
            expect_rows("pairs", 1, session.exec(put).await?)?;
        }
        self.mark(session).await
    }

    async fn mark(&self, session: &mut Session) -> Result<(), Fault> {
        let changes = &self.planned.changes;
        let mut marked: BTreeMap<i64, Option<String>> = BTreeMap::new();
        for stone in &changes.tombstones {
            marked.insert(self.id(&stone.account)?, None);
        }
        for (key, _) in &changes.rulings {
            marked.insert(self.id(&key.account)?, None);
        }
        // A pair shows with either half, so both have a name, unless it is being erased.
        for account in changes.pairs.iter().flat_map(|(p, _)| [&p.a, &p.b]) {
            let named = !changes.erased.contains(account);
            marked.insert(self.id(account)?, named.then(|| account.key()));
        }
        if marked.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = marked.keys().copied().collect();
        let keys: Vec<Option<String>> = marked.into_values().collect();
        session.exec(query(MARK).bind(ids).bind(keys)).await?;
        Ok(())
    }
}
