//! Writing a table, row by row.

use super::Format;
use crate::model::{Apps, ClaimStatus, Presented, present};
use crate::store::FoundAccount;
use crate::wire::Time;
use serde_json::{Map, Value, json};
use std::io::Write;

/// The columns, in order.
pub const WRITTEN: [&str; 14] = [
    "appid",
    "openid",
    "user_id",
    "platform",
    "unionid",
    "method",
    "reason",
    "external_id",
    "first_seen_at",
    "linked_at",
    "revision",
    "epoch",
    "claims",
    "generation",
];

/// A table being written.
pub struct Writer<W: Write> {
    rows: Rows<W>,
    epoch: u32,
}

enum Rows<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Ndjson(W),
}

impl<W: Write> Writer<W> {
    /// Begins a table of a store's accounts in its epoch.
    ///
    /// # Errors
    /// The header of CSV cannot be written.
    pub fn new(to: W, format: Format, epoch: u32) -> std::io::Result<Self> {
        let rows = match format {
            Format::Ndjson => Rows::Ndjson(to),
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(to);
                writer.write_record(WRITTEN).map_err(failed)?;
                Rows::Csv(Box::new(writer))
            }
        };
        Ok(Self { rows, epoch })
    }

    /// Writes an account.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn row(&mut self, found: &FoundAccount, apps: &Apps) -> std::io::Result<()> {
        let values = values(found, apps, self.epoch);
        match &mut self.rows {
            Rows::Csv(writer) => writer.write_record(values.iter().map(text)).map_err(failed),
            Rows::Ndjson(to) => {
                let names = WRITTEN.iter().map(|name| (*name).to_owned());
                let object: Map<String, Value> = names.zip(values).collect();
                serde_json::to_writer(&mut *to, &object)?;
                to.write_all(b"\n")
            }
        }
    }

    /// Hands over what is left, and what was written to.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn end(self) -> std::io::Result<W> {
        match self.rows {
            Rows::Csv(writer) => writer.into_inner().map_err(|e| e.into_error()),
            Rows::Ndjson(mut to) => to.flush().map(|()| to),
        }
    }
}

fn failed(error: csv::Error) -> std::io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        _ => std::io::Error::other("a row does not fit the header"),
    }
}

/// In the order of [`WRITTEN`].
fn values(found: &FoundAccount, apps: &Apps, epoch: u32) -> [Value; WRITTEN.len()] {
    let row = &found.row;
    let Presented {
        platform,
        unionid,
        method,
        reason,
    } = present(row, &found.claims, apps);
    // What does not link stays behind: it would have to be contested again, under other times.
    let active = (found.claims.iter()).filter(|claim| claim.status == ClaimStatus::Active);
    let claims: Vec<Value> = active
        .map(|claim| {
            let union = &claim.key.union;
            json!({"platform": union.platform.as_str(), "unionid": union.unionid.as_str()})
        })
        .collect();
    let external = row.external.as_ref().map(|(_, id)| id.as_str());
    [
        row.account.app.as_str().into(),
        row.account.openid.as_str().into(),
        row.user.to_string().into(),
        platform.map(|p| p.as_str().to_owned()).into(),
        unionid.map(|u| u.as_str().to_owned()).into(),
        method.shown().into(),
        reason.map(|r| r.word()).into(),
        external.into(),
        Time(row.first_seen_at).text().into(),
        Time(row.linked_at).text().into(),
        row.revision.into(),
        epoch.into(),
        match claims.is_empty() {
            true => Value::Null,
            false => Value::Array(claims),
        },
        row.generation.0.into(),
    ]
}

/// A value as a cell of CSV.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
