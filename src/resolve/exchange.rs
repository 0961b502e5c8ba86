//! Spending a code: once. What it bought is remembered before anything else happens.
//!
//! The order is: look at the notes; take the lease of the code, which one attempt at a time has, in all
//! processes; send it; note the answer. A code is sent again only when no answer was noted: after -1, a
//! minute limit, a timeout, a broken answer or a kill. WeChat's "code been used" is final only at a
//! second look, later than a request can last, since another worker may be about to note the answer
//! (`docs/wechat.md` §3.1).

use super::caller::{Caller, LAG_MS, Missed};
use super::flights::Flights;
use super::ledger::{Ledger, Marks};
use super::ports::{Memory, MemoryFault};
use super::refusal::{Refusal, expired};
pub use super::sending::Sender;
use super::sending::{Lease, Leases, Taken};
use super::tokens::read_token;
use super::wechat::{Credential, Sent, Session};
use crate::model::{App, AppId, DeadReason, Millis, Secret};
use crate::seal::Keys;
use std::sync::Arc;

/// Life of a login code; websites' and mobile apps' live longer, but nobody promises more than this to
/// all kinds (`docs/wechat.md` §3.1, §5).
pub const CODE_LIFE_MS: i64 = 5 * 60 * 1_000;

/// What came of a code.
#[derive(Debug, Clone)]
pub enum Exchanged {
    /// WeChat's answer, and when it came.
    Session(Session, Millis),
    /// The code will never yield anything.
    Dead(DeadReason, &'static str),
    /// Try again, not before this moment; `None` leaves the time to the caller's backoff.
    Later(Option<Millis>),
    /// Another attempt has it: look for what it notes with the caller's backoff, and at the latest
    /// at this moment.
    Elsewhere(Millis),
}

/// The one place that spends codes.
pub struct Exchange {
    caller: Arc<Caller>,
    memory: Arc<dyn Memory>,
    ledger: Ledger,
    leases: Leases,
    flights: Flights,
    /// How long after a first refusal the second look is taken: longer than a request can last.
    second_look_ms: i64,
}

/// A code that is to be spent.
struct Order<'a> {
    app: &'a App,
    code: &'a Secret,
    occurred_at: Millis,
    marks: Marks,
}

/// What an attempt came to; and, if it left no note and the lease is to be given back, whether a
/// request may have reached WeChat.
type Attempted = (Result<Exchanged, MemoryFault>, Option<bool>);

impl Exchange {
    /// Over the one way to WeChat, a memory and a key ring.
    #[must_use]
    pub fn new(
        caller: Arc<Caller>,
        memory: Arc<dyn Memory>,
        keys: Arc<Keys>,
        sender: Sender,
    ) -> Self {
        let timeout_ms = i64::try_from(sender.request_timeout.as_millis()).unwrap_or(i64::MAX / 4);
        let second_look_ms = timeout_ms.saturating_add(LAG_MS);
        Self {
            ledger: Ledger::new(Arc::clone(&memory), keys, second_look_ms),
            leases: Leases::new(Arc::clone(&memory), Arc::clone(&caller), sender),
            flights: Flights::default(),
            caller,
            memory,
            second_look_ms,
        }
    }

    /// Whether calls of the app hang.
    pub(super) fn strained(&self, app: &AppId) -> bool {
        self.caller.strained(app)
    }

    /// For so long after its life a code's end may be open, in milliseconds: another attempt's lease may
    /// run, and a second look be due.
    pub(super) fn aftermath_ms(&self) -> i64 {
        2 * self.leases.length_ms() + self.second_look_ms
    }

    /// Sends no code any more, and waits, for some seconds at most, until what WeChat said is noted; how
    /// many codes are in hand still.
    pub async fn close(&self) -> usize {
        self.leases.close().await
    }

    /// Exchanges a code that was issued at about `occurred_at`.
    ///
    /// # Errors
    /// The memory is not available; the code may have been sent, and its lease says so.
    pub async fn exchange(
        &self,
        app: &App,
        code: &Secret,
        occurred_at: Millis,
    ) -> Result<Exchanged, MemoryFault> {
        if !app.exchanges_codes() {
            let detail =
                "the app has neither secret nor component configured to exchange codes with";
            return Ok(Exchanged::Dead(DeadReason::UnsupportedEvidence, detail));
        }
        let order = Order {
            app,
            code,
            occurred_at,
            marks: self.ledger.marks(app, code),
        };
        // Two events with one code: the second waits here, then finds the first one's note.
        let _flight = self.flights.enter(order.marks.answer).await;
        if let Some(known) = self.known(&order).await? {
            return Ok(known);
        }
        if self.too_old(&order) {
            return self.aged(&order).await;
        }
        let credential = match self.credential(app).await {
            Ok(credential) => credential,
            Err(missed) => return later(missed),
        };
        // The lease is taken while others are in flight, so that no slot waits for the store; and not
        // long before, so that few are taken in vain.
        let ready = match self.caller.ready(app, credential.api(app.kind)).await {
            Ok(ready) => ready,
            Err(missed) => return later(missed),
        };
        // It may have waited long.
        if self.too_old(&order) {
            return self.aged(&order).await;
        }
        let Some(_duty) = self.leases.begin() else {
            return Ok(Exchanged::Later(None));
        };
        let mut lease = match self.leases.claim(order.marks.answer).await? {
            Taken::Mine(lease) => lease,
            Taken::Elsewhere(until) => return Ok(Exchanged::Elsewhere(until)),
        };
        let (came, over) = self.attempt(&order, &credential, &mut lease, ready).await;
        if let Some(sent) = over {
            self.leases.give_back(lease, sent).await;
        }
        came
    }

