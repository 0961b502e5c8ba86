//! The reader: takes records as they come, within bounds, decodes them in chunks, and hands over what
//! is finished. What has to ask WeChat or the memory is resolved on tasks of its own.

use super::decode::Decoded;
use super::deferred::end_of;
use super::item::{End, Head, Item, Source};
use super::shift::Shift;
use super::{CHUNK, Ended, NEWS, READ, WAIT, Worker, WorkerError};
use crate::bus::{Member, Next, Stored};
use crate::model::Login;
use crate::resolve::ports::MemoryFault;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Reads, decodes, and hands over what is finished.
pub(super) struct Reader {
    pub worker: Arc<Worker>,
    pub member: Arc<dyn Member>,
    pub shift: Arc<Shift>,
    pub done: mpsc::Sender<Vec<Item>>,
    pub stop: CancellationToken,
}

impl Reader {
    /// Reads until told to stop, or given something else.
    pub async fn run(self) -> Result<Ended, WorkerError> {
        let (failed, mut failures) = mpsc::channel::<MemoryFault>(1);
        let mut resolving = JoinSet::new();
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = self.shift.room() => {}
                Some(fault) = failures.recv() => return Err(fault.into()),
                () = self.stop.cancelled() => break,
            }
            while let Some(done) = resolving.try_join_next() {
                // A task that ended early left its records unfinished: they are read again.
                done?;
            }
            let news = self.member.next(WAIT, READ);
            match self.worker.watchdog.step(NEWS, news).await? {
                Next::Records(term, records) if term == self.shift.term => {
                    let records = self.shift.read(records);
                    for chunk in records.chunks(CHUNK) {
                        resolving.spawn(self.decoding(chunk.to_vec(), failed.clone()));
                    }
                }
                Next::Given(term, assigned) => return Ok(Ended::Given((term, assigned))),
                Next::Records(..) | Next::Taken(_) | Next::Idle => {}
            }
        }
        // What is under way still finishes: the senders live in its tasks.
        while !resolving.is_empty() {
            tokio::select! {
                Some(fault) = failures.recv() => return Err(fault.into()),
                Some(done) = resolving.join_next() => done?,
            }
        }
        Ok(Ended::Stopped)
    }

    /// Decodes a chunk; what can be resolved at once goes on at once, the rest on its own tasks.
    fn decoding(
        &self,
        records: Vec<Arc<Stored>>,
        failed: mpsc::Sender<MemoryFault>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (worker, done) = (Arc::clone(&self.worker), self.done.clone());
        async move {
            let mut ready = Vec::with_capacity(records.len());
            let mut asking = JoinSet::new();
            for record in records {
                let item = |asked, head, end| Item {
                    record: Arc::clone(&record),
                    source: Source::Live { asked },
                    head,
                    end,
                };
                match worker.decoder.decode(&record) {
                    Decoded::Operator(head, fact) => {
                        ready.push(item(false, Some(head), End::Facts(fact)));
                    }
                    Decoded::Dead(head, reason, detail) => {
                        ready.push(item(false, head, End::Dead(reason, detail)));
                    }
                    Decoded::Login(login) => match worker.ladder.at_once(&login) {
                        Some(resolved) => {
                            ready.push(item(false, Some(Head::of(&login)), end_of(resolved)));
                        }
                        None => {
                            let (worker, done, failed) =
                                (Arc::clone(&worker), done.clone(), failed.clone());
                            let record = Arc::clone(&record);
                            asking.spawn(ask(worker, login, record, done, failed));
                        }
                    },
                }
            }
            if !ready.is_empty() {
                done.send(ready).await.ok();
            }
            while let Some(done) = asking.join_next().await {
                if done.is_err() {
                    drop(failed.try_send(MemoryFault("a resolution ended early".to_owned())));
                }
            }
        }
    }
}

/// Resolves what cannot be resolved at once.
async fn ask(
    worker: Arc<Worker>,
    login: Box<Login>,
    record: Arc<Stored>,
    done: mpsc::Sender<Vec<Item>>,
    failed: mpsc::Sender<MemoryFault>,
) {
    match worker.ladder.resolve(&login).await {
        Ok(resolved) => {
            let item = Item {
                record,
                source: Source::Live { asked: true },
                head: Some(Head::of(&login)),
                end: end_of(resolved),
            };
            // A closed queue means that the term is over.
            done.send(vec![item]).await.ok();
        }
        Err(fault) => drop(failed.try_send(fault)),
    }
}
