//! Takes a body apart into events, each as the bytes that came: one object, an array, or NDJSON.
//!
//! Only array brackets and line ends are read here. The walk does not recurse, so no nesting is too
//! deep for the stack; what an element holds is for [`super::Prepare`] to judge.

use crate::http::{HttpError, Place};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// How a body is written, by its content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One object, or an array: told by the first byte.
    Json,
    /// An object per line.
    Lines,
}

/// The events of a body.
#[derive(Debug)]
pub(super) struct Events {
    /// Whether it was one object rather than a list of one.
    pub single: bool,
    /// Each event's bytes with its place.
    pub events: Vec<(Place, Bytes)>,
}

/// Reads the content type. None at all passes as JSON.
pub(super) fn format(headers: &HeaderMap) -> Result<Format, HttpError> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|e| !e.as_bytes().eq_ignore_ascii_case(b"identity")) {
        let problem = "send it uncompressed, without Content-Encoding";
        return Err(HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(Format::Json);
    };
    let text = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let mut parts = text.split(';').map(str::trim);
    let format = match parts.next() {
        Some("application/json") => Some(Format::Json),
        Some("application/x-ndjson" | "application/ndjson") => Some(Format::Lines),
        _ => None,
    };
    let utf8 = parts.all(|p| match p.strip_prefix("charset=") {
        Some(charset) => matches!(charset.trim_matches('"'), "utf-8" | "utf8"),
        None => true,
    });
    format.filter(|_| utf8).ok_or_else(|| {
        let problem = "send application/json or application/x-ndjson, in UTF-8";
        HttpError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, problem)
    })
}

/// Takes `body` apart into at most `max` events.
///
/// # Errors
/// 400 when there is no event or the array is not JSON; 413 when there are too many.
pub(super) fn split(body: &Bytes, format: Format, max: usize) -> Result<Events, HttpError> {
    let start = body.trim_ascii_start();
    let split = match (format, start.first()) {
        (_, None) => Err(bad("the body is empty")),
        (Format::Lines, _) => lines(body, max),
        (Format::Json, Some(b'[')) => array(body, max),
        (Format::Json, Some(_)) => Ok(Events {
            single: true,
            events: vec![(Place::Whole, body.clone())],
        }),
    }?;
    if split.events.is_empty() {
        return Err(bad("there is no event in the body"));
    }
    Ok(split)
}

fn lines(body: &Bytes, max: usize) -> Result<Events, HttpError> {
    let mut events = Vec::new();
    for (n, line) in (1..).zip(body.split(|b| *b == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if events.len() == max {
            return Err(too_many(max));
        }
        events.push((Place::Line(n), body.slice_ref(line)));
    }
    Ok(Events {
        single: false,
        events,
    })
}

fn array(body: &Bytes, max: usize) -> Result<Events, HttpError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let elements = json.deserialize_seq(Elements { max });
    let (elements, more) = elements
        .and_then(|elements| json.end().map(|()| elements))
        .map_err(|e| {
            bad(format!(
                "not JSON at line {} column {}",
                e.line(),
                e.column()
            ))
        })?;
    if more {
        return Err(too_many(max));
    }
    let raw =
        |(i, raw): (usize, &RawValue)| (Place::Index(i), body.slice_ref(raw.get().as_bytes()));
    Ok(Events {
        single: false,
        events: elements.into_iter().enumerate().map(raw).collect(),
    })
}

/// Keeps at most `max` elements and tells whether there are more.
struct Elements {
    max: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = (Vec<&'de RawValue>, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while elements.len() < self.max {
            match seq.next_element()? {
                Some(element) => elements.push(element),
                None => return Ok((elements, false)),
            }
        }
        let mut more = false;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        Ok((elements, more))
    }
}

fn bad(problem: impl Into<String>) -> HttpError {
    HttpError::new(StatusCode::BAD_REQUEST, problem)
}

fn too_many(max: usize) -> HttpError {
    let problem = format!("more than {max} events in one request; send fewer at once");
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(body: &str, format: Format) -> Result<Vec<(Place, String)>, u16> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let events = split(&body, format, 3)
            .map_err(|e| e.status.as_u16())?
            .events;
        let text = |b: Bytes| String::from_utf8(b.to_vec()).expect("utf-8");
        Ok(events.into_iter().map(|(p, b)| (p, text(b))).collect())
    }

    #[test]
    fn elements_keep_their_bytes() {
        let got = parts(r#" [ {"a" : 1.50}, "]", {"a":1,"a":2} ] "#, Format::Json).expect("split");
        let want = [r#"{"a" : 1.50}"#, r#""]""#, r#"{"a":1,"a":2}"#];
        for (i, text) in want.iter().enumerate() {
            assert_eq!(got[i], (Place::Index(i), (*text).to_owned()));
        }
    }

    #[test]
    fn lines_are_counted_with_the_blank_ones() {
        let got = parts("{\"a\":1}\r\n\n {\"b\":2}\n", Format::Lines).expect("split");
        assert_eq!(
            got,
            [
                (Place::Line(1), "{\"a\":1}".into()),
                (Place::Line(3), "{\"b\":2}".into())
            ]
        );
    }

    #[test]
    fn what_holds_no_events_or_too_many_is_refused() {
        for empty in ["", " \n", "[]", "[ ]"] {
            assert_eq!(parts(empty, Format::Json), Err(400), "{empty:?}");
        }
        for broken in ["[1", "[1]]", "[1,]", "[{]", "[\"\u{1}\"]", "[1] {}"] {
            assert_eq!(parts(broken, Format::Json), Err(400), "{broken:?}");
        }
        assert_eq!(parts("[1,2,3,4]", Format::Json), Err(413));
        assert_eq!(parts("1\n2\n3\n4", Format::Lines), Err(413));
        assert!(parts("[1,2,3]", Format::Json).is_ok());
    }

    #[test]
    fn depth_does_not_matter() {
        let deep = "[".repeat(500_000) + &"]".repeat(500_000);
        let got = parts(&deep, Format::Json).expect("split");
        assert_eq!(got[0].1.len(), deep.len() - 2);
        assert_eq!(parts(&"[".repeat(1_000_000), Format::Json), Err(400));
    }

    #[test]
    fn content_types() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, text.parse().expect("valid"));
            format(&headers).map_err(|e| e.status.as_u16())
        };
        assert_eq!(of("application/json"), Ok(Format::Json));
        assert_eq!(of("Application/JSON; charset=UTF-8"), Ok(Format::Json));
        assert_eq!(of("application/x-ndjson"), Ok(Format::Lines));
        for other in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=gbk",
        ] {
            assert_eq!(of(other), Err(415), "{other}");
        }
        assert_eq!(format(&HeaderMap::new()), Ok(Format::Json));
    }

    proptest! {
        #[test]
        fn any_bytes_split_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for format in [Format::Json, Format::Lines] {
                if let Ok(got) = split(&Bytes::from(bytes.clone()), format, 5) {
                    prop_assert!((1..=5).contains(&got.events.len()));
                }
            }
        }
    }
}
