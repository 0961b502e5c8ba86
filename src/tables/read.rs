//! Reading a table, row by row, each with the line that it begins in.

use super::frame::Framed;
use super::row::{Columns, Faulty, Fields, Imported, READ, imported, place};
use super::{Format, TableError};
use crate::model::{Apps, Millis};
use serde_json::{Map, Value};
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Read ahead, in bytes.
const BUFFER: usize = 256 * 1024;
/// Longest line of NDJSON, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// A table being read.
pub struct Reader<R> {
    rows: Rows<R>,
}

/// CSV being read.
struct Csv<R> {
    reader: csv::Reader<Framed<BufReader<R>>>,
    line: Arc<AtomicU64>,
    columns: Columns,
    width: usize,
}

enum Rows<R> {
    Csv(Box<Csv<R>>),
    Ndjson(BufReader<R>, u64),
}

impl<R: Read> Reader<R> {
    /// Begins; of CSV, reads the header.
    ///
    /// # Errors
    /// The header names unknown columns, or not those that are needed.
    pub fn new(from: R, format: Format) -> Result<Self, TableError> {
        let rows = match format {
            Format::Ndjson => Rows::Ndjson(BufReader::with_capacity(BUFFER, from), 0),
            Format::Csv => {
                let mut options = csv::ReaderBuilder::new();
                let (framed, line) = Framed::new(BufReader::with_capacity(BUFFER, from));
                let mut reader = options.flexible(true).from_reader(framed);
                let header = reader.headers().map_err(unreadable)?;
                let columns = Columns::of(header).map_err(TableError::Columns)?;
                let width = header.len();
                Rows::Csv(Box::new(Csv {
                    reader,
                    line,
                    columns,
                    width,
                }))
            }
        };
        Ok(Self { rows })
    }

    /// The next row that begins in line `from` or later, with that line (from 1); `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    #[allow(clippy::type_complexity, reason = "a row, good or bad")]
    pub fn next(
        &mut self,
        from: u64,
        apps: &Apps,
        now: Millis,
    ) -> Result<Option<(u64, Result<Imported, Faulty>)>, TableError> {
        loop {
            let next = match &mut self.rows {
                Rows::Csv(csv) => csv_row(csv)?,
                Rows::Ndjson(reader, line) => ndjson_row(reader, line)?,
            };
            let Some((line, fields)) = next else {
                return Ok(None);
            };
            if line >= from {
                let row = fields.and_then(|fields| imported(&fields, apps, now));
                return Ok(Some((line, row)));
            }
        }
    }
}

type Row = Option<(u64, Result<Fields, Faulty>)>;

fn csv_row<R: Read>(csv: &mut Csv<R>) -> Result<Row, TableError> {
    let mut record = csv::StringRecord::new();
    let read = csv.reader.read_record(&mut record);
    let line = csv.line.load(Ordering::Relaxed);
    let fields = match read {
        Ok(false) => return Ok(None),
        Ok(true) if record.len() == csv.width => Ok(csv.columns.fields(&record)),
        Ok(true) => {
            let (has, wanted) = (record.len(), csv.width);
            let problem = format!("has {has} fields, and the header {wanted}");
            Err(Faulty::new("", problem))
        }
        Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => {
            Err(Faulty::new("", "is not UTF-8"))
        }
        Err(error) => return Err(unreadable(error)),
    };
    Ok(Some((line, fields)))
}

fn unreadable(error: csv::Error) -> TableError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => TableError::Io(error),
        _ => TableError::Columns("the first line is not UTF-8".to_owned()),
    }
}

fn ndjson_row<R: Read>(reader: &mut BufReader<R>, line: &mut u64) -> Result<Row, TableError> {
    loop {
        let mut bytes = Vec::new();
        if reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut bytes)?
            == 0
        {
            return Ok(None);
        }
        *line += 1;
        if bytes.len() as u64 == MAX_LINE && bytes.last() != Some(&b'\n') {
            reader.skip_until(b'\n')?;
            let problem = format!("is longer than {MAX_LINE} bytes");
            return Ok(Some((*line, Err(Faulty::new("", problem)))));
        }
        if !bytes.trim_ascii().is_empty() {
            return Ok(Some((*line, object(&bytes))));
        }
    }
}

