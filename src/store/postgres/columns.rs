//! Accounts as PostgreSQL takes many at once: column by column.

use super::rows::int;
use super::session::{Statement, query};
use crate::model::AccountRow;
use uuid::Uuid;

pub(super) const MAKE_ACCOUNTS: &str = "INSERT INTO accounts (own, key, user_id, generation, first_seen_at, \
     revision, linked_at, external_at, external, reason_at, reason, cause) SELECT * FROM \
     unnest($1::uuid[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], \
     $7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::text[], $12::text[]) \
     ON CONFLICT (own) DO NOTHING RETURNING own, id";
pub(super) const PUT_ACCOUNTS: &str = "UPDATE accounts t SET key = k.key, user_id = k.user_id, \
     generation = k.generation, first_seen_at = k.first_seen_at, revision = k.revision, \
     linked_at = k.linked_at, external_at = k.external_at, external = k.external, \
     reason_at = k.reason_at, reason = k.reason, cause = k.cause FROM \
     unnest($1::bigint[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[], \
     $7::bigint[], $8::bigint[], $9::text[], $10::bigint[], $11::text[], $12::text[]) \
     AS k(id, key, user_id, generation, first_seen_at, revision, linked_at, external_at, external, \
     reason_at, reason, cause) WHERE t.id = ANY(ARRAY[k.id])";
/// Accounts, column by column.
#[derive(Default)]
pub(super) struct AccountColumns {
    /// Keys of rows to make, in order.
    pub owns: Vec<Uuid>,
    /// Ids of rows to replace.
    pub ids: Vec<i64>,
    keys: Vec<Option<String>>,
    users: Vec<Option<Uuid>>,
    generations: Vec<i64>,
    first_seen_at: Vec<i64>,
    revisions: Vec<i64>,
    linked_at: Vec<i64>,
    external_at: Vec<Option<i64>>,
    external: Vec<Option<String>>,
    reason_at: Vec<Option<i64>>,
    reason: Vec<Option<&'static str>>,
    causes: Vec<String>,
}

impl AccountColumns {
    pub(super) fn with_capacity(n: usize) -> Self {
        Self {
            owns: Vec::with_capacity(n),
            keys: Vec::with_capacity(n),
            users: Vec::with_capacity(n),
            causes: Vec::with_capacity(n),
            ..Self::default()
        }
    }

    pub(super) fn push(&mut self, row: &AccountRow) {
        self.keys.push(Some(row.account.key()));
        self.users.push(Some(row.user.0));
        self.generations.push(row.generation.0);
        self.first_seen_at.push(row.first_seen_at.0);
        self.revisions.push(int(row.revision));
        self.linked_at.push(row.linked_at.0);
        let external = row.external.as_ref();
        self.external_at.push(external.map(|(at, _)| at.0));
        self.external
            .push(external.map(|(_, id)| id.as_str().to_owned()));
        self.reason_at.push(row.reason.map(|(at, _)| at.0));
        self.reason
            .push(row.reason.map(|(_, reason)| reason.word()));
        self.causes.push(row.cause.as_str().to_owned());
    }

    /// A row that only holds the place of an account.
    pub(super) fn push_place(&mut self) {
        self.keys.push(None);
        self.users.push(None);
        for zero in [
            &mut self.generations,
            &mut self.first_seen_at,
            &mut self.revisions,
            &mut self.linked_at,
        ] {
            zero.push(0);
        }
        self.external_at.push(None);
        self.external.push(None);
        self.reason_at.push(None);
        self.reason.push(None);
        self.causes.push(String::new());
    }

    pub(super) fn insert(mut self) -> Statement<'static> {
        let first = query(MAKE_ACCOUNTS).bind(std::mem::take(&mut self.owns));
        self.bind(first)
    }

    pub(super) fn update(mut self) -> Statement<'static> {
        let first = query(PUT_ACCOUNTS).bind(std::mem::take(&mut self.ids));
        self.bind(first)
    }

    fn bind(self, statement: Statement<'static>) -> Statement<'static> {
        statement
            .bind(self.keys)
            .bind(self.users)
            .bind(self.generations)
            .bind(self.first_seen_at)
            .bind(self.revisions)
            .bind(self.linked_at)
            .bind(self.external_at)
            .bind(self.external)
            .bind(self.reason_at)
            .bind(self.reason)
            .bind(self.causes)
    }
}
