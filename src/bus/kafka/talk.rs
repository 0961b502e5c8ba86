//! What librdkafka says, at a bounded rate: a broker that is away makes it say the same for hours.
//! Its lines hold hosts, topics and groups, never records.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines per client within [`WINDOW`].
const LINES: u32 = 10;
/// See [`LINES`].
const WINDOW: Duration = Duration::from_secs(60);

/// Passes a client's lines on.
#[derive(Debug)]
pub struct Talk {
    client: &'static str,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    lines: u32,
}

impl Talk {
    /// Of the client that is called so.
    pub fn new(client: &'static str) -> Self {
        let begun = Instant::now();
        let window = Mutex::new(Window { begun, lines: 0 });
        Self { client, window }
    }

    /// A line of its log.
    pub fn line(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        let client = self.client;
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning
                // Settings of producers are no settings of consumers, which get them all the same.
                if facility != "CONFWARN" =>
            {
                if let Some(last) = self.room() {
                    tracing::warn!(client, facility, last, "librdkafka: {text}");
                }
            }
            _ => tracing::debug!(client, facility, "librdkafka: {text}"),
        }
    }

    /// An error of the client as a whole. Its log tells of a lost connection, too.
    pub fn error(&self, error: &KafkaError, reason: &str) {
        let lost = Some(RDKafkaErrorCode::BrokerTransportFailure);
        if error.rdkafka_error_code() != lost
            && let Some(last) = self.room()
        {
            let client = self.client;
            tracing::warn!(client, %error, last, "librdkafka: {reason}");
        }
    }

    /// Whether a line may be written; `true` inside if it is the last for a while.
    fn room(&self) -> Option<bool> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.begun.elapsed() >= WINDOW {
            *window = Window {
                begun: Instant::now(),
                lines: 0,
            };
        }
        window.lines += 1;
        (window.lines <= LINES).then_some(window.lines == LINES)
    }
}

/// The context of clients that only ask or read. Whoever asks them is told what fails; that brokers
/// are away is told by members and publishers.
#[derive(Debug)]
pub struct Plain;

impl ClientContext for Plain {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(facility, "librdkafka: {text}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
    }
}

impl ConsumerContext for Plain {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_talkative_client_is_cut_short_and_says_so() {
        let talk = Talk::new("x");
        let rooms: Vec<_> = (0..30).map(|_| talk.room()).collect();
        assert_eq!(rooms.iter().flatten().count(), 10);
        assert_eq!(rooms[8..11], [Some(false), Some(true), None]);
        talk.window.lock().unwrap().begun -= WINDOW;
        assert_eq!(talk.room(), Some(false));
    }
}
