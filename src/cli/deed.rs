//! What operators' decisions have in common: somebody agrees to them, they go out signed on the login
//! topic, and the command waits until the store shows what became of them.
//!
//! Decisions about one person are given one after the other. Before each it is asked what that one alone
//! would do by now: none of them may join accounts on the way that nobody agreed to join. What only
//! stands on the topic is never called done.

use super::Failure;
use super::assemble::SOURCE;
use super::confirm::Consent;
use super::office::Office;
use super::operator::{Operator, OperatorArgs};
use super::word::{Agreed, event_id, keys_of, standing};
use crate::bus::Record;
use crate::clock::parse_duration;
use crate::link::Outlook;
use crate::model::{Decision, Fact, Ruling};
use crate::store::Audit;
use crate::wire::{DecisionWire, Signer};
use clap::Args;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often the store is looked at while a worker is waited for.
const LOOK: Duration = Duration::from_millis(50);
/// Longest wait that can be asked for.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// What every command takes that changes who is who.
#[derive(Debug, Clone, Args)]
pub struct DeedArgs {
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long a worker is waited for, at each step (5s, 2m)
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub wait: String,
    #[command(flatten)]
    pub consent: Consent,
    #[command(flatten)]
    pub operator: OperatorArgs,
}

impl DeedArgs {
    /// How long a worker is waited for.
    ///
    /// # Errors
    /// Wrong use.
    pub fn wait(&self) -> Result<Duration, Failure> {
        let wait = parse_duration(&self.wait).filter(|wait| *wait <= LONGEST_WAIT);
        wait.ok_or_else(|| {
            Failure::Usage("--wait is a time up to 1h, written like 10s or 2m".to_owned())
        })
    }

    /// Who decides, and why: it has to be said, since it stands beside the decision for good.
    ///
    /// # Errors
    /// Wrong use.
    pub fn judge(&self) -> Result<Operator, Failure> {
        let operator = self.operator.operator()?;
        if operator.note.trim().is_empty() {
            let why = "--note is missing: say why it is decided so; whoever finds it will ask";
            return Err(Failure::Usage(why.to_owned()));
        }
        Ok(operator)
    }
}

/// How far decisions were carried out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Decisions that were given.
    pub given: u64,
    /// Of those, the ones that the store shows.
    pub shown: u64,
}

/// Whoever decides, at work.
pub struct Judge<'o> {
    /// Where.
    pub office: &'o Office,
    /// Who, and why.
    pub operator: Operator,
    /// How long a worker is waited for.
    pub wait: Duration,
    /// What the operator's key signs with.
    pub signer: Signer,
    /// When the next decision may go.
    pace: Option<Mutex<Interval>>,
}

impl<'o> Judge<'o> {
    /// Takes the newest operator's key of the key file.
    ///
    /// # Errors
    /// The key file has none.
    pub fn new(office: &'o Office, operator: Operator, wait: Duration) -> Result<Self, Failure> {
        let key = office.parts.keys.operators.last().ok_or_else(|| {
            let why = "the key file has no [[operators]] key to sign with: use the one that the \
                       workers have, which `unilink keys new` made";
            Failure::Failed(why.to_owned())
        })?;
        let signer = Signer::new(&key.id, &key.key);
        Ok(Self {
            office,
            operator,
            wait,
            signer,
            pace: None,
        })
    }

    /// The same, with so many decisions a second at most.
    #[must_use]
    pub fn paced(mut self, rate: NonZeroU32) -> Self {
        let mut pace = interval(Duration::from_secs(1) / rate.get());
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.pace = Some(Mutex::new(pace));
        self
    }

    /// Gives the decisions, each once the one before it shows, in an order in which none joins whom
    /// nobody agreed to join, until `stop`.
    ///
    /// # Errors
    /// The store or the bus fails, or each decision that is left would now join somebody else. What was
    /// done by then is noted in `carried`.
    pub async fn decide(
        &self,
        rulings: Vec<Ruling>,
        agreed: &Agreed,
        carried: &mut Carried,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let mut left = rulings;
        while !left.is_empty() && !stop.is_cancelled() {
            let Some((n, decision)) = self.next(&left, agreed).await? else {
                return Err(Failure::Failed(format!(
                    "{} of {} decisions were given; each of the others would by now join accounts \
                     that nobody agreed to join. Look again, and decide anew",
                    carried.given,
                    carried.given + left.len() as u64
                )));
            };
            left.remove(n);
            if let Some(pace) = &self.pace {
                pace.lock().await.tick().await;
            }
            let parts = &self.office.parts;
            let (topics, signer) = (parts.topics(), &self.signer);
            let record = DecisionWire::to_record(&decision, &topics, SOURCE, signer);
            self.publish(vec![record]).await?;
            carried.given += 1;
            if !self.is_shown(&decision).await? {
                return Err(self.queued(carried, left.len()));
            }
            carried.shown += 1;
        }
        Ok(())
    }

