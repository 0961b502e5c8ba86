//! The formats from outside: any bytes are read without panic, errors hold nothing of the values,
//! sealed logins come back whole, and news are the records that `design` promises.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test says so by panicking"
)]

mod samples;

use proptest::prelude::*;
use samples::*;
use std::sync::LazyLock;
use unilink::model::*;
use unilink::seal::{OpenError, PrivateKeys};
use unilink::wire::*;

static KEYS: LazyLock<PrivateKeys> = LazyLock::new(|| {
    PrivateKeys::new(vec![(None, zeroize::Zeroizing::new([7; 32]))]).expect("keys")
});

/// Reads bytes every way they can come in.
fn read_all(bytes: &[u8]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    match LoginWire::parse(bytes) {
        Ok(login) => {
            for mode in [Mode::Strict, Mode::Lenient] {
                errors.extend(login.check(NOW, mode).err());
                errors.extend(login.clone().into_login(NOW, mode).err());
            }
            let _ = (login.key(), login.aad());
            assert!(LoginWire::parse(&login.to_vec()).is_ok());
        }
        Err(error) => errors.push(error),
    }
    errors.extend(DecisionWire::parse(bytes, NOW).err());
    errors.extend(ErasureWire::parse(bytes, NOW).err());
    errors.extend(ImportWire::parse(bytes, NOW).err());
    errors.extend(Register::parse(bytes).err());
    errors.extend(parse_linked(bytes).and_then(|l| l.to_linked()).err());
    let mut login = LoginWire::parse(LOGIN.as_bytes()).expect("login");
    errors.extend(login.put_secrets(bytes).err());
    errors
}

/// A text that can be told from anything that the code says by itself.
fn marked() -> impl Strategy<Value = String> {
    "Zq[A-Za-z0-9+/=:\u{4e00}\"\\\\\n -]{6,40}"
}

fn value() -> impl Strategy<Value = String> {
    let text = |t: String| serde_json::to_string(&t).expect("text");
    prop_oneof![
        4 => marked().prop_map(text),
        1 => Just("null".to_owned()),
        1 => Just("\"\"".to_owned()),
        1 => any::<i32>().prop_map(|n| n.to_string()),
        1 => any::<bool>().prop_map(|b| b.to_string()),
        1 => marked().prop_map(move |t| format!("[{}]", text(t))),
        1 => marked().prop_map(move |t| format!("{{\"k\":{}}}", text(t))),
    ]
}

