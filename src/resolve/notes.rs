//! A session as the ledger keeps it, inside the seal.

use super::wechat::Session;
use crate::model::{OpenId, Secret, UnionId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A session as it is noted.
#[derive(Serialize, Deserialize)]
struct Noted {
    openid: String,
    unionid: Option<String>,
    placeholder: bool,
    session_key: Option<Zeroizing<String>>,
}

/// Writes a session.
pub(super) fn write_session(session: &Session) -> Zeroizing<Vec<u8>> {
    let unionid = session.unionid.as_ref();
    let noted = Noted {
        openid: session.openid.as_str().to_owned(),
        unionid: unionid.and_then(|u| u.as_ref().ok().map(|u| u.as_str().to_owned())),
        placeholder: matches!(unionid, Some(Err(()))),
        session_key: session
            .session_key
            .as_ref()
            .map(|k| Zeroizing::new(k.expose().to_owned())),
    };
    Zeroizing::new(postcard::to_stdvec(&noted).unwrap_or_default())
}

/// Reads a session; `None` if it was written by another version.
pub(super) fn read_session(bytes: &[u8]) -> Option<Session> {
    let noted: Noted = postcard::from_bytes(bytes).ok()?;
    let unionid = match noted.unionid {
        Some(text) => Some(Ok(UnionId::parse(&text).ok()?)),
        None => noted.placeholder.then_some(Err(())),
    };
    Some(Session {
        openid: OpenId::parse(&noted.openid).ok()?,
        unionid,
        session_key: noted.session_key.map(|k| Secret::new(k.to_string())),
    })
}
