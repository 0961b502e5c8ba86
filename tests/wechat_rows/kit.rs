//! One company, one simulated WeChat, one worker; what is done to them and what is seen of them.

use crate::harness::{Rig, Wish, ago, tail_of};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::future::Future;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use unilink::model::{AppKind, Millis};
use unilink::simulate::{
    Api, AppNo, AppSpec, Component, Faults, Manner, Scope, Session, Settings, Trouble, World,
};

pub use unilink::model::AppKind::{MiniProgram, MobileApp, OfficialAccount, Website};

/// A slow machine that builds at the same time may take this long for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The third-party platform and the token that is good to begin with.
pub const COMPONENT: &str = "wxc0c0c0c0c0c0c0c0";
pub const COMPONENT_TOKEN: &str = "61_component-token-that-nobody-may-see";
/// Where the component's token is kept for the worker.
pub const COMPONENT_FILE: &str = "unilink.db.component";

/// What an app is configured with.
#[derive(Clone, Copy, PartialEq)]
pub enum Way {
    /// Its AppSecret, and tokens from `cgi-bin/stable_token`.
    Secret,
    /// Its AppSecret, and tokens from `cgi-bin/token`.
    Plain,
    /// Its AppSecret, and a token from this file.
    File(&'static str),
    /// A third-party platform alone.
    Component,
}

/// Every sort of app with an exchange of its own, and the API of that.
pub const CHANNELS: [(AppKind, Way, Api); 6] = [
    (MiniProgram, Way::Secret, Api::Code2Session),
    (MiniProgram, Way::Component, Api::ComponentCode2Session),
    (OfficialAccount, Way::Secret, Api::Oauth),
    (OfficialAccount, Way::Component, Api::ComponentOauth),
    (Website, Way::Secret, Api::Oauth),
    (MobileApp, Way::Secret, Api::Oauth),
];

pub struct Scene {
    pub rig: Rig,
    /// What must stand in no log.
    hidden: Mutex<Vec<String>>,
    next: AtomicU64,
}

impl Scene {
    /// Serves a company of these apps, all on one platform.
    pub async fn of(apps: &[(AppKind, Way)], settings: Settings) -> Self {
        let mut scene = Self::asleep(apps, settings).await;
        scene.rig.start().await;
        scene
    }

    /// The same, before anything runs.
    pub async fn asleep(apps: &[(AppKind, Way)], settings: Settings) -> Self {
        let specs: Vec<AppSpec> = (apps.iter())
            .map(|(kind, _)| AppSpec {
                kind: *kind,
                platform: Some(0),
                bound_since: Millis(0),
            })
            .collect();
        let mut world = World::build(7, &["main", "second"], &specs).unwrap();
        (world.blocked_share, world.follower_share) = (0.0, 0.0);
        let rig = Rig::new(Wish {
            world: Some(world),
            settings: Settings {
                remember_codes: true,
                ..settings
            },
            timeout: "1s",
            ..Wish::default()
        })
        .await;
        let scene = Self {
            rig,
            hidden: Mutex::new(vec![COMPONENT_TOKEN.to_owned()]),
            next: AtomicU64::new(1),
        };
        scene.configure(apps);
        scene.component(COMPONENT_TOKEN);
        scene.rig.sim.set_component(Some(Component {
            appid: COMPONENT.to_owned(),
            token: COMPONENT_TOKEN.to_owned(),
            expires: None,
            apps: None,
        }));
        scene
    }

    pub async fn channels() -> Self {
        let apps = CHANNELS.map(|(kind, way, _)| (kind, way));
        Self::of(&apps, Settings::default()).await
    }

