//! What is done to the installation while logins come in, and how long it takes to get over it.

use crate::gateway::Counts;
use crate::harness;
use crate::site::{SESSION, Site, WORKERS, Worker};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What is timed: from the start of a worker that is back under its name to its first commit.
const NAMED: &str = "back under its name";
/// What is timed: from the kill of one that stays away until the others have committed all that stood
/// in the topic then.
const OTHERS: &str = "taken over by others";
/// A worker that is back under its name commits within this.
const BACK: Duration = Duration::from_secs(10);
/// What a dead worker held is taken over within this: its session, then the transaction that it may
/// have left open, then the broker's next look for such.
const TAKEN_OVER: Duration = Duration::from_secs(6 + 15 + 10 + 4);
/// Longer than the session: the group has given the zombie's partitions to others.
const UNDEAD: Duration = Duration::from_secs(SESSION.as_secs() + 3);

#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// SIGKILL; it comes back under its name at once, or after a moment.
    Kill,
    /// SIGKILL of one that stays away until the others have all that it held.
    Away,
    /// SIGKILL of two at once, and again while they start: four.
    Four,
    /// SIGSTOP for longer than the session, then SIGCONT.
    Zombie,
    /// The same, and meanwhile another takes its name.
    Replaced,
    Broker,
    Database,
}

/// How many of each.
pub struct Wanted {
    pub kills: usize,
    pub zombies: usize,
    pub brokers: usize,
    pub databases: usize,
}

impl Wanted {
    /// In an order of its own.
    pub fn blows(&self, dice: &mut StdRng) -> Vec<Blow> {
        let mut blows = Vec::new();
        let mut kills = self.kills;
        for n in 0.. {
            let (blow, cost) = match n % 5 {
                1 => (Blow::Away, 1),
                3 if kills >= 4 => (Blow::Four, 4),
                _ => (Blow::Kill, 1),
            };
            if kills == 0 {
                break;
            }
            kills -= cost;
            blows.push(blow);
        }
        let zombies = [Blow::Zombie, Blow::Replaced];
        blows.extend((0..self.zombies).map(|n| zombies[n % 2]));
        blows.extend((0..self.brokers).map(|_| Blow::Broker));
        blows.extend((0..self.databases).map(|_| Blow::Database));
        for i in (1..blows.len()).rev() {
            blows.swap(i, dice.random_range(0..=i));
        }
        blows
    }
}

/// Strikes.
pub struct Fate<'s> {
    site: &'s Site,
    pub workers: Vec<Option<Worker>>,
    dice: StdRng,
    pub kills: usize,
    /// How long it took to get over each sort of blow.
    pub took: BTreeMap<&'static str, Vec<Duration>>,
}

impl<'s> Fate<'s> {
    pub async fn new(site: &'s Site, seed: u64) -> Self {
        Self {
            workers: site.workers().await,
            site,
            dice: StdRng::seed_from_u64(seed),
            kills: 0,
            took: BTreeMap::new(),
        }
    }

