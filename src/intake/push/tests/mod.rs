//! Pushes as WeChat makes them, what counts of them, and what becomes of them when they are changed.
use super::*;
use crate::model::Secret;
use aes::Aes256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

pub(super) const APP: &str = "wx49f0ab532d5d035a";

pub(super) fn app(id: &str) -> AppId {
    AppId::parse(id).expect("a literal of the test")
}

pub(super) fn key(fill: u8) -> AesKey {
    AesKey(Zeroizing::new([fill; 32]))
}

/// What goes under the cipher, padded.
pub(super) fn framed(message: &[u8], appid: &str) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("the test's messages are far below 4 GiB");
    let mut plain = b"0123456789abcdef".to_vec();
    plain.extend_from_slice(&length.to_be_bytes());
    plain.extend_from_slice(message);
    plain.extend_from_slice(appid.as_bytes());
    let pad = 32 - plain.len() % 32;
    plain.resize(
        plain.len() + pad,
        u8::try_from(pad).expect("a pad is 1 to 32"),
    );
    plain
}

pub(super) fn enciphered(mut plain: Vec<u8>, key: &AesKey) -> String {
    let iv: [u8; 16] = key.0[..16].try_into().expect("the slice has 16 bytes");
    let mut cipher = cbc::Encryptor::<Aes256>::new((&*key.0).into(), (&iv).into());
    for block in plain.as_chunks_mut::<16>().0 {
        cipher.encrypt_block(block.into());
    }
    STANDARD.encode(plain)
}

pub(super) fn signature(mut parts: Vec<&str>) -> String {
    parts.sort_unstable();
    hex::encode(Sha1::digest(parts.concat()))
}

const TOKEN: &str = "AAAAA";
const TIME: &str = "1714036504";
const NONCE: &str = "1514711492";
const NOW: Millis = Millis(1_714_036_504_000);
const MESSAGE: &str = "<xml><FromUserName>oA</FromUserName><CreateTime>1714036504</CreateTime>\
    <MsgType>event</MsgType><Event>user_authorization_cancellation</Event><OpenID>oB</OpenID></xml>";

fn push(body: PushBody) -> Push {
    Push {
        app: app(APP),
        token: Secret::new(TOKEN.into()),
        body,
        erase_on: [crate::config::EraseOn::Cancellation].into(),
    }
}

fn query(time: &str, nonce: &str, plain: Option<String>, sealed: Option<String>) -> Query {
    Query {
        timestamp: Some(time.to_owned()),
        nonce: Some(nonce.to_owned()),
        signature: plain,
        msg_signature: sealed,
        echostr: Some("echo".into()),
    }
}

/// A push as WeChat makes it in the encrypted mode.
fn sealed(message: &str) -> (Query, String) {
    let encrypt = enciphered(framed(message.as_bytes(), APP), &key(7));
    let plain = signature(vec![TOKEN, TIME, NONCE]);
    let given = signature(vec![TOKEN, TIME, NONCE, &encrypt]);
    let body =
        format!("<xml><ToUserName>gh_1</ToUserName><Encrypt><![CDATA[{encrypt}]]></Encrypt></xml>");
    (query(TIME, NONCE, Some(plain), Some(given)), body)
}

fn read(push: &Push, query: &Query, body: &str) -> Result<Fields, u16> {
    let admitted = query.admitted(push);
    let fields = admitted.and_then(|()| authentic(push, query, body.as_bytes()));
    fields.map_err(|e| e.status.as_u16())
}

fn inner_of(body: PushBody, query: &Query, text: &str) -> Result<Option<String>, u16> {
    read(&push(body), query, text).map(|fields| fields.openid)
}

#[test]
fn each_mode_takes_its_own_bodies() {
    let (query, body) = sealed(MESSAGE);
    let both = body.replace(
        "<Encrypt>",
        "<MsgType>event</MsgType><OpenID>oForged</OpenID><Encrypt>",
    );
    let whom = Ok(Some("oB".to_owned()));
    let encrypted = || PushBody::Encrypted(key(7));
    let compatible = || PushBody::Compatible(key(7));
    assert_eq!(inner_of(encrypted(), &query, &body), whom);
    assert_eq!(inner_of(compatible(), &query, &body), whom);
    // What stands beside in plain is not signed: it never counts.
    assert_eq!(inner_of(compatible(), &query, &both), whom);
    assert_eq!(inner_of(encrypted(), &query, &both), Err(400));
    for mode in [encrypted(), compatible()] {
        assert_eq!(inner_of(mode, &query, MESSAGE), Err(403), "a plain body");
    }
    assert_eq!(inner_of(PushBody::Plain, &query, MESSAGE), whom);
    assert_eq!(
        inner_of(PushBody::Plain, &query, &body),
        Err(400),
        "no key for it"
    );
    let other = PushBody::Encrypted(key(8));
    assert_eq!(inner_of(other, &query, &body), Err(400), "another key");
    let json = format!(
        r#"{{"Encrypt": "{}"}}"#,
        body.split("CDATA[")
            .nth(1)
            .expect("the sealed body holds one CDATA")
            .split(']')
            .next()
            .expect("split gives at least one piece")
    );
    assert_eq!(inner_of(encrypted(), &query, &json), whom);
}