    fn configure(&self, apps: &[(AppKind, Way)]) {
        let path = self.rig.dir.path().join("unilink.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (app, (_, way)) in self.rig.sim.world().sim_apps().iter().zip(apps) {
            self.hide(&app.secret);
            let secret = format!("secret = \"{}\"", app.secret);
            let instead = match way {
                Way::Secret => secret.clone(),
                Way::Plain => format!("{secret}\ntoken = \"plain\""),
                Way::File(name) => {
                    let path = self.rig.dir.path().join(name);
                    format!("{secret}\ntoken = \"file:{}\"", path.display())
                }
                Way::Component => format!("component = \"{COMPONENT}\""),
            };
            text = text.replace(&secret, &instead);
        }
        let file = self.rig.dir.path().join(COMPONENT_FILE);
        writeln!(
            text,
            "[[components]]\nappid = \"{COMPONENT}\"\naccess_token_file = {:?}",
            file.display().to_string()
        )
        .unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Changes the configuration, for the next start.
    pub fn edit(&self, change: impl Fn(&str) -> String) {
        let path = self.rig.dir.path().join("unilink.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        let after = change(&before);
        assert_ne!(before, after, "nothing changed");
        std::fs::write(path, after).unwrap();
    }

    /// Adds lines to an app's own, before its platforms.
    pub fn add_to_app(&self, n: usize, more: &str) {
        let id = self.id(n);
        self.edit(|text| {
            text.replace(
                &format!("appid = \"{id}\"\n"),
                &format!("appid = \"{id}\"\n{more}\n"),
            )
        });
    }

    /// Binds an app to these platforms, each since a moment, and to no other.
    pub fn bind(&self, n: usize, platforms: &[(&str, Millis)]) {
        let begin = format!("appid = \"{}\"", self.id(n));
        let bindings = platforms
            .iter()
            .map(|(id, since)| format!("[[apps.platforms]]\nid = \"{id}\"\nsince = \"{since}\"\n"));
        let bindings: String = bindings.collect();
        self.edit(|text| {
            let (before, app) = text.split_once(&begin).unwrap();
            let (app, after) = app.split_once("\n\n").unwrap();
            let own = app.split("[[apps.platforms]]").next().unwrap();
            format!("{before}{begin}{}\n{bindings}\n\n{after}", own.trim_end())
        });
    }

    /// What the worker finds as the component's token.
    pub fn component(&self, token: &str) {
        self.write(COMPONENT_FILE, token);
    }

    pub fn write(&self, name: &str, text: &str) {
        self.hide(text);
        std::fs::write(self.rig.dir.path().join(name), text).unwrap();
    }

    pub fn hide(&self, text: &str) {
        if text.len() >= 10 {
            self.hidden.lock().unwrap().push(text.to_owned());
        }
    }

    pub fn app(&self, n: usize) -> AppNo {
        self.rig.sim.world().numbers().nth(n).unwrap()
    }

    pub fn id(&self, n: usize) -> String {
        self.rig.sim.world().sim_apps()[n].id.to_string()
    }

    /// Somebody whom nobody has met.
    pub fn person(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Somebody who follows the official account.
    pub fn follower(&self, n: usize) -> u64 {
        let person = self.person();
        let done = self.rig.sim.set_follows(self.app(n), person, true);
        done.unwrap();
        person
    }

    pub fn openid(&self, n: usize, person: u64) -> String {
        let openid = self.rig.sim.world().openid_text(person, self.app(n));
        self.hide(&openid);
        openid
    }

    pub fn unionid(&self, n: usize, person: u64) -> String {
        let unionid = self.rig.sim.world().unionid_text(person, self.app(n));
        let unionid = unionid.unwrap();
        self.hide(&unionid);
        unionid
    }

    /// The person begins a session, whose exchange shows the unionid.
    pub fn session(&self, n: usize, person: u64) -> Session {
        self.begin(n, person, Manner::default())
    }

    pub fn begin(&self, n: usize, person: u64, manner: Manner) -> Session {
        self.openid(n, person);
        self.unionid(n, person);
        let session = self.rig.sim.login(self.app(n), person, manner).unwrap();
        self.hide(&self.rig.sim.session_key(&session));
        session
    }

    /// Posts an event with `more` in it; its id.
    pub async fn post(&self, n: usize, more: Value) -> String {
        let id = format!("event-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut event = json!({"id": id, "occurred_at": ago(0), "appid": self.id(n)});
        let fields = more.as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(fields);
        self.rig.accept(&event).await;
        id
    }

    /// Posts the code of a session.
    pub async fn exchange(&self, n: usize, session: &Session) -> String {
        let code = self.rig.sim.code(session);
        self.hide(&code);
        self.post(n, json!({ "code": code })).await
    }

    /// Somebody new logs in by code: who, and the event.
    pub async fn login(&self, n: usize) -> (u64, String) {
        let person = self.person();
        let id = self.exchange(n, &self.session(n, person)).await;
        (person, id)
    }

    /// Posts a bare openid.
    pub async fn seen(&self, n: usize, person: u64) -> String {
        let openid = self.openid(n, person);
        self.unionid(n, person);
        self.post(n, json!({ "openid": openid })).await
    }

    /// Waits until an event is where it should be.
    pub async fn fate(&self, id: &str, state: &str) -> Value {
        let begun = Instant::now();
        loop {
            let (_, found) = self.rig.get(&format!("/v1/logins/{id}?wait=1s")).await;
            if found["state"] == state {
                return found;
            }
            let told = format!("not {state}: {found}: {}", tail_of(&self.rig.logs()));
            assert!(begun.elapsed() < PATIENCE, "{told}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn dead(&self, id: &str, reason: &str) {
        let found = self.fate(id, "dead").await;
        assert_eq!(found["reason"], reason, "{found}");
    }

    /// Waits until the person is linked, to the right unionid, and says how it was learnt.
    pub async fn linked(&self, n: usize, person: u64, method: &str) {
        let (app, openid) = (self.id(n), self.openid(n, person));
        let found = self.rig.account(&app, &openid, |f| !f["unionid"].is_null());
        let found = found.await;
        assert_eq!(found["unionid"], self.unionid(n, person), "{found}");
        assert_eq!(found["method"], method, "{found}");
    }

    /// Waits until the person is unresolved for this reason.
    pub async fn unresolved(&self, n: usize, person: u64, reason: &str) -> Value {
        let (app, openid) = (self.id(n), self.openid(n, person));
        self.rig
            .account(&app, &openid, |f| {
                f["unionid"].is_null() && f["reason"] == reason
            })
            .await
    }

    /// Nobody knows the person.
    pub async fn gone(&self, n: usize, person: u64) {
        let path = format!("/v1/accounts/{}/{}", self.id(n), self.openid(n, person));
        let begun = Instant::now();
        while self.rig.get(&path).await.0 != 404 {
            let told = || tail_of(&self.rig.logs());
            assert!(begun.elapsed() < PATIENCE, "still there: {}", told());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Injects faults, as `unilink simulate --fault` takes them.
    pub fn fault(&self, n: usize, api: Api, flags: &[&str]) {
        let mut faults = Faults::default();
        for flag in flags {
            faults.set(flag).unwrap();
        }
        self.set_faults(n, api, Some(faults));
    }

    /// Every request to the API is answered with the code.
    pub fn refuse(&self, n: usize, api: Api, errcode: i32) {
        self.fault(n, api, &[&format!("errcode={errcode}"), "refused=1"]);
    }

    pub fn mend(&self, n: usize, api: Api) {
        self.set_faults(n, api, None);
    }

    fn set_faults(&self, n: usize, api: Api, faults: Option<Faults>) {
        let scope = Scope {
            app: Some(self.app(n)),
            api: Some(api),
        };
        self.rig.sim.set_faults_in(scope, faults).unwrap();
    }

    pub fn trouble(&self, n: usize, trouble: Trouble, on: bool) {
        let done = self.rig.sim.set_trouble(self.app(n), None, trouble, on);
        done.unwrap();
    }

    /// How often WeChat was asked, and how often it answered so.
    pub fn calls(&self, n: usize, api: Api) -> u64 {
        let stats = self.rig.sim.stats();
        let apis = stats.apps.get(&self.id(n));
        apis.and_then(|apis| apis.get(api.path()))
            .map_or(0, |api| api.calls)
    }

    pub fn answers(&self, n: usize, api: Api, errcode: i32) -> u64 {
        let stats = self.rig.sim.stats();
        let apis = stats.apps.get(&self.id(n));
        let answers = apis.and_then(|apis| Some(&apis.get(api.path())?.answers));
        answers
            .and_then(|a| a.get(&errcode))
            .copied()
            .unwrap_or_default()
    }

    /// Tokens that WeChat gave out for the app: those of `cgi-bin/token`, and stable ones.
    pub fn tokens(&self, n: usize) -> (u64, u64) {
        let stats = self.rig.sim.stats();
        let of_app = stats.tokens.get(&self.id(n)).copied().unwrap_or_default();
        assert_eq!(of_app.forced, 0, "nobody forces WeChat");
        (of_app.plain, of_app.stable)
    }

    /// Whether nothing can have been asked twice since then: what a second has not answered, the time
    /// that the configuration has for both the call and whoever waits for it, is asked again.
    pub fn prompt(since: Instant) -> bool {
        since.elapsed() < Duration::from_secs(1)
    }

    pub async fn until(&self, what: &str, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            let told = || format!("{what}: {}", tail_of(&self.rig.logs()));
            assert!(begun.elapsed() < PATIENCE, "{}", told());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until WeChat has answered so.
    pub async fn answered(&self, n: usize, api: Api, errcode: i32) {
        let what = format!("no answer {errcode} of {}", api.path());
        let done = || self.answers(n, api, errcode) > 0;
        self.until(&what, done).await;
    }

    /// The alarms about an app.
    pub fn alarms(&self, n: usize) -> Vec<String> {
        self.lines(" ERROR ", n)
    }

    /// Waits until the operator was called that often.
    pub async fn alarmed(&self, n: usize, times: usize) {
        let done = || self.alarms(n).len() >= times;
        self.until("no alarm", done).await;
    }

    pub fn lines(&self, level: &str, n: usize) -> Vec<String> {
        let (logs, id) = (self.rig.logs(), self.id(n));
        let lines = logs.lines();
        lines
            .filter(|l| l.contains(level) && l.contains(&id))
            .map(str::to_owned)
            .collect()
    }

    /// Stops, and looks at what no test may leave behind.
    pub async fn end(mut self) {
        self.rig.stopped().await;
        let codes = self.rig.sim.stats().codes;
        assert_eq!(codes.resent_after_answer, 0, "{codes:?}");
        let logs = self.rig.logs();
        for text in self.hidden.lock().unwrap().iter() {
            assert!(!logs.contains(text.as_str()), "{text} stands in the logs");
        }
        for name in ["access_token=", "secret=", "js_code=", "panicked"] {
            assert!(!logs.contains(name), "{name} stands in the logs");
        }
    }
}

/// WeChat is busy, or its answer is broken, in every way; as `unilink simulate --fault` takes them.
pub const BUSY: [&str; 7] = [
    "busy=1",
    "http_500=1",
    "hang=1",
    "empty=1",
    "cut=1",
    "truncated=1",
    "html=1",
];

/// What any API may refuse the app with.
pub const CONFIGURATION: [i32; 16] = [
    48001, 48004, 89002, 40164, 89503, 40013, 40125, 40002, 41001, 41002, 41004, 40243, 43001,
    43002, 43003, 50002,
];
/// What WeChat may refuse a third-party platform with, and an app's token that one got for it.
pub const OF_COMPONENTS: [i32; 9] = [
    61003, 61007, 61004, 61005, 61006, 61023, 41018, 41021, 42006,
];
/// The account itself is refused, so that codes are not exchanged either.
pub const ACCOUNT_GONE: i32 = 50002;
/// Requests that are malformed.
pub const MALFORMED: [i32; 8] = [40003, 40032, 40033, 40035, 40097, 41009, 44002, 47001];
/// On no page, and on the page of other APIs than those that ask about people.
pub const UNKNOWN: [i32; 2] = [99_999, 40029];

/// What falls to the one of several apps.
pub fn share(codes: &[i32], n: usize, apps: usize) -> Vec<i32> {
    codes.iter().skip(n).step_by(apps).copied().collect()
}

/// Does the same for several at once.
pub async fn each<F: Future<Output = ()>>(all: impl IntoIterator<Item = F>) {
    futures::future::join_all(all).await;
}
