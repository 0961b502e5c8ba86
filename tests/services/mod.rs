//! The services that tests run against, where the environment names them.

/// The URL of a database in which tests may create others.
pub fn postgres() -> Option<String> {
    std::env::var("UNILINK_TEST_POSTGRES").ok()
}
