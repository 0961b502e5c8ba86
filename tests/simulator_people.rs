//! The simulated people: what they do can be repeated, and what is said to be true about them
//! follows from their events alone. Two linkers stand in for the product: a careful one that the
//! truth must call perfect, and careless ones that it must catch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test that cannot go on should panic, in its helpers too

use aes::cipher::{BlockCipherDecrypt, KeyInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use unilink::model::{Account, AppKind, Millis, OpenId, Reason, UnionId, UserId};
use unilink::simulate::{
    Action, Api, AppNo, Event, Found, Outcome, Params, Population, Request, Settings, Simulator,
    Verdict, World,
};
use uuid::Uuid;

const PEOPLE: u64 = 3_000;
const NOW: Millis = Millis(1_700_000_000_000);

fn simulator(seed: u64) -> Simulator {
    let world = World::new(seed).unwrap();
    Simulator::new(world, Settings::default(), Arc::new(|| NOW))
}

fn population() -> Population {
    Population::new(PEOPLE, 5)
}

#[derive(Clone, Copy, PartialEq)]
enum Care {
    /// Checks everything.
    Full,
    /// Takes "undefined" for a unionid.
    Placeholders,
    /// Takes a snapshot page's ids for real.
    Snapshots,
    /// Takes the unionid of whatever decrypts.
    AnyData,
    /// Takes a gateway's word over WeChat's.
    AnyClaim,
}

/// A claim with the rank of its method: smaller is stronger.
type Claims = BTreeMap<Account, Vec<(u8, String)>>;

/// Links all events at once, with union-find over the claims.
struct Linker<'a> {
    sim: &'a Simulator,
    care: Care,
    /// Asks WeChat's other APIs.
    asks: bool,
    claims: Claims,
    reasons: HashMap<Account, Reason>,
    keys: HashMap<Account, Vec<String>>,
    waiting: Vec<(Account, Value)>,
    dead: BTreeSet<String>,
    codes: HashMap<String, Value>,
}

impl<'a> Linker<'a> {
    fn new(sim: &'a Simulator, care: Care, asks: bool) -> Self {
        Self {
            sim,
            care,
            asks,
            claims: Claims::new(),
            reasons: HashMap::new(),
            keys: HashMap::new(),
            waiting: Vec::new(),
            dead: BTreeSet::new(),
            codes: HashMap::new(),
        }
    }

    fn take(&mut self, event: &Event) {
        let event: Value = serde_json::from_slice(&event.json().unwrap()).unwrap();
        let Some(code) = event["code"].as_str() else {
            return self.known(&event, event["openid"].as_str().unwrap());
        };
        let answer = match self.codes.get(code) {
            Some(answer) => answer.clone(),
            None => self.exchange(&event, code),
        };
        self.codes.insert(code.to_owned(), answer.clone());
        let Some(openid) = answer["openid"].as_str() else {
            self.dead.insert(event["id"].as_str().unwrap().to_owned());
            return;
        };
        let mut whole = event.clone();
        whole["session_key"] = answer["session_key"].clone();
        whole["exchanged"] = answer["unionid"].clone();
        if answer["is_snapshotuser"] == 1 {
            whole["is_snapshotuser"] = 1.into();
        }
        if let Some(token) = answer["access_token"].as_str() {
            whole["access_token"] = token.into();
        }
        self.known(&whole, openid);
    }

    fn app(&self, appid: &str) -> (AppNo, AppKind) {
        let number = self.sim.world().number(appid).unwrap();
        (number, self.sim.world().app(number).unwrap().kind)
    }

