//! What WeChat decides about a code: the checks in its order, the spending, the answer, and the
//! faults on the way (`docs/wechat.md` §3.1, §5).

use super::answer::{Action, Api, Body, ErrorStyle, Params, Reply, error};
use super::code::{self, CodeKey};
use super::codes::{Arrival, Last};
use super::crypto::hex;
use super::dice::{mix, unit};
use super::faults::Fault;
use super::session::Session;
use super::simulator::{Simulator, lock};
use super::stats::ApiStats;
use super::world::AppNo;
use crate::model::AppKind;

/// A request that has arrived and is not yet answered.
pub(super) struct Call {
    api: Api,
    label: String,
    key: Option<CodeKey>,
    subject: u64,
    fault: Option<Fault>,
    full: bool,
    string_errcode: bool,
    /// Milliseconds that the answer takes.
    pub(super) delay_ms: u64,
}

impl Simulator {
    /// Exchanges a code in one go, without delays or a connection; a success counts as written.
    #[must_use]
    pub fn exchange(&self, api: Api, params: &Params<'_>) -> Reply {
        let call = self.arrive(api, params);
        let reply = self.settle(&call, params);
        if let Some(key) = reply.delivers {
            self.written(key);
        }
        reply
    }

    /// A request arrives: it is counted, and its fault drawn.
    pub(super) fn arrive(&self, api: Api, params: &Params<'_>) -> Call {
        let key = (!params.code.is_empty()).then(|| code::key(&self.signer, params.code));
        let mut full = false;
        let attempt = match key.map(|key| lock(&self.codes).arrive(key, self.now())) {
            Some(Arrival::Attempt(n)) => n,
            Some(Arrival::Full) => {
                full = true;
                0
            }
            None => 0,
        };
        let subject = match code::read(&self.signer, params.code) {
            Some(s) => mix(&[s.person, u64::from(s.app.0), u64::from(s.epoch)]),
            None => key.map_or(0, |key| key.0),
        };
        let label = self.world.number(params.appid);
        let label = label.map_or("unknown", |_| params.appid).to_owned();
        let faults = lock(&self.faults);
        let call = Call {
            api,
            label,
            key,
            subject,
            full,
            fault: faults.draw(subject, attempt),
            string_errcode: faults.as_string(subject, attempt),
            delay_ms: faults.delay_ms(subject, attempt),
        };
        drop(faults);
        self.count(&call, |api| api.calls += 1);
        call
    }

    /// Decides a request. Only here are codes spent.
    pub(super) fn settle(&self, call: &Call, params: &Params<'_>) -> Reply {
        if let Some(fault) = call.fault {
            *lock(&self.counts).faults.entry(fault.name()).or_default() += 1;
        }
        if call.full {
            return self.refuse(call, -1, Last::Fault);
        }
        let fault = match call.fault {
            None | Some(Fault::ControlBytes) => return self.answer(call, params),
            Some(Fault::Busy) => return self.refuse(call, -1, Last::Fault),
            Some(Fault::MinuteLimit) => return self.refuse(call, 45011, Last::Fault),
            Some(fault) => fault,
        };
        if matches!(fault, Fault::SpentHang | Fault::SpentCut) {
            // A refusal is lost as an answer would be.
            let _ = self.spend(call, params);
        }
        self.count(call, |api| api.unanswered += 1);
        self.ended(call, Last::Fault);
        self.broken(call, fault, params)
    }

    /// The honest answer.
    fn answer(&self, call: &Call, params: &Params<'_>) -> Reply {
        match self.spend(call, params) {
            Ok(session) => self.success(call, &session),
            Err(errcode) => self.refuse(call, errcode, Last::Refused),
        }
    }

    /// The replies that say nothing of use.
    fn broken(&self, call: &Call, fault: Fault, params: &Params<'_>) -> Reply {
        match fault {
            Fault::Http500 => Reply::html(500, "<html>500 Internal Server Error</html>"),
            Fault::Html => Reply::html(200, "<html><body>502 Bad Gateway</body></html>"),
            Fault::Empty => Reply::html(200, ""),
            Fault::Cut | Fault::SpentCut => Reply::bare(Action::Cut),
            Fault::Truncated => {
                let whole = match self.check(call, params) {
                    Ok(session) => self.success_body(call.api, &session, false),
                    Err(errcode) => self.error_body(call, errcode, false),
                };
                let half = whole.len() / 2;
                Reply::plain(whole.as_bytes().get(..half).unwrap_or_default())
            }
            _ => Reply::bare(Action::Silence),
        }
    }

    /// The success answer for the code was wholly written.
    pub(super) fn written(&self, key: CodeKey) {
        let now = self.now();
        lock(&self.codes).answered(key, now);
    }

    /// A request that is not a GET: 43001. Whatever it carries is not looked at.
    pub(super) fn wrong_method(&self, api: Api, appid: &str) -> Reply {
        let params = Params {
            appid,
            ..Params::default()
        };
        let mut call = self.arrive(api, &params);
        call.fault = None;
        self.refuse(&call, 43001, Last::Refused)
    }

