//! The rows of a table on their way to the login topic.

use super::file::Table;
use crate::bus::{Bus, Record};
use crate::cli::Failure;
use crate::cli::assemble::SOURCE;
use crate::model::{Apps, Erasure, Millis};
use crate::tables::Imported;
use crate::wire::{ErasureWire, ImportWire, Signer, Topics};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Rows published at once.
const BATCH: usize = 500;

/// What it takes.
pub struct Publishing<'a> {
    /// The log.
    pub bus: &'a dyn Bus,
    /// The topics.
    pub topics: &'a Topics,
    /// Signs the events.
    pub signer: &'a Signer,
    /// The apps.
    pub apps: &'a Apps,
    /// Accounts a second; 0: as many as the bus takes.
    pub rate: u32,
    /// Now, for what may not lie ahead.
    pub now: Millis,
}

/// How far it got.
#[derive(Debug, Default)]
pub struct Done {
    /// Accounts whose events are on the topic.
    pub accounts: u64,
    /// The first line that may not be.
    pub next_line: u64,
    /// It was stopped before its end.
    pub stopped: bool,
}

impl Publishing<'_> {
    /// Publishes all good rows from a line on; bad ones are left out. `went` learns how many went.
    /// Ends after the batch at hand once `stop` is cancelled.
    pub async fn all(
        &self,
        table: &Table,
        from_line: u64,
        stop: &CancellationToken,
        went: impl Fn(u64),
    ) -> (Done, Option<Failure>) {
        let mut done = Done {
            next_line: from_line,
            ..Done::default()
        };
        let failure = self.batches(table, stop, went, &mut done).await.err();
        (done, failure)
    }

    async fn batches(
        &self,
        table: &Table,
        stop: &CancellationToken,
        went: impl Fn(u64),
        done: &mut Done,
    ) -> Result<(), Failure> {
        let mut reader = table.reader()?;
        let begun = Instant::now();
        let most = match usize::try_from(self.rate) {
            Ok(rate) if rate > 0 => BATCH.min(rate),
            _ => BATCH,
        };
        let from = done.next_line;
        loop {
            let (mut records, mut accounts, mut last) = (Vec::new(), 0, None);
            while accounts < most as u64 {
                let next = reader.next(from, self.apps, self.now);
                let Some((line, row)) = next.map_err(|e| table.failed(e))? else {
                    break;
                };
                if let Ok(row) = row {
                    self.add(&row, &mut records);
                    accounts += 1;
                    last = Some(line);
                }
            }
            let Some(last) = last else {
                return Ok(());
            };
            if !self.paced(begun, done.accounts, stop).await {
                done.stopped = true;
                return Ok(());
            }
            self.bus.publish(records).await.map_err(Failure::failed)?;
            done.accounts += accounts;
            // Every later row begins in a later line, whatever bad ones lie between.
            done.next_line = last + 1;
            went(done.accounts);
        }
    }

    fn add(&self, row: &Imported, records: &mut Vec<Record>) {
        if let Some((erased_at, cause)) = &row.erased {
            let erasure = Erasure {
                account: row.import.account.clone(),
                erased_at: *erased_at,
                cause: cause.clone(),
            };
            let record = ErasureWire::to_record(&erasure, self.topics, SOURCE, self.signer);
            records.push(record);
        }
        let record = ImportWire::to_record(&row.import, self.topics, SOURCE, self.signer);
        records.push(record);
    }

    /// Waits until the rate allows the next batch; whether it may go.
    async fn paced(&self, begun: Instant, went: u64, stop: &CancellationToken) -> bool {
        if self.rate > 0 {
            tokio::select! {
                () = sleep_until(begun + Duration::from_secs(went) / self.rate) => {}
                () = stop.cancelled() => {}
            }
        }
        !stop.is_cancelled()
    }
}
