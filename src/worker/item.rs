//! One record on its way from the topic to the store.

use crate::bus::Stored;
use crate::model::{Account, AppId, DeadReason, EventId, Fact, Login, Millis};
use crate::resolve::ladder::Later;
use std::sync::Arc;

/// A record with what became of it.
#[derive(Debug)]
pub struct Item {
    /// The record as the bus holds it.
    pub record: Arc<Stored>,
    /// Whether it was just read or comes back from deferral.
    pub source: Source,
    /// What is known of the event, if it could be decoded.
    pub head: Option<Head>,
    /// What became of it.
    pub end: End,
}

/// Where an item comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// Just read. `asked`: it could not be resolved at once, so an earlier life of this worker may
    /// have deferred it.
    Live {
        /// See above.
        asked: bool,
    },
    /// Due again.
    Deferred {
        /// Attempts made, this one included.
        attempts: u32,
        /// When this one's lease ends.
        lease: Millis,
    },
}

/// What the later steps want to know of an event.
#[derive(Debug, Clone)]
pub struct Head {
    /// Its id.
    pub id: EventId,
    /// Its app; `None` for an operator's event about several.
    pub app: Option<AppId>,
    /// When it happened.
    pub occurred_at: Millis,
    /// Whether that had to be clamped.
    pub clamped: bool,
    /// Whether it carried a code: its fate can be asked for.
    pub had_code: bool,
    /// Opaque, carried through to `linked-logins`.
    pub attributes: Option<Arc<str>>,
    /// A login (and not an operator's event): it has a `linked-logins` record.
    pub login: bool,
}

/// What became of a record.
#[derive(Debug)]
pub enum End {
    /// Facts to apply.
    Facts(Box<Fact>),
    /// Resolution goes on later.
    Later(Box<Later>),
    /// It is a dead letter; the text is for operators and holds no identifier.
    Dead(DeadReason, String),
}

impl Head {
    /// The head of a login.
    #[must_use]
    pub fn of(login: &Login) -> Self {
        Self {
            id: login.id.clone(),
            app: Some(login.app.clone()),
            occurred_at: login.occurred_at,
            clamped: login.clamped,
            had_code: matches!(login.evidence, crate::model::Evidence::Code { .. }),
            attributes: login.attributes.clone(),
            login: true,
        }
    }
}

impl Item {
    /// Partition and offset.
    #[must_use]
    pub fn place(&self) -> (u32, i64) {
        (self.record.partition, self.record.offset)
    }

    /// Whether it was just read.
    #[must_use]
    pub fn live(&self) -> bool {
        matches!(self.source, Source::Live { .. })
    }

    /// The account it is about, if it came to facts or is known meanwhile.
    #[must_use]
    pub fn account(&self) -> Option<&Account> {
        match &self.end {
            End::Facts(fact) => match fact.as_ref() {
                Fact::Sighting(s) => Some(&s.account),
                Fact::Erasure(e) => Some(&e.account),
                Fact::Review(r) => Some(&r.account),
                Fact::Decision(_) => None,
            },
            End::Later(later) => later.interim.as_ref().map(|s| &s.account),
            End::Dead(..) => None,
        }
    }
}
