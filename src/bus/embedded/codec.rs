//! How headers and relay positions lie in the file: a version byte, then postcard.

use crate::bus::RelayPosition;
use crate::sqlite::Fault;
use serde::Serialize;
use serde::de::DeserializeOwned;

const VERSION: u8 = 1;

/// Headers as a column value; none is NULL.
pub fn headers(headers: &Vec<(String, Vec<u8>)>) -> Result<Option<Vec<u8>>, Fault> {
    if headers.is_empty() {
        return Ok(None);
    }
    encode(headers).map(Some)
}

/// The inverse of [`headers`].
pub fn read_headers(column: Option<&[u8]>) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    column.map_or_else(|| Ok(Vec::new()), decode)
}

/// A relay position as a column value.
pub fn relay(position: &RelayPosition) -> Result<Vec<u8>, Fault> {
    encode(position)
}

/// The inverse of [`relay`].
pub fn read_relay(column: Option<&[u8]>) -> Result<Option<RelayPosition>, Fault> {
    column.map(decode).transpose()
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Fault> {
    postcard::to_extend(value, vec![VERSION]).map_err(|e| Fault::Corrupt(format!("the log: {e}")))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    let broken = |why: &str| Fault::Corrupt(format!("the log holds a field that {why}"));
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| broken("is broken")),
        Some(_) => Err(broken("a newer version wrote")),
        None => Err(broken("is empty")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        let given = vec![("ce_id".to_owned(), vec![0, 255]), (String::new(), vec![])];
        let column = headers(&given).unwrap().unwrap();
        assert_eq!(read_headers(Some(&column)).unwrap(), given);
        assert_eq!(headers(&vec![]).unwrap(), None);
        assert!(read_headers(None).unwrap().is_empty());
    }

    #[test]
    fn what_it_does_not_know_it_refuses() {
        for bytes in [&[2_u8, 0][..], &[], &[1, 9]] {
            assert!(matches!(read_headers(Some(bytes)), Err(Fault::Corrupt(_))));
        }
    }
}
