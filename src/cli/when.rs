//! Moments on the command line: a time, or how long ago.

use crate::model::Millis;

const UNITS: [(char, i64); 4] = [
    ('s', 1_000),
    ('m', 60_000),
    ('h', 3_600_000),
    ('d', 86_400_000),
];

/// A moment as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This one.
    At(Millis),
    /// So many milliseconds before now.
    Ago(i64),
}

impl When {
    /// Reads `2026-01-31T08:00:00Z` or `90m`, `36h`, `7d`.
    ///
    /// # Errors
    /// It is neither; the text says what would be.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(at) = Millis::parse_rfc3339(text) {
            return Ok(Self::At(at));
        }
        let ago = UNITS.iter().find_map(|(unit, ms)| {
            let number: u32 = text.strip_suffix(*unit)?.parse().ok()?;
            Some(Self::Ago(i64::from(number).saturating_mul(*ms)))
        });
        ago.ok_or_else(|| {
            "must be a time (2026-01-31T08:00:00Z) or how long ago (90m, 36h, 7d)".to_owned()
        })
    }

    /// The moment itself.
    #[must_use]
    pub fn from(self, now: Millis) -> Millis {
        match self {
            Self::At(at) => at,
            Self::Ago(ms) => now.plus(-ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_or_how_long_ago() {
        let at = When::parse("2023-11-14T22:13:20.123Z");
        assert_eq!(at, Ok(When::At(Millis(1_700_000_000_123))));
        let now = Millis(10 * 86_400_000);
        for (text, ms) in [
            ("0s", 0),
            ("90m", 5_400_000),
            ("36h", 129_600_000),
            ("7d", 604_800_000),
        ] {
            let when = When::parse(text).expect(text);
            assert_eq!(when.from(now), now.plus(-ms), "{text}");
        }
        for wrong in ["", "7", "d", "-7d", "7w", "yesterday", "2023-11-14"] {
            assert!(When::parse(wrong).is_err(), "{wrong}");
        }
    }
}
