//! Spending a code: once. What it bought is remembered before anything else happens.
//!
//! The order is: look at the notes; note that the code is about to be sent; send it; note the
//! answer. A code is sent again only when no answer was noted: after -1, a minute limit, a timeout, a
//! broken answer or a kill. WeChat's "code been used" is final only at a second look, later than a
//! request can last, since another worker may be about to note the answer (`docs/wechat.md` §3.1).

use super::caller::{Caller, LAG_MS, Missed};
use super::codes::Action;
use super::flights::Flights;
use super::notes::{read_session, write_session};
use super::ports::{Found, Mark, Memory, MemoryFault, Note};
use super::tokens::read_token;
use super::wechat::{CallError, Credential, Session};
use crate::model::{Account, App, AppId, DeadReason, Millis, Secret};
use crate::seal::Keys;
use crate::telemetry;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

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
}

/// The one place that spends codes.
pub struct Exchange {
    caller: Arc<Caller>,
    memory: Arc<dyn Memory>,
    keys: Arc<Keys>,
    flights: Flights,
    /// How long after a first refusal the second look is taken: longer than a request can last.
    second_look_ms: i64,
}

/// What a note under the "refused" mark says.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Refusal {
    /// Dead on first sight; final at the second look. `lost`: it had been sent before.
    Used { lost: bool },
    /// WeChat blocks the user.
    Blocked,
    /// WeChat refuses the request itself.
    Malformed,
}

struct Marks {
    answer: Mark,
    sent: Mark,
    refused: Mark,
}

impl Exchange {
    /// Over the one way to WeChat, a memory and a key ring; `request_timeout` is that of a call.
    #[must_use]
    pub fn new(
        caller: Arc<Caller>,
        memory: Arc<dyn Memory>,
        keys: Arc<Keys>,
        request_timeout: Duration,
    ) -> Self {
        let timeout_ms = i64::try_from(request_timeout.as_millis()).unwrap_or(i64::MAX / 2);
        Self {
            caller,
            memory,
            keys,
            flights: Flights::default(),
            second_look_ms: timeout_ms.saturating_add(LAG_MS),
        }
    }

    /// Whether calls of the app hang.
    pub(super) fn strained(&self, app: &AppId) -> bool {
        self.caller.strained(app)
    }

    /// Exchanges a code that was issued at about `occurred_at`.
    ///
    /// # Errors
    /// The memory is not available; the code may have been sent, and its note says so.
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
        let marks = self.marks(app, code);
        // Two events with one code: the second waits here, then finds the first one's note.
        let _flight = self.flights.enter(marks.answer).await;
        let asked = vec![marks.answer, marks.sent, marks.refused];
        let mut notes = self.memory.recall(asked).await?.into_iter();
        let (answer, sent, refused) = (
            notes.next().flatten(),
            notes.next().flatten(),
            notes.next().flatten(),
        );
        if let Some(note) = answer {
            metrics::counter!(telemetry::LEDGER_HITS).increment(1);
            return Ok(self.read_answer(&marks.answer, note));
        }
        let now = self.caller.now();
        if let Some(note) = refused {
            return Ok(self.read_refusal(&marks.refused, &note, now));
        }
        if now.since(occurred_at) > CODE_LIFE_MS {
            return Ok(expired(sent.is_some()));
        }
        let credential = match self.credential(app).await {
            Ok(credential) => credential,
            Err(missed) => return later(missed),
        };
        let api = credential.api(app.kind);
        // Noted while others are in flight, so that no slot waits for the store; and not long before,
        // so that few are noted that are not sent after all.
        let ready = match self.caller.ready(app, api).await {
            Ok(ready) => ready,
            Err(missed) => return later(missed),
        };
        // It may have waited long.
        let now = self.caller.now();
        if now.since(occurred_at) > CODE_LIFE_MS {
            return Ok(expired(sent.is_some()));
        }
        if sent.is_none() {
            self.note(marks.sent, None, now, Vec::new()).await?;
        }
        let pass = match self.caller.admit(app, api).await {
            Ok(pass) => pass,
            Err(missed) => return later(missed),
        };
        drop(ready);
        if self.caller.now().since(occurred_at) > CODE_LIFE_MS {
            return Ok(expired(sent.is_some()));
        }
        let client = self.caller.client();
        let request = client.exchange(&app.id, app.kind, &credential, code);
        let answer = self.caller.run(pass, app, api, request).await;
        self.take(app, &marks, answer, sent.is_some()).await
    }

    /// What is noted of a code, which is not sent; `None`: nothing.
    ///
    /// # Errors
    /// The memory is not available.
    pub async fn remembered(
        &self,
        app: &App,
        code: &Secret,
    ) -> Result<Option<Exchanged>, MemoryFault> {
        let marks = self.marks(app, code);
        let asked = vec![marks.answer, marks.refused];
        let mut notes = self.memory.recall(asked).await?.into_iter();
        let (answer, refused) = (notes.next().flatten(), notes.next().flatten());
        Ok(match (answer, refused) {
            (Some(note), _) => Some(self.read_answer(&marks.answer, note)),
            (None, Some(note)) => Some(self.read_refusal(&marks.refused, &note, self.caller.now())),
            (None, None) => None,
        })
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

    async fn take(
        &self,
        app: &App,
        marks: &Marks,
        answer: Result<Session, Missed>,
        sent_before: bool,
    ) -> Result<Exchanged, MemoryFault> {
        let now = self.caller.now();
        let fault = match answer {
            Ok(session) => {
                let account = Account {
                    app: app.id.clone(),
                    openid: session.openid.clone(),
                };
                let noted = write_session(&session);
                let sealed = self.seal(&marks.answer, &noted)?;
                self.note(marks.answer, Some(account), now, sealed).await?;
                return Ok(Exchanged::Session(session, now));
            }
            Err(Missed::Fault(fault)) => fault,
            Err(missed) => return later(missed),
        };
        let Some(refusal) = refusal(&fault, sent_before) else {
            return Ok(Exchanged::Later(None));
        };
        let bytes = postcard::to_stdvec(&refusal).unwrap_or_default();
        let sealed = self.seal(&marks.refused, &bytes)?;
        self.note(marks.refused, None, now, sealed).await?;
        Ok(self.judge(refusal, now, now))
    }

    fn read_answer(&self, mark: &Mark, note: Found) -> Exchanged {
        let Some(sealed) = note.sealed else {
            return Exchanged::Dead(DeadReason::CodeDead, "the account was erased");
        };
        let session = self
            .keys
            .ring
            .open("ledger", &mark.0, &sealed)
            .ok()
            .and_then(|bytes| read_session(&bytes));
        match session {
            Some(session) => Exchanged::Session(session, note.at),
            // The key ring was changed under the store: waiting is safe, sending again is not.
            None => {
                tracing::error!("a noted answer does not open: is a ring key missing?");
                Exchanged::Later(None)
            }
        }
    }

    fn read_refusal(&self, mark: &Mark, note: &Found, now: Millis) -> Exchanged {
        let refusal = note
            .sealed
            .as_ref()
            .and_then(|sealed| self.keys.ring.open("ledger", &mark.0, sealed).ok())
            .and_then(|bytes| postcard::from_bytes(&bytes).ok())
            .unwrap_or(Refusal::Used { lost: false });
        self.judge(refusal, note.at, now)
    }

    fn judge(&self, refusal: Refusal, noted: Millis, now: Millis) -> Exchanged {
        let second_look = noted.plus(self.second_look_ms);
        match refusal {
            Refusal::Blocked => Exchanged::Dead(DeadReason::UserBlocked, "WeChat blocks the user"),
            Refusal::Malformed => {
                Exchanged::Dead(DeadReason::Refused, "WeChat refuses the code as malformed")
            }
            Refusal::Used { .. } if now < second_look => Exchanged::Later(Some(second_look)),
            Refusal::Used { lost: true } => lost(),
            Refusal::Used { lost: false } => {
                let detail = "WeChat says that the code was used or never valid";
                Exchanged::Dead(DeadReason::CodeDead, detail)
            }
        }
    }

    async fn note(
        &self,
        mark: Mark,
        account: Option<Account>,
        at: Millis,
        sealed: Vec<u8>,
    ) -> Result<(), MemoryFault> {
        let note = Note {
            mark,
            account,
            at,
            sealed,
        };
        self.memory.remember(note).await
    }

    fn seal(&self, mark: &Mark, bytes: &[u8]) -> Result<Vec<u8>, MemoryFault> {
        self.keys
            .ring
            .seal("ledger", &mark.0, bytes)
            .map_err(|e| MemoryFault(e.to_string()))
    }

    fn marks(&self, app: &App, code: &Secret) -> Marks {
        marks(&self.keys, app, code)
    }
}

