//! The services that tests run against, where there are any.

/// The brokers of a Kafka to test against, from `UNILINK_TEST_KAFKA`.
pub fn kafka() -> Option<String> {
    let brokers = std::env::var("UNILINK_TEST_KAFKA").ok();
    if brokers.is_none() {
        eprintln!("left out: UNILINK_TEST_KAFKA names no brokers");
    }
    brokers
}
