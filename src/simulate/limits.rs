//! How often an app may call an API in a minute and in a day (`docs/wechat.md` §2).

use super::api::Api;
use super::scope::{Scope, Scoped};
use super::world::AppNo;
use crate::model::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
/// WeChat's days begin at midnight in China.
const CHINA_MS: i64 = 8 * 3_600_000;

/// The day in China, counted from 1970.
pub(super) fn day(now: Millis) -> i64 {
    now.0.saturating_add(CHINA_MS).div_euclid(DAY_MS)
}

/// Calls that an app may make; `None` is as many as it likes.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// In a minute of the clock; then 45011.
    pub minute: Option<u64>,
    /// In a day of China's; then 45009.
    pub day: Option<u64>,
}

/// The limits that WeChat documents (`docs/wechat.md` §3.3, §4, §5, §7).
pub(super) fn documented() -> Scoped<Limits> {
    let limits = |minute, day| Limits { minute, day };
    let mut scoped = Scoped::default();
    for (api, limits) in [
        (Api::Token, limits(None, Some(2_000))),
        (Api::StableToken, limits(Some(10_000), Some(500_000))),
        (Api::Oauth, limits(Some(50_000), None)),
        (Api::OauthRefresh, limits(Some(50_000), None)),
        (Api::OauthUser, limits(Some(50_000), None)),
        (Api::Follower, limits(None, Some(5_000_000))),
        (Api::FollowerList, limits(None, Some(500))),
        (Api::ResetSession, limits(Some(60_000), None)),
    ] {
        let api = Some(api);
        scoped.set(Scope { app: None, api }, Some(limits));
    }
    scoped
}

/// What was used.
#[derive(Clone, Copy, Default)]
struct Used {
    minute: (i64, u64),
    day: (i64, u64),
}

impl Used {
    fn at(self, now: Millis) -> (u64, u64) {
        let same = |(period, used), current| if period == current { used } else { 0 };
        let minute = same(self.minute, now.0.div_euclid(MINUTE_MS));
        (minute, same(self.day, day(now)))
    }
}

/// What every app used of every API.
#[derive(Default)]
pub(super) struct Quotas(BTreeMap<(AppNo, Api), Used>);

impl Quotas {
    /// One more call, counted if `real` and allowed.
    ///
    /// # Errors
    /// 45009 or 45011: it is one too many, and is not counted.
    pub(super) fn take(
        &mut self,
        (app, api): (AppNo, Api),
        limits: Limits,
        now: Millis,
        real: bool,
    ) -> Result<(), i32> {
        let used = self.0.entry((app, api)).or_default();
        let (minute, of_day) = used.at(now);
        if limits.day.is_some_and(|most| of_day >= most) {
            return Err(45009);
        }
        if limits.minute.is_some_and(|most| minute >= most) {
            return Err(45011);
        }
        if real {
            used.minute = (now.0.div_euclid(MINUTE_MS), minute + 1);
            used.day = (day(now), of_day + 1);
        }
        Ok(())
    }

    /// Calls counted in this minute and on this day.
    pub(super) fn used(&self, app: AppNo, api: Api, now: Millis) -> (u64, u64) {
        self.0.get(&(app, api)).map_or((0, 0), |used| used.at(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_and_days_end() {
        let mut quotas = Quotas::default();
        let limits = Limits {
            minute: Some(2),
            day: Some(3),
        };
        let place = (AppNo(0), Api::Token);
        // 15:59 UTC is 23:59 in China.
        let begin = 20_000 * DAY_MS + 16 * 3_600_000 - MINUTE_MS;
        let mut take = |at, real| quotas.take(place, limits, Millis(at), real);
        assert_eq!(take(begin, false), Ok(()), "only looked at");
        assert_eq!((take(begin, true), take(begin, true)), (Ok(()), Ok(())));
        assert_eq!(take(begin + MINUTE_MS - 1, true), Err(45011));
        for (n, want) in [(0, Ok(())), (0, Ok(())), (1, Ok(())), (2, Err(45009))] {
            assert_eq!(take(begin + MINUTE_MS * (1 + n), true), want);
        }
        let now = Millis(begin + 2 * MINUTE_MS);
        assert_eq!(quotas.used(place.0, place.1, now), (1, 3));
    }
}