    /// Some nicknames are no JSON.
    fn call(&self, request: Request) -> Value {
        match self.sim.call(request).action {
            Action::Respond { body, .. } => {
                let text = String::from_utf8_lossy(&body);
                let text: String = text.chars().filter(|c| !c.is_control()).collect();
                serde_json::from_str(&text).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    /// Asks with an app token.
    fn ask(&self, api: Api, appid: &str, fields: &[(&str, &str)]) -> Value {
        let app = self.sim.world().app(self.app(appid).0).unwrap();
        let body = serde_json::json!({
            "grant_type": "client_credential", "appid": appid, "secret": app.secret,
        });
        let request = Request::new(Api::StableToken, [("", "")]).with_body(body.to_string());
        let answer = self.call(request);
        let token = ("access_token", answer["access_token"].as_str().unwrap());
        self.call(Request::new(api, fields.iter().copied().chain([token])))
    }

    /// Asks WeChat for the unionid in all the ways that the event offers, and that a follower does.
    fn enrich(&self, event: &Value, openid: &str) -> Option<String> {
        let field = |name: &str| event[name].as_str().unwrap_or("");
        let appid = field("appid");
        let unionid = |answer: Value| Some(answer["unionid"].as_str()?.trim().to_owned());
        let (_, kind) = self.app(appid);
        let mut found = None;
        if !field("access_token").is_empty() {
            let fields = [("access_token", field("access_token")), ("openid", openid)];
            found = unionid(self.call(Request::new(Api::OauthUser, fields)));
        }
        if found.is_none() && kind == AppKind::OfficialAccount {
            found = unionid(self.ask(Api::Follower, appid, &[("openid", openid)]));
        }
        let paid = !field("transaction_id").is_empty() || !field("out_trade_no").is_empty();
        if found.is_none() && paid {
            let fields = [
                ("openid", openid),
                ("transaction_id", field("transaction_id")),
                ("mch_id", field("mch_id")),
                ("out_trade_no", field("out_trade_no")),
            ];
            found = unionid(self.ask(Api::PaidUnionid, appid, &fields));
        }
        found
    }

    fn exchange(&self, event: &Value, code: &str) -> Value {
        let appid = event["appid"].as_str().unwrap();
        let (number, kind) = self.app(appid);
        let secret = &self.sim.world().app(number).unwrap().secret;
        let api = match kind {
            AppKind::MiniProgram => Api::Code2Session,
            _ => Api::Oauth,
        };
        let params = Params {
            appid,
            secret,
            code,
            grant_type: "authorization_code",
        };
        match self.sim.exchange(api, &params).action {
            Action::Respond { body, .. } => serde_json::from_slice(&body).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn known(&mut self, event: &Value, openid: &str) {
        let key = format!("{}:{openid}", event["appid"].as_str().unwrap());
        let account = Account::from_key(&key).unwrap();
        self.claims.entry(account.clone()).or_default();
        if let Some(key) = event["session_key"].as_str() {
            self.keys
                .entry(account.clone())
                .or_default()
                .push(key.to_owned());
        }
        if event["is_snapshotuser"] == 1 && self.care != Care::Snapshots {
            self.reasons.insert(account, Reason::SnapshotUser);
            return;
        }
        self.reasons
            .entry(account.clone())
            .or_insert(Reason::NoUnionid);
        if let Some(unionid) = event["exchanged"].as_str() {
            self.claim(&account, 1, unionid);
        } else if self.asks
            && let Some(unionid) = self.enrich(event, openid)
        {
            self.claim(&account, 1, &unionid);
        }
        if let Some(unionid) = event["unionid"].as_str() {
            let fine = UnionId::parse(unionid).is_ok() && unionid != openid;
            if fine || self.care == Care::Placeholders {
                self.claim(&account, 4, unionid);
            } else {
                self.reasons
                    .insert(account.clone(), Reason::PlaceholderUnionid);
            }
        }
        if event["encryptedData"].is_string() {
            self.waiting.push((account, event.clone()));
        }
    }

    fn claim(&mut self, account: &Account, rank: u8, unionid: &str) {
        let claims = self.claims.entry(account.clone()).or_default();
        claims.push((rank, unionid.to_owned()));
    }

    /// Once all keys are there: tries each of the account's on the data that waits.
    fn decrypt_all(&mut self) {
        for (account, event) in std::mem::take(&mut self.waiting) {
            let keys = self.keys.get(&account).cloned().unwrap_or_default();
            let opened = keys.iter().find_map(|key| decrypt(&event, key));
            let Some(plain) = opened else {
                self.reasons.insert(account, Reason::DecryptFailed);
                continue;
            };
            let own = plain["openId"] == account.openid.as_str()
                && plain["watermark"]["appid"] == account.app.as_str();
            if !own && self.care != Care::AnyData {
                self.reasons.insert(account, Reason::DecryptFailed);
            } else if let Some(unionid) = plain["unionId"].as_str() {
                self.claim(&account, 2, unionid);
            }
        }
    }

    /// The claim that counts for each account, and so its user.
    fn link(&mut self) -> HashMap<Account, Found> {
        self.decrypt_all();
        let best = |claims: &Vec<(u8, String)>| {
            let best = match self.care {
                Care::AnyClaim => claims.iter().max(),
                _ => claims.iter().min(),
            };
            best.map(|(_, unionid)| unionid.clone())
        };
        let chosen: BTreeMap<_, _> = self
            .claims
            .iter()
            .map(|(a, c)| (a.clone(), best(c)))
            .collect();
        let mut members: HashMap<String, Vec<Account>> = HashMap::new();
        let group = |account: &Account, unionid: &Option<String>| {
            unionid.clone().unwrap_or_else(|| account.key())
        };
        for (account, unionid) in &chosen {
            members
                .entry(group(account, unionid))
                .or_default()
                .push(account.clone());
        }
        let found = chosen.iter().map(|(account, unionid)| {
            let name = group(account, unionid);
            let user = UserId(Uuid::new_v5(&Uuid::nil(), name.as_bytes()));
            let found = Found {
                account: account.clone(),
                user,
                members: members[&name].clone(),
                unionid: unionid.as_deref().and_then(|u| UnionId::parse(u).ok()),
                reason: self.reasons.get(account).copied(),
            };
            (account.clone(), found)
        });
        found.collect()
    }
}

/// CBC by hand over single blocks; strict padding.
fn decrypt(event: &Value, key: &str) -> Option<Value> {
    let bytes = |text: &str| STANDARD.decode(text).unwrap();
    let key: [u8; 16] = bytes(key).try_into().unwrap();
    let cipher = aes::Aes128::new(&key.into());
    let mut previous: [u8; 16] = bytes(event["iv"].as_str()?).try_into().unwrap();
    let mut plain = Vec::new();
    for chunk in bytes(event["encryptedData"].as_str()?).chunks_exact(16) {
        let chunk: [u8; 16] = chunk.try_into().unwrap();
        let mut block = chunk.into();
        cipher.decrypt_block(&mut block);
        plain.extend(block.iter().zip(previous).map(|(a, b)| a ^ b));
        previous = chunk;
    }
    let text = plain.len().checked_sub(usize::from(*plain.last()?))?;
    serde_json::from_slice(&plain[..text]).ok()
}

/// Links everybody's events and adds the verdicts up.
fn run(care: Care, lost: &dyn Fn(&str) -> bool) -> (Verdict, BTreeSet<String>) {
    run_of(population(), care, true, lost)
}

fn run_of(
    population: Population,
    care: Care,
    asks: bool,
    lost: &dyn Fn(&str) -> bool,
) -> (Verdict, BTreeSet<String>) {
    let sim = simulator(3);
    let mut linker = Linker::new(&sim, care, asks);
    for person in 0..PEOPLE {
        for event in population.events(person, &sim) {
            if !lost(&event.id) {
                linker.take(&event);
            }
        }
    }
    let found = linker.link();
    let mut sum = Verdict::default();
    for person in 0..PEOPLE {
        let truth = population.truth(person, sim.world()).unwrap();
        let mut own: Vec<_> = truth
            .accounts(lost)
            .into_iter()
            .map(|e| e.account)
            .collect();
        own.retain(|a| found.contains_key(a));
        let own: Vec<Found> = own.iter().map(|a| found[a].clone()).collect();
        sum.add(&truth.judge(&own, lost));
    }
    assert_eq!(
        sum.accounts,
        found.len() as u64 + sum.missing,
        "accounts that nobody owns"
    );
    (sum, linker.dead)
}

#[test]
fn the_truth_calls_a_careful_linker_perfect() {
    let (verdict, dead) = run(Care::Full, &|_| false);
    assert!(verdict.perfect(), "{verdict:?}");
    assert!(verdict.users < verdict.accounts, "people merge");
    let world = World::new(3).unwrap();
    let mut expected = BTreeSet::new();
    for person in 0..PEOPLE {
        let truth = population().truth(person, &world).unwrap();
        expected.extend(truth.dead().map(|(event, _)| event.to_owned()));
    }
    assert_eq!(dead, expected);
    assert!(!dead.is_empty());
}

#[test]
fn logins_in_every_way_are_resolved_by_a_linker_that_asks_and_missed_by_one_that_does_not() {
    let population = population().in_every_way();
    let (asked, dead) = run_of(population, Care::Full, true, &|_| false);
    assert!(asked.perfect(), "{asked:?}");
    let world = World::new(3).unwrap();
    let truths = (0..PEOPLE).map(|p| population.truth(p, &world).unwrap());
    let expected: BTreeSet<_> = truths
        .flat_map(|t| t.dead().map(|(e, _)| e.to_owned()).collect::<Vec<_>>())
        .collect();
    assert_eq!(dead, expected);
    let (silent, _) = run_of(population, Care::Full, false, &|_| false);
    assert!(silent.missed_links > 500, "{silent:?}");
    assert_eq!((silent.wrong_merges, silent.wrong_links), (0, 0));
    let (careless, _) = run_of(population, Care::Snapshots, true, &|_| false);
    assert!(careless.wrong_merges > 0, "{careless:?}");
}

#[test]
fn every_way_has_its_share_and_posts_only_what_a_gateway_has() {
    let sim = simulator(3);
    let population = population().in_every_way();
    let mut shares = BTreeMap::<&str, u32>::new();
    for person in 0..PEOPLE {
        let truth = population.truth(person, sim.world()).unwrap();
        let named: HashSet<_> = truth.traces.iter().map(|t| t.event.clone()).collect();
        let events = population.events(person, &sim);
        assert_eq!(named, events.iter().map(|e| e.id.clone()).collect());
        for event in events {
            let app = sim.world().number(&event.appid).unwrap();
            let mini = sim.world().app(app).unwrap().kind == AppKind::MiniProgram;
            let mut count = |name, there: bool| {
                *shares.entry(name).or_default() += u32::from(there);
            };
            count("oauth code", event.code.is_some() && !mini);
            count("grant", event.scope == Some("snsapi_userinfo"));
            count("login grant", event.scope == Some("snsapi_login"));
            count("base grant", event.scope == Some("snsapi_base"));
            count("paid", event.transaction_id.is_some());
            count("paid order", event.out_trade_no.is_some());
            assert_eq!(event.access_token.is_some(), event.scope.is_some());
            assert_eq!(event.mch_id.is_some(), event.out_trade_no.is_some());
            let paid = event.transaction_id.is_some() || event.mch_id.is_some();
            assert!(!paid || (mini && event.openid.is_some() && event.unionid.is_none()));
            assert!(event.access_token.is_none() || (!mini && event.openid.is_some()));
        }
    }
    assert!(shares.values().all(|n| *n > 20), "{shares:?}");
}

#[test]
fn the_truth_still_holds_when_events_are_lost() {
    let (sim, population) = (simulator(3), population());
    let events = (0..PEOPLE).flat_map(|p| population.events(p, &sim));
    // Refused at the intake, or every fourth code, as if an answer had been lost.
    let fate = |e: &Event| {
        e.refused_at_intake
            || (e.code.is_some() && e.id.bytes().map(u32::from).sum::<u32>() % 4 == 0)
    };
    let gone: HashSet<String> = events.filter(fate).map(|e| e.id).collect();
    assert!(gone.len() > 500, "{}", gone.len());
    let (verdict, _) = run(Care::Full, &|event| gone.contains(event));
    assert!(verdict.perfect(), "{verdict:?}");
}

#[test]
fn the_truth_catches_every_sort_of_careless_linker() {
    for care in [
        Care::Placeholders,
        Care::Snapshots,
        Care::AnyData,
        Care::AnyClaim,
    ] {
        let (verdict, _) = run(care, &|_| false);
        assert!(verdict.wrong_merges > 0, "{} {verdict:?}", care as u8);
    }
}

#[test]
fn a_missed_merge_a_missing_account_and_a_missed_link_are_told_apart() {
    let population = population();
    let world = World::new(3).unwrap();
    let truth = (0..PEOPLE)
        .map(|p| population.truth(p, &world).unwrap())
        .find(|t| {
            let linked: Vec<_> = t
                .accounts(&|_| false)
                .into_iter()
                .filter_map(|e| e.union)
                .collect();
            linked.len() == 2 && linked[0] == linked[1] && t.accounts(&|_| false).len() == 2
        })
        .unwrap();
    let alone = |e: &unilink::simulate::Expected, n: u128| Found {
        account: e.account.clone(),
        user: UserId(Uuid::from_u128(n)),
        members: vec![e.account.clone()],
        unionid: e.union.as_ref().map(|u| u.unionid.clone()),
        reason: None,
    };
    let expected = truth.accounts(&|_| false);
    let mut found = vec![alone(&expected[0], 1), alone(&expected[1], 2)];
    let none = |_: &str| false;
    assert_eq!(truth.judge(&found, &none).missed_merges, 1);
    found[1].unionid = None;
    assert_eq!(truth.judge(&found, &none).missed_links, 1);
    found.pop();
    assert_eq!(truth.judge(&found, &none).missing, 1);
    let stranger = OpenId::parse("oStranger").unwrap();
    let app = found[0].account.app.clone();
    found[0].members.push(Account {
        app,
        openid: stranger,
    });
    assert_eq!(truth.judge(&found, &none).wrong_merges, 1);
}

#[test]
fn events_repeat_but_for_their_codes_and_keys() {
    let population = population();
    let stable = |event: &Event| {
        let mut event = event.clone();
        event.code = event.code.map(|_| String::new());
        serde_json::to_string(&event).unwrap()
    };
    let (a, b) = (simulator(3), simulator(3));
    for person in 0..300 {
        let left: Vec<_> = population.events(person, &a).iter().map(stable).collect();
        let right: Vec<_> = population.events(person, &b).iter().map(stable).collect();
        assert_eq!(left, right);
    }
    let other = Population::new(PEOPLE, 6);
    let keys = |p: &Population| {
        (0..50)
            .flat_map(|i| p.events(i, &a))
            .map(|e| e.appid)
            .collect::<Vec<_>>()
    };
    assert_ne!(keys(&population), keys(&other));
}

#[test]
fn the_mix_holds_everything_it_should() {
    let sim = simulator(3);
    let population = population();
    let (mut logins, mut traces) = (HashSet::new(), BTreeMap::<&str, u32>::new());
    let (mut twice, mut refused, mut events) = (0, 0, 0);
    for person in 0..PEOPLE {
        let mut ids = HashSet::new();
        for event in population.events(person, &sim) {
            events += 1;
            refused += u32::from(event.refused_at_intake);
            twice += u32::from(!ids.insert(event.id.clone()));
            let at = Millis::parse_rfc3339(&event.occurred_at).unwrap();
            assert!(at <= NOW && NOW.since(at) < 30 * 86_400_000);
        }
        let truth = population.truth(person, sim.world()).unwrap();
        let named: HashSet<_> = truth.traces.iter().map(|t| t.event.clone()).collect();
        assert_eq!(ids, named, "truth and events name the same events");
        logins.insert(named.len());
        for trace in &truth.traces {
            let name = match trace.outcome {
                Outcome::Links(_) => "links",
                Outcome::Unresolved(reasons) => reasons[0].word(),
                Outcome::Contested(_) => "contested",
                Outcome::Dead(reasons) => reasons[0].word(),
            };
            *traces.entry(name).or_default() += 1;
        }
    }
    eprintln!("{events} events, {twice} twice, {refused} refused; {traces:?}");
    assert!(twice > 0 && refused > 0);
    assert!((1..=6).all(|n| logins.contains(&n)));
    for name in [
        "links",
        "contested",
        "no_unionid",
        "app_not_bound",
        "placeholder_unionid",
        "no_session_key",
        "snapshot_user",
        "code_dead",
        "user_blocked",
    ] {
        assert!(traces.contains_key(name), "{name}");
    }
}