    /// All blows, spread over `events`; the traffic goes on until the last is over.
    pub async fn strike(&mut self, counts: &Arc<Counts>, wanted: &Wanted, events: usize) {
        let blows = wanted.blows(&mut self.dice);
        let share = events / (blows.len() + 1);
        let wait = |target: usize| async move {
            counts.wanted.store(target + share, Ordering::Relaxed);
            while counts.posted.load(Ordering::Relaxed) < target {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // The group has found together: what is timed is a kill, not a first start.
        wait(share.min(200)).await;
        self.site.caught_up(&self.workers).await;
        for (n, blow) in blows.iter().enumerate() {
            wait((n + 1) * share).await;
            let begun = Instant::now();
            self.blow(*blow).await;
            eprintln!(
                "{} {blow:?} after {} events: over in {:.1?}",
                harness::now(),
                counts.posted.load(Ordering::Relaxed),
                begun.elapsed()
            );
            self.all_live();
        }
        wait(events).await;
        counts.enough.store(true, Ordering::Relaxed);
    }

    async fn blow(&mut self, blow: Blow) {
        match blow {
            Blow::Kill => self.kill_and_back().await,
            Blow::Away => self.away().await,
            Blow::Four => self.four().await,
            Blow::Zombie => self.zombie().await,
            Blow::Replaced => self.replaced().await,
            Blow::Broker => self.broker().await,
            Blow::Database => self.database().await,
        }
    }

    /// Nobody ends but by our hand.
    fn all_live(&mut self) {
        for n in 0..WORKERS {
            let worker = self.workers[n].as_mut().expect("all are back");
            let gone = worker.process.has_ended();
            assert!(gone.is_none(), "{gone:?}: {}", worker.process.logs());
        }
    }

    fn any(&mut self) -> usize {
        self.dice.random_range(0..WORKERS)
    }

    fn named(&mut self) -> usize {
        self.dice.random_range(0..WORKERS - 1)
    }

    fn kill(&mut self, n: usize) {
        // Dropped: killed and waited for.
        drop(self.workers[n].take().expect("it runs"));
        self.site.sim.note_kill();
        self.kills += 1;
    }

    fn start(&mut self, n: usize) {
        self.workers[n] = Some(self.site.worker(n));
    }

    fn note(&mut self, what: &'static str, took: Duration) {
        self.took.entry(what).or_default().push(took);
    }

    async fn moment(&mut self, longest: u64) {
        let millis = self.dice.random_range(0..longest);
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn kill_and_back(&mut self) {
        let n = self.any();
        self.kill(n);
        self.moment(300).await;
        self.start(n);
        let worker = self.workers[n].as_ref().expect("started");
        let took = self.site.committed(worker).await;
        let what = if n + 1 < WORKERS {
            NAMED
        } else {
            "back without a name"
        };
        self.note(what, took);
    }

    async fn away(&mut self) {
        let n = self.any();
        self.kill(n);
        let took = self.site.caught_up(&self.workers).await;
        self.note(OTHERS, took);
        self.start(n);
    }

    async fn four(&mut self) {
        let n = self.any();
        let pair = [n, (n + 1) % WORKERS];
        for _ in 0..2 {
            for n in pair {
                self.kill(n);
            }
            for n in pair {
                self.start(n);
            }
            self.moment(1_500).await;
        }
    }

    /// Answers that were written while it stands still are as good as lost: by its clock they come too
    /// late.
    async fn stop(&mut self, n: usize) {
        let worker = self.workers[n].as_ref().expect("it runs");
        worker.process.signal("STOP");
        self.site.sim.note_kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.site.sim.note_kill();
    }

    /// A request that it was about to write goes out when it wakes, before it has looked at its clock, by
    /// which the request's time is over: nobody waits for that answer either.
    async fn wake(&self, worker: &Worker) {
        worker.process.signal("CONT");
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.site.sim.note_kill();
    }

    async fn zombie(&mut self) {
        let n = self.any();
        self.stop(n).await;
        tokio::time::sleep(UNDEAD).await;
        self.wake(self.workers[n].as_ref().expect("it runs")).await;
        let took = self.site.caught_up(&self.workers).await;
        self.note("caught up after a zombie", took);
    }

    /// Of two with one name the group keeps the one that joined last: mostly the newer one, but a
    /// zombie whose store was lost meanwhile joins anew. Either way the other one ends and says why, once
    /// it has noted the answers that it has in hand: its end explains no code that is sent again.
    async fn replaced(&mut self) {
        let n = self.named();
        self.stop(n).await;
        let mut old = self.workers[n].take().expect("it runs");
        let mut new = self.site.worker(n);
        tokio::time::sleep(UNDEAD).await;
        self.wake(&old).await;
        let begun = Instant::now();
        let (left, mut ended) = loop {
            if old.process.has_ended().is_some() {
                break (new, old);
            } else if new.process.has_ended().is_some() {
                break (old, new);
            }
            let told = format!("{}\n{}", old.process.logs(), new.process.logs());
            assert!(
                begun.elapsed() < crate::slow(TAKEN_OVER),
                "both live: {told}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let told = ended.process.logs();
        assert_eq!(ended.process.ended().await.code(), Some(1), "{told}");
        assert!(
            told.contains("give each worker a name of its own"),
            "{told}"
        );
        self.workers[n] = Some(left);
        let took = self.site.caught_up(&self.workers).await;
        self.note("caught up after a name was taken", took);
    }

    async fn broker(&mut self) {
        self.site.act(|cluster| cluster.kill_broker()).await;
        self.moment(3_000).await;
        self.site.act(|cluster| cluster.start_broker()).await;
        let took = self.site.caught_up(&self.workers).await;
        self.note("caught up after the broker was back", took);
    }

    /// Explains no code that is sent again: an answer in hand waits for the database.
    async fn database(&mut self) {
        self.site.act(|cluster| cluster.kill_database()).await;
        self.moment(3_000).await;
        self.site.act(|cluster| cluster.start_database()).await;
        let took = self.site.caught_up(&self.workers).await;
        self.note("caught up after the database was back", took);
    }

    /// After the verdict, which matters more: all were as quick as is promised.
    pub fn quick_enough(&self) {
        for (what, bound) in [
            (NAMED, crate::slow(BACK)),
            (OTHERS, crate::slow(TAKEN_OVER)),
        ] {
            let slowest = self.took.get(what).into_iter().flatten().max();
            let slowest = slowest.copied().unwrap_or_default();
            assert!(slowest < bound, "{what}: {slowest:?}");
        }
    }

    /// How long it took to get over each sort of blow, for people.
    pub fn summary(&self) -> String {
        let lines = self.took.iter().map(|(what, took)| {
            let mut took = took.clone();
            took.sort();
            let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
            format!(
                "{what}: {} times, median {median:.1?}, longest {most:.1?}\n",
                took.len()
            )
        });
        lines.collect()
    }
}
