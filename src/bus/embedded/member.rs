//! The worker's side: what is given to it, reading ahead of its commits, and committing.
//!
//! A term ends with a takeover (seen at the next `next` or `commit`) and with every void commit;
//! then the lease is taken again and a fresh `Given` follows. All futures may be dropped: state
//! changes only after the last await, and a dropped commit is either visible whole or not at all.

use super::catalog::Topic;
use super::lease::Lease;
use super::log::{self, Stretch};
use super::{Core, group, now};
use crate::bus::{BusError, Committed, Member, Next, Stored, Term, Unit};
use crate::sqlite::Fault;
use async_trait::async_trait;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How often appends of other processes are looked for; this process's own wake at once.
const POLL: Duration = Duration::from_millis(20);
/// The longest wait taken literally, so that a deadline can be computed from any `wait`.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);
/// Bytes of one `Records`: some 3,000 events.
const NEXT_BYTES: usize = 2 << 20;

pub struct EmbeddedMember {
    core: Arc<Core>,
    input: Arc<Topic>,
    state: Mutex<State>,
    /// Wakes `next` when the term ends.
    ended: Notify,
}

struct State {
    /// Freed with the member.
    lease: Option<Lease>,
    term: Term,
    phase: Phase,
    /// For each partition the next offset to read, once it was started.
    at: Vec<Option<i64>>,
    /// The partition that is read first next time.
    turn: usize,
    /// Bytes of a record, by the last look.
    typical: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The term has not been told yet.
    Untold,
    /// The term was told.
    Told,
    /// The term is over.
    Over,
}

/// What one look into the log brought.
enum Look {
    Records(Next),
    Nothing,
    TermOver,
}

impl EmbeddedMember {
    /// Takes the lease and begins a term.
    pub async fn join(core: Arc<Core>) -> Result<Self, BusError> {
        let lease = Lease::take(core.file.path())?;
        let input = core.catalog.need(&core.input).await?;
        let term = begin_term(&core).await?;
        let state = State {
            lease: Some(lease),
            term,
            phase: Phase::Untold,
            at: vec![None; input.parts().count()],
            turn: 0,
            typical: log::TYPICAL_BYTES,
        };
        Ok(Self {
            core,
            input,
            state: Mutex::new(state),
            ended: Notify::new(),
        })
    }

