//! Rows as values and back. What cannot be decoded is [`StoreError::Corrupt`], named by its place
//! and never by its content.

use crate::model::{
    Account, AccountRow, ClaimKey, ClaimRow, ClaimStatus, ClaimVerdict, EventId, ExternalId,
    InvalidId, Method, Millis, PlatformId, Reason, Ruled, UnionId, UnionKey, UserId, Why,
};
use crate::sqlite::Val;
use crate::store::StoreError;
use crate::store::rules::{verdict_code, verdict_of};
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row, Type};
use uuid::Uuid;

/// Columns of an account that [`account`] reads, after its id and key.
macro_rules! account_columns {
    () => {
        "a.id, a.key, a.user, a.generation, a.first_seen_at, a.revision, a.external_at, \
         a.external, a.reason_at, a.reason, a.cause, a.linked_at"
    };
}
/// Columns of a claim that [`claim`] reads.
macro_rules! claim_columns {
    () => {
        "c.account, c.tag, c.platform, c.unionid, c.at, c.method, c.cause, c.why, c.verdict, \
         c.reported"
    };
}
pub(super) use {account_columns, claim_columns};

/// A column's value.
pub(super) fn get<'r, T>(row: &'r SqliteRow, column: usize) -> Result<T, StoreError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(column).map_err(|_| corrupt(row, column))
}

/// The error for a column that cannot be.
pub(super) fn corrupt(row: &SqliteRow, column: usize) -> StoreError {
    use sqlx::Column;
    let name = row.columns().get(column).map_or("?", |c| c.name());
    StoreError::Corrupt(format!("column {name}"))
}

/// A non-negative number of 32 bits.
pub(super) fn small(row: &SqliteRow, column: usize) -> Result<u32, StoreError> {
    u32::try_from(get::<i64>(row, column)?).map_err(|_| corrupt(row, column))
}

/// A non-negative number.
pub(super) fn count(row: &SqliteRow, column: usize) -> Result<u64, StoreError> {
    u64::try_from(get::<i64>(row, column)?).map_err(|_| corrupt(row, column))
}

/// A number as a value. Counters do not reach 2^63.
pub(super) fn int(n: u64) -> Val {
    Val::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// A length as a value.
pub(super) fn len(n: usize) -> Val {
    Val::Int(i64::try_from(n).unwrap_or(i64::MAX))
}

/// A time.
pub(super) fn millis(row: &SqliteRow, column: usize) -> Result<Millis, StoreError> {
    get(row, column).map(Millis)
}

/// A UUID's bytes.
pub(super) fn blob16(row: &SqliteRow, column: usize) -> Result<[u8; 16], StoreError> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map_err(|_| corrupt(row, column))
}

/// A hash.
pub(super) fn blob32(row: &SqliteRow, column: usize) -> Result<[u8; 32], StoreError> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map_err(|_| corrupt(row, column))
}

/// A text that `parse` takes.
pub(super) fn parsed<T>(
    row: &SqliteRow,
    column: usize,
    parse: fn(&str) -> Result<T, InvalidId>,
) -> Result<T, StoreError> {
    parse(get(row, column)?).map_err(|_| corrupt(row, column))
}

/// A text that `parse` takes, or NULL.
pub(super) fn parsed_or_null<T>(
    row: &SqliteRow,
    column: usize,
    parse: fn(&str) -> Result<T, InvalidId>,
) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = get(row, column)?;
    let value = text.map(parse).transpose();
    value.map_err(|_| corrupt(row, column))
}

