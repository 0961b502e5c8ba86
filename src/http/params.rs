//! Parts of a path or query, with refusals in our shape. axum's own quote what they refuse.

use super::HttpError;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

/// The parameters of the path.
#[derive(Debug)]
pub struct InPath<T>(pub T);

/// The parameters of the query.
#[derive(Debug)]
pub struct InQuery<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let path = Path::from_request_parts(parts, state).await;
        let refused = |_| HttpError::new(StatusCode::BAD_REQUEST, "the path is not UTF-8");
        path.map(|Path(params)| Self(params)).map_err(refused)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let query = Query::from_request_parts(parts, state).await;
        let refused = |_| HttpError::field("query", "has a parameter that is not known or twice");
        query.map(|Query(params)| Self(params)).map_err(refused)
    }
}