    /// Sends the code, if nothing else has become known of it since its notes were looked at.
    async fn attempt(
        &self,
        order: &Order<'_>,
        credential: &Credential,
        lease: &mut Lease,
        ready: impl Send,
    ) -> Attempted {
        let unsent = |came| (came, Some(false));
        let (app, api) = (order.app, credential.api(order.app.kind));
        if !lease.first {
            match self.known(order).await {
                Ok(None) => {}
                Ok(Some(known)) => return unsent(Ok(known)),
                Err(fault) => return unsent(Err(fault)),
            }
        }
        let admitted = tokio::select! {
            admitted = self.caller.admit(app, api) => admitted,
            () = self.leases.closing() => Err(Missed::Later(None)),
        };
        let pass = match admitted {
            Ok(pass) => pass,
            Err(missed) => return unsent(later(missed)),
        };
        drop(ready);
        match self.otherwise(order, lease).await {
            Ok(None) => {}
            Ok(Some(otherwise)) => return unsent(Ok(otherwise)),
            Err(fault) => return unsent(Err(fault)),
        }
        let mut reached = true;
        let request = async {
            let client = self.caller.client();
            let answer = client.exchange(&app.id, app.kind, credential, order.code);
            let answer = answer.await;
            reached = !answer.as_ref().is_err_and(|e| e.sent() == Sent::Never);
            answer
        };
        let answer = self.caller.run(pass, app, api, request).await;
        self.take(order, answer, lease.sent, reached).await
    }

    /// What stands against sending now: waiting for its turn, or standing still, may have taken long.
    async fn otherwise(
        &self,
        order: &Order<'_>,
        lease: &mut Lease,
    ) -> Result<Option<Exchanged>, MemoryFault> {
        if !self.leases.covers(lease) {
            if let Some(until) = self.leases.renew(lease).await? {
                return Ok(Some(Exchanged::Elsewhere(until)));
            }
            if let Some(known) = self.known(order).await? {
                return Ok(Some(known));
            }
            if !self.leases.covers(lease) {
                return Ok(Some(Exchanged::Later(None)));
            }
        }
        Ok(self.too_old(order).then(|| expired(lease.sent)))
    }

    async fn known(&self, order: &Order<'_>) -> Result<Option<Exchanged>, MemoryFault> {
        self.ledger.known(&order.marks, self.caller.now()).await
    }

    fn too_old(&self, order: &Order<'_>) -> bool {
        self.caller.now().since(order.occurred_at) > CODE_LIFE_MS
    }

    /// A code past its life. Was it sent, then its login is lost and not late; but whoever sent it may
    /// be about to note the answer.
    async fn aged(&self, order: &Order<'_>) -> Result<Exchanged, MemoryFault> {
        let mark = order.marks.answer;
        match self.memory.sending(mark).await? {
            None => return Ok(expired(false)),
            Some(sending) if !sending.held && sending.until <= self.caller.now() => {
                return Ok(expired(sending.sent));
            }
            Some(_) => {}
        }
        match self.leases.claim(mark).await? {
            Taken::Elsewhere(until) => Ok(Exchanged::Elsewhere(until)),
            Taken::Mine(lease) => {
                let (sent, known) = (lease.sent, self.known(order).await);
                self.leases.give_back(lease, false).await;
                Ok(known?.unwrap_or_else(|| expired(sent)))
            }
        }
    }

    async fn credential(&self, app: &App) -> Result<Credential, Missed> {
        if let Some(component) = &app.component {
            let Some(token) = read_token(&component.token_file).await else {
                let why = "the file with the component_access_token cannot be read, or is empty";
                let api = Credential::api_of_component(app.kind);
                return Err(self.caller.refuse(app, api, why));
            };
            let id = component.id.clone();
            return Ok(Credential::Component { id, token });
        }
        let secret = app.secret.clone().ok_or(Missed::Later(None))?;
        Ok(Credential::Secret(secret))
    }

    /// Notes what WeChat said for good.
    async fn take(
        &self,
        order: &Order<'_>,
        answer: Result<Session, Missed>,
        sent_before: bool,
        reached: bool,
    ) -> Attempted {
        let now = self.caller.now();
        let fault = match answer {
            Ok(session) => return (self.bought(order, session, now).await, None),
            Err(Missed::Fault(fault)) => fault,
            Err(missed) => return (later(missed), Some(reached)),
        };
        match Refusal::of(&fault, sent_before) {
            Some(refusal) => (self.refused(order, refusal, now).await, None),
            None => (Ok(Exchanged::Later(None)), Some(reached)),
        }
    }

    async fn bought(
        &self,
        order: &Order<'_>,
        session: Session,
        at: Millis,
    ) -> Result<Exchanged, MemoryFault> {
        let note = self.ledger.answer(&order.marks, order.app, &session, at)?;
        self.leases.keep(note).await?;
        Ok(Exchanged::Session(session, at))
    }

    async fn refused(
        &self,
        order: &Order<'_>,
        refusal: Refusal,
        at: Millis,
    ) -> Result<Exchanged, MemoryFault> {
        let note = self.ledger.refusal(&order.marks, refusal, at)?;
        self.leases.keep(note).await?;
        Ok(self.ledger.judge(refusal, at, self.caller.now()))
    }
}

fn later(missed: Missed) -> Result<Exchanged, MemoryFault> {
    match missed {
        Missed::Later(until) => Ok(Exchanged::Later(until)),
        Missed::Strange | Missed::Fault(_) => Ok(Exchanged::Later(None)),
        Missed::Memory(fault) => Err(fault),
    }
}
