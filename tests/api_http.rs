//! Stories of the look-ups over real HTTP, with a store that holds what it is told; and the
//! OpenAPI document against the routes of both surfaces.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop"
)]

mod http;

use async_trait::async_trait;
use http::{SECRET, Server, assert_no_secret, body, client, error, logs, ops};
use reqwest::Response;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use unilink::api::{self, ApiDeps};
use unilink::http::{Keys, Listening, OPERATIONS};
use unilink::model::{
    Account, AccountRow, App, AppId, AppKind, Apps, Binding, ClaimKey, ClaimRow, ClaimStatus,
    EventId, ExternalId, Keys as ModelKeys, Method, Millis, PlatformId, Room, Secret, TokenSource,
    UnionId, UnionKey, UserId, View, Why,
};
use unilink::store::{
    AppToken, Batch, Birth, Claim, Claimed, CodeKey, Deferred, FoundAccount, FoundUser, Held,
    Identity, OutboxRow, Pause, Pauses, Planner, Position, Prune, Release, Sending, Spent, Store,
    StoreError, Totals, Tracked, TrackedState,
};
use uuid::Uuid;

/// Answers look-ups from maps; everything else is of no concern here.
struct FakeStore {
    identity: Identity,
    accounts: HashMap<Account, FoundAccount>,
    users: HashMap<UserId, FoundUser>,
    events: Mutex<HashMap<EventId, Tracked>>,
    down: Mutex<Option<fn() -> StoreError>>,
}

impl FakeStore {
    fn ask<T>(&self, answer: T) -> Result<T, StoreError> {
        match *self.down.lock().expect("lock") {
            Some(error) => Err(error()),
            None => Ok(answer),
        }
    }
}

fn elsewhere<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("not in these stories".into()))
}

#[async_trait]
impl Pauses for FakeStore {
    async fn paused(&self) -> Result<Vec<Pause>, StoreError> {
        elsewhere()
    }
    async fn pause(&self, _: &Pause) -> Result<bool, StoreError> {
        elsewhere()
    }
    async fn resume(&self, _: &AppId) -> Result<bool, StoreError> {
        elsewhere()
    }
}

