//! One or more values of every format, made by the code that ships.

#![allow(dead_code, reason = "each test file uses its part")]

use unilink::model::*;
use unilink::wire::*;

pub const NOW: Millis = Millis(1_800_000_000_000);
pub const UUID: uuid::Uuid = uuid::Uuid::from_u128(0x1234);

pub fn mac(purpose: &'static str, data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    for (i, b) in purpose.bytes().chain(data.iter().copied()).enumerate() {
        out[i % 32] ^= b.rotate_left(u32::try_from(i % 8).expect("small"));
    }
    out
}

pub fn topics() -> Topics {
    Topics {
        linked_logins: Some("wechat.linked-logins".into()),
        ..Topics::default()
    }
}

pub fn context(topics: &Topics) -> Context<'_> {
    Context {
        epoch: 2,
        topics,
        source: "unilink",
        mac: &mac,
    }
}

pub fn account(key: &str) -> Account {
    Account::from_key(key).expect("account")
}

pub fn event(id: &str) -> EventId {
    EventId::parse(id).expect("event")
}

pub fn union(platform: &str, unionid: &str) -> UnionKey {
    UnionKey {
        platform: PlatformId::parse(platform).expect("platform"),
        unionid: UnionId::parse(unionid).expect("unionid"),
    }
}

pub fn claim(union: UnionKey, method: Method, status: ClaimStatus) -> ClaimRow {
    ClaimRow {
        key: ClaimKey {
            account: account("wx1:oA"),
            union,
        },
        at: NOW.plus(-5000),
        method,
        cause: event("evt-1"),
        status,
        verdict: None,
        reported: status != ClaimStatus::Active,
    }
}

/// An account as plan would tell of it: resolved by decryption with the event's key.
pub fn linked() -> Linked {
    let row = AccountRow {
        account: account("wx1:oA"),
        generation: Millis(0),
        first_seen_at: NOW.plus(-9000),
        user: UserId(UUID),
        revision: 3,
        external: Some((
            NOW.plus(-7000),
            ExternalId::parse("员工 7").expect("external"),
        )),
        reason: Some((NOW.plus(-9000), Reason::NoUnionid)),
        cause: event("evt-1"),
        linked_at: NOW,
    };
    Linked {
        row,
        previous_user: Some(UserId(uuid::Uuid::from_u128(7))),
        platform: Some(PlatformId::parse("main").expect("platform")),
        unionid: Some(UnionId::parse("uA").expect("unionid")),
        method: LinkMethod::By(Method::DecryptedEventKey),
        claims: vec![
            claim(
                union("main", "uA"),
                Method::DecryptedEventKey,
                ClaimStatus::Active,
            ),
            claim(
                union("main", "uB"),
                Method::Provided,
                ClaimStatus::Contested(Why::OtherUnionid),
            ),
        ],
    }
}

/// An account without a unionid.
pub fn unresolved() -> Linked {
    let mut linked = linked();
    linked.previous_user = None;
    linked.unionid = None;
    linked.method = LinkMethod::None;
    linked.claims.clear();
    linked.row.external = None;
    linked
}

pub fn ruled(verdict: Option<ClaimVerdict>) -> Ruled {
    Ruled {
        verdict,
        at: NOW,
        author: "ada".into(),
        note: "ticket 7".into(),
    }
}

/// All news there can be.
pub fn news() -> Vec<(&'static str, News)> {
    let pair = NeverPair {
        a: account("wx1:oA"),
        b: account("wx2:oB"),
    };
    let stone = Tombstone {
        account: account("wx1:oA"),
        erased_at: NOW,
        own_ids: vec![UserId(UUID)],
        revision: 9,
    };
    let contested = claim(
        union("main", "uB"),
        Method::Decrypted,
        ClaimStatus::Contested(Why::SameApp),
    );
    let provided = claim(
        union("main", "uB"),
        Method::Provided,
        ClaimStatus::Contested(Why::SameApp),
    );
    let conflict = |claim: ClaimRow| News::Conflict {
        claim: Box::new(claim),
        why: Why::SameApp,
        user: UserId(UUID),
        cause: event("evt-1"),
        at: NOW,
    };
    let mut all_contested = unresolved();
    all_contested.claims = vec![contested.clone()];
    let key = contested.key.clone();
    vec![
        ("account.linked.json", News::Linked(Box::new(linked()))),
        ("account.linked.json", News::Linked(Box::new(unresolved()))),
        ("account.linked.json", News::Linked(Box::new(all_contested))),
        (
            "",
            News::Unlinked {
                account: account("wx1:oA"),
                revision: 4,
            },
        ),
        (
            "user.merged.json",
            News::Merged {
                account: account("wx1:oA"),
                from: UserId(UUID),
                into: UserId(uuid::Uuid::from_u128(9)),
                cause: event("evt-1"),
                at: NOW,
            },
        ),
        (
            "",
            News::Unmerged {
                account: account("wx1:oA"),
                own: UserId(UUID),
            },
        ),
        ("link.conflict.json", conflict(contested)),
        ("link.conflict.json", conflict(provided)),
        (
            "register.json",
            News::RulingKept(key.clone(), ruled(Some(ClaimVerdict::Accept))),
        ),
        ("register.json", News::RulingKept(key, ruled(None))),
        (
            "register.json",
            News::PairKept(pair.clone(), ruled(Some(ClaimVerdict::Reject))),
        ),
        ("register.json", News::PairKept(pair, ruled(None))),
        ("register.json", News::TombstoneKept(stone)),
    ]
}