const FIELDS: [&str; 23] = [
    "id",
    "occurred_at",
    "appid",
    "code",
    "openid",
    "unionid",
    "session_key",
    "encryptedData",
    "iv",
    "rawData",
    "signature",
    "access_token",
    "scope",
    "transaction_id",
    "mch_id",
    "out_trade_no",
    "is_snapshotuser",
    "source",
    "external_id",
    "attributes",
    "sealed",
    "ruling",
    "platform",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
        prop_assert!(KEYS.open_bytes(b"", &bytes).is_err());
        prop_assert!(KEYS.open(b"", &String::from_utf8_lossy(&bytes)).is_err());
    }

    #[test]
    fn no_damage_makes_a_parser_panic(
        which in any::<prop::sample::Index>(),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let samples = samples::all();
        let mut bytes = which.get(&samples).1.clone();
        for (at, byte) in cuts {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match byte % 4 {
                0 => { bytes.remove(at); }
                1 => bytes.insert(at, byte),
                2 => bytes.truncate(at + 1),
                _ => bytes[at] = byte,
            }
        }
        read_all(&bytes);
    }

    #[test]
    fn errors_hold_nothing_of_the_values(
        fields in proptest::collection::vec((proptest::sample::select(&FIELDS[..]), value()), 1..12),
        sound in any::<bool>(),
    ) {
        let own = fields.iter().map(|(name, value)| format!("\"{name}\":{value}"));
        let head = [r#""id":"e""#, r#""appid":"wx1""#, r#""occurred_at":"2027-01-15T07:59:59Z""#];
        let head = head.iter().map(|s| (*s).to_owned()).filter(|h| {
            sound && !fields.iter().any(|(name, _)| h.starts_with(&format!("\"{name}\"")))
        });
        let json = format!("{{{}}}", head.chain(own).collect::<Vec<_>>().join(","));
        for error in read_all(json.as_bytes()) {
            let shown = format!("{error} {error:?}");
            prop_assert!(!shown.contains("Zq"), "{} for {}", shown, json);
        }
    }

    #[test]
    fn imports_come_back_as_they_went(
        openid in "[A-Za-z0-9_-]{20,28}",
        unionids in proptest::collection::vec("u[A-Za-z0-9_-]{1,30}", 0..4),
        ago in 0..400_000_000_000_i64,
        external in proptest::option::of("x[!-~]{0,40}"),
    ) {
        let external = external.map(|text| ExternalId::parse(&text));
        prop_assume!(external.as_ref().is_none_or(Result::is_ok));
        let platforms = ["a", "b", "c", "d"].iter();
        let unions = platforms.zip(&unionids).map(|(platform, unionid)| union(platform, unionid));
        let import = Import {
            cause: event("import-1"),
            account: account(&format!("wx1:{openid}")),
            first_seen_at: NOW.plus(-ago),
            unions: unions.collect(),
            external_id: external.transpose().expect("valid"),
        };
        let signer = Signer::new("ops", &[1; 32]);
        let record = ImportWire::to_record(&import, &topics(), "unilink", &signer);
        prop_assert_eq!(kind(&record.headers), Some(Kind::Import));
        let back = ImportWire::parse(&record.value.expect("value"), NOW);
        prop_assert_eq!(back, Ok(import));
    }

    #[test]
    fn sealed_logins_come_back_whole(
        code in "[ -~\u{4e00}]{1,20}", raw in ".{1,80}", openid in "o[A-Za-z0-9_-]{27}", with_code in any::<bool>(),
    ) {
        let text = |t: &str| serde_json::to_string(t).expect("text");
        let evidence = if with_code {
            format!(r#""code":{}"#, text(&code))
        } else {
            format!(r#""openid":"{openid}","session_key":{}"#, text(&code))
        };
        let json = format!(
            r#"{{"id":"e","appid":"wx1","occurred_at":"2027-01-15T07:59:59Z",{evidence},"encryptedData":"ED","iv":"IV","rawData":{},"signature":"S"}}"#,
            text(&raw)
        );
        let before = LoginWire::parse(json.as_bytes()).expect("login");
        let mut sealed = before.clone();
        let secrets = sealed.take_secrets().expect("secrets");
        sealed.sealed = Some(KEYS.current().seal(&sealed.aad(), &secrets).expect("seals"));
        sealed.check(NOW, Mode::Strict).expect("still makes sense");
        let bytes = sealed.to_record(&topics(), "test", NOW).value.expect("value");
        let mut after = LoginWire::parse(&bytes).expect("login");
        let blob = after.sealed.clone().expect("sealed");
        prop_assert_eq!(KEYS.open(b"other", &blob), Err(OpenError::Failed));
        let opened = KEYS.open(&after.aad(), &blob).expect("opens");
        after.put_secrets(&opened).expect("puts");
        prop_assert_eq!(after.to_vec(), before.to_vec());
        prop_assert!(after.into_login(NOW, Mode::Strict).is_ok());
    }
}

#[test]
fn a_linked_account_is_the_record_that_was_promised() {
    let topics = topics();
    let record = record(&News::Linked(Box::new(linked())), &context(&topics));
    assert_eq!(&*record.topic, "wechat.account-links");
    assert_eq!(record.key, b"wx1:oA");
    let value = String::from_utf8(record.value.expect("value")).expect("text");
    let event = value.split('"').nth(3).expect("event_id").to_owned();
    let want = format!(
        concat!(
            r#"{{"event_id":"{}","appid":"wx1","openid":"oA","user_id":"00000000-0000-0000-0000-000000001234","#,
            r#""previous_user_id":"00000000-0000-0000-0000-000000000007","platform":"main","unionid":"uA","claims":["#,
            r#"{{"platform":"main","unionid":"uA","method":"decrypted","key_from":"event","time":"2027-01-15T07:59:55.000Z","status":"active"}},"#,
            r#"{{"platform":"main","unionid":"uB","method":"provided","time":"2027-01-15T07:59:55.000Z","status":"contested","why":"other_unionid"}}"#,
            r#"],"claims_total":2,"epoch":2,"revision":3,"method":"decrypted","reason":null,"reason_at":null,"cause":"evt-1","#,
            r#""external_id":"员工 7","external_id_at":"2027-01-15T07:59:53.000Z","generation":0,"#,
            r#""first_seen_at":"2027-01-15T07:59:51.000Z","linked_at":"2027-01-15T08:00:00.000Z"}}"#
        ),
        event
    );
    assert_eq!(value, want);
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), std::str::from_utf8(v).expect("text")))
        .collect();
    let want = [
        ("ce_specversion", "1.0"),
        ("ce_id", event.as_str()),
        ("ce_source", "unilink"),
        ("ce_type", "unilink.account.linked.v1"),
        ("ce_time", "2027-01-15T08:00:00.000Z"),
        ("content-type", "application/json"),
    ];
    assert_eq!(headers, want);
}