#[async_trait]
impl Store for FakeStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }
    async fn same(&self) -> Result<(), StoreError> {
        elsewhere()
    }
    async fn find_accounts(
        &self,
        accounts: &[Account],
    ) -> Result<Vec<Option<FoundAccount>>, StoreError> {
        self.ask(
            accounts
                .iter()
                .map(|a| self.accounts.get(a).cloned())
                .collect(),
        )
    }
    async fn find_user(&self, user: UserId) -> Result<FoundUser, StoreError> {
        self.ask(self.users.get(&user).cloned().unwrap_or(FoundUser::Unknown))
    }
    async fn find_unionid(&self, union: &UnionKey) -> Result<Option<UserId>, StoreError> {
        let claims = |f: &&FoundAccount| f.claims.iter().any(|c| c.key.union == *union);
        self.ask(self.accounts.values().find(claims).map(|f| f.row.user))
    }
    async fn find_event(&self, event: &EventId) -> Result<Option<Tracked>, StoreError> {
        self.ask(self.events.lock().expect("lock").get(event).cloned())
    }
    async fn view(&self, _: &ModelKeys) -> Result<View, StoreError> {
        elsewhere()
    }
    async fn apply(&self, _: &Batch, _: &mut dyn Planner) -> Result<(), StoreError> {
        elsewhere()
    }
    async fn positions(&self) -> Result<Vec<Position>, StoreError> {
        elsewhere()
    }
    async fn outbox(
        &self,
        _: &[(u32, u64)],
        _: usize,
    ) -> Result<Vec<(u32, OutboxRow)>, StoreError> {
        elsewhere()
    }
    async fn outbox_row(&self, _: u32, _: u64) -> Result<Option<Uuid>, StoreError> {
        elsewhere()
    }
    async fn outbox_head(&self, _: u32) -> Result<u64, StoreError> {
        elsewhere()
    }
    async fn relayed(&self, _: u32, _: u64, _: i64) -> Result<(), StoreError> {
        elsewhere()
    }
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
    async fn spent(&self, _: &[CodeKey]) -> Result<Vec<Option<Spent>>, StoreError> {
        elsewhere()
    }
    async fn spend(&self, _: &[Spent]) -> Result<(), StoreError> {
        elsewhere()
    }
    async fn claim(&self, _: &[Claim], _: Millis) -> Result<Vec<Claimed>, StoreError> {
        elsewhere()
    }
    async fn release(&self, _: &[Release]) -> Result<(), StoreError> {
        elsewhere()
    }
    async fn sendings(&self, _: &[CodeKey]) -> Result<Vec<Option<Sending>>, StoreError> {
        elsewhere()
    }
    async fn held(&self, _: &[Account]) -> Result<Vec<Held>, StoreError> {
        elsewhere()
    }
    async fn due(&self, _: Millis, _: i64, _: &Room) -> Result<Vec<Deferred>, StoreError> {
        elsewhere()
    }
    async fn next_due(&self) -> Result<Option<Millis>, StoreError> {
        elsewhere()
    }
    async fn deferred_by_app(&self) -> Result<BTreeMap<AppId, u64>, StoreError> {
        elsewhere()
    }
    async fn hasten(&self, _: &AppId, _: Millis) -> Result<u64, StoreError> {
        elsewhere()
    }
    async fn app_token(&self, _: &AppId) -> Result<Option<AppToken>, StoreError> {
        elsewhere()
    }
    async fn lease_app_token(
        &self,
        _: &AppId,
        _: u64,
        _: Millis,
        _: Millis,
    ) -> Result<bool, StoreError> {
        elsewhere()
    }
    async fn put_app_token(
        &self,
        _: &AppId,
        _: u64,
        _: &[u8],
        _: Millis,
    ) -> Result<bool, StoreError> {
        elsewhere()
    }
    async fn release_app_token(&self, _: &AppId, _: u64) -> Result<(), StoreError> {
        elsewhere()
    }
    async fn note_apps(&self, _: &[(AppId, [u8; 32])]) -> Result<Vec<AppId>, StoreError> {
        elsewhere()
    }
    async fn totals(&self) -> Result<Totals, StoreError> {
        elsewhere()
    }
    async fn prune(&self, _: Prune) -> Result<(), StoreError> {
        elsewhere()
    }
}

const USER: UserId = UserId(Uuid::from_u128(1));
const MERGED: UserId = UserId(Uuid::from_u128(2));
const ERASED: UserId = UserId(Uuid::from_u128(3));

fn account(app: &str) -> Account {
    Account::from_key(&format!("{app}:{SECRET}")).expect("valid")
}

fn row(app: &str) -> AccountRow {
    AccountRow {
        account: account(app),
        generation: Millis(0),
        first_seen_at: Millis(1_700_000_000_000),
        user: USER,
        revision: 3,
        external: Some((Millis(1), ExternalId::parse("客户 7").expect("valid"))),
        reason: None,
        cause: EventId::parse("cause").expect("valid"),
        linked_at: Millis(1_700_000_001_000),
    }
}

fn claim(app: &str, platform: &str, unionid: &str, status: ClaimStatus) -> ClaimRow {
    ClaimRow {
        key: ClaimKey {
            account: account(app),
            union: UnionKey {
                platform: PlatformId::parse(platform).expect("valid"),
                unionid: UnionId::parse(unionid).expect("valid"),
            },
        },
        at: Millis(1_700_000_000_000),
        method: Method::DecryptedEventKey,
        cause: EventId::parse("cause").expect("valid"),
        status,
        verdict: None,
        reported: false,
    }
}

fn apps() -> Apps {
    let app = |id: &str| App {
        id: AppId::parse(id).expect("valid"),
        kind: AppKind::MiniProgram,
        secret: None,
        token: TokenSource::default(),
        component: None,
        bindings: vec![Binding {
            platform: PlatformId::parse("main").expect("valid"),
            since: Millis(0),
        }],
    };
    Apps::new(vec![app("wx1"), app("wx2")])
}