    fn queued(&self, carried: &Carried, left: usize) -> Failure {
        let rest = match left {
            0 => String::new(),
            n => format!(", and {n} more were not given"),
        };
        Failure::Failed(format!(
            "queued, not done: {} of {} decisions show; one stands on the topic and no worker took it \
             within {}s{rest}. A worker obeys it once it comes to it; then run the same command again. (One that does not \
             know this operator's key makes it a dead letter, bad_signature)",
            carried.shown,
            carried.given + left as u64,
            self.wait.as_secs()
        ))
    }

    /// The first of the decisions that joins nobody unasked, later than what stands about the same.
    async fn next(
        &self,
        left: &[Ruling],
        agreed: &Agreed,
    ) -> Result<Option<(usize, Decision)>, Failure> {
        for (n, ruling) in left.iter().enumerate() {
            let decision = self.decision(ruling).await?;
            let fact = Fact::Decision(decision.clone());
            let (view, changes) = self.office.plan(&[fact]).await?;
            if agreed.covers(&Outlook::of(&view, &changes)) {
                return Ok(Some((n, decision)));
            }
        }
        Ok(None)
    }

    /// A decision of now; later than what stands, if another machine's clock was ahead of ours.
    ///
    /// # Errors
    /// The store fails.
    pub async fn decision(&self, ruling: &Ruling) -> Result<Decision, Failure> {
        let view = self.office.view(&keys_of(ruling)).await?;
        let now = self.office.now();
        let at = standing(&view, ruling).map_or(now, |ruled| now.max(ruled.at.plus(1)));
        Ok(Decision {
            ruling: ruling.clone(),
            at,
            author: self.operator.author.clone(),
            note: self.operator.note.clone(),
            cause: event_id()?,
        })
    }

    /// Publishes records, all of them or an error.
    ///
    /// # Errors
    /// The bus does not take them, or it is not known whether it did.
    pub async fn publish(&self, records: Vec<Record>) -> Result<(), Failure> {
        let published = self.office.parts.bus.publish(records).await;
        published.map_err(|error| {
            Failure::Failed(format!(
                "{error}. It is not known whether the bus took it: once it answers, run the same \
                 command again, which does no harm"
            ))
        })
    }

    /// Waits until the store shows the decision, or a later one in its place.
    async fn is_shown(&self, decision: &Decision) -> Result<bool, Failure> {
        let keys = keys_of(&decision.ruling);
        self.until(async || {
            let view = self.office.view(&keys).await?;
            Ok(standing(&view, &decision.ruling).is_some_and(|ruled| ruled.at >= decision.at))
        })
        .await
    }

    /// Waits until it is so, and says whether it came to that.
    ///
    /// # Errors
    /// What was asked fails.
    pub async fn until(
        &self,
        so: impl AsyncFn() -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let begun = Instant::now();
        loop {
            if so().await? {
                return Ok(true);
            }
            if begun.elapsed() >= self.wait {
                return Ok(false);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Notes what was done, without a name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn audit(
        &self,
        action: &str,
        detail: &[(&str, &str)],
        counts: &[(&str, u64)],
    ) -> Result<(), Failure> {
        let detail = detail
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let counts = counts.iter().map(|(k, n)| ((*k).to_owned(), *n));
        let entry = Audit {
            at: self.office.now(),
            author: self.operator.author.clone(),
            action: action.to_owned(),
            note: self.operator.note.clone(),
            detail: detail.collect(),
            counts: counts.collect(),
        };
        let noted = self.office.store.audit(&entry).await;
        noted.map_err(|error| Failure::Failed(format!("{error}. The audit has no entry of this")))
    }
}
