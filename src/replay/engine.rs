//! The sentence of this work: read a window, resolve it, apply its chunks one by one, note how far it got.

use super::counts::Counts;
use super::event::{Chunk, Fate};
use super::ground::Ground;
use super::job::Holding;
use super::pace::Pace;
use super::piece::{Desk, Piece};
use super::resolver::Resolver;
use super::spec::{Kept, Progress};
use super::{ReplayError, Source, Watch};
use crate::clock::Clock;
use crate::store::StoreError;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// While nothing changes, progress is noted this often.
const NOTE_EVERY: Duration = Duration::from_secs(2);

/// A piece of work under way.
pub struct Engine<'a> {
    /// Resolves windows.
    pub resolver: &'a Resolver,
    /// What is worked on.
    pub ground: Arc<dyn Ground>,
    /// Plans.
    pub desk: &'a Desk,
    /// The job; a dry run has none.
    pub holding: Option<&'a Holding>,
    /// How fast.
    pub pace: Pace,
    /// Who watches.
    pub watch: Arc<dyn Watch>,
    /// The time.
    pub clock: Clock,
    /// Told to stop: it ends after the chunk at hand.
    pub stop: CancellationToken,
}

/// How far a chunk gets, and whether the work goes back if it is stopped there.
type Cut = (Progress, bool);

/// How it stands.
struct Standing {
    /// With everything that was applied.
    kept: Kept,
    /// The numbers where it would go on from, if it were stopped now.
    mark: Counts,
    noted_at: Instant,
    /// Whether something was counted since it was noted.
    stale: bool,
}

impl Engine<'_> {
    /// Works to the end of the source; what it all came to.
    ///
    /// # Errors
    /// Services failed, another process has taken the job over, or it was told to stop: what was done is
    /// noted.
    pub async fn run(mut self, source: Box<dyn Source>, from: Kept) -> Result<Counts, ReplayError> {
        self.watch.begin(&from.progress);
        let from = from.gone_back();
        let mut standing = Standing {
            mark: from.counts.clone(),
            kept: from,
            noted_at: Instant::now(),
            stale: false,
        };
        let mut reader = Reader::new(source, self.pace.is_polite());
        let renewed = self.holding.map(Holding::renewed);
        let done = self.work(&mut reader, &mut standing).await;
        drop(renewed);
        let end = match done {
            Ok(()) => self.note(&mut standing, true).await,
            Err(ReplayError::Stopped) => match self.note(&mut standing, false).await {
                Ok(()) => Err(ReplayError::Stopped),
                failed => failed,
            },
            failed => failed,
        };
        end.map(|()| standing.kept.counts)
    }

    async fn work(
        &mut self,
        reader: &mut Reader,
        standing: &mut Standing,
    ) -> Result<(), ReplayError> {
        loop {
            let begun = Instant::now();
            let chunks = reader.next().await?;
            if chunks.is_empty() {
                return Ok(());
            }
            self.pace.rest(begun.elapsed(), &self.stop).await;
            let (fates, cuts) = self.resolved(chunks).await?;
            for (fates, cut) in fates.into_iter().zip(cuts) {
                if self.stop.is_cancelled() {
                    return Err(ReplayError::Stopped);
                }
                let begun = Instant::now();
                let records = fates.len();
                self.apply(standing, fates, cut).await?;
                let Kept { progress, counts } = &standing.kept;
                self.watch.went(progress, counts);
                self.pace.after(records, begun.elapsed(), &self.stop).await;
            }
            if self.stop.is_cancelled() {
                return Err(ReplayError::Stopped);
            }
        }
    }

    /// The fates of a window, chunk by chunk.
    async fn resolved(
        &self,
        chunks: Vec<Chunk>,
    ) -> Result<(Vec<Vec<Fate>>, Vec<Cut>), ReplayError> {
        let sizes: Vec<usize> = chunks.iter().map(|chunk| chunk.events.len()).collect();
        let mut cuts = Vec::with_capacity(chunks.len());
        let mut events = Vec::with_capacity(sizes.iter().sum());
        for chunk in chunks {
            events.extend(chunk.events);
            cuts.push((chunk.after, chunk.goes_back));
        }
        let mut fates = self.resolver.resolve(events).await?.into_iter();
        let part = |size: &usize| fates.by_ref().take(*size).collect();
        Ok((sizes.iter().map(part).collect(), cuts))
    }

    async fn apply(
        &self,
        standing: &mut Standing,
        fates: Vec<Fate>,
        (mut after, goes_back): Cut,
    ) -> Result<(), ReplayError> {
        if goes_back {
            after.before = Some(standing.mark.clone());
        }
        let mut base = standing.kept.counts.clone();
        self.take_calls(&mut base).await?;
        // Calls are counted at once: they will not be made again, so that nobody would count them.
        let called = base != standing.kept.counts;
        let due = called || standing.noted_at.elapsed() >= NOTE_EVERY;
        let note = self.holding.map(|holding| holding.note(&after, false));
        let noted = note.is_some();
        let mut piece =
            Piece::new(self.desk, fates, base, (self.clock)()).noting(note, due && noted);
        let batch = piece.batch();
        self.ground.apply(&batch, &mut piece).await?;
        standing.stale = !(noted && piece.writes);
        if !standing.stale {
            standing.noted_at = Instant::now();
        }
        if !goes_back {
            standing.mark = piece.counts.clone();
        }
        standing.kept = Kept {
            progress: after,
            counts: piece.counts,
        };
        Ok(())
    }

    async fn take_calls(&self, counts: &mut Counts) -> Result<(), ReplayError> {
        let (made, counted) = self.resolver.take_calls();
        counts.add_calls(&made);
        counts.add_would_call(&counted);
        for (app, accounts) in self.resolver.book.take_askable().await? {
            counts.of(&app).askable += accounts;
        }
        Ok(())
    }

    /// Notes how it stands by itself.
    async fn note(&self, standing: &mut Standing, done: bool) -> Result<(), ReplayError> {
        let mut counts = standing.kept.counts.clone();
        self.take_calls(&mut counts).await?;
        let stale = standing.stale || counts != standing.kept.counts;
        standing.kept.counts = counts.clone();
        let Some(holding) = self.holding.filter(|_| stale || done) else {
            return Ok(());
        };
        let note = holding.note(&standing.kept.progress, done);
        let mut piece =
            Piece::new(self.desk, Vec::new(), counts, (self.clock)()).noting(Some(note), true);
        let batch = piece.batch();
        self.ground.apply(&batch, &mut piece).await?;
        standing.stale = false;
        Ok(())
    }
}

/// Windows as they come: one after the other, or, for who is in a hurry, one read while another is
/// worked on.
enum Reader {
    Here(Box<dyn Source>),
    Ahead(mpsc::Receiver<Result<Vec<Chunk>, ReplayError>>),
}

impl Reader {
    fn new(mut source: Box<dyn Source>, polite: bool) -> Self {
        if polite {
            return Self::Here(source);
        }
        let (windows, read) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let window = source.next().await;
                let last = !matches!(&window, Ok(chunks) if !chunks.is_empty());
                if windows.send(window).await.is_err() || last {
                    return;
                }
            }
        });
        Self::Ahead(read)
    }

    /// The next window; empty at the end, which is told and never guessed.
    async fn next(&mut self) -> Result<Vec<Chunk>, ReplayError> {
        match self {
            Self::Here(source) => source.next().await,
            Self::Ahead(windows) => windows.recv().await.unwrap_or(Err(ReplayError::LostReader)),
        }
    }
}

impl From<StoreError> for ReplayError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