fn marks(keys: &Keys, app: &App, code: &Secret) -> Marks {
    let text = Zeroizing::new(format!("{}\0{}", app.id, code.expose()));
    let mark = |purpose| Mark(keys.ring.mac(purpose, text.as_bytes()));
    Marks {
        answer: mark("code"),
        sent: mark("code sent"),
        refused: mark("code refused"),
    }
}

/// For a code whose answer was lost: where that would stand, and the note that it is never sent again.
pub fn lost_code(
    keys: &Keys,
    app: &App,
    code: &Secret,
    now: Millis,
) -> Result<(Mark, Note), MemoryFault> {
    let marks = marks(keys, app, code);
    let bytes = postcard::to_stdvec(&Refusal::Used { lost: true }).unwrap_or_default();
    let sealed = keys.ring.seal("ledger", &marks.refused.0, &bytes);
    let note = Note {
        mark: marks.refused,
        account: None,
        at: now.plus(-CODE_LIFE_MS),
        sealed: sealed.map_err(|e| MemoryFault(e.to_string()))?,
    };
    Ok((marks.answer, note))
}

/// What WeChat says about the code for good; `None`: nothing about the code.
fn refusal(fault: &CallError, sent_before: bool) -> Option<Refusal> {
    match fault.action() {
        // Only a new login, or a new round of OAuth, brings another code.
        Action::CodeDead | Action::Reauthorise => Some(Refusal::Used { lost: sent_before }),
        Action::UserBlocked => Some(Refusal::Blocked),
        Action::BadInput => Some(Refusal::Malformed),
        _ => None,
    }
}

fn later(missed: Missed) -> Result<Exchanged, MemoryFault> {
    match missed {
        Missed::Later(until) => Ok(Exchanged::Later(until)),
        Missed::Strange | Missed::Fault(_) => Ok(Exchanged::Later(None)),
        Missed::Memory(fault) => Err(fault),
    }
}

fn expired(sent: bool) -> Exchanged {
    if sent {
        return lost();
    }
    let detail = "the code was past its 5 minutes before it could be exchanged";
    Exchanged::Dead(DeadReason::CodeExpired, detail)
}

fn lost() -> Exchanged {
    let detail = "the code was sent, the answer was lost, and WeChat does not repeat it";
    Exchanged::Dead(DeadReason::CodeLost, detail)
}
