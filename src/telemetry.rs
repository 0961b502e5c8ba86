//! Logs and metrics.
//!
//! Logs go to stderr. Only unilink's own events go below `warn`, whatever `UNILINK_LOG` says: the
//! libraries beneath print URLs and headers there, and those hold secrets. Metrics are declared in
//! one table below and rendered for `/metrics`; labels are closed sets (words, app ids, routes,
//! status codes), never identifiers.

use metrics::{SharedString, Unit};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

/// The variable that says what is logged (`info`, `unilink::intake=debug`, …).
pub const LOG_VARIABLE: &str = "UNILINK_LOG";
/// Samples of histograms wait in memory until they are drained; a scrape may never come.
const UPKEEP: Duration = Duration::from_secs(5);
/// Seconds: from a keyed read (0.1 ms) to the longest wait of a look-up (30 s).
const SECONDS: [f64; 14] = [
    0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0,
];
/// Records of a batch.
const SIZES: [f64; 9] = [
    1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0,
];

/// What sort of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets.
    Histogram,
}

/// One metric, as described to whoever scrapes it.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its sort.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// What it counts, with its labels.
    pub help: &'static str,
}

macro_rules! metrics_table {
    ($($kind:ident $id:ident = $name:literal, $unit:ident, $help:literal;)+) => {
        $(#[doc = $help] pub const $id: &str = $name;)+

        /// Every metric of the program.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $id, kind: Kind::$kind, unit: Unit::$unit, help: $help,
        },)+];
    };
}

metrics_table! {
    Counter INTAKE_REQUESTS = "unilink_intake_requests_total", Count, "Requests to the intake, by status.";
    Counter INTAKE_EVENTS = "unilink_intake_events_total", Count, "Events accepted: logins with a 202, and pushes that became one or an erasure.";
    Counter INTAKE_PUSHES = "unilink_intake_pushes_total", Count, "Pushes of WeChat, by app and kind (subscribe, scan, cancellation, revoke, unsubscribe, other_event, message, without_openid, url_check, refused, unavailable).";
    Histogram INTAKE_PUBLISH_SECONDS = "unilink_intake_publish_seconds", Seconds, "Time until the bus had a request's events durably.";
    Counter API_REQUESTS = "unilink_api_requests_total", Count, "Requests to the look-ups, by route and status.";
    Counter EVENTS = "unilink_events_total", Count, "Records of the login topic that were finished, by result (linked, unresolved, deferred, dead).";
    Counter LINKS = "unilink_links_total", Count, "Claims learnt, by method.";
    Counter UNRESOLVED = "unilink_unresolved_total", Count, "Logins that yielded no claim, by reason.";
    Counter DEAD_LETTERS = "unilink_dead_letters_total", Count, "Dead letters, by reason.";
    Counter DECRYPT_FAULTS = "unilink_decrypt_faults_total", Count, "encryptedData that gave no claim, by cause.";
    Counter WECHAT_CALLS = "unilink_wechat_calls_total", Count, "Calls to WeChat, by app, api and outcome.";
    Histogram WECHAT_SECONDS = "unilink_wechat_seconds", Seconds, "Time of a call to WeChat, by api.";
    Gauge WECHAT_PARKED = "unilink_wechat_parked_until_seconds", Seconds, "Until when (Unix time) an app is parked that WeChat refuses, by app; 0 once it answers again.";
    Gauge PAUSED = "unilink_paused", Count, "1 while an operator has paused the app: WeChat is asked nothing about it, by app.";
    Gauge DEFERRED = "unilink_deferred", Count, "Resolutions that wait, by app.";
    Histogram BATCH_SIZE = "unilink_batch_size", Count, "Records applied in one transaction.";
    Histogram APPLY_SECONDS = "unilink_apply_seconds", Seconds, "Time of applying one batch.";
    Histogram RELAY_SECONDS = "unilink_relay_seconds", Seconds, "Time of relaying one unit to the bus.";
    Counter RECORDS_PUBLISHED = "unilink_records_published_total", Count, "Records brought from the outbox, or beside an offset, to the topics.";
    Gauge OUTBOX_LAG = "unilink_outbox_lag", Count, "Outbox rows written and not relayed, by partition.";
    Counter LEDGER_HITS = "unilink_ledger_hits_total", Count, "Codes answered from the ledger instead of by WeChat.";
    Counter CLAMPED = "unilink_clamped_total", Count, "Events whose time had to be clamped.";
    Counter CONTESTED = "unilink_contested_total", Count, "Claims that became contested, by why.";
}