fn object(bytes: &[u8]) -> Result<Fields, Faulty> {
    let object: Map<String, Value> =
        serde_json::from_slice(bytes).map_err(|_| Faulty::new("", "is no JSON object"))?;
    let mut fields = Fields::default();
    for (name, value) in object {
        let Some(place) = place(&name).map_err(|problem| Faulty::new("", problem))? else {
            continue;
        };
        fields[place] = match value {
            Value::Null => None,
            Value::String(text) => Some(text).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            Value::Array(_) if READ[place] == "claims" => Some(value.to_string()),
            _ => return Err(Faulty::new(READ[place], "must be a text or a number")),
        };
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{App, AppId, AppKind, TokenSource};

    fn apps() -> Apps {
        Apps::new(vec![App {
            id: AppId::parse("wx1").expect("valid"),
            kind: AppKind::MiniProgram,
            secret: None,
            token: TokenSource::default(),
            component: None,
            bindings: vec![],
        }])
    }

    /// Lines of rows, with the openid or what is wrong.
    fn read(text: &[u8], format: Format, from: u64) -> Vec<(u64, String)> {
        let mut reader = Reader::new(text, format).expect("a header");
        let mut rows = Vec::new();
        while let Some((line, row)) =
            (reader.next(from, &apps(), Millis(1_800_000_000_000))).expect("reads")
        {
            let told = match row {
                Ok(row) => row.import.account.openid.as_str().to_owned(),
                Err(faulty) => faulty.to_string(),
            };
            rows.push((line, told));
        }
        rows
    }

    #[test]
    fn rows_of_csv_have_the_line_that_they_begin_in() {
        let text = b"appid,openid,first_seen_at,external_id\n\
            wx1,oA,1580457600000,\"two\nlines\"\n\
            \n\
            wx1,oB,1580457600000,\n\
            wx1,oC\n\
            wx1,o\xff,1580457600000,\r\n\
            \r\n\
            wx1,oD,1580457600000,\"a,\"\"b\"\"\"\r\n\
            wx1,o\"E,1580457600000,";
        let all = read(text, Format::Csv, 1);
        let lines: Vec<u64> = all.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 5, 6, 7, 9, 10], "{all:?}");
        assert_eq!((&*all[1].1, &*all[4].1), ("oB", "oD"));
        assert!(all[0].1.contains("external_id"), "{all:?}");
        assert!(all[2].1.contains("has 2 fields, and the header 4"));
        assert!(all[3].1.contains("UTF-8"));
        assert_eq!(
            read(text, Format::Csv, 6),
            all[2..],
            "the header counts in any case"
        );
        assert_eq!(
            read(text, Format::Csv, 3),
            all[1..],
            "the second line of a row is none"
        );
    }

    #[test]
    fn rows_of_ndjson_have_their_line() {
        let long = format!("{{\"openid\": \"{}\"}}", "o".repeat(70_000));
        let text = [
            r#"{"appid":"wx1","openid":"oA","first_seen_at":1580457600000,"user_id":"u","external_id":null}"#,
            "",
            r#"{"appid":"wx1","openid":7,"first_seen_at":"2020-01-31T08:00:00Z"}"#,
            r#"{"appid":"wx1","openid":{},"first_seen_at":"2020-01-31T08:00:00Z"}"#,
            r#"{"appid":"wx1","nickname":"n"}"#,
            "[1]",
            &long,
            r#"{"appid":"wx1","openid":"oB","first_seen_at":1580457600000}"#,
        ];
        let all = read(text.join("\n").as_bytes(), Format::Ndjson, 1);
        let lines: Vec<u64> = all.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 3, 4, 5, 6, 7, 8]);
        assert_eq!((&*all[0].1, &*all[1].1, &*all[6].1), ("oA", "7", "oB"));
        for (at, said) in [
            (2, "openid"),
            (3, "nickname"),
            (4, "JSON object"),
            (5, "longer"),
        ] {
            assert!(all[at].1.contains(said), "{:?}", all[at]);
        }
        assert_eq!(
            read(text.join("\n").as_bytes(), Format::Ndjson, 4),
            all[2..]
        );
    }
}