/// `wx1` is linked with a contested claim beside; `wx2` is unresolved.
fn store() -> Arc<FakeStore> {
    let linked = FoundAccount {
        row: row("wx1"),
        claims: vec![
            claim("wx1", "main", "u-active", ClaimStatus::Active),
            claim(
                "wx1",
                "main",
                "u-other",
                ClaimStatus::Contested(Why::OtherUnionid),
            ),
        ],
    };
    let unresolved = FoundAccount {
        row: row("wx2"),
        claims: Vec::new(),
    };
    let all = vec![linked.clone(), unresolved.clone()];
    let is = |user| (user, FoundUser::Is(USER, all.clone()));
    Arc::new(FakeStore {
        identity: Identity {
            store: Uuid::nil(),
            epoch: 2,
            birth: Birth {
                partitions: 4,
                group: "g".into(),
                secrets_hash: [0; 32],
            },
        },
        accounts: [(account("wx1"), linked), (account("wx2"), unresolved)].into(),
        users: [is(USER), is(MERGED), (ERASED, FoundUser::Gone)].into(),
        events: Mutex::default(),
        down: Mutex::default(),
    })
}

struct Story {
    server: Server,
    store: Arc<FakeStore>,
}

impl Story {
    async fn new(keys: &[&str], max_in_flight: usize) -> Self {
        let store = store();
        let keys: Vec<Secret> = keys.iter().map(|k| Secret::new((*k).into())).collect();
        let stop = CancellationToken::new();
        let app = api::router(ApiDeps {
            store: Arc::clone(&store) as Arc<dyn Store>,
            apps: Arc::new(apps()),
            keys: Keys::new(&keys),
            max_in_flight,
            stop: stop.clone(),
            ops: ops(),
        });
        let server = Server::with(app, Listening::default(), stop).await;
        Self { server, store }
    }

    async fn plain() -> Self {
        Self::new(&[], 64).await
    }

    async fn get(&self, path: &str) -> Response {
        client()
            .get(self.server.url(path))
            .send()
            .await
            .expect("answered")
    }

    async fn lookup(&self, body: impl Into<reqwest::Body>) -> Response {
        let post = client()
            .post(self.server.url("/v1/accounts/lookup"))
            .body(body);
        post.send().await.expect("answered")
    }

    fn track(&self, id: &str, state: TrackedState, app: Option<&str>, reason: Option<&str>) {
        let event = EventId::parse(id).expect("valid");
        let tracked = Tracked {
            event: event.clone(),
            state,
            account: app.map(account),
            reason: reason.map(str::to_owned),
            at: Millis(1_700_000_000_000),
        };
        self.store
            .events
            .lock()
            .expect("lock")
            .insert(event, tracked);
    }
}

async fn found(answer: Response) -> Value {
    assert_eq!(answer.status(), 200);
    body(answer).await
}

fn linked_json() -> Value {
    let claim = |unionid: &str, status: &str, why: Value| {
        json!({
            "platform": "main", "unionid": unionid, "method": "decrypted",
            "at": "2023-11-14T22:13:20.000Z", "status": status, "why": why,
        })
    };
    json!({
        "appid": "wx1", "openid": SECRET, "user_id": USER.to_string(),
        "platform": "main", "unionid": "u-active", "method": "decrypted", "reason": null,
        "claims": [
            claim("u-active", "active", Value::Null),
            claim("u-other", "contested", json!("other_unionid")),
        ],
        "claims_count": 2, "epoch": 2, "revision": 3, "generation": 0, "external_id": "客户 7",
        "first_seen_at": "2023-11-14T22:13:20.000Z", "linked_at": "2023-11-14T22:13:21.000Z",
    })
}

