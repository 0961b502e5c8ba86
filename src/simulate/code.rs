//! Login codes that describe themselves: everything the exchange needs is inside and signed, so
//! that a code costs no memory until it is sent.

use super::crypto::Keyed;
use super::session::{Manner, Session};
use super::world::AppNo;
use crate::model::Millis;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of contents: app, manner, epoch (2), person (4), time (6), nonce (4).
const BODY: usize = 18;
/// Bytes of signature; the first eight name the code in memory.
const MAC: usize = 9;

/// A code's name in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct CodeKey(pub(super) u64);

/// Writes a code: 36 URL-safe characters.
pub(super) fn write(keyed: &Keyed, session: &Session, nonce: u32) -> String {
    let mut bytes = [0u8; BODY];
    bytes[0] = session.app.0;
    bytes[1] = u8::from(session.manner.unionid) | (u8::from(session.manner.snapshot) << 1);
    bytes[2..4].copy_from_slice(&session.epoch.to_be_bytes());
    bytes[4..8].copy_from_slice(&session.person.to_be_bytes()[4..]);
    bytes[8..14].copy_from_slice(&session.at.0.to_be_bytes()[2..]);
    bytes[14..].copy_from_slice(&nonce.to_be_bytes());
    seal(keyed, &bytes)
}

/// Reads a code back; `None` if it was never given out.
pub(super) fn read(keyed: &Keyed, code: &str) -> Option<Session> {
    let bytes: [u8; BODY] = open(keyed, code)?;
    let number = |range: std::ops::Range<usize>| {
        let bytes = bytes.get(range).unwrap_or(&[]);
        bytes.iter().fold(0u64, |all, b| (all << 8) | u64::from(*b))
    };
    Some(Session {
        app: AppNo(bytes[0]),
        manner: Manner {
            unionid: bytes[1] & 1 != 0,
            snapshot: bytes[1] & 2 != 0,
        },
        epoch: u16::from_be_bytes([bytes[2], bytes[3]]),
        person: number(4..8),
        at: Millis(i64::try_from(number(8..14)).unwrap_or(0)),
    })
}

/// Contents and signature as URL-safe text.
pub(super) fn seal(keyed: &Keyed, body: &[u8]) -> String {
    let mac = keyed.tag(0, body);
    URL_SAFE_NO_PAD.encode([body, &mac[..MAC]].concat())
}

/// The contents, if the signature is right.
pub(super) fn open<const N: usize>(keyed: &Keyed, text: &str) -> Option<[u8; N]> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (body, mac) = bytes.split_at_checked(N)?;
    if keyed.tag(0, body)[..MAC] != *mac {
        return None;
    }
    body.try_into().ok()
}

/// The name of any text that was sent as a code, known or not.
pub(super) fn key(keyed: &Keyed, code: &str) -> CodeKey {
    let tag = keyed.tag(1, code.as_bytes());
    CodeKey(tag[..8].iter().fold(0, |all, b| (all << 8) | u64::from(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_tells_its_session_and_no_other_text_does() {
        let keyed = Keyed::new(1, "code");
        let session = Session {
            person: 4_000_000,
            app: AppNo(3),
            epoch: 513,
            manner: Manner {
                unionid: false,
                snapshot: true,
            },
            at: Millis(1_700_000_000_123),
        };
        let code = write(&keyed, &session, 1);
        assert_eq!(code.len(), 36);
        assert_eq!(read(&keyed, &code), Some(session));
        assert_ne!(code, write(&keyed, &session, 2));
        assert_eq!(read(&Keyed::new(2, "code"), &code), None);
        for i in 0..code.len() {
            let mut other = code.clone().into_bytes();
            other[i] = if other[i] == b'A' { b'B' } else { b'A' };
            assert_eq!(read(&keyed, std::str::from_utf8(&other).unwrap()), None);
        }
    }
}
