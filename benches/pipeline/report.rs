//! The figures, as a table and as JSON.

use crate::again::{Again, KILLS};
use crate::latency::Latency;
use crate::loads::Load;
use crate::measure::Measured;
use crate::run::Shape;
use serde::Serialize;

/// Goals: of what both ceilings allow together; times the plain consumer; milliseconds at 1,000
/// logins a second; of the rate with the fewest accounts.
const CEILING: f64 = 0.6;
const PLAIN: f64 = 4.0;
const P50: f64 = 25.0;
const P99: f64 = 80.0;
const SCALE: f64 = 0.8;

/// One load with one number of workers.
#[derive(Serialize)]
pub struct Row {
    load: Load,
    workers: usize,
    run: Measured,
    shape: Shape,
    /// Kafka's ceiling.
    pub kafka: Option<Measured>,
    /// PostgreSQL's ceiling.
    pub postgres: Option<Measured>,
    /// What both allow together, in events a second.
    together: Option<f64>,
    /// The run's rate, of that.
    of_ceilings: Option<f64>,
    /// The plain consumer.
    pub plain: Option<Measured>,
    /// The run's rate, times that.
    times_plain: Option<f64>,
}

impl Row {
    /// A run; the rest may come.
    pub fn new(load: Load, workers: usize, run: Measured, shape: Shape) -> Self {
        Self {
            load,
            workers,
            run,
            shape,
            kafka: None,
            postgres: None,
            together: None,
            of_ceilings: None,
            plain: None,
            times_plain: None,
        }
    }
}

/// A run beside so many accounts.
#[derive(Serialize)]
pub struct Scale {
    /// Stored before.
    pub accounts: u64,
    /// Size of the database afterwards.
    pub gib: f64,
    /// Mostly-repeat, one worker.
    pub run: Measured,
}

/// Everything.
#[derive(Serialize)]
pub struct Figures {
    cores: usize,
    events: u64,
    stored: u64,
    rows: Vec<Row>,
    /// By number of workers.
    pub latency: Vec<(usize, Latency)>,
    /// By accounts stored.
    pub scale: Vec<Scale>,
    /// Replays.
    pub again: Option<Again>,
    /// One worker's latency without and with a replay beside it.
    pub beside: Option<[Latency; 2]>,
}

