//! Rows as values and back. What cannot be decoded is [`StoreError::Corrupt`], named by its place
//! and never by its content.

use crate::model::{
    Account, AccountRow, ClaimKey, ClaimRow, ClaimStatus, ClaimVerdict, EventId, ExternalId,
    InvalidId, Method, Millis, PlatformId, Reason, Ruled, UnionId, UnionKey, UserId, Why,
};
use crate::store::StoreError;
use crate::store::rules::{verdict_code, verdict_of};
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Decode, Row, Type};
use uuid::Uuid;

/// Columns of an account that [`account`] reads; the claim's columns follow them where both are read.
macro_rules! account_columns {
    () => {
        "a.user_id, a.generation, a.first_seen_at, a.revision, a.linked_at, a.external_at, \
         a.external, a.reason_at, a.reason, a.cause"
    };
}
/// Columns of a claim that [`claim`] reads.
macro_rules! claim_columns {
    () => {
        "c.platform, c.union_id, c.at, c.method, c.cause, c.why, c.verdict, c.reported"
    };
}
pub(super) use {account_columns, claim_columns};

/// A column's value.
pub(super) fn get<'r, T>(row: &'r PgRow, column: usize) -> Result<T, StoreError>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(column).map_err(|_| corrupt(row, column))
}

/// The error for a column that cannot be.
pub(super) fn corrupt(row: &PgRow, column: usize) -> StoreError {
    use sqlx::Column;
    let name = row.columns().get(column).map_or("?", |c| c.name());
    StoreError::Corrupt(format!("column {name}"))
}

/// A non-negative number of 32 bits.
pub(super) fn small(row: &PgRow, column: usize) -> Result<u32, StoreError> {
    u32::try_from(get::<i32>(row, column)?).map_err(|_| corrupt(row, column))
}

/// A non-negative number.
pub(super) fn count(row: &PgRow, column: usize) -> Result<u64, StoreError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| corrupt(row, column))
}

/// The element of `keys` whose ordinal (from 1) the column holds.
pub(super) fn nth<'k, T>(row: &PgRow, column: usize, keys: &'k [T]) -> Result<&'k T, StoreError> {
    let ordinal = usize::try_from(get::<i64>(row, column)?).unwrap_or_default();
    let key = ordinal.checked_sub(1).and_then(|n| keys.get(n));
    key.ok_or_else(|| corrupt(row, column))
}

/// A number as PostgreSQL holds it. Counters do not reach 2^63.
pub(super) fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A partition as PostgreSQL holds it; no topic has 2^31 of them.
pub(super) fn int32(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// A time.
pub(super) fn millis(row: &PgRow, column: usize) -> Result<Millis, StoreError> {
    get(row, column).map(Millis)
}

/// A hash.
pub(super) fn blob32(row: &PgRow, column: usize) -> Result<[u8; 32], StoreError> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map_err(|_| corrupt(row, column))
}

/// A text that `parse` takes.
pub(super) fn parsed<T>(
    row: &PgRow,
    column: usize,
    parse: fn(&str) -> Result<T, InvalidId>,
) -> Result<T, StoreError> {
    parse(get(row, column)?).map_err(|_| corrupt(row, column))
}

/// A text that `parse` takes, or NULL.
pub(super) fn parsed_or_null<T>(
    row: &PgRow,
    column: usize,
    parse: fn(&str) -> Result<T, InvalidId>,
) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = get(row, column)?;
    let value = text.map(parse).transpose();
    value.map_err(|_| corrupt(row, column))
}

/// An account's key, or NULL.
pub(super) fn key_or_null(row: &PgRow, column: usize) -> Result<Option<Account>, StoreError> {
    let parse: fn(&str) -> _ = Account::from_key;
    parsed_or_null(row, column, parse)
}

/// An account from the columns of `account_columns!`, from column `at` on; `None` if the row only
/// holds its place.
pub(super) fn account(
    row: &PgRow,
    at: usize,
    account: Account,
) -> Result<Option<AccountRow>, StoreError> {
    let Some(user) = get::<Option<Uuid>>(row, at)? else {
        return Ok(None);
    };
    let external = match parsed_or_null(row, at + 6, ExternalId::parse)? {
        Some(id) => Some((millis(row, at + 5)?, id)),
        None => None,
    };
    let reason = match get::<Option<&str>>(row, at + 8)? {
        Some(word) => {
            let reason = Reason::from_word(word).ok_or_else(|| corrupt(row, at + 8))?;
            Some((millis(row, at + 7)?, reason))
        }
        None => None,
    };
    Ok(Some(AccountRow {
        account,
        user: UserId(user),
        generation: millis(row, at + 1)?,
        first_seen_at: millis(row, at + 2)?,
        revision: count(row, at + 3)?,
        linked_at: millis(row, at + 4)?,
        external,
        reason,
        cause: parsed(row, at + 9, EventId::parse)?,
    }))
}

/// A unionid from two columns.
pub(super) fn union_key(row: &PgRow, at: usize) -> Result<UnionKey, StoreError> {
    Ok(UnionKey {
        platform: parsed(row, at, PlatformId::parse)?,
        unionid: parsed(row, at + 1, UnionId::parse)?,
    })
}

/// A claim of `account` from the columns of `claim_columns!`, from column `at` on.
pub(super) fn claim(row: &PgRow, at: usize, account: Account) -> Result<ClaimRow, StoreError> {
    let status = match get::<Option<&str>>(row, at + 5)? {
        None => ClaimStatus::Active,
        Some(word) => {
            let why = Why::from_word(word).ok_or_else(|| corrupt(row, at + 5))?;
            ClaimStatus::Contested(why)
        }
    };
    Ok(ClaimRow {
        key: ClaimKey {
            account,
            union: union_key(row, at)?,
        },
        at: millis(row, at + 2)?,
        method: Method::from_word(get(row, at + 3)?).ok_or_else(|| corrupt(row, at + 3))?,
        cause: parsed(row, at + 4, EventId::parse)?,
        status,
        verdict: verdict(row, at + 6)?,
        reported: get(row, at + 7)?,
    })
}

/// A verdict's code as PostgreSQL holds it.
pub(super) fn code(verdict: Option<ClaimVerdict>) -> i16 {
    i16::try_from(verdict_code(verdict)).unwrap_or(i16::MAX)
}

fn verdict(row: &PgRow, column: usize) -> Result<Option<ClaimVerdict>, StoreError> {
    let code = i64::from(get::<i16>(row, column)?);
    verdict_of(code).ok_or_else(|| corrupt(row, column))
}

/// A register from four columns: verdict, at, author, note.
pub(super) fn ruled(row: &PgRow, at: usize) -> Result<Ruled, StoreError> {
    Ok(Ruled {
        verdict: verdict(row, at)?,
        at: millis(row, at + 1)?,
        author: get(row, at + 2)?,
        note: get(row, at + 3)?,
    })
}
