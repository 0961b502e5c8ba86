//! A simulated WeChat that runs for a test, and a client for it that sees everything.

use serde_json::{Value, json};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use unilink::model::{AppKind, Millis};
use unilink::simulate::{AppNo, Faults, Settings, Simulator, World, server};

/// A running simulator whose time stands still until moved.
pub struct Wechat {
    pub sim: Arc<Simulator>,
    pub http: reqwest::Client,
    pub base: String,
    pub now: Arc<AtomicI64>,
    pub stop: Option<oneshot::Sender<()>>,
    pub served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Wechat {
    pub async fn start(settings: Settings) -> Self {
        Self::of(World::new(7).unwrap(), settings).await
    }

    pub async fn of(world: World, settings: Settings) -> Self {
        let now = Arc::new(AtomicI64::new(1_700_000_000_000));
        let hand = Arc::clone(&now);
        let clock = Arc::new(move || Millis(hand.load(Ordering::SeqCst)));
        let sim = Arc::new(Simulator::new(world, settings, clock));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(server::serve(listener, Arc::clone(&sim), async move {
            if stopped.await.is_err() {
                pending::<()>().await;
            }
        }));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            sim,
            http,
            base,
            now,
            stop: Some(stop),
            served,
        }
    }

    pub fn app(&self, n: usize) -> AppNo {
        self.sim.world().numbers().nth(n).unwrap()
    }

    pub fn appid(&self, n: usize) -> String {
        self.sim.world().sim_apps()[n].id.to_string()
    }

    pub fn pass(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.http.post(format!("{}{path}", self.base));
        let request = request.header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null)
    }

    /// A control request that must succeed.
    pub async fn control(&self, path: &str, body: Value) -> Value {
        self.post(&format!("/_sim/{path}"), body).await
    }

    /// What `cgi-bin/token` or `stable_token` answers.
    pub async fn token_answer(&self, app: usize, stable: bool, force: bool) -> Value {
        let of = &self.sim.world().sim_apps()[app];
        let (appid, secret) = (of.id.to_string(), of.secret.clone());
        if stable {
            let body = json!({
                "grant_type": "client_credential",
                "appid": appid, "secret": secret, "force_refresh": force,
            });
            return self.post("/cgi-bin/stable_token", body).await;
        }
        let query = [
            ("grant_type", "client_credential".to_owned()),
            ("appid", appid),
            ("secret", secret),
        ];
        self.get("/cgi-bin/token", &query).await.unwrap().json()
    }

    /// A stable token of the app.
    pub async fn token(&self, app: usize) -> String {
        let answer = self.token_answer(app, true, false).await;
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// A GET with an app token.
    pub async fn ask(&self, path: &str, token: &str, more: &[(&'static str, &str)]) -> Value {
        let mut query = vec![("access_token", token.to_owned())];
        query.extend(more.iter().map(|(k, v)| (*k, (*v).to_owned())));
        self.get(path, &query).await.unwrap().json()
    }

    pub fn openid(&self, app: usize, person: u64) -> String {
        self.sim.world().openid_text(person, self.app(app))
    }

    pub fn unionid(&self, app: usize, person: u64) -> String {
        self.sim
            .world()
            .unionid_text(person, self.app(app))
            .unwrap()
    }

    pub async fn login(&self, app: usize, person: u64) -> String {
        let body = json!({ "appid": self.appid(app), "person": person });
        self.post("/_sim/login", body).await["code"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn query(&self, app: usize, code: &str) -> Vec<(&'static str, String)> {
        let app = &self.sim.world().sim_apps()[app];
        vec![
            ("appid", app.id.to_string()),
            ("secret", app.secret.clone()),
            ("js_code", code.to_owned()),
            ("code", code.to_owned()),
            ("grant_type", "authorization_code".to_owned()),
        ]
    }

    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> reqwest::Result<Answer> {
        let request = self.http.get(format!("{}{path}", self.base)).query(query);
        let answer = request.timeout(Duration::from_millis(400)).send().await?;
        let status = answer.status().as_u16();
        let content_type = answer.headers().get("content-type");
        let content_type = content_type.map(|v| v.to_str().unwrap().to_owned());
        let body = answer.bytes().await?.to_vec();
        Ok(Answer {
            status,
            content_type: content_type.unwrap_or_default(),
            body,
        })
    }

    pub async fn exchange(&self, app: usize, code: &str) -> Value {
        let path = match self.sim.world().sim_apps()[app].kind {
            AppKind::MiniProgram => "/sns/jscode2session",
            _ => "/sns/oauth2/access_token",
        };
        self.get(path, &self.query(app, code)).await.unwrap().json()
    }

    pub async fn faults(&self, flags: &[&str]) {
        let mut faults = Faults::default();
        for flag in flags {
            faults.set(flag).unwrap();
        }
        self.post("/_sim/faults", serde_json::to_value(faults).unwrap())
            .await;
    }
}

pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub fn errcode(answer: &Value) -> i64 {
    answer["errcode"].as_i64().unwrap_or(0)
}
