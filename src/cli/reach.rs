//! Whether a process can do its work: `/readyz` asks the services that its role needs, though not at
//! each probe.

use super::Failure;
use super::patience::Trouble;
use crate::bus::{Bus, TopicSpec};
use crate::config::Topics;
use crate::http::{Ops, Ready};
use crate::store::Store;
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Longest wait for a service; probes give up after some seconds too.
const WAIT: Duration = Duration::from_secs(3);
/// An answer is good for this long, whoever asks.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// And a failure for this long: whoever starts asks often.
const BAD_FOR: Duration = Duration::from_millis(500);

/// What a role needs to reach.
pub struct Reach {
    /// The bus, with the topics that must be there.
    pub bus: Option<(Arc<dyn Bus>, Vec<TopicSpec>)>,
    /// The store.
    pub store: Option<Arc<dyn Store>>,
}

type Answer = Result<(), String>;

impl Reach {
    /// The operational routes of a role that needs these; not ready from `stop` on.
    #[must_use]
    pub fn ops(self, metrics: &Metrics, stop: &CancellationToken) -> Ops {
        let reach = Arc::new(self);
        let last: Arc<Mutex<Option<(Instant, Answer)>>> = Arc::default();
        let stop = stop.clone();
        let ready: Ready = Arc::new(move || {
            let (reach, last, stop) = (Arc::clone(&reach), Arc::clone(&last), stop.clone());
            Box::pin(async move {
                if stop.is_cancelled() {
                    return Err("stopping".to_owned());
                }
                // Those who ask meanwhile wait for the one answer.
                let mut last = last.lock().await;
                if let Some((at, answer)) = &*last
                    && at.elapsed() < if answer.is_ok() { GOOD_FOR } else { BAD_FOR }
                {
                    return answer.clone();
                }
                let answer = reach.ask().await;
                *last = Some((Instant::now(), answer.clone()));
                answer
            })
        });
        Ops {
            ready,
            metrics: metrics.clone(),
        }
    }

    async fn ask(&self) -> Answer {
        if let Some(store) = &self.store {
            let read = timeout(WAIT, store.positions()).await;
            if !matches!(read, Ok(Ok(_))) {
                return Err("the store does not answer".to_owned());
            }
        }
        if let Some((bus, wanted)) = &self.bus {
            return match timeout(WAIT, present(&**bus, wanted)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(Trouble::Never(why))) => Err(why.to_string()),
                Ok(Err(Trouble::Later(_))) | Err(_) => Err("the bus does not answer".to_owned()),
            };
        }
        Ok(())
    }
}

/// What the intake needs of the topics.
#[must_use]
pub fn logins(topics: &Topics) -> Vec<TopicSpec> {
    let mut specs = topics.specs();
    specs.retain(|spec| spec.name == topics.logins);
    specs
}

/// Whether the topics are there, with as many partitions as they should have.
///
/// # Errors
/// [`Trouble::Never`] if not: the text names the remedy.
pub async fn present(bus: &dyn Bus, wanted: &[TopicSpec]) -> Result<(), Trouble> {
    for (spec, state) in wanted.iter().zip(bus.topics(&asked(wanted)).await?) {
        if let Some(problem) = difference(spec, state.bounds.len()) {
            return Err(Failure::Failed(problem).into());
        }
    }
    Ok(())
}

/// The same topics, to ask about: nothing is created.
#[must_use]
pub fn asked(wanted: &[TopicSpec]) -> Vec<TopicSpec> {
    let names = wanted.iter().map(|spec| &spec.name);
    names.map(TopicSpec::asked).collect()
}

/// How a topic differs from what is wanted, with the remedy.
#[must_use]
pub fn difference(spec: &TopicSpec, partitions: usize) -> Option<String> {
    let name = &spec.name;
    match (u32::try_from(partitions), spec.partitions) {
        (Ok(0), _) => Some(format!(
            "there is no topic {name}: `unilink topics` creates it"
        )),
        (Ok(has), wanted) if has == wanted => None,
        (_, wanted) => Some(format!(
            "topic {name} has {partitions} partitions and topics.logins_partitions says {wanted}: set \
             the key to what the topic has, or begin with other topics and another store"
        )),
    }
}
