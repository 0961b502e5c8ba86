//! App tokens (`docs/wechat.md` §4): two families, each with a current token and those that a newer
//! one has not killed yet. A token tells its own app, family and expiry; only numbers are kept.

use super::code::{open, seal};
use super::crypto::Keyed;
use super::limits::day;
use super::world::AppNo;
use crate::model::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most forced refreshes in a day, and their distance in ms (§4).
const FORCED_A_DAY: u32 = 20;
const FORCED_APART_MS: i64 = 30_000;
/// Tokens in their grace that a family remembers: enough for a call every five seconds.
const MOST_OLDER: usize = 64;

/// Where a token comes from; neither family touches the other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// `cgi-bin/token`.
    Plain,
    /// `cgi-bin/stable_token`.
    Stable,
}

/// What a token says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AppToken {
    pub(super) app: AppNo,
    pub(super) family: Family,
    serial: u32,
    pub(super) expires: Millis,
}

impl AppToken {
    /// About as long as real ones.
    pub(super) fn text(&self, keyed: &Keyed) -> String {
        let mut body = [0u8; 12];
        body[0] = self.app.0;
        body[1] = u8::from(self.family == Family::Stable);
        body[2..6].copy_from_slice(&self.serial.to_be_bytes());
        body[6..].copy_from_slice(&self.expires.0.to_be_bytes()[2..]);
        let filler = hex::encode(keyed.tag(u64::from(self.serial), &body));
        let sealed = seal(keyed, &body);
        format!("{}_{sealed}{filler}{filler}", 60 + self.serial % 40)
    }

    /// Reads a token back; `None` if it was never given out.
    pub(super) fn read(keyed: &Keyed, text: &str) -> Option<Self> {
        let body: [u8; 12] = open(keyed, text.get(3..31)?)?;
        let number = |part: &[u8]| part.iter().fold(0u64, |all, b| (all << 8) | u64::from(*b));
        let token = Self {
            app: AppNo(body[0]),
            family: if body[1] == 1 {
                Family::Stable
            } else {
                Family::Plain
            },
            serial: u32::try_from(number(&body[2..6])).ok()?,
            expires: Millis(i64::try_from(number(&body[6..])).ok()?),
        };
        (token.text(keyed) == text).then_some(token)
    }
}

/// How tokens live.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub(super) life_ms: i64,
    /// How long a token outlives its successor's birth.
    pub(super) overlap_ms: i64,
    pub(super) forced_voids_at_once: bool,
}

#[derive(Clone, Default)]
struct Line {
    last_serial: u32,
    current: Option<AppToken>,
    /// With the time at which each dies.
    older: Vec<(AppToken, Millis)>,
    forced: (i64, u32),
    forced_at: Option<Millis>,
}

/// New tokens of one app.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize)]
pub struct TokenStats {
    /// Given out by `cgi-bin/token`.
    pub plain: u64,
    /// Given out by `cgi-bin/stable_token`; the same one given again does not count.
    pub stable: u64,
    /// Those of the stable ones that were forced.
    pub forced: u64,
    /// Killed before their time.
    pub revoked: u64,
}

/// All families of all apps.
#[derive(Clone, Default)]
pub(super) struct Tokens {
    lines: BTreeMap<(AppNo, Family), Line>,
    pub(super) stats: BTreeMap<AppNo, TokenStats>,
}

impl Tokens {
    fn line(&mut self, app: AppNo, family: Family) -> &mut Line {
        self.lines.entry((app, family)).or_default()
    }

    /// `cgi-bin/token`: always a new one; the one before lives on for the overlap.
    pub(super) fn plain(&mut self, app: AppNo, rules: Rules, now: Millis) -> AppToken {
        self.stats.entry(app).or_default().plain += 1;
        let line = self.line(app, Family::Plain);
        line.renew(app, Family::Plain, rules, now, true)
    }