    /// Checks a request in WeChat's order, without spending the code.
    fn check(&self, call: &Call, params: &Params<'_>) -> Result<Session, i32> {
        if params.appid.is_empty() {
            return Err(41002);
        }
        let number = self.world.number(params.appid).ok_or(40013)?;
        let app = self.world.app(number).ok_or(40013)?;
        if (app.kind == AppKind::MiniProgram) != (call.api == Api::Code2Session) {
            return Err(40013);
        }
        match params.secret {
            "" => return Err(41004),
            secret if secret != app.secret => return Err(40125),
            _ => (),
        }
        if params.code.is_empty() {
            return Err(41008);
        }
        if params.grant_type != "authorization_code" {
            return Err(40002);
        }
        let session = code::read(&self.signer, params.code).ok_or(40029)?;
        if session.app != number {
            return Err(40029);
        }
        Ok(session)
    }

    /// Checks everything and spends the code.
    fn spend(&self, call: &Call, params: &Params<'_>) -> Result<Session, i32> {
        let session = self.check(call, params)?;
        let key = call.key.ok_or(41008)?;
        let either = |share: f64, other: i32| {
            let invalid = unit(mix(&[call.subject, 4])) < share;
            if invalid { 40029 } else { other }
        };
        let now = self.now();
        let mut codes = lock(&self.codes);
        if codes.is_spent(key) {
            return Err(either(self.settings.used_as_invalid, 40163));
        }
        if now.since(session.at) > self.life(session.app) {
            return Err(either(self.settings.expired_as_invalid, 42003));
        }
        if self.world.blocked(session.person) {
            return Err(40226);
        }
        codes.spend(key);
        Ok(session)
    }

    fn life(&self, app: AppNo) -> i64 {
        match self.world.app(app).map(|a| a.kind) {
            Some(AppKind::Website | AppKind::MobileApp) => self.settings.web_code_life_ms,
            _ => self.settings.code_life_ms,
        }
    }

    fn success(&self, call: &Call, session: &Session) -> Reply {
        self.count(call, |api| *api.answers.entry(0).or_default() += 1);
        let control_byte = call.fault == Some(Fault::ControlBytes);
        let mut reply = Reply::plain(self.success_body(call.api, session, control_byte));
        reply.delivers = call.key;
        reply
    }

    fn success_body(&self, api: Api, session: &Session, control_byte: bool) -> String {
        let (person, app) = (session.person, session.app);
        let snapshot = session.manner.snapshot && api == Api::Oauth;
        let shown = snapshot || (session.manner.unionid && self.world.bound(app, self.now()));
        let (openid, unionid) = if snapshot {
            let (openid, unionid) = self.world.snapshot_text(person, app);
            (openid, Some(unionid))
        } else {
            let unionid = self.world.unionid_text(person, app);
            (self.world.openid_text(person, app), unionid)
        };
        let mut body = match api {
            Api::Code2Session => Body::new()
                .text("session_key", &self.session_key(session))
                .text("openid", &openid),
            Api::Oauth => self.oauth_body(session, &openid),
        };
        if let Some(unionid) = unionid.filter(|_| shown) {
            body = body.text("unionid", &unionid);
        }
        if snapshot {
            body = body.number("is_snapshotuser", 1);
        }
        if control_byte {
            body = body.text("errmsg", "ok\u{7}");
        }
        body.end()
    }

    fn oauth_body(&self, session: &Session, openid: &str) -> Body {
        let epoch = session.epoch.to_be_bytes();
        let tag = self
            .signer
            .tag(session.person, &[&[session.app.0], &epoch[..]].concat());
        let scope = if session.manner.unionid {
            "snsapi_userinfo"
        } else {
            "snsapi_base"
        };
        Body::new()
            .text("access_token", &hex(&tag[..16]))
            .number("expires_in", 7200)
            .text("refresh_token", &hex(&tag[16..]))
            .text("openid", openid)
            .text("scope", scope)
    }

    fn refuse(&self, call: &Call, errcode: i32, last: Last) -> Reply {
        self.count(call, |api| *api.answers.entry(errcode).or_default() += 1);
        self.ended(call, last);
        let control_byte = call.fault == Some(Fault::ControlBytes);
        Reply::plain(self.error_body(call, errcode, control_byte))
    }

    fn error_body(&self, call: &Call, errcode: i32, control_byte: bool) -> String {
        let style = self.style(call.subject, call.string_errcode, control_byte);
        error(errcode, &style)
    }

    fn style(&self, subject: u64, as_string: bool, control_byte: bool) -> ErrorStyle {
        let low = |x: u64| u32::try_from(x & 0xffff_ffff).unwrap_or(0);
        let now = u64::try_from(self.now().0.div_euclid(1000)).unwrap_or(0);
        ErrorStyle {
            as_string,
            control_byte,
            rid: [low(now), low(subject), low(subject >> 32)],
        }
    }

    fn ended(&self, call: &Call, last: Last) {
        if let Some(key) = call.key {
            lock(&self.codes).ended(key, last);
        }
    }

    fn count(&self, call: &Call, add: impl FnOnce(&mut ApiStats)) {
        let mut counts = lock(&self.counts);
        let apis = match counts.apps.get_mut(&call.label) {
            Some(apis) => apis,
            None => counts.apps.entry(call.label.clone()).or_default(),
        };
        add(apis.entry(call.api.path()).or_default());
    }
}
