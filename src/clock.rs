//! Time from outside: the wall clock, read here and nowhere else outside tests, and durations as
//! people write them.

use crate::model::Millis;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time; tests hand in their own.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// The wall clock. Clocks set before 1970 read as 1970.
#[must_use]
pub fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The wall clock as a [`Clock`].
#[must_use]
pub fn system() -> Clock {
    Arc::new(now)
}

/// Reads a duration: digits and one of `ms`, `s`, `m`, `h`, `d` (`250ms`, `5s`, `14d`).
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let count: u64 = text[..digits].parse().ok()?;
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.checked_mul(unit_ms).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_never_overflow() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("5s"), Some(Duration::from_secs(5)));
        assert_eq!(parse_duration("14d"), Some(Duration::from_secs(1_209_600)));
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 s",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_clock_is_past_the_year_2025() {
        assert!(now() > Millis(1_735_689_600_000));
    }
}