impl Figures {
    /// None yet.
    pub fn new(events: u64, stored: u64) -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            events,
            stored,
            rows: Vec::new(),
            latency: Vec::new(),
            scale: Vec::new(),
            again: None,
            beside: None,
        }
    }

    /// Adds a row, with what follows from it.
    pub fn add(&mut self, mut row: Row) {
        // A replay on several connections has row ids of another order, and some of its transactions
        // collide: of fewer connections that did more, the better counts.
        let rows = self.rows.iter().filter(|r| r.load == row.load);
        let replays = rows.chain([&row]).filter_map(|r| r.postgres.as_ref());
        let postgres = replays.map(|m| m.rate).reduce(f64::max);
        let both = row.kafka.as_ref().map(|kafka| kafka.rate).zip(postgres);
        row.together = both.map(|(a, b)| 1.0 / (1.0 / a + 1.0 / b));
        row.of_ceilings = row.together.map(|allowed| row.run.rate / allowed);
        row.times_plain = row.plain.as_ref().map(|plain| row.run.rate / plain.rate);
        self.rows.push(row);
    }

    /// The tables.
    pub fn print(&self) {
        println!(
            "{} cores; {} events of each load, beside {} accounts stored before",
            self.cores, self.events, self.stored
        );
        if !self.rows.is_empty() {
            self.print_rows();
        }
        if !self.latency.is_empty() {
            self.print_latency();
        }
        if !self.scale.is_empty() {
            self.print_scale();
        }
        self.print_again();
    }

    fn print_again(&self) {
        if let Some(again) = &self.again {
            let times = again.full_speed / again.live.rate;
            println!(
                "\nreplay of mostly-repeat, nothing changes, nothing is written or published: {:.0} \
                 events/s at full speed ({times:.2} of the {:.0} of one live worker), {:.0} if it is killed \
                 {KILLS} times, {:.0} if it rests; load {:.1}",
                again.full_speed, again.live.rate, again.killed, again.polite, again.load
            );
        }
        if let Some([without, with]) = &self.beside {
            println!(
                "live p50 and p99 in ms: {:.1}, {:.1} without a replay; {:.1}, {:.1} beside one: p99 times \
                 {:.2} (goal 2); load {:.1} and {:.1}",
                without.p50,
                without.p99,
                with.p50,
                with.p99,
                with.p99 / without.p99.max(0.1),
                without.load,
                with.load
            );
        }
    }

    fn print_rows(&self) {
        println!(
            "\n{:<14}{:<12}{:>9}{:>9}{:>23}{:>10}{:>6}",
            "load", "workers", "events/s", "seconds", "CPU s/M own  PG  Kafka", "peak MiB", "load"
        );
        for row in &self.rows {
            let name = row.load.name();
            line(&name, &row.workers.to_string(), &row.run);
            let parts = [
                ("Kafka", &row.kafka),
                ("PostgreSQL", &row.postgres),
                ("plain", &row.plain),
            ];
            for (part, measured) in parts {
                if let Some(measured) = measured {
                    line("", part, measured);
                }
            }
            let Shape {
                unit,
                batch,
                out,
                out_bytes,
            } = row.shape;
            println!(
                "{:>14}{batch:.0} events a batch, {unit:.0} a unit, {out:.2} records out of {out_bytes:.0} bytes",
                ""
            );
            if let (Some(allowed), Some(ratio)) = (row.together, row.of_ceilings) {
                println!(
                    "{:>14}ceilings together, 1/(1/Kafka + 1/PostgreSQL): {allowed:.0}; the run is {ratio:.2} of it (goal {CEILING})",
                    ""
                );
            }
            if let Some(times) = row.times_plain {
                println!(
                    "{:>14}{times:.1} times the plain consumer (goal {PLAIN})",
                    ""
                );
            }
        }
    }

    fn print_latency(&self) {
        println!(
            "\nfrom the 202 to the committed account.linked, in ms (goals: p50 {P50}, p99 {P99})"
        );
        println!(
            "{:<8}{:>9}{:>6}{:>8}{:>8}{:>8}{:>12}{:>12}{:>10}{:>10}{:>6}",
            "workers",
            "logins/s",
            "503",
            "p50",
            "p99",
            "max",
            "202: p50",
            "p99",
            "CPU s/M",
            "peak MiB",
            "load"
        );
        for (workers, l) in &self.latency {
            println!(
                "{workers:<8}{:>9.0}{:>6}{:>8.1}{:>8.1}{:>8.1}{:>12.1}{:>12.1}{:>10.0}{:>10.1}{:>6.1}",
                l.rate,
                l.refused,
                l.p50,
                l.p99,
                l.max,
                l.answer_p50,
                l.answer_p99,
                l.cpu_per_million,
                l.peak_mib,
                l.load
            );
        }
    }

    fn print_scale(&self) {
        println!(
            "\nmostly-repeat with one worker, by accounts stored before (goal: {SCALE} of the first)"
        );
        println!(
            "{:<12}{:>6}{:>10}{:>7}{:>23}{:>10}{:>6}",
            "accounts", "GiB", "events/s", "ratio", "CPU s/M own  PG  Kafka", "peak MiB", "load"
        );
        let first = self.scale.first().map_or(1.0, |s| s.run.rate);
        for Scale { accounts, gib, run } in &self.scale {
            println!(
                "{accounts:<12}{gib:>6.1}{:>10.0}{:>7.2}{}{:>10.1}{:>6.1}",
                run.rate,
                run.rate / first,
                cpu(run),
                run.peak_mib,
                run.load
            );
        }
    }
}

fn cpu(m: &Measured) -> String {
    let told = |cpu: Option<f64>| cpu.map_or("-".to_owned(), |c| format!("{c:.0}"));
    format!(
        "{:>12.0}{:>5}{:>6}",
        m.cpu_per_million,
        told(m.postgres_cpu_per_million),
        told(m.kafka_cpu_per_million)
    )
}

fn line(load: &str, what: &str, m: &Measured) {
    let peak = match m.peak_mib {
        0.0 => "-".to_owned(),
        peak => format!("{peak:.1}"),
    };
    println!(
        "{load:<14}{what:<12}{:>9.0}{:>9.1}{}{peak:>10}{:>6.1}",
        m.rate,
        m.seconds,
        cpu(m),
        m.load
    );
}