proptest! {
    // Sealing and opening take their time.
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever dies, its bytes are what comes back, each time, and never in plain meanwhile.
    #[test]
    fn what_dies_in_plain_comes_back_byte_by_byte(
        value in proptest::collection::vec(any::<u8>(), 0..200),
        key in proptest::collection::vec(any::<u8>(), 0..20),
        place in (0..64_u32, 0..1_000_000_i64),
        deaths in 1..4_u32,
    ) {
        let marked = [b"~SECRET~".as_slice(), &value].concat();
        let headers = vec![("ours".to_owned(), b"kept".to_vec())];
        let mut record = unilink::bus::Stored {
            partition: place.0, offset: place.1, timestamp: 1_000, key: key.clone(),
            value: Some(marked.clone()), headers: headers.clone(),
        };
        for died in 0..deaths {
            let letter = DeadLetter {
                record: &record, topic: "logins", reason: DeadReason::Malformed, detail: "", attempts: 1,
                at: Millis(2_000),
            };
            let public = KEYS.current();
            let dead = letter.to_record(&"dlq".into(), |aad, plain| public.seal_bytes(aad, plain));
            let dead = dead.expect("seals");
            let stood = unilink::bus::Stored {
                partition: 1, offset: i64::from(died), timestamp: 3_000, key: dead.key,
                value: dead.value, headers: dead.headers,
            };
            let grave = Grave::parse(&stood).expect("a letter");
            prop_assert_eq!((&grave.headers, grave.timestamp), (&headers, Millis(1_000)));
            prop_assert_eq!(grave.redrives, died);
            let bytes = stood.value.clone().expect("a value");
            prop_assert!(!bytes.windows(8).any(|w| w == b"~SECRET~"));
            record = unilink::bus::Stored {
                offset: 2_000_000 + i64::from(died), headers: grave.redriven((1, i64::from(died)), 0), ..stood
            };
            let sealed = Whole::of(&record.headers).expect("sealed").expect("its place");
            let opened = KEYS.open_bytes(&sealed.aad(), &bytes).expect("opens");
            prop_assert_eq!(&*opened, &marked);
            prop_assert_eq!(&record.key, &key);
        }
    }
}

#[test]
fn a_revision_has_one_event_id_and_another_has_another() {
    let id = |linked: &Linked, epoch| LinkedWire::of(linked, epoch).event_id;
    let one = linked();
    let mut next = linked();
    next.row.revision += 1;
    next.row.linked_at = NOW.plus(1);
    assert_eq!(id(&one, 1), id(&one, 1));
    assert_ne!(id(&one, 1), id(&one, 2));
    assert_ne!(id(&one, 1), id(&next, 1));
}

#[test]
fn linked_accounts_read_back_for_a_rebuild() {
    let mut stripped = linked();
    stripped.row.reason = None; // a reason is told only while it matters
    let mut operator = stripped.clone();
    operator.method = LinkMethod::Operator;
    let mut merge = stripped.clone();
    (merge.method, merge.unionid) = (LinkMethod::Merge, None);
    for change in [stripped, operator, merge, unresolved()] {
        let bytes = serde_json::to_vec(&LinkedWire::of(&change, 2)).expect("bytes");
        let back = parse_linked(&bytes)
            .expect("reads")
            .to_linked()
            .expect("known");
        assert_eq!(format!("{change:?}"), format!("{back:?}"));
        assert_eq!(back.row, change.row);
        assert_eq!(back.claims, change.claims);
    }
}