    /// `cgi-bin/stable_token`.
    ///
    /// # Errors
    /// 45009: forced too often today.
    pub(super) fn stable(
        &mut self,
        app: AppNo,
        force: bool,
        rules: Rules,
        now: Millis,
    ) -> Result<AppToken, i32> {
        let line = self.line(app, Family::Stable);
        let apart = line
            .forced_at
            .is_none_or(|at| now.since(at) >= FORCED_APART_MS);
        let (token, forced) = if force && apart {
            let (of, count) = line.forced;
            let count = if of == day(now) { count } else { 0 };
            if count >= FORCED_A_DAY {
                return Err(45009);
            }
            line.forced = (day(now), count + 1);
            line.forced_at = Some(now);
            let keep = !rules.forced_voids_at_once;
            (line.renew(app, Family::Stable, rules, now, keep), true)
        } else {
            let fresh = line
                .current
                .filter(|t| t.expires.since(now) > rules.overlap_ms);
            match fresh {
                Some(token) => return Ok(token),
                None => (line.renew(app, Family::Stable, rules, now, true), false),
            }
        };
        let stats = self.stats.entry(app).or_default();
        stats.stable += 1;
        stats.forced += u64::from(forced);
        Ok(token)
    }

    /// Whether a token that was given out is good.
    ///
    /// # Errors
    /// 42001 expired, 40001 no longer the latest.
    pub(super) fn check(&self, token: &AppToken, now: Millis) -> Result<(), i32> {
        if token.expires <= now {
            return Err(42001);
        }
        let good = self
            .lines
            .get(&(token.app, token.family))
            .is_some_and(|line| {
                let older = |(t, dies): &(AppToken, Millis)| t == token && *dies > now;
                line.current == Some(*token) || line.older.iter().any(older)
            });
        if good { Ok(()) } else { Err(40001) }
    }

    /// Kills all tokens of the family, as a leak or another process does.
    pub(super) fn revoke(&mut self, app: AppNo, family: Family) {
        let line = self.line(app, family);
        line.older.clear();
        if line.current.take().is_some() {
            self.stats.entry(app).or_default().revoked += 1;
        }
    }
}

impl Line {
    fn renew(
        &mut self,
        app: AppNo,
        family: Family,
        rules: Rules,
        now: Millis,
        keep: bool,
    ) -> AppToken {
        self.older.retain(|(_, dies)| *dies > now);
        if !keep {
            self.older.clear();
        } else if let Some(token) = self.current {
            if self.older.len() >= MOST_OLDER {
                self.older.remove(0);
            }
            let dies = token.expires.min(now.plus(rules.overlap_ms));
            self.older.push((token, dies));
        }
        self.last_serial = self.last_serial.wrapping_add(1);
        let token = AppToken {
            app,
            family,
            serial: self.last_serial,
            expires: now.plus(rules.life_ms),
        };
        self.current = Some(token);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_who_it_is_and_no_other_text_does() {
        let keyed = Keyed::new(1, "app_token");
        let mut tokens = Tokens::default();
        let rules = Rules {
            life_ms: 7_200_000,
            overlap_ms: 300_000,
            forced_voids_at_once: true,
        };
        let token = tokens.plain(AppNo(3), rules, Millis(1_700_000_000_000));
        let text = token.text(&keyed);
        assert!((100..=512).contains(&text.len()), "{}", text.len());
        assert_eq!(AppToken::read(&keyed, &text), Some(token));
        for i in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[i] = if other[i] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(AppToken::read(&keyed, &other), None, "at {i}");
        }
        assert_eq!(AppToken::read(&keyed, ""), None);
        assert_eq!(AppToken::read(&keyed, "中文中文中文中文中文中文"), None);
    }

    #[test]
    fn a_family_in_much_use_remembers_few() {
        let mut tokens = Tokens::default();
        let rules = Rules {
            life_ms: 7_200_000,
            overlap_ms: 300_000,
            forced_voids_at_once: true,
        };
        for at in 0..1_000 {
            tokens.plain(AppNo(0), rules, Millis(at));
        }
        assert_eq!(tokens.line(AppNo(0), Family::Plain).older.len(), MOST_OLDER);
    }
}
