//! What each login of a plan should come to: the rules behind [`Truth`].

use super::super::world::World;
use super::Population;
use super::plan::{self, Dead, Kind, Login};
use super::truth::{NO_KEY, Outcome, Trace, Truth};
use crate::model::{Account, DeadReason, InvalidId, Reason, UnionKey};

/// Data that does not decrypt may wait for a key that does, for a day.
const UNDECRYPTABLE: &[Reason] = NO_KEY;
const NOTHING: &[Reason] = &[
    Reason::NoUnionid,
    Reason::Deferred,
    Reason::NotFollowing,
    Reason::UserTokenRefused,
    Reason::PaymentGone,
];
const UNBOUND: &[Reason] = &[
    Reason::AppNotBound,
    Reason::NoUnionid,
    Reason::DecryptedWithoutUnionid,
];
/// Whether an expired code is sent to WeChat at all is the product's choice.
const CODE_DEAD: &[DeadReason] = &[DeadReason::CodeDead, DeadReason::CodeExpired];
/// 40163 for a code that was never sent before: used elsewhere, or an answer lost.
const CODE_USED: &[DeadReason] = &[DeadReason::CodeDead, DeadReason::CodeLost];

/// Computes the truth about a person.
pub(super) fn truth(
    population: &Population,
    person: u64,
    world: &World,
) -> Result<Truth, InvalidId> {
    let mut traces = Vec::new();
    for login in plan::logins(world, population, person) {
        let rules = Rules {
            population,
            person,
            world,
            own: world.account(person, login.app)?,
            union: world.unionid(person, login.app)?,
            login,
        };
        rules.add_to(&mut traces)?;
    }
    Ok(Truth { person, traces })
}

/// One login and what there is to know about it.
struct Rules<'a> {
    population: &'a Population,
    person: u64,
    world: &'a World,
    login: Login,
    own: Account,
    union: Option<UnionKey>,
}

impl Rules<'_> {
    fn add_to(&self, traces: &mut Vec<Trace>) -> Result<(), InvalidId> {
        let by_code = matches!(
            self.login.kind,
            Kind::Code
                | Kind::CodeBare
                | Kind::CodeThenData
                | Kind::CodeWithData
                | Kind::OauthCode
                | Kind::OauthBase
                | Kind::OauthSnapshot
        );
        if by_code && self.world.blocked(self.person) {
            traces.push(self.dead(&[DeadReason::UserBlocked]));
            if self.login.kind == Kind::CodeThenData {
                traces.push(self.trace('b', Outcome::Unresolved(NO_KEY)));
            }
            return Ok(());
        }
        let first = match self.login.kind {
            Kind::Code
            | Kind::CodeWithData
            | Kind::Exchanged
            | Kind::Provided
            | Kind::OauthCode
            | Kind::Grant
            | Kind::Paid
            | Kind::PaidOrder
            | Kind::Contradicted => self.trace('a', self.links()),
            Kind::CodeBare
            | Kind::CodeThenData
            | Kind::OpenIdOnly
            | Kind::OauthBase
            | Kind::GrantBase
            | Kind::GrantOld
            | Kind::PaidLate => self.trace('a', self.known_to_account(self.bare())),
            Kind::Snapshot | Kind::OauthSnapshot => self.snapshot()?,
            Kind::Placeholder => {
                let none = Outcome::Unresolved(&[Reason::PlaceholderUnionid]);
                self.trace('a', self.known_to_account(none))
            }
            Kind::StaleData | Kind::WrongAppData | Kind::OthersData => {
                self.trace('a', Outcome::Unresolved(UNDECRYPTABLE))
            }
            Kind::DeadCode(Dead::Used) => self.dead(CODE_USED),
            Kind::DeadCode(_) => self.dead(CODE_DEAD),
        };
        traces.push(first);
        match self.login.kind {
            Kind::CodeThenData => {
                let mut second = self.trace('b', self.links());
                second.needs = Some(self.event_id('a'));
                traces.push(second);
            }
            Kind::Contradicted => {
                let stranger = plan::partner(self.person);
                let union = self.world.unionid(stranger, self.login.app)?;
                let outcome = union.map_or(Outcome::Unresolved(UNBOUND), Outcome::Contested);
                traces.push(self.trace('b', outcome));
            }
            _ => (),
        }
        Ok(())
    }

    fn event_id(&self, part: char) -> String {
        self.population.event_id(self.person, self.login.n, part)
    }

    /// A trace of the person's own account.
    fn trace(&self, part: char, outcome: Outcome) -> Trace {
        Trace {
            event: self.event_id(part),
            needs: None,
            account: Some(self.own.clone()),
            outcome,
        }
    }

    fn dead(&self, reasons: &'static [DeadReason]) -> Trace {
        let mut trace = self.trace('a', Outcome::Dead(reasons));
        trace.account = None;
        trace
    }

    fn snapshot(&self) -> Result<Trace, InvalidId> {
        let (openid, _) = self.world.snapshot_text(self.person, self.login.app);
        let account = self.world.account_of(self.login.app, &openid)?;
        let mut trace = self.trace('a', Outcome::Unresolved(&[Reason::SnapshotUser]));
        trace.account = Some(account);
        Ok(trace)
    }

    fn links(&self) -> Outcome {
        let union = self.union.clone();
        union.map_or(Outcome::Unresolved(UNBOUND), Outcome::Links)
    }

    /// What is known of an openid that comes without a unionid: an official account knows its
    /// followers.
    fn known_to_account(&self, otherwise: Outcome) -> Outcome {
        if self.world.follows(self.person, self.login.app) {
            return self.links();
        }
        otherwise
    }

    fn bare(&self) -> Outcome {
        Outcome::Unresolved(if self.union.is_some() {
            NOTHING
        } else {
            UNBOUND
        })
    }
}
