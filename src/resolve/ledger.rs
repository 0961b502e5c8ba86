//! What is noted of codes: WeChat's answers, and what it said for good, under keyed hashes.

use super::exchange::{CODE_LIFE_MS, Exchanged};
use super::notes::{read_session, write_session};
use super::ports::{Found, Mark, Memory, MemoryFault, Note};
use super::refusal::Refusal;
use super::wechat::Session;
use crate::model::{Account, App, DeadReason, Millis, Secret};
use crate::seal::Keys;
use crate::telemetry;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Where what is noted of a code stands.
pub(super) struct Marks {
    /// The answer; also what the code itself is told by.
    pub answer: Mark,
    refused: Mark,
}

/// The notes of codes.
pub(super) struct Ledger {
    memory: Arc<dyn Memory>,
    keys: Arc<Keys>,
    /// How long after a first refusal the second look is taken.
    second_look_ms: i64,
}

impl Ledger {
    pub(super) fn new(memory: Arc<dyn Memory>, keys: Arc<Keys>, second_look_ms: i64) -> Self {
        Self {
            memory,
            keys,
            second_look_ms,
        }
    }

    pub(super) fn marks(&self, app: &App, code: &Secret) -> Marks {
        marks(&self.keys, app, code)
    }

    /// What is noted of a code.
    ///
    /// # Errors
    /// The memory is not available.
    pub(super) async fn known(
        &self,
        marks: &Marks,
        now: Millis,
    ) -> Result<Option<Exchanged>, MemoryFault> {
        let asked = vec![marks.answer, marks.refused];
        let mut notes = self.memory.recall(asked).await?.into_iter();
        let (answer, refused) = (notes.next().flatten(), notes.next().flatten());
        if let Some(note) = answer {
            metrics::counter!(telemetry::LEDGER_HITS).increment(1);
            return Ok(Some(self.read_answer(&marks.answer, note)));
        }
        Ok(refused.map(|note| {
            let refusal = self.read_refusal(&marks.refused, &note);
            self.judge(refusal, note.at, now)
        }))
    }

    /// What the code bought, as it is noted.
    ///
    /// # Errors
    /// It cannot be sealed.
    pub(super) fn answer(
        &self,
        marks: &Marks,
        app: &App,
        session: &Session,
        at: Millis,
    ) -> Result<Note, MemoryFault> {
        let account = Account {
            app: app.id.clone(),
            openid: session.openid.clone(),
        };
        let bytes = write_session(session);
        note(&self.keys, marks.answer, Some(account), at, &bytes)
    }

    /// What WeChat said for good, as it is noted.
    ///
    /// # Errors
    /// It cannot be sealed.
    pub(super) fn refusal(
        &self,
        marks: &Marks,
        refusal: Refusal,
        at: Millis,
    ) -> Result<Note, MemoryFault> {
        refusal_note(&self.keys, marks, refusal, at)
    }

    /// What a refusal of `noted` comes to at `now`.
    pub(super) fn judge(&self, refusal: Refusal, noted: Millis, now: Millis) -> Exchanged {
        refusal.judge(noted.plus(self.second_look_ms), now)
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

    fn read_refusal(&self, mark: &Mark, note: &Found) -> Refusal {
        let sealed = note.sealed.as_ref();
        sealed
            .and_then(|sealed| self.keys.ring.open("ledger", &mark.0, sealed).ok())
            .and_then(|bytes| postcard::from_bytes(&bytes).ok())
            .unwrap_or(Refusal::Used { lost: false })
    }
}

fn marks(keys: &Keys, app: &App, code: &Secret) -> Marks {
    let text = Zeroizing::new(format!("{}\0{}", app.id, code.expose()));
    let mark = |purpose| Mark(keys.ring.mac(purpose, text.as_bytes()));
    Marks {
        answer: mark("code"),
        refused: mark("code refused"),
    }
}

fn refusal_note(
    keys: &Keys,
    marks: &Marks,
    refusal: Refusal,
    at: Millis,
) -> Result<Note, MemoryFault> {
    let bytes = postcard::to_stdvec(&refusal).unwrap_or_default();
    note(keys, marks.refused, None, at, &bytes)
}

fn note(
    keys: &Keys,
    mark: Mark,
    account: Option<Account>,
    at: Millis,
    bytes: &[u8],
) -> Result<Note, MemoryFault> {
    let sealed = keys.ring.seal("ledger", &mark.0, bytes);
    Ok(Note {
        mark,
        account,
        at,
        sealed: sealed.map_err(|e| MemoryFault(e.to_string()))?,
    })
}

/// What a code is told by.
#[must_use]
pub fn code_mark(keys: &Keys, app: &App, code: &Secret) -> Mark {
    marks(keys, app, code).answer
}

/// For a code whose answer was lost: where that would stand, and the note that it is never sent again.
///
/// # Errors
/// It cannot be sealed.
pub fn lost_code(
    keys: &Keys,
    app: &App,
    code: &Secret,
    now: Millis,
) -> Result<(Mark, Note), MemoryFault> {
    let marks = marks(keys, app, code);
    let at = now.plus(-CODE_LIFE_MS);
    let note = refusal_note(keys, &marks, Refusal::Used { lost: true }, at)?;
    Ok((marks.answer, note))
}
