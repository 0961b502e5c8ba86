//! Times on the wire: RFC 3339 in UTC with milliseconds, written without a detour through a
//! formatter, since every record has several.

use crate::model::Millis;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;

const DAY_MS: i64 = 86_400_000;
/// From 0000-03-01 to 1970-01-01, in days.
const EPOCH_DAYS: i64 = 719_468;
/// Days of 400 years.
const ERA: i64 = 146_097;
/// 0001-01-01, and the first moment that `Millis::parse_rfc3339` does not read any more.
const FIRST: i64 = -62_135_596_800_000;
const BEYOND: i64 = 253_402_207_200_000;

/// A [`Millis`] as text on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Millis);

impl Time {
    /// The text, `2026-01-31T08:00:00.123Z`.
    #[must_use]
    pub fn text(self) -> String {
        let mut buffer = [0; 24];
        self.write(&mut buffer).to_string()
    }

    fn write(self, buffer: &mut [u8; 24]) -> Cow<'_, str> {
        let ms = self.0.0;
        if !(FIRST..BEYOND).contains(&ms) {
            return Cow::Owned(self.0.to_string());
        }
        let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
        let (year, month, day) = civil(days);
        buffer.copy_from_slice(b"0000-00-00T00:00:00.000Z");
        digits(&mut buffer[0..4], year);
        digits(&mut buffer[5..7], month);
        digits(&mut buffer[8..10], day);
        digits(&mut buffer[11..13], of_day / 3_600_000);
        digits(&mut buffer[14..16], of_day / 60_000 % 60);
        digits(&mut buffer[17..19], of_day / 1_000 % 60);
        digits(&mut buffer[20..23], of_day % 1_000);
        String::from_utf8_lossy(buffer)
    }
}

/// Year, month and day of a day since the epoch: Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + EPOCH_DAYS;
    let (era, of_era) = (z.div_euclid(ERA), z.rem_euclid(ERA));
    let years = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (years + era * 400 + i64::from(month <= 2), month, day)
}

fn digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.write(&mut [0; 24]))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let wanted = "must be a time as RFC 3339 writes it, with an offset (2026-01-31T08:00:00Z)";
        let time = Millis::parse_rfc3339(&text).ok_or_else(|| serde::de::Error::custom(wanted))?;
        Ok(Self(time))
    }
}

impl schemars::JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn texts_are_those_of_the_calendar() {
        let mut rng = rand::rngs::StdRng::seed_from_u64(7);
        let known = [
            0,
            -1,
            951_782_400_000,
            951_868_799_999,
            FIRST,
            BEYOND - 1,
            4_107_542_399_999,
        ];
        let random = (0..20_000).map(|_| rng.random_range(FIRST..BEYOND));
        for ms in known.into_iter().chain(random) {
            let time = Time(Millis(ms));
            assert_eq!(time.text(), time.0.to_string());
            assert_eq!(Millis::parse_rfc3339(&time.text()), Some(time.0));
        }
        assert_eq!(Time(Millis(i64::MAX)).text(), Millis(i64::MAX).to_string());
    }
}
