//! Who may call: `Authorization: Bearer KEY`, compared in constant time.

use super::HttpError;
use crate::model::Secret;
use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Which key a caller showed, by its place in the configuration; 0 where none is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller(pub usize);

/// The keys that are let in. Held as digests, so that all comparisons have one length.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// No keys: everybody is let in.
    #[must_use]
    pub fn new(keys: &[Secret]) -> Self {
        Self(keys.iter().map(|k| digest(k.expose().as_bytes())).collect())
    }

    /// How many callers can be told apart.
    #[must_use]
    pub fn callers(&self) -> usize {
        self.0.len().max(1)
    }

    /// Tells who calls.
    ///
    /// # Errors
    /// 401 without a key that is known.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Caller, HttpError> {
        if self.0.is_empty() {
            return Ok(Caller(0));
        }
        let refused = |problem: &str| HttpError::new(StatusCode::UNAUTHORIZED, problem);
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| bearer(value.as_bytes()))
            .ok_or_else(|| refused("no key: send `Authorization: Bearer KEY`"))?;
        self.find(&digest(shown))
            .ok_or_else(|| refused("the key is not known here"))
    }

    /// Looks at every key, whichever it is.
    fn find(&self, shown: &[u8; 32]) -> Option<Caller> {
        let mut any = Choice::from(0);
        let mut which = 0_u64;
        for (i, key) in (0_u64..).zip(&self.0) {
            let same = key.ct_eq(shown);
            which.conditional_assign(&i, same);
            any |= same;
        }
        bool::from(any).then(|| Caller(usize::try_from(which).unwrap_or(0)))
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| key.trim_ascii())
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn admit(keys: &Keys, header: Option<&str>) -> Result<Caller, HttpError> {
        let mut headers = HeaderMap::new();
        if let Some(text) = header {
            let value = HeaderValue::from_str(text).expect("valid");
            headers.insert(header::AUTHORIZATION, value);
        }
        keys.admit(&headers)
    }

    #[test]
    fn each_key_names_its_caller_and_no_other_text_passes() {
        let keys = Keys::new(&["first", "second"].map(|k| Secret::new(k.into())));
        assert_eq!(admit(&keys, Some("Bearer first")), Ok(Caller(0)));
        assert_eq!(admit(&keys, Some("bearer second")), Ok(Caller(1)));
        for bad in [
            None,
            Some("Bearer "),
            Some("Bearer firs"),
            Some("Bearer first1"),
            Some("Basic first"),
            Some("first"),
            Some(""),
        ] {
            let refused = admit(&keys, bad).expect_err("refused");
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{bad:?}");
        }
    }

    #[test]
    fn without_keys_everybody_is_the_same_caller() {
        assert_eq!(admit(&Keys::default(), None), Ok(Caller(0)));
    }
}