    async fn tails(&self) -> Result<(Term, Vec<i64>), Fault> {
        group::tails(&self.core.file, &self.core.group, &self.core.input).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lease anew (whoever took it over may hold it) and begins the next term.
    async fn rejoin(&self) -> Result<(), BusError> {
        {
            let mut state = self.state();
            state.lease = None;
            state.lease = Some(Lease::take(self.core.file.path())?);
        }
        let term = begin_term(&self.core).await?;
        let mut state = self.state();
        state.term = term;
        state.phase = Phase::Untold;
        state.at.fill(None);
        Ok(())
    }

    async fn give(&self) -> Result<Next, BusError> {
        let given = group::positions(&self.core.file, &self.core.group, &self.core.input).await?;
        let mut state = self.state();
        // A commit may have ended the term meanwhile; the next call begins another.
        if state.phase == Phase::Untold {
            state.phase = Phase::Told;
        }
        Ok(Next::Given(state.term, given))
    }

    /// Reads what there is, an equal share of each partition, what one leaves going to the others.
    async fn look(&self, limit: usize) -> Result<Look, BusError> {
        let (term, at, turn, typical) = {
            let mut state = self.state();
            state.turn = (state.turn + 1) % state.at.len().max(1);
            (state.term, state.at.clone(), state.turn, state.typical)
        };
        let (current, tails) = self.tails().await?;
        if current != term {
            self.end_term();
            return Ok(Look::TermOver);
        }
        let mut behind: Vec<Behind> = (0..at.len())
            .map(|i| (turn + i) % at.len())
            .filter_map(|index| {
                let (from, to) = (at[index]?, *tails.get(index)?);
                (from < to).then_some(Behind { index, from, to })
            })
            .collect();
        if behind.is_empty() {
            return Ok(Look::Nothing);
        }
        let records = self.read(&mut behind, limit.max(1), typical).await?;
        self.advance(term, &behind, &records);
        Ok(if records.is_empty() {
            Look::Nothing
        } else {
            Look::Records(Next::Records(term, records))
        })
    }

    /// Reads; afterwards each `from` is where to go on.
    async fn read(
        &self,
        behind: &mut [Behind],
        limit: usize,
        typical: usize,
    ) -> Result<Vec<Stored>, Fault> {
        let mut snapshot = self.core.file.snapshot().await?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        let parts: Vec<_> = self.input.parts().collect();
        let mut left = behind.len();
        for one in behind {
            let Some(&part) = parts.get(one.index) else {
                continue;
            };
            if records.len() >= limit || bytes >= NEXT_BYTES {
                break;
            }
            let stretch = Stretch {
                from: one.from,
                to: one.to,
                records: (limit - records.len()).div_ceil(left),
                bytes: (NEXT_BYTES - bytes).div_ceil(left),
                typical,
            };
            let read = log::read(&mut snapshot, part, stretch).await?;
            // Nothing below the tail: what was there has been compacted away.
            one.from = read.last().map_or(one.to, |r| r.offset + 1);
            bytes += read.iter().map(Stored::size).sum::<usize>();
            records.extend(read);
            left -= 1;
        }
        Ok(records)
    }

    fn advance(&self, term: Term, behind: &[Behind], records: &[Stored]) {
        let mut state = self.state();
        if state.term != term {
            return;
        }
        let bytes: usize = records.iter().map(Stored::size).sum();
        state.typical = bytes.checked_div(records.len()).unwrap_or(0).max(1);
        for one in behind {
            if let Some(at) = state.at.get_mut(one.index) {
                *at = Some(one.from);
            }
        }
    }

    fn end_term(&self) {
        self.state().phase = Phase::Over;
        self.ended.notify_one();
    }

    fn void(&self) -> Committed {
        self.end_term();
        Committed::Void
    }

    fn check(&self, partitions: impl Iterator<Item = u32>) -> Result<(), BusError> {
        for partition in partitions {
            self.input.part(partition)?;
        }
        Ok(())
    }
}

/// A partition with records to read.
struct Behind {
    index: usize,
    from: i64,
    to: i64,
}

#[async_trait]
impl Member for EmbeddedMember {
    async fn next(&self, wait: Duration, limit: usize) -> Result<Next, BusError> {
        let deadline = Instant::now() + wait.min(LONGEST_WAIT);
        let mut appended = self.core.appended.subscribe();
        loop {
            let phase = self.state().phase;
            match phase {
                Phase::Over => self.rejoin().await?,
                Phase::Untold => return self.give().await,
                Phase::Told => match self.look(limit).await? {
                    Look::Records(records) => return Ok(records),
                    Look::TermOver => {}
                    Look::Nothing => {
                        let now = Instant::now();
                        if now >= deadline {
                            return Ok(Next::Idle);
                        }
                        tokio::select! {
                            _ = appended.changed() => {}
                            () = self.ended.notified() => {}
                            () = sleep_until(deadline.min(now + POLL)) => {}
                        }
                    }
                },
            }
        }
    }

    async fn start(&self, term: Term, at: &[(u32, i64)]) -> Result<(), BusError> {
        self.check(at.iter().map(|(partition, _)| *partition))?;
        let (_, tails) = self.tails().await?;
        for (partition, offset) in at {
            let tail = usize::try_from(*partition).ok().and_then(|i| tails.get(i));
            if tail.is_none_or(|tail| offset > tail) {
                return Err(BusError::Refused(format!(
                    "{} ends before offset {offset} in partition {partition}: it is not the log \
                     that was read before; restore log and store as they were at one moment",
                    self.core.input
                )));
            }
        }
        let mut state = self.state();
        // Over already: the fresh `Given` is on its way.
        if state.term == term {
            for (partition, offset) in at {
                let index = usize::try_from(*partition).ok();
                if let Some(slot) = index.and_then(|i| state.at.get_mut(i)) {
                    *slot = Some(*offset);
                }
            }
        }
        Ok(())
    }

    async fn commit(&self, unit: Unit) -> Result<Committed, BusError> {
        let records = self.core.catalog.place(unit.records).await?;
        self.check(unit.progress.iter().map(|p| p.partition))?;
        let mut tx = self.core.file.begin().await?;
        let current = group::term(&mut tx, &self.core.group).await?;
        let over = {
            let state = self.state();
            state.phase == Phase::Over || unit.term != state.term || unit.term != current
        };
        if over {
            return Ok(self.void());
        }
        log::append(&mut tx, records, now()).await?;
        group::save(&mut tx, &self.core.group, &unit.progress).await?;
        tx.commit().await?;
        self.core.appended.send_replace(());
        Ok(Committed::Visible)
    }
}

async fn begin_term(core: &Core) -> Result<Term, Fault> {
    let mut tx = core.file.begin().await?;
    let term = group::next_term(&mut tx, &core.group).await?;
    tx.commit().await?;
    Ok(term)
}