pub fn decisions() -> Vec<Decision> {
    let decision = |ruling| Decision {
        ruling,
        at: NOW,
        author: "ada".into(),
        note: String::new(),
        cause: event("dec-1"),
    };
    let (account_a, b) = (account("wx1:oA"), account("wx2:oB"));
    vec![
        decision(Ruling::Claim {
            account: account_a.clone(),
            union: union("main", "uA"),
            verdict: None,
        }),
        decision(Ruling::Pair {
            a: account_a,
            b,
            never: true,
        }),
    ]
}

pub fn imports() -> Vec<Import> {
    let import = |unions, external: Option<&str>| Import {
        cause: event("import-1"),
        account: account("wx1:oA"),
        first_seen_at: NOW.plus(-5_000),
        unions,
        external_id: external.map(|text| ExternalId::parse(text).expect("valid")),
    };
    vec![
        import(vec![union("main", "uA"), union("old", "uO")], Some("x-1")),
        import(vec![], None),
    ]
}

pub const LOGIN: &str = r#"{"id":"evt-1","occurred_at":"2027-01-15T07:59:59Z","appid":"wx1","openid":"oA","unionid":"uA",
  "session_key":"tiihtNczf5v6AKRyjwEUhQ==","encryptedData":"CiyLU1Aw2KjvrjMdj8YK","iv":"r7BXXKkLb8qrSNn05n0qiA==",
  "rawData":"{\"nickName\":\"Band\"}","signature":"75e81ceda165f4ffa64f4068af58c64b8f54b88c","is_snapshotuser":0,
  "source":"gate-1","external_id":"x-1","attributes":{"ip":"192.0.2.1","deep":{"list":[1,2]}}}"#;

/// Values with the file of the schema they belong to.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let topics = topics();
    let cx = context(&topics);
    let signer = Signer::new("ops", &[1; 32]);
    let mut samples: Vec<_> = news()
        .iter()
        .filter_map(|(name, news)| Some((*name, record(news, &cx).value?)))
        .collect();
    for decision in decisions() {
        let record = DecisionWire::to_record(&decision, &topics, "unilink", &signer);
        samples.push(("decision.json", record.value.expect("value")));
    }
    let erasure = Erasure {
        account: account("wx1:oA"),
        erased_at: NOW,
        cause: event("er-1"),
    };
    let erasure = ErasureWire::to_record(&erasure, &topics, "unilink", &signer);
    samples.push(("erasure.json", erasure.value.expect("value")));
    for import in imports() {
        let record = ImportWire::to_record(&import, &topics, "unilink", &signer);
        samples.push(("import.json", record.value.expect("value")));
    }
    let request = br#"{"appid":"wx1","openid":"oA","erased_at":"2026-01-31T08:00:00.000Z"}"#;
    samples.push(("erasure-request.json", request.to_vec()));
    let mut login = LoginWire::parse(LOGIN.as_bytes()).expect("login");
    samples.push(("login.json", login.to_vec()));
    login.take_secrets().expect("secrets");
    login.sealed = Some("v1.k.AAAA".into());
    samples.push(("login.json", login.to_vec()));
    let account = account("wx1:oA");
    for (attributes, user) in [
        (Some(r#"{"ip":"192.0.2.1"}"#), Some(UserId(UUID))),
        (None, None),
    ] {
        let result = SightingResult {
            user,
            unionid: None,
        };
        let linked = LinkedLogin {
            id: &event("evt-1"),
            occurred_at: NOW,
            clamped: false,
            account: &account,
            attributes,
            result: &result,
            reason: Some(Reason::NoUnionid),
        };
        let record = linked.to_record(&cx).expect("on");
        samples.push(("linked-login.json", record.value.expect("value")));
    }
    samples
}
