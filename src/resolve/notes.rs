//! A session as the ledger keeps it, inside the seal.

use super::wechat::Session;
use crate::model::{OpenId, Secret, UnionId, UserToken};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The first byte of a note. The notes of older versions begin with the length of an openid, which
/// is at most 64, and know no token.
const FORMAT: u8 = 0xF2;

/// A session as it is noted.
#[derive(Serialize, Deserialize)]
struct Noted {
    openid: String,
    unionid: Option<String>,
    placeholder: bool,
    session_key: Option<Zeroizing<String>>,
}

/// What notes have had since tokens are asked with.
#[derive(Serialize, Deserialize)]
struct More {
    access_token: Option<Zeroizing<String>>,
    scope: Option<String>,
    snapshot: bool,
}

/// Writes a session.
pub(super) fn write_session(session: &Session) -> Zeroizing<Vec<u8>> {
    let unionid = session.unionid.as_ref();
    let text = |secret: &Secret| Zeroizing::new(secret.expose().to_owned());
    let noted = Noted {
        openid: session.openid.as_str().to_owned(),
        unionid: unionid.and_then(|u| u.as_ref().ok().map(|u| u.as_str().to_owned())),
        placeholder: matches!(unionid, Some(Err(()))),
        session_key: session.session_key.as_ref().map(text),
    };
    let token = session.token.as_ref();
    let more = More {
        access_token: token.map(|t| text(&t.access_token)),
        scope: token.and_then(|t| t.scope.clone()),
        snapshot: session.snapshot,
    };
    let mut bytes = Zeroizing::new(vec![FORMAT]);
    bytes.extend(Zeroizing::new(postcard::to_stdvec(&(noted, more)).unwrap_or_default()).iter());
    bytes
}

/// Reads a session; `None` if no version has written it.
pub(super) fn read_session(bytes: &[u8]) -> Option<Session> {
    let (noted, more): (Noted, More) = match bytes.split_first()? {
        (&FORMAT, rest) => postcard::from_bytes(rest).ok()?,
        _ => (
            postcard::from_bytes(bytes).ok()?,
            More {
                access_token: None,
                scope: None,
                snapshot: false,
            },
        ),
    };
    let unionid = match noted.unionid {
        Some(text) => Some(Ok(UnionId::parse(&text).ok()?)),
        None => noted.placeholder.then_some(Err(())),
    };
    let secret = |text: Zeroizing<String>| Secret::new(text.to_string());
    Some(Session {
        openid: OpenId::parse(&noted.openid).ok()?,
        unionid,
        session_key: noted.session_key.map(secret),
        token: more.access_token.map(|token| UserToken {
            access_token: secret(token),
            scope: more.scope,
        }),
        snapshot: more.snapshot,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_round_trip_and_old_notes_are_read() {
        let session = Session {
            openid: OpenId::parse("oGZUI0egBJY1zhBYw2KhdUfwVJJE").expect("valid"),
            unionid: Some(Err(())),
            session_key: Some(Secret::new("k".into())),
            token: Some(UserToken {
                access_token: Secret::new("t".into()),
                scope: Some("snsapi_base".into()),
            }),
            snapshot: true,
        };
        let read = read_session(&write_session(&session)).expect("reads");
        assert_eq!(read.openid, session.openid);
        assert_eq!(read.unionid, session.unionid);
        assert_eq!(read.session_key, session.session_key);
        assert!(read.snapshot);
        let token = read.token.expect("a token");
        assert_eq!(token.access_token.expose(), "t");
        assert_eq!(token.scope.as_deref(), Some("snsapi_base"));

        let old = Noted {
            openid: "oGZUI0egBJY1zhBYw2KhdUfwVJJE".into(),
            unionid: Some("ocMvos6NjeKLIBqg5Mr9QjxrP1FA".into()),
            placeholder: false,
            session_key: None,
        };
        let old = read_session(&postcard::to_stdvec(&old).expect("writes")).expect("reads");
        assert!(old.unionid.is_some() && old.token.is_none() && !old.snapshot);
        assert!(read_session(b"").is_none());
    }
}
