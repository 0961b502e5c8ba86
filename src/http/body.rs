//! Reading a body: no longer than allowed, no slower than allowed.

use super::HttpError;
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A body that is refused is still read up to this many times its limit: whoever is still writing
/// when the connection closes may never see why.
const READ_ON: usize = 4;
/// And for no longer than this.
const READ_ON_FOR: Duration = Duration::from_secs(1);

/// How large a body may be and how long it may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes.
    pub bytes: usize,
    /// From the first byte to the last.
    pub wait: Duration,
}

/// Reads a body whole.
///
/// # Errors
/// 413 when it is longer than allowed, 408 when it takes too long, 400 when it breaks off.
pub async fn read(headers: &HeaderMap, mut body: Body, bounds: Bounds) -> Result<Bytes, HttpError> {
    let declared = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok());
    let declared: Option<usize> = declared.and_then(|v| v.parse().ok());
    if declared.is_some_and(|length| length > bounds.bytes) {
        let waits = headers.contains_key(header::EXPECT);
        return Err(too_large(body, bounds, waits).await);
    }
    let deadline = Instant::now() + bounds.wait;
    let mut read = BytesMut::with_capacity(declared.unwrap_or(0));
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(slow(bounds)),
            Ok(None) => return Ok(read.freeze()),
            Ok(Some(Err(_))) => {
                return Err(HttpError::new(
                    StatusCode::BAD_REQUEST,
                    "the body broke off",
                ));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let data = frame.into_data().unwrap_or_default();
        if read.len() + data.len() > bounds.bytes {
            return Err(too_large(body, bounds, false).await);
        }
        read.extend_from_slice(&data);
    }
}

fn slow(bounds: Bounds) -> HttpError {
    let problem = format!("the body took longer than {} ms", bounds.wait.as_millis());
    HttpError::new(StatusCode::REQUEST_TIMEOUT, problem)
}

/// `waits`: the client holds the body back until it is asked for.
async fn too_large(mut body: Body, bounds: Bounds, waits: bool) -> HttpError {
    let mut left = bounds.bytes.saturating_mul(READ_ON);
    let deadline = Instant::now() + READ_ON_FOR;
    while !waits && left > 0 {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                left = left.saturating_sub(frame.into_data().map_or(0, |d| d.len()));
            }
            _ => break,
        }
    }
    let problem = format!(
        "the body is longer than {} bytes; send less at once",
        bounds.bytes
    );
    HttpError::new(StatusCode::PAYLOAD_TOO_LARGE, problem)
}