#[test]
fn nothing_counts_without_its_signature() {
    let (query, body) = sealed(MESSAGE);
    let other = sealed("<xml></xml>").0;
    let encrypted = push(PushBody::Encrypted(key(7)));
    let plain = push(PushBody::Plain);
    let without = |change: fn(&mut Query)| {
        let mut query = self::query(
            TIME,
            NONCE,
            query.signature.clone(),
            query.msg_signature.clone(),
        );
        change(&mut query);
        query
    };
    for (name, query) in [
        ("no time", without(|q| q.timestamp = None)),
        ("no nonce", without(|q| q.nonce = None)),
        ("long nonce", without(|q| q.nonce = Some("1".repeat(2_000)))),
        (
            "another time",
            without(|q| q.timestamp = Some("1714036505".into())),
        ),
        (
            "no signature",
            without(|q| (q.signature, q.msg_signature) = (None, None)),
        ),
        (
            "each other's",
            without(|q| std::mem::swap(&mut q.signature, &mut q.msg_signature)),
        ),
    ] {
        assert_eq!(read(&encrypted, &query, &body).err(), Some(403), "{name}");
        assert_eq!(read(&plain, &query, MESSAGE).err(), Some(403), "{name}");
    }
    assert_eq!(
        read(&encrypted, &other, &body).err(),
        Some(403),
        "another's signature"
    );
    let stranger = Push {
        token: Secret::new("AAAAB".into()),
        ..encrypted
    };
    assert_eq!(
        read(&stranger, &query, &body).err(),
        Some(403),
        "another token"
    );
}

#[test]
fn the_url_check_echoes_what_is_signed_and_fresh() {
    let right = "f464b24fc39322e44b38aa78f5edd27bd1441696".to_owned();
    for body in [PushBody::Plain, PushBody::Encrypted(key(7))] {
        let push = push(body);
        let ask = |signature: &str, now: Millis| {
            let query = query(TIME, NONCE, Some(signature.to_owned()), None);
            check_url(&push, query, now).map_err(|e| e.status.as_u16())
        };
        assert_eq!(ask(&right, NOW), Ok("echo".to_owned()));
        assert_eq!(ask(&right, NOW.plus(MAX_SKEW_MS)), Ok("echo".to_owned()));
        assert_eq!(ask(&right, NOW.plus(-MAX_SKEW_MS)), Ok("echo".to_owned()));
        assert_eq!(ask(&right, NOW.plus(MAX_SKEW_MS + 1)), Err(403));
        assert_eq!(ask(&right, NOW.plus(-MAX_SKEW_MS - 1)), Err(403));
        assert_eq!(ask(&right.replace('f', "e"), NOW), Err(403));
    }
    for odd in [
        "",
        "+1714036504",
        "1714036504.0",
        "99999999999999999999",
        "99999999999999999",
    ] {
        let query = query(odd, NONCE, None, None);
        assert!(query.fresh(NOW).is_err(), "{odd}");
    }
}

fn mutate(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=bytes.len());
        match rng.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(at, b"<>&]\"{}/=A0\0\xff"[rng.random_range(0..13)]),
            3 => bytes.truncate(at),
            _ => {
                let piece = bytes[at..(at + 20).min(bytes.len())].to_vec();
                let to = rng.random_range(0..=bytes.len());
                bytes.splice(to..to, piece);
            }
        }
    }
}

/// Whatever is done to a push, it is refused or still says what was signed.
#[test]
fn mutated_pushes_are_refused_or_say_what_was_signed() {
    let mut rng = StdRng::seed_from_u64(5);
    let modes = [PushBody::Encrypted(key(7)), PushBody::Compatible(key(7))].map(push);
    let (sound, body) = sealed(MESSAGE);
    let want = read(&modes[0], &sound, &body).expect("nothing of it was changed yet");
    let (mut refused, mut read_still) = (0, 0);
    for round in 0..200_000 {
        let mut bytes = body.clone().into_bytes();
        let mut parts = [TIME, NONCE].map(|t| t.as_bytes().to_vec());
        let mut given = sound
            .msg_signature
            .clone()
            .expect("a sealed push is signed")
            .into_bytes();
        match round % 4 {
            0 => mutate(&mut rng, &mut parts[round / 4 % 2]),
            1 => mutate(&mut rng, &mut given),
            _ => mutate(&mut rng, &mut bytes),
        }
        let [time, nonce] = parts.map(|p| String::from_utf8_lossy(&p).into_owned());
        let given = String::from_utf8_lossy(&given).into_owned();
        let query = query(&time, &nonce, None, Some(given));
        match authentic(&modes[round % 2], &query, &bytes) {
            Err(_) => refused += 1,
            Ok(fields) => {
                assert!(fields == want, "round {round}");
                read_still += 1;
            }
        }
    }
    assert!(
        refused > 100_000 && read_still > 100,
        "{refused} {read_still}"
    );
}

/// Whoever holds token and key may still write nonsense: it makes no login and no panic.
#[test]
fn mutated_messages_that_are_signed_never_panic() {
    let mut rng = StdRng::seed_from_u64(6);
    let push = push(PushBody::Plain);
    let json = r#"{"FromUserName": "oA", "CreateTime": 1714036504, "MsgType": "event", "Event": "SCAN", "EventKey": "k"}"#;
    let mut heeded = 0;
    for round in 0..100_000 {
        let text = if round % 2 == 0 { MESSAGE } else { json };
        let mut bytes = text.as_bytes().to_vec();
        mutate(&mut rng, &mut bytes);
        let Ok(fields) = Fields::read(&bytes) else {
            continue;
        };
        if let (_, Ok(Meaning::Login(event))) = meaning(&fields, &push.app, |_| true, NOW) {
            serde_json::from_slice::<serde_json::Value>(&event)
                .expect("an event that is published must be JSON");
            heeded += 1;
        }
    }
    assert!(heeded > 1_000, "{heeded}");
}
