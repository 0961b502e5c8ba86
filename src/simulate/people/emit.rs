//! Turns a person's plan into events, with codes, keys and data as WeChat gives them at the time.

use super::super::crypto::Encrypted;
use super::super::dice::{Dice, mix};
use super::super::session::{Manner, Session};
use super::super::simulator::Simulator;
use super::super::world::AppNo;
use super::plan::{self, Dead, Kind, Login};
use super::{Event, Population};
use crate::model::Millis;

/// Age of an old code, in ms: past every life.
const OLD_CODE_MS: i64 = 15 * 60_000;
/// Age of an old user token, in ms: past its two hours.
const OLD_GRANT_MS: i64 = 3 * 3_600_000;
/// Age of an old payment, in ms: past its five minutes.
const OLD_PAYMENT_MS: i64 = 10 * 60_000;
/// What a missing unionid turns into.
const PLACEHOLDERS: [&str; 5] = ["undefined", "null", "None", "0000000000", "(null)"];

/// The events of one person in the making.
pub(super) struct Emitter<'a> {
    pub(super) population: &'a Population,
    pub(super) sim: &'a Simulator,
    pub(super) person: u64,
}

impl Emitter<'_> {
    /// The events of one login; two where the plan says so.
    pub(super) fn login(&self, login: &Login) -> Vec<Event> {
        let (app, person) = (login.app, self.person);
        let world = self.sim.world();
        let unionid = world.unionid_text(person, app);
        match login.kind {
            Kind::Code | Kind::OauthCode => vec![self.code(login, true).0],
            Kind::CodeBare | Kind::OauthBase => vec![self.code(login, false).0],
            Kind::OauthSnapshot => vec![self.snapshot_code(login)],
            Kind::Grant => vec![self.granted(login, true, 0)],
            Kind::GrantBase => vec![self.granted(login, false, 0)],
            Kind::GrantOld => vec![self.granted(login, true, OLD_GRANT_MS)],
            Kind::Paid | Kind::PaidOrder => vec![self.paid(login, 0)],
            Kind::PaidLate => vec![self.paid(login, OLD_PAYMENT_MS)],
            Kind::CodeThenData => self.code_then_data(login),
            Kind::CodeWithData => {
                let (mut event, session) = self.code(login, false);
                add_data(&mut event, self.data(&session));
                vec![event]
            }
            Kind::Exchanged => vec![self.exchanged(login, person, app)],
            Kind::Provided => vec![self.provided(login, unionid)],
            Kind::OpenIdOnly => vec![self.known(login, login.ago_ms)],
            Kind::Snapshot => vec![self.snapshot(login)],
            Kind::Placeholder => vec![self.placeholder(login)],
            Kind::StaleData => vec![self.stale(login)],
            Kind::WrongAppData => {
                let other = plan::other_mini(world, app).unwrap_or(app);
                vec![self.exchanged(login, person, other)]
            }
            Kind::OthersData => {
                let other = plan::other_person(world, self.population, person, app);
                vec![self.exchanged(login, other, app)]
            }
            Kind::Contradicted => self.contradicted(login),
            Kind::DeadCode(dead) => vec![self.dead(login, dead)],
        }
    }

    fn bare(&self, login: &Login, at: Millis) -> Event {
        let world = self.sim.world();
        let dice = mix(&[self.person, u64::from(login.n)]);
        let gateway = ["gateway-a", "gateway-b"].get(usize::from(dice & 1 == 0));
        Event {
            id: self.population.event_id(self.person, login.n, 'a'),
            occurred_at: at.to_string(),
            appid: world
                .app(login.app)
                .map_or("", |a| a.id.as_str())
                .to_owned(),
            source: gateway.copied(),
            external_id: dice
                .is_multiple_of(3)
                .then(|| format!("member-{}", self.person)),
            attributes: dice
                .is_multiple_of(4)
                .then(|| serde_json::json!({ "scene": 1000 + dice % 80 })),
            ..Event::default()
        }
    }

    /// A new session now; people of this population are all within bounds.
    fn session(&self, app: AppNo, person: u64, unionid: bool) -> Session {
        let snapshot = false;
        self.session_in(app, person, Manner { unionid, snapshot })
    }

    fn session_in(&self, app: AppNo, person: u64, manner: Manner) -> Session {
        let session = self.sim.login(app, person, manner);
        session.unwrap_or(Session {
            person,
            app,
            epoch: 0,
            manner,
            at: self.sim.now(),
        })
    }

    fn code(&self, login: &Login, unionid: bool) -> (Event, Session) {
        let session = self.session(login.app, self.person, unionid);
        let mut event = self.bare(login, session.at);
        event.code = Some(self.sim.code(&session));
        (event, session)
    }

    fn snapshot_code(&self, login: &Login) -> Event {
        let manner = Manner {
            unionid: true,
            snapshot: true,
        };
        let session = self.session_in(login.app, self.person, manner);
        let mut event = self.bare(login, session.at);
        event.code = Some(self.sim.code(&session));
        event
    }

    /// The gateway exchanged the OAuth code itself.
    fn granted(&self, login: &Login, profile: bool, ago_ms: i64) -> Event {
        let mut session = self.session(login.app, self.person, profile);
        session.at = session.at.plus(-ago_ms);
        let grant = self.sim.grant_then(&session);
        let mut event = self.known(login, ago_ms);
        event.access_token = Some(grant.access_token);
        event.scope = Some(grant.scope.word());
        event
    }

    /// The person paid in the mini program.
    fn paid(&self, login: &Login, ago_ms: i64) -> Event {
        let mut event = self.known(login, ago_ms);
        let at = self.sim.now().plus(-ago_ms);
        if let Ok(payment) = self.sim.paid_at(login.app, self.person, at) {
            if login.kind == Kind::PaidOrder {
                event.mch_id = Some(payment.mch_id);
                event.out_trade_no = Some(payment.out_trade_no);
            } else {
                event.transaction_id = Some(payment.transaction_id);
            }
        }
        event
    }

    /// An event of the person's own openid.
    fn known(&self, login: &Login, ago_ms: i64) -> Event {
        let mut event = self.bare(login, self.sim.now().plus(-ago_ms));
        event.openid = Some(self.sim.world().openid_text(self.person, login.app));
        event
    }

    fn data(&self, session: &Session) -> Encrypted {
        self.sim.encrypted_in(session)
    }

    fn code_then_data(&self, login: &Login) -> Vec<Event> {
        let (first, session) = self.code(login, false);
        let mut second = self.known(login, 0);
        second.id = self.population.event_id(self.person, login.n, 'b');
        add_data(&mut second, self.data(&session));
        vec![first, second]
    }

    /// The person's openid, with the session key and data of somebody somewhere.
    fn exchanged(&self, login: &Login, whose: u64, app: AppNo) -> Event {
        let session = self.session(app, whose, true);
        let mut event = self.known(login, 0);
        event.session_key = Some(self.sim.session_key(&session));
        add_data(&mut event, self.data(&session));
        event
    }

    fn provided(&self, login: &Login, unionid: Option<String>) -> Event {
        let mut event = self.known(login, login.ago_ms);
        event.unionid = unionid;
        event
    }

    fn snapshot(&self, login: &Login) -> Event {
        let (openid, unionid) = self.sim.world().snapshot_text(self.person, login.app);
        let mut event = self.provided(login, Some(unionid));
        event.openid = Some(openid);
        event.is_snapshotuser = Some(1);
        event
    }

    fn placeholder(&self, login: &Login) -> Event {
        let mut dice = Dice::new(&[self.person, u64::from(login.n), 0x70]);
        let text = dice.of(&PLACEHOLDERS).map(|t| (*t).to_owned());
        let own = self.sim.world().openid_text(self.person, login.app);
        let text = if dice.chance(0.2) { Some(own) } else { text };
        let mut event = self.provided(login, text);
        event.refused_at_intake = true;
        event
    }

    /// Data fetched, then another login, whose key comes with it (`docs/wechat.md` §9 a).
    fn stale(&self, login: &Login) -> Event {
        let before = self.session(login.app, self.person, true);
        let data = self.data(&before);
        let now = self.session(login.app, self.person, true);
        let mut event = self.known(login, 0);
        event.session_key = Some(self.sim.session_key(&now));
        add_data(&mut event, data);
        event
    }

    fn contradicted(&self, login: &Login) -> Vec<Event> {
        let true_one = self.exchanged(login, self.person, login.app);
        let other = plan::partner(self.person);
        let unionid = self.sim.world().unionid_text(other, login.app);
        let mut wrong = self.provided(login, unionid);
        wrong.id = self.population.event_id(self.person, login.n, 'b');
        vec![true_one, wrong]
    }

    fn dead(&self, login: &Login, dead: Dead) -> Event {
        let (mut event, mut session) = self.code(login, true);
        match dead {
            Dead::Unknown => event.code = Some(format!("0{:035x}", mix(&[self.person, 0xdead]))),
            Dead::OtherApp => {
                let other = plan::other_mini(self.sim.world(), login.app).unwrap_or(login.app);
                let session = self.session(other, self.person, true);
                event.code = Some(self.sim.code(&session));
            }
            Dead::Used => self
                .sim
                .spend_elsewhere(event.code.as_deref().unwrap_or("")),
            Dead::Old => {
                session.at = session.at.plus(-OLD_CODE_MS);
                event.occurred_at = session.at.to_string();
                event.code = Some(self.sim.code(&session));
            }
        }
        event
    }
}

fn add_data(event: &mut Event, data: Encrypted) {
    event.encrypted_data = Some(data.encrypted_data);
    event.iv = Some(data.iv);
    event.raw_data = Some(data.raw_data);
    event.signature = Some(data.signature);
}