#[tokio::test]
async fn an_account_shows_what_account_linked_shows() {
    let story = Story::plain().await;
    let got = found(story.get(&format!("/v1/accounts/wx1/{SECRET}")).await).await;
    assert_eq!(got, linked_json());
    let got = found(story.get(&format!("/v1/accounts/wx2/{SECRET}")).await).await;
    assert_eq!(
        (&got["method"], &got["reason"]),
        (&json!("none"), &json!("no_unionid"))
    );
    assert_eq!(
        (&got["platform"], &got["unionid"]),
        (&json!("main"), &Value::Null)
    );
    assert_eq!(
        error(story.get("/v1/accounts/wx1/oNobody").await).await.0,
        404
    );
    assert_eq!(
        error(story.get(&format!("/v1/accounts/wx9/{SECRET}")).await)
            .await
            .0,
        404
    );
    for (path, field) in [
        ("wx1/undefined", "openid"),
        ("a%3Ab/o1", "appid"),
        ("wx1/o%20o", "openid"),
    ] {
        let (status, why) = error(story.get(&format!("/v1/accounts/{path}")).await).await;
        assert_eq!((status, &why["field"]), (422, &json!(field)), "{path}");
    }
    assert_eq!(error(story.get("/v1/accounts/wx1/%FF").await).await.0, 400);
}

#[tokio::test]
async fn at_most_32_claims_are_shown_and_all_are_counted() {
    let mut many = store();
    let store = Arc::get_mut(&mut many).expect("alone");
    let contested = ClaimStatus::Contested(Why::ManyUnionids);
    let claims = (0..40)
        .map(|i| claim("wx1", "main", &format!("u-{i}"), contested))
        .collect();
    let found_account = FoundAccount {
        row: row("wx1"),
        claims,
    };
    store.accounts.insert(account("wx1"), found_account);
    let story = Story::plain().await;
    let app = api::router(ApiDeps {
        store: many,
        apps: Arc::new(apps()),
        keys: Keys::default(),
        max_in_flight: 1,
        stop: CancellationToken::new(),
        ops: ops(),
    });
    let story = Story {
        server: Server::start(app).await,
        ..story
    };
    let got = found(story.get(&format!("/v1/accounts/wx1/{SECRET}")).await).await;
    assert_eq!(got["claims"].as_array().map(Vec::len), Some(32));
    assert_eq!(
        (&got["claims_count"], &got["reason"]),
        (&json!(40), &json!("contested"))
    );
}

#[tokio::test]
async fn every_published_id_answers_with_the_user_it_became() {
    let story = Story::plain().await;
    for asked in [USER, MERGED] {
        let got = found(story.get(&format!("/v1/users/{asked}")).await).await;
        assert_eq!(got["requested"], asked.to_string());
        assert_eq!(got["user_id"], USER.to_string());
        assert_eq!(got["accounts"][0], linked_json());
        assert_eq!(got["accounts"].as_array().map(Vec::len), Some(2));
    }
    assert_eq!(
        error(story.get(&format!("/v1/users/{ERASED}")).await)
            .await
            .0,
        410
    );
    assert_eq!(
        error(
            story
                .get(&format!("/v1/users/{}", Uuid::from_u128(9)))
                .await
        )
        .await
        .0,
        404
    );
    let (status, why) = error(story.get("/v1/users/me").await).await;
    assert_eq!((status, &why["field"]), (422, &json!("user_id")));
}

#[tokio::test]
async fn a_unionid_answers_in_its_platform_only() {
    let story = Story::plain().await;
    let got = found(story.get("/v1/unionids/main/u-active").await).await;
    assert_eq!(
        (&got["platform"], &got["unionid"]),
        (&json!("main"), &json!("u-active"))
    );
    assert_eq!(got["user_id"], USER.to_string());
    assert_eq!(
        error(story.get("/v1/unionids/games/u-active").await)
            .await
            .0,
        404
    );
    let (status, why) = error(story.get("/v1/unionids/main/null").await).await;
    assert_eq!((status, &why["field"]), (422, &json!("unionid")));
}

