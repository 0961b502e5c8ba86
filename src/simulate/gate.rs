//! What happens to every request, whatever the API: it is counted, its fault is drawn, its method
//! and caller are checked, and its answer written (`docs/wechat.md` §1, §2).

use super::answer::{Action, Body, ErrorStyle, Reply, error};
use super::api::{Api, Verb};
use super::code::{self, CodeKey};
use super::codes::{Arrival, Last};
use super::dice::{mix, unit};
use super::faults::Fault;
use super::request::{Params, Request};
use super::simulator::{Simulator, lock};
use super::stats::ApiStats;
use super::world::AppNo;

/// A request that has arrived and is not yet answered.
pub(super) struct Call {
    pub(super) request: Request,
    /// The appid that the counters name.
    label: String,
    pub(super) key: Option<CodeKey>,
    /// What the request is about, the same whenever it is sent again.
    pub(super) subject: u64,
    fault: Option<Fault>,
    /// What [`Fault::Refused`] answers.
    errcode: i32,
    full: bool,
    string_errcode: bool,
    /// The app's token is killed as it is used.
    pub(super) token_dies: bool,
    /// Milliseconds that the answer takes.
    pub(super) delay_ms: u64,
}

impl Call {
    pub(super) fn api(&self) -> Api {
        self.request.api
    }

    /// Chooses between two answers that are both seen, the same one whenever it is asked again.
    pub(super) fn either<T>(&self, share: f64, often: T, seldom: T) -> T {
        let drawn = unit(mix(&[self.subject, 4])) < share;
        if drawn { seldom } else { often }
    }
}

impl Simulator {
    /// Answers a request in one go, without delays or a connection; a success counts as written.
    #[must_use]
    pub fn call(&self, request: Request) -> Reply {
        let call = self.arrive(request);
        let reply = self.settle(&call);
        if let Some(key) = reply.delivers {
            self.written(key);
        }
        self.landed(&call);
        reply
    }

    /// [`Simulator::call`] for a code exchange.
    #[must_use]
    pub fn exchange(&self, api: Api, params: &Params<'_>) -> Reply {
        self.call(params.request(api))
    }

    /// A request arrives: it is counted, and its fault drawn.
    pub(super) fn arrive(&self, request: Request) -> Call {
        let api = request.api;
        let proper = request.verb == api.verb();
        let code = request.code().filter(|_| proper);
        let key = code.map(|code| code::key(&self.signers.code, code));
        let app = self.app_of(&request);
        let subject = match code.and_then(|code| code::read(&self.signers.code, code)) {
            Some(s) => mix(&[s.person, u64::from(s.app.0), u64::from(s.epoch)]),
            None => key.map_or_else(|| subject(&request, app), |key| key.0),
        };
        let mut full = false;
        let attempt = match key.map(|key| lock(&self.codes).arrive(key, self.now())) {
            Some(Arrival::Attempt(n)) => n,
            Some(Arrival::Full) => {
                full = true;
                0
            }
            None => self.attempt(subject),
        };
        let label = app.and_then(|app| self.world.app(app));
        let label = label.map_or("unknown", |app| app.id.as_str()).to_owned();
        let controls = lock(&self.controls);
        let faults = controls.faults.holds(app, api);
        let call = Call {
            label,
            key,
            subject,
            full,
            fault: faults.draw(subject, attempt).filter(|_| proper),
            errcode: faults.errcode,
            string_errcode: faults.as_string(subject, attempt),
            token_dies: faults.token_dies(subject, attempt),
            delay_ms: faults.delay_ms(subject, attempt),
            request,
        };
        drop(controls);
        self.count(&call, |api| {
            api.calls += 1;
            api.in_flight += 1;
            api.most_in_flight = api.most_in_flight.max(api.in_flight);
        });
        let mut counts = lock(&self.counts);
        counts.count_until(self.now());
        counts.in_flight += 1;
        counts.most_in_flight = counts.most_in_flight.max(counts.in_flight);
        drop(counts);
        call
    }

    /// The how-manieth time something without a code is asked, from 0.
    fn attempt(&self, subject: u64) -> u16 {
        let now = self.now();
        let mut attempts = lock(&self.attempts);
        let attempt = attempts.get(subject).unwrap_or(0);
        attempts.set(subject, attempt.saturating_add(1), now);
        attempt
    }

    /// The request's answer is out of the simulator's hands, or its client has left.
    pub(super) fn landed(&self, call: &Call) {
        self.count(call, |api| {
            api.in_flight = api.in_flight.saturating_sub(1);
        });
        let mut counts = lock(&self.counts);
        counts.count_until(self.now());
        counts.in_flight = counts.in_flight.saturating_sub(1);
    }

