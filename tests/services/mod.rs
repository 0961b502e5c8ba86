//! A real Kafka and a real PostgreSQL for the tests, from the first that there is:
//!
//! 1. `UNILINK_TEST_KAFKA` (`host:port`) and `UNILINK_TEST_POSTGRES` (`postgres://…`, of a user who may make databases);
//! 2. Docker, if its daemon answers (`UNILINK_TEST_SERVICES=docker` insists on it);
//! 3. `kafka-and-postgres.sh` beside this file, if `UNILINK_TEST_SERVICES=script`.
//!
//! Without any, a test is left out and says so; with `UNILINK_TEST_REQUIRE=1` it fails instead, which is how
//! `tests/all.sh` runs. A test begins with
//!
//! ```ignore
//! let Some(kafka) = services::kafka() else { return };
//! ```
//!
//! The services are shared: by the tests of a process at least, so topics, groups and databases need names of their own. A
//! test that kills services takes a [`Cluster`].

#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests; each uses a part of it"
)]

mod docker;
mod guard;
mod script;

pub use script::{Cluster, reset_group};

use std::env;
use std::io::Write;
use std::sync::{Once, OnceLock};

/// The bootstrap address of a Kafka, or `None` if this test is to be left out.
pub fn kafka() -> Option<&'static str> {
    static FOUND: OnceLock<Result<String, String>> = OnceLock::new();
    present(
        "Kafka",
        FOUND.get_or_init(|| {
            find("UNILINK_TEST_KAFKA", docker::kafka, |both| {
                both.kafka.clone()
            })
        }),
    )
}

/// The URL of a PostgreSQL database, or `None` if this test is to be left out.
pub fn postgres() -> Option<&'static str> {
    static FOUND: OnceLock<Result<String, String>> = OnceLock::new();
    present(
        "PostgreSQL",
        FOUND.get_or_init(|| {
            find("UNILINK_TEST_POSTGRES", docker::postgres, |both| {
                both.postgres.clone()
            })
        }),
    )
}

/// Where services come from when no variable names them.
enum Source {
    Script,
    Docker,
    /// Docker, if it is there.
    Whatever,
}

impl Source {
    fn asked() -> Self {
        match variable("UNILINK_TEST_SERVICES").as_deref() {
            Some("script") => Self::Script,
            Some("docker") => Self::Docker,
            None => Self::Whatever,
            Some(other) => panic!("UNILINK_TEST_SERVICES is script or docker, not {other}"),
        }
    }
}

fn find(
    named: &str,
    docker: fn() -> Result<String, String>,
    of: fn(&script::Addresses) -> String,
) -> Result<String, String> {
    if let Some(address) = variable(named) {
        return Ok(address);
    }
    match Source::asked() {
        Source::Script => Ok(of(script::shared())),
        Source::Docker => Ok(docker().expect("Docker was asked for")),
        Source::Whatever if docker::answers() => docker(),
        Source::Whatever => Err(format!("{named} is not set, and no Docker daemon answers")),
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a missing service is a failure.
fn required() -> bool {
    variable("UNILINK_TEST_REQUIRE").is_some_and(|value| value == "1")
}

fn present<'a>(what: &str, found: &'a Result<String, String>) -> Option<&'a str> {
    match found {
        Ok(address) => Some(address),
        Err(why) => {
            leave_out(what, why);
            None
        }
    }
}

/// Says which test is left out, past the harness, which shows no output of tests that pass.
fn leave_out(what: &str, why: &str) {
    static ONCE: Once = Once::new();
    assert!(!required(), "{what} is required: {why}");
    let mut stderr = std::io::stderr();
    ONCE.call_once(|| {
        let _ = writeln!(
            stderr,
            "left out: tests of Kafka and PostgreSQL; {why}. `tests/all.sh` sets both up and runs all tests."
        );
    });
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(stderr, "left out: {test} (no {what})");
}
