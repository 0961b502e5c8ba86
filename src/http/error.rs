//! The one shape of errors: `{"error":{"status":422,"field":…,"problem":…,"index":…}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

/// Which of several things a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// There is only one.
    Whole,
    /// Index in an array, from 0.
    Index(usize),
    /// Line of an NDJSON body, from 1.
    Line(usize),
}

/// An answer that is no success. Texts never repeat what the caller sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpError {
    /// The status.
    pub status: StatusCode,
    /// The field at fault, if one is.
    pub field: Option<String>,
    /// What is wrong, and where it helps, what to do.
    pub problem: String,
    /// Which of several.
    pub place: Place,
    /// Seconds after which to come back, for 429 and 503.
    pub retry_after: Option<u64>,
}

impl HttpError {
    /// An error about the request as a whole.
    #[must_use]
    pub fn new(status: StatusCode, problem: impl Into<String>) -> Self {
        Self {
            status,
            field: None,
            problem: problem.into(),
            place: Place::Whole,
            retry_after: None,
        }
    }

    /// 422 about a field.
    #[must_use]
    pub fn field(field: &str, problem: impl Into<String>) -> Self {
        Self {
            field: Some(field.to_owned()),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, problem)
        }
    }

    /// 503: come back after so many seconds.
    #[must_use]
    pub fn unavailable(problem: impl Into<String>, retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, problem)
        }
    }

    /// The same error, about one of several things.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let mut error = Map::new();
        error.insert("status".into(), self.status.as_u16().into());
        if let Some(field) = self.field {
            error.insert("field".into(), field.into());
        }
        error.insert("problem".into(), self.problem.into());
        match self.place {
            Place::Whole => None,
            Place::Index(i) => error.insert("index".into(), i.into()),
            Place::Line(n) => error.insert("line".into(), n.into()),
        };
        let body = Json(Map::from_iter([("error".to_owned(), Value::Object(error))]));
        let mut response = (self.status, body).into_response();
        if let Some(seconds) = self.retry_after {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