    /// Decides a request. Only here does it take effect.
    pub(super) fn settle(&self, call: &Call) -> Reply {
        if call.request.verb != call.api().verb() {
            let get = call.api().verb() == Verb::Get;
            return self.refuse(call, if get { 43001 } else { 43002 }, Last::Refused);
        }
        if let Some(fault) = call.fault {
            *lock(&self.counts).faults.entry(fault.name()).or_default() += 1;
        }
        if call.full {
            return self.refuse(call, -1, Last::Fault);
        }
        let fault = match call.fault {
            None | Some(Fault::ControlBytes) => return self.answer(call),
            Some(Fault::Busy) => return self.refuse(call, -1, Last::Fault),
            Some(Fault::MinuteLimit) => return self.refuse(call, 45011, Last::Fault),
            Some(Fault::DayLimit) => return self.refuse(call, 45009, Last::Fault),
            Some(Fault::Refused) => return self.refuse(call, call.errcode, Last::Fault),
            Some(fault) => fault,
        };
        if matches!(fault, Fault::SpentHang | Fault::SpentCut) {
            // A refusal is lost as an answer would be.
            let _ = self.decide(call, true);
        }
        self.count(call, |api| api.unanswered += 1);
        self.ended(call, Last::Fault);
        self.broken(call, fault)
    }

    /// The honest answer.
    fn answer(&self, call: &Call) -> Reply {
        let body = match self.decide(call, true) {
            Ok(body) => body,
            Err(errcode) => return self.refuse(call, errcode, Last::Refused),
        };
        self.count(call, |api| *api.answers.entry(0).or_default() += 1);
        let body = match call.fault {
            Some(Fault::ControlBytes) => body.text("hint", "\u{7}"),
            _ => body,
        };
        let mut reply = Reply::ok(call.api().content_type(), body.end());
        reply.delivers = call.key;
        reply
    }

    /// Checks and answers; nothing is spent, given out or counted unless it is for `real`.
    fn decide(&self, call: &Call, real: bool) -> Result<Body, i32> {
        let who = self.identify(call, real)?;
        let place = (who.app, call.api());
        let limits = *lock(&self.controls).limits.holds(Some(who.app), call.api());
        lock(&self.quotas).take(place, limits, self.now(), real)?;
        match call.api() {
            Api::Code2Session | Api::ComponentCode2Session | Api::Oauth | Api::ComponentOauth => {
                self.exchanged(call, who.app, real)
            }
            Api::OauthRefresh => self.refreshed(&who, real),
            Api::OauthCheck => self.user_checked(call, &who),
            Api::OauthUser => self.user_shown(call, &who),
            Api::Token => self.token(call, who.app, real),
            Api::StableToken => self.stable_token(call, who.app, real),
            Api::Follower => self.follower(call, who.app),
            Api::FollowerBatch => self.follower_batch(call, who.app),
            Api::FollowerList => self.follower_list(call, who.app),
            Api::PaidUnionid => self.paid_unionid(call, who.app),
            Api::CheckSession => self.session_checked(call, who.app),
            Api::ResetSession => self.session_reset(call, who.app, real),
        }
    }

    /// The replies that say nothing of use.
    fn broken(&self, call: &Call, fault: Fault) -> Reply {
        match fault {
            Fault::Http500 => Reply::html(500, "<html>500 Internal Server Error</html>"),
            Fault::Html => Reply::html(200, "<html><body>502 Bad Gateway</body></html>"),
            Fault::Empty => Reply::html(200, ""),
            Fault::Cut | Fault::SpentCut => Reply::bare(Action::Cut),
            Fault::Truncated => {
                let whole = match self.decide(call, false) {
                    Ok(body) => body.end(),
                    Err(errcode) => self.error_body(call, errcode),
                };
                let half = whole.get(..whole.len() / 2).unwrap_or_default();
                Reply::ok(call.api().content_type(), half)
            }
            _ => Reply::bare(Action::Silence),
        }
    }

    /// The success answer for the code was wholly written.
    pub(super) fn written(&self, key: CodeKey) {
        let now = self.now();
        lock(&self.codes).answered(key, now);
    }

    fn refuse(&self, call: &Call, errcode: i32, last: Last) -> Reply {
        self.count(call, |api| *api.answers.entry(errcode).or_default() += 1);
        self.ended(call, last);
        Reply::ok(call.api().content_type(), self.error_body(call, errcode))
    }

    fn error_body(&self, call: &Call, errcode: i32) -> Vec<u8> {
        let low = |x: u64| u32::try_from(x & 0xffff_ffff).unwrap_or(0);
        let now = u64::try_from(self.now().0.div_euclid(1000)).unwrap_or(0);
        let style = ErrorStyle {
            as_string: call.string_errcode,
            control_byte: call.fault == Some(Fault::ControlBytes),
            rid: [low(now), low(call.subject), low(call.subject >> 32)],
            from: call.request.from,
        };
        error(errcode, &style)
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
        add(apis.entry(call.api().path()).or_default());
    }
}

/// Names what a request without a known code is about: its fields, but for those that change from
/// try to try.
fn subject(request: &Request, app: Option<AppNo>) -> u64 {
    const CHANGING: [&str; 4] = ["secret", "access_token", "component_access_token", "code"];
    let text = |text: &[u8]| {
        let chunks = text.chunks(8).map(|chunk| {
            let number = |all, byte: &u8| (all << 8) | u64::from(*byte);
            chunk.iter().fold(chunk.len() as u64, number)
        });
        mix(&chunks.collect::<Vec<_>>())
    };
    let mut parts = vec![text(request.api.path().as_bytes()), text(&request.body)];
    parts.push(app.map_or(0, |app| u64::from(app.0) + 1));
    for (name, value) in &request.fields {
        if !CHANGING.contains(&name.as_str()) {
            parts.extend([text(name.as_bytes()), text(value.as_bytes())]);
        }
    }
    mix(&parts)
}