#[test]
fn at_most_32_claims_are_shown_and_the_active_ones_among_them() {
    let mut many = linked();
    let contested = ClaimStatus::Contested(Why::ManyUnionids);
    many.claims = (0..40)
        .map(|n| {
            claim(
                union("old", &format!("u{n:02}")),
                Method::Provided,
                contested,
            )
        })
        .chain([claim(
            union("main", "uA"),
            Method::Decrypted,
            ClaimStatus::Active,
        )])
        .collect();
    let wire = LinkedWire::of(&many, 1);
    assert_eq!((wire.claims.len(), wire.claims_total), (32, 41));
    assert_eq!(wire.claims[0].status, "active");
}

#[test]
fn every_claim_contested_is_the_reason_shown() {
    let mut contested = unresolved();
    assert_eq!(
        LinkedWire::of(&contested, 1).reason.as_deref(),
        Some("no_unionid")
    );
    contested.claims = vec![claim(
        union("main", "uB"),
        Method::Provided,
        ClaimStatus::Contested(Why::SameApp),
    )];
    assert_eq!(
        LinkedWire::of(&contested, 1).reason.as_deref(),
        Some("contested")
    );
}

#[test]
fn nulls_carry_what_goes_on_counting() {
    let topics = topics();
    let cx = context(&topics);
    let gone = record(
        &News::Unlinked {
            account: account("wx1:oA"),
            revision: 4,
        },
        &cx,
    );
    assert_eq!((gone.value, gone.key.as_slice()), (None, &b"wx1:oA"[..]));
    assert_eq!(header(&gone.headers, "revision"), Some(&b"4"[..]));
    assert_eq!(header(&gone.headers, "epoch"), Some(&b"2"[..]));
    let current = record(
        &News::Unmerged {
            account: account("wx1:oA"),
            own: UserId(UUID),
        },
        &cx,
    );
    assert_eq!(
        (&*current.topic, current.value),
        ("wechat.user-merges", None)
    );
    assert_eq!(current.key, UUID.to_string().into_bytes());
}

#[test]
fn registers_read_back_under_keys_that_tell_nothing() {
    let topics = topics();
    let cx = context(&topics);
    for (_, news) in news() {
        let back = |record: unilink::bus::Record| {
            assert_eq!(record.key.len(), 64);
            assert!(record.key.iter().all(u8::is_ascii_hexdigit));
            Register::parse(&record.value.expect("value")).expect("register")
        };
        let got = match &news {
            News::RulingKept(..) | News::PairKept(..) | News::TombstoneKept(_) => {
                back(record(&news, &cx))
            }
            _ => continue,
        };
        match (news, got) {
            (News::RulingKept(key, ruled), got) => assert_eq!(got, Register::Claim(key, ruled)),
            (News::PairKept(pair, ruled), got) => assert_eq!(got, Register::Pair(pair, ruled)),
            (
                News::TombstoneKept(t),
                Register::Tombstone {
                    erased_at,
                    own_ids,
                    revision,
                },
            ) => {
                assert_eq!(
                    (erased_at, own_ids, revision),
                    (t.erased_at, t.own_ids, t.revision)
                );
            }
            (news, got) => panic!("{news:?} came back as {got:?}"),
        }
    }
}

#[test]
fn what_outlives_an_erasure_holds_no_identifier() {
    let topics = topics();
    let cx = context(&topics);
    for (name, news) in news() {
        if matches!(
            news,
            News::Merged { .. } | News::Unmerged { .. } | News::TombstoneKept(_)
        ) {
            let shown = format!("{:?}", record(&news, &cx));
            let bytes = record(&news, &cx).value.unwrap_or_default();
            let text = shown + &String::from_utf8_lossy(&bytes);
            assert!(
                !text.contains("oA") && !text.contains("uA"),
                "{name}: {text}"
            );
        }
    }
}

#[test]
fn errors_of_other_crates_do_not_pass() {
    // uuid's own would quote the character it stumbled over.
    let error = parse_linked(br#"{"event_id":"Zq"}"#).expect_err("no uuid");
    assert_eq!(
        (error.field.as_str(), error.problem.as_str()),
        ("event_id", "is not as the schema says")
    );
}