/// Why logs or metrics could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `UNILINK_LOG` is no filter.
    #[error("UNILINK_LOG is no log filter; try `info` or `unilink=debug`: {0}")]
    Filter(String),
    /// Something else in the process has set a logger or a recorder.
    #[error("{0} are set up already")]
    Taken(&'static str),
    /// A bucket list is empty.
    #[error("metrics: {0}")]
    Buckets(String),
    /// No thread for the upkeep.
    #[error("metrics: no thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to stderr. `filter` is the value of [`LOG_VARIABLE`]; `info` without one.
///
/// # Errors
/// The filter cannot be read, or a logger is set already.
pub fn start_logs(format: LogFormat, filter: Option<&str>) -> Result<(), TelemetryError> {
    let colours = std::io::stderr().is_terminal();
    let subscriber = subscriber(format, filter, colours, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::Taken("logs"))
}

/// The subscriber that [`start_logs`] sets, writing to `writer`.
///
/// # Errors
/// The filter cannot be read.
pub fn subscriber<W>(
    format: LogFormat,
    filter: Option<&str>,
    colours: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let text = filter.filter(|f| !f.trim().is_empty()).unwrap_or("info");
    let wanted = EnvFilter::try_new(text).map_err(|e| TelemetryError::Filter(e.to_string()))?;
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(colours);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let ours = filter_fn(may_be_logged).with_max_level_hint(LevelFilter::TRACE);
    Ok(Box::new(
        Registry::default().with(layer.with_filter(wanted.and(ours))),
    ))
}

/// Other crates' events below `warn` hold URLs and headers, and with them secrets.
fn may_be_logged(event: &Metadata<'_>) -> bool {
    let target = event.target();
    *event.level() <= Level::WARN || target == "unilink" || target.starts_with("unilink::")
}

/// Reads the metrics out.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// All metrics in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }
}

/// Starts the metrics of the process, or hands out the ones already started.
///
/// # Errors
/// Another recorder is set, or the thread that keeps histograms small cannot start.
pub fn start_metrics() -> Result<Metrics, TelemetryError> {
    static STARTED: Mutex<Option<Metrics>> = Mutex::new(None);
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(metrics) = started.as_ref() {
        return Ok(metrics.clone());
    }
    let handle = recorder()?;
    let upkeep = handle.clone();
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            loop {
                std::thread::sleep(UPKEEP);
                upkeep.run_upkeep();
            }
        })?;
    let metrics = Metrics(handle);
    *started = Some(metrics.clone());
    Ok(metrics)
}

fn recorder() -> Result<PrometheusHandle, TelemetryError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS.iter().filter(|m| m.kind == Kind::Histogram) {
        let buckets: &[f64] = if metric.unit == Unit::Seconds {
            &SECONDS
        } else {
            &SIZES
        };
        builder = builder
            .set_buckets_for_metric(Matcher::Full(metric.name.into()), buckets)
            .map_err(|e| TelemetryError::Buckets(e.to_string()))?;
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Taken("metrics"))?;
    for metric in METRICS {
        describe(metric);
    }
    Ok(handle)
}

fn describe(metric: &Metric) {
    let help = SharedString::const_str(metric.help);
    match metric.kind {
        Kind::Counter => metrics::describe_counter!(metric.name, metric.unit, help),
        Kind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, help),
        Kind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, help),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("lock").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: Option<&str>, format: LogFormat) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = subscriber(format, filter, false, move || writer.clone()).expect("filter");
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "unilink::intake", events = 3, "ours at info");
            tracing::debug!(target: "unilink::intake", "ours at debug");
            tracing::debug!(target: "hyper_util::client", "theirs at debug");
            tracing::info!(target: "sqlx::query", "theirs at info");
            tracing::warn!(target: "hyper::proto", "theirs at warn");
        });
        let bytes = sink.0.lock().expect("lock").clone();
        String::from_utf8(bytes).expect("utf-8")
    }

    #[test]
    fn other_crates_are_heard_from_warn_on_only() {
        let log = logged(Some("trace"), LogFormat::Text);
        assert!(
            log.contains("ours at info") && log.contains("ours at debug"),
            "{log}"
        );
        assert!(log.contains("theirs at warn"), "{log}");
        assert!(
            !log.contains("theirs at debug") && !log.contains("theirs at info"),
            "{log}"
        );
    }

    #[test]
    fn the_default_is_info_and_json_is_json() {
        let log = logged(None, LogFormat::Json);
        assert!(!log.contains("ours at debug"), "{log}");
        let first: serde_json::Value =
            serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
        assert_eq!(first["message"], "ours at info");
        assert_eq!(first["events"], 3);
    }

    #[test]
    fn a_bad_filter_is_named() {
        let error = subscriber(LogFormat::Text, Some("unilink=loud"), false, std::io::sink)
            .err()
            .expect("refused");
        assert!(error.to_string().contains("UNILINK_LOG"), "{error}");
    }

    #[test]
    fn metrics_are_described_once_and_rendered_with_buckets() {
        let metrics = start_metrics().expect("started");
        assert!(
            start_metrics().is_ok(),
            "a second start hands out the first"
        );
        metrics::counter!(CLAMPED).increment(2);
        metrics::histogram!(APPLY_SECONDS).record(0.02);
        let text = metrics.render();
        assert!(
            text.contains("# HELP unilink_clamped_total Events whose time"),
            "{text}"
        );
        assert!(text.contains("unilink_clamped_total 2"), "{text}");
        assert!(
            text.contains("unilink_apply_seconds_bucket{le=\"0.025\"} 1"),
            "{text}"
        );
        let mut names: Vec<_> = METRICS.iter().map(|m| m.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len(), "a name twice");
    }
}