#[tokio::test]
async fn many_accounts_answer_in_order_with_null_for_the_unknown() {
    let story = Story::plain().await;
    let ask = |app: &str, openid: &str| json!({"appid": app, "openid": openid});
    let asked =
        json!({"accounts": [ask("wx2", SECRET), ask("wx1", "oNobody"), ask("wx1", SECRET)]});
    let got = found(story.lookup(asked.to_string()).await).await;
    assert_eq!(got["accounts"][0]["appid"], "wx2");
    assert_eq!(
        (&got["accounts"][1], &got["accounts"][2]),
        (&Value::Null, &linked_json())
    );
    let full = json!({"accounts": vec![ask("wx1", &"o".repeat(64)); 1_000]});
    let got = found(story.lookup(full.to_string()).await).await;
    assert_eq!(got["accounts"].as_array().map(Vec::len), Some(1_000));
    assert_eq!(
        found(story.lookup(r#"{"accounts":[]}"#).await).await,
        json!({"accounts": []})
    );
}

#[tokio::test]
async fn bad_bulk_look_ups_name_what_is_wrong() {
    let story = Story::plain().await;
    let too_many = json!({"accounts": vec![json!({"appid": "wx1", "openid": "o1"}); 1_001]});
    let good = format!(r#"{{"appid":"wx1","openid":"{SECRET}"}}"#);
    let second = |bad: &str| format!(r#"{{"accounts":[{good},{bad}]}}"#);
    for (body, status, field, index) in [
        (String::new(), 400, None, None),
        (format!("{{\"accounts\":[\"{SECRET}"), 400, None, None),
        ("[".repeat(100_000), 400, None, None),
        ("[]".into(), 422, Some("accounts"), None),
        (r#"{"accounts":{}}"#.into(), 422, Some("accounts"), None),
        (second("7"), 422, Some("accounts"), Some(1)),
        (second(r#"{"appid":"wx1"}"#), 422, Some("openid"), Some(1)),
        (
            second(r#"{"appid":7,"openid":"o"}"#),
            422,
            Some("appid"),
            Some(1),
        ),
        (
            second(r#"{"appid":"wx1","openid":"null"}"#),
            422,
            Some("openid"),
            Some(1),
        ),
        (too_many.to_string(), 413, None, None),
        (" ".repeat(300_000), 413, None, None),
    ] {
        let (got, why) = error(story.lookup(body.clone()).await).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!(
            (got, why["field"].as_str(), why["index"].as_u64()),
            (status, field, index),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn the_fate_of_an_event_is_told() {
    let story = Story::plain().await;
    story.track("linked", TrackedState::Linked, Some("wx1"), None);
    story.track(
        "waits",
        TrackedState::Deferred,
        Some("wx2"),
        Some("no_session_key"),
    );
    story.track("dead", TrackedState::Dead, None, Some("code_dead"));
    let fate = async |id: &str| found(story.get(&format!("/v1/logins/{id}")).await).await;
    let linked = fate("linked").await;
    assert_eq!(
        (&linked["state"], &linked["account"]),
        (&json!("linked"), &linked_json())
    );
    assert_eq!(linked["user_id"], USER.to_string());
    let waits = fate("waits").await;
    assert_eq!(
        (&waits["state"], &waits["reason"]),
        (&json!("deferred"), &json!("no_session_key"))
    );
    let dead = fate("dead").await;
    assert_eq!(
        (&dead["state"], &dead["reason"], &dead["user_id"]),
        (&json!("dead"), &json!("code_dead"), &Value::Null)
    );
    let unknown = fate("nobody").await;
    assert_eq!(
        (&unknown["state"], &unknown["at"]),
        (&json!("unknown"), &Value::Null)
    );
    for bad in [
        "e?wait=5",
        "e?wait=31s",
        "e?wait=",
        "e?weit=5s",
        "e?wait=1s&wait=2s",
        "a%20b",
    ] {
        assert_eq!(
            error(story.get(&format!("/v1/logins/{bad}")).await).await.0,
            422,
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_wait_ends_when_the_event_is_seen_or_the_time_is_over() {
    let story = Story::plain().await;
    let began = Instant::now();
    let unknown = found(story.get("/v1/logins/late?wait=200ms").await).await;
    assert_eq!(unknown["state"], "unknown");
    assert!(began.elapsed() >= Duration::from_millis(200));
    let waiting = story.get("/v1/logins/late?wait=30s");
    let seen = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        story.track("late", TrackedState::Linked, Some("wx1"), None);
    };
    let (answer, ()) = tokio::join!(waiting, seen);
    assert_eq!(found(answer).await["user_id"], USER.to_string());
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn waits_are_bounded_in_number_and_end_with_the_process() {
    let story = Story::new(&[], 2).await;
    let url = story.server.url("/v1/logins/never?wait=30s");
    let waits: Vec<_> = (0..2)
        .map(|_| tokio::spawn(client().get(&url).send()))
        .collect();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let full = story.get("/v1/logins/never").await;
    assert_eq!(full.headers()["retry-after"], "1");
    assert_eq!(error(full).await.0, 503);
    assert_eq!(story.get("/livez").await.status(), 200);
    let began = Instant::now();
    story.server.stop.cancel();
    for wait in waits {
        let answer = wait.await.expect("joined").expect("answered");
        assert_eq!(found(answer).await["state"], "unknown");
    }
    story.server.ended.await.expect("ended");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn strangers_see_nothing() {
    let story = Story::new(&["key"], 64).await;
    let paths = [
        format!("/v1/accounts/wx1/{SECRET}"),
        format!("/v1/users/{USER}"),
        "/v1/unionids/main/u-active".into(),
        "/v1/logins/e1".into(),
        "/v1/users/not-a-uuid".into(),
    ];
    for path in &paths {
        assert_eq!(error(story.get(path).await).await.0, 401, "{path}");
    }
    assert_eq!(error(story.lookup("{}").await).await.0, 401);
    let open = client().get(story.server.url(&paths[0])).bearer_auth("key");
    assert_eq!(open.send().await.expect("answered").status(), 200);
}

#[tokio::test]
async fn a_store_that_fails_is_503_or_500_and_shows_nothing() {
    let story = Story::plain().await;
    let path = format!("/v1/accounts/wx1/{SECRET}");
    let faults: [(fn() -> StoreError, u16); 3] = [
        (|| StoreError::Unavailable("locked".into()), 503),
        (|| StoreError::Mismatch("another namespace".into()), 500),
        (|| StoreError::Corrupt("a row".into()), 500),
    ];
    for (fault, status) in faults {
        *story.store.down.lock().expect("lock") = Some(fault);
        let (got, why) = error(story.get(&path).await).await;
        assert_eq!(got, status);
        assert!(!why.to_string().contains("namespace"), "{why}");
        assert_eq!(
            error(story.get("/v1/logins/e?wait=5s").await).await.0,
            status
        );
    }
    let logs = logs();
    assert!(
        logs.contains("another namespace"),
        "the reason is the operator's"
    );
    assert_no_secret("the log", &logs);
    let metrics = story.get("/metrics").await.text().await.expect("text");
    assert!(
        metrics.contains("route=\"/v1/accounts/{appid}/{openid}\""),
        "{metrics}"
    );
    assert_no_secret("metrics", &metrics);
}

/// Every operation of the document exists on a router, and every route is in the document.
#[tokio::test]
async fn the_openapi_document_and_the_routes_agree() {
    let story = Story::plain().await;
    let document = found(story.get("/openapi.json").await).await;
    let described: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys().cloned();
            methods.map(move |m| (path.clone(), m))
        })
        .collect();
    let intake = Server::start(unilink::intake::router(intake_deps())).await;
    let mut exist = BTreeSet::new();
    let surfaces = [
        (&story.server, api::paths()),
        (&intake, unilink::intake::paths()),
    ];
    for (server, paths) in surfaces {
        for path in paths.into_iter().chain(OPERATIONS) {
            let filled = path
                .replace("{user_id}", &USER.to_string())
                .replace(['{', '}'], "");
            for method in ["get", "post", "put", "delete", "patch"] {
                let verb = method.to_uppercase().parse().expect("method");
                let answer = client().request(verb, server.url(&filled)).send().await;
                let status = answer.expect("answered").status();
                if status != 405 {
                    exist.insert((path.to_owned(), method.to_owned()));
                }
            }
        }
    }
    assert_eq!(described, exist);
}

/// What is shown has exactly the fields that the document lists.
#[tokio::test]
async fn answers_match_their_schemas() {
    let story = Story::plain().await;
    story.track("linked", TrackedState::Linked, Some("wx1"), None);
    let document = found(story.get("/openapi.json").await).await;
    let shown = [
        (
            "Account",
            story.get(&format!("/v1/accounts/wx1/{SECRET}")).await,
        ),
        ("User", story.get(&format!("/v1/users/{USER}")).await),
        ("Fate", story.get("/v1/logins/linked").await),
        ("Fate", story.get("/v1/logins/unknown").await),
    ];
    for (name, answer) in shown {
        let answer = found(answer).await;
        let schema = json!({
            "$ref": format!("#/components/schemas/{name}"), "components": document["components"],
        });
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let wrong: Vec<String> = validator
            .iter_errors(&answer)
            .map(|e| e.to_string())
            .collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}");
    }
    let wrong = story.get("/v1/users/me").await;
    let schema =
        json!({"$ref": "#/components/schemas/Error", "components": document["components"]});
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    assert!(validator.is_valid(&body(wrong).await));
}

fn intake_deps() -> unilink::intake::IntakeDeps {
    unilink::intake::IntakeDeps {
        bus: Arc::new(NoBus),
        prepare: Arc::new(NoPrepare),
        clock: unilink::clock::system(),
        keys: Keys::default(),
        limits: (&unilink::config::Config::read("", "", &[("", ""); 0].into_iter().collect())
            .expect("defaults")
            .intake)
            .into(),
        pushes: unilink::intake::Pushes::default(),
        cloud_run: false,
        ops: ops(),
    }
}

struct NoPrepare;

impl unilink::intake::Prepare for NoPrepare {
    fn prepare(
        &self,
        _: &[u8],
        _: Millis,
    ) -> Result<unilink::intake::Prepared, unilink::intake::Refusal> {
        Err(unilink::intake::Refusal {
            status: unilink::intake::RefusalKind::Malformed,
            field: String::new(),
            problem: "none is taken".into(),
        })
    }
}

struct NoBus;

#[async_trait]
impl unilink::bus::Bus for NoBus {
    async fn group(&self) -> Result<Vec<unilink::bus::Assigned>, unilink::bus::BusError> {
        Err(unilink::bus::BusError::Refused("no log".to_owned()))
    }

    async fn place(&self, _: &[unilink::bus::Progress]) -> Result<(), unilink::bus::BusError> {
        Err(unilink::bus::BusError::Refused("no log".to_owned()))
    }

    async fn publish(&self, _: Vec<unilink::bus::Record>) -> Result<(), unilink::bus::BusError> {
        Ok(())
    }
    async fn join(&self) -> Result<Arc<dyn unilink::bus::Member>, unilink::bus::BusError> {
        Err(unilink::bus::BusError::Refused("none".into()))
    }
    async fn read(
        &self,
        _: &unilink::bus::Range,
        _: usize,
    ) -> Result<Vec<unilink::bus::Stored>, unilink::bus::BusError> {
        Ok(Vec::new())
    }
    async fn offsets_at(
        &self,
        _: &Arc<str>,
        _: Millis,
    ) -> Result<Vec<i64>, unilink::bus::BusError> {
        Ok(Vec::new())
    }
    async fn topics(
        &self,
        _: &[unilink::bus::TopicSpec],
    ) -> Result<Vec<unilink::bus::TopicState>, unilink::bus::BusError> {
        Ok(Vec::new())
    }
}