/// An account from the columns of `account_columns!`.
pub(super) fn account(row: &SqliteRow) -> Result<AccountRow, StoreError> {
    let parse: fn(&str) -> _ = Account::from_key;
    let account = parsed(row, 1, parse)?;
    let external = parsed_or_null(row, 7, ExternalId::parse)?;
    let reason: Option<&str> = get(row, 9)?;
    Ok(AccountRow {
        account,
        user: UserId(Uuid::from_bytes(blob16(row, 2)?)),
        generation: millis(row, 3)?,
        first_seen_at: millis(row, 4)?,
        revision: count(row, 5)?,
        external: match external {
            Some(id) => Some((millis(row, 6)?, id)),
            None => None,
        },
        reason: match reason {
            Some(word) => {
                let reason = Reason::from_word(word).ok_or_else(|| corrupt(row, 9))?;
                Some((millis(row, 8)?, reason))
            }
            None => None,
        },
        cause: parsed(row, 10, EventId::parse)?,
        linked_at: millis(row, 11)?,
    })
}

/// An account's values, in the order of the insert in `write`.
pub(super) fn account_values(id: i64, anchor: i64, row: &AccountRow, out: &mut Vec<Val>) {
    let (external_at, external) = match &row.external {
        Some((at, id)) => (at.0.into(), id.as_str().into()),
        None => (Val::Null, Val::Null),
    };
    let (reason_at, reason) = match &row.reason {
        Some((at, reason)) => (at.0.into(), reason.word().into()),
        None => (Val::Null, Val::Null),
    };
    out.extend([
        id.into(),
        anchor.into(),
        row.account.key().into(),
        Val::Blob(row.user.0.as_bytes().to_vec()),
        row.generation.0.into(),
        row.first_seen_at.0.into(),
        int(row.revision),
        external_at,
        external,
        reason_at,
        reason,
        row.cause.as_str().into(),
        row.linked_at.0.into(),
    ]);
}

/// A claim of `account` from the columns of `claim_columns!`.
pub(super) fn claim(row: &SqliteRow, account: Account) -> Result<ClaimRow, StoreError> {
    let why: Option<&str> = get(row, 7)?;
    let status = match why {
        None => ClaimStatus::Active,
        Some(word) => ClaimStatus::Contested(Why::from_word(word).ok_or_else(|| corrupt(row, 7))?),
    };
    Ok(ClaimRow {
        key: ClaimKey {
            account,
            union: UnionKey {
                platform: parsed(row, 2, PlatformId::parse)?,
                unionid: parsed(row, 3, UnionId::parse)?,
            },
        },
        at: millis(row, 4)?,
        method: Method::from_word(get(row, 5)?).ok_or_else(|| corrupt(row, 5))?,
        cause: parsed(row, 6, EventId::parse)?,
        status,
        verdict: verdict(row, 8)?,
        reported: get(row, 9)?,
    })
}

/// A claim's values, in the order of `claim_columns!`.
pub(super) fn claim_values(account: i64, tag: i64, row: &ClaimRow, out: &mut Vec<Val>) {
    let why = match row.status {
        ClaimStatus::Active => Val::Null,
        ClaimStatus::Contested(why) => why.word().into(),
    };
    out.extend([
        account.into(),
        tag.into(),
        row.key.union.platform.as_str().into(),
        row.key.union.unionid.as_str().into(),
        row.at.0.into(),
        row.method.word().into(),
        row.cause.as_str().into(),
        why,
        verdict_code(row.verdict).into(),
        row.reported.into(),
    ]);
}

fn verdict(row: &SqliteRow, column: usize) -> Result<Option<ClaimVerdict>, StoreError> {
    verdict_of(get(row, column)?).ok_or_else(|| corrupt(row, column))
}

/// A register from four columns: verdict, at, author, note.
pub(super) fn ruled(row: &SqliteRow, first: usize) -> Result<Ruled, StoreError> {
    Ok(Ruled {
        verdict: verdict(row, first)?,
        at: millis(row, first + 1)?,
        author: get(row, first + 2)?,
        note: get(row, first + 3)?,
    })
}

/// A register's values: verdict, at, author, note.
pub(super) fn ruled_values(ruled: &Ruled, out: &mut Vec<Val>) {
    out.extend([
        verdict_code(ruled.verdict).into(),
        ruled.at.0.into(),
        ruled.author.as_str().into(),
        ruled.note.as_str().into(),
    ]);
}
