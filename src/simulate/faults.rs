//! Faults on request. Which request is hit depends only on the seed, what it is about (a code's
//! session, an openid, …) and the how-manieth time it is sent, so that a run can be repeated
//! whatever the order of requests.

use super::dice::{mix, unit};
use serde::{Deserialize, Serialize};

/// Longest latency and jitter, in milliseconds: clients gave up long before.
const MAX_DELAY_MS: u64 = 60_000;

/// How likely each fault is (probabilities from 0 to 1, together at most 1), and how slow answers are.
#[derive(Clone, Default, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Chooses which requests are hit.
    pub seed: u64,
    /// Every answer takes so many milliseconds: half before the code is spent, half after.
    pub latency: u64,
    /// And up to so many more.
    pub jitter: u64,
    /// `errcode` -1, code not spent.
    pub busy: f64,
    /// `errcode` 45011, code not spent.
    pub minute_limit: f64,
    /// `errcode` 45009, code not spent.
    pub day_limit: f64,
    /// The `errcode` below, code not spent.
    pub refused: f64,
    /// What `refused` answers: any code, also one that the simulator never gives by itself.
    pub errcode: i32,
    /// Only the first so many times that the same thing is asked are hit; 0: all.
    pub tries: u64,
    /// No answer until the client gives up, code not spent.
    pub hang: f64,
    /// HTTP 500, code not spent.
    pub http_500: f64,
    /// The first half of the answer, code not spent.
    pub truncated: f64,
    /// A whole answer with a raw control byte in a string (`docs/wechat.md` §1): code spent, and a
    /// client that repairs such JSON loses nothing.
    pub control_bytes: f64,
    /// Status 200 and no body, code not spent.
    pub empty: f64,
    /// Status 200 and a page of HTML, code not spent.
    pub html: f64,
    /// The connection is closed without an answer, code not spent.
    pub cut: f64,
    /// The code is spent, or the token given out, then as `hang`.
    pub spent_hang: f64,
    /// The same, then as `cut`.
    pub spent_cut: f64,
    /// Share of error answers that carry `errcode` as a string (`docs/wechat.md` §1).
    pub string_errcode: f64,
    /// Share of requests with an app token that find it killed before its time: 40001.
    pub token_dies: f64,
}

/// One fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// -1.
    Busy,
    /// 45011.
    MinuteLimit,
    /// 45009.
    DayLimit,
    /// [`Faults::errcode`].
    Refused,
    /// Silence.
    Hang,
    /// HTTP 500.
    Http500,
    /// Half an answer.
    Truncated,
    /// Raw control bytes in the JSON.
    ControlBytes,
    /// Nothing with 200.
    Empty,
    /// HTML with 200.
    Html,
    /// Closed connection.
    Cut,
    /// Code spent, silence.
    SpentHang,
    /// Code spent, closed connection.
    SpentCut,
}

/// Why faults cannot be set so.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FaultError {
    /// Not of the form `name=value`.
    #[error("a fault is written name=value")]
    Form,
    /// No fault has this name.
    #[error("there is no fault named {0}")]
    Name(String),
    /// The value does not fit.
    #[error(
        "{0} is out of bounds (probabilities 0 to 1, together at most 1; delays in ms up to {MAX_DELAY_MS}; \
         an errcode other than 0 with refused)"
    )]
    Value(String),
}

impl Fault {
    /// Its name, as in [`Faults`] and in counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::MinuteLimit => "minute_limit",
            Self::DayLimit => "day_limit",
            Self::Refused => "refused",
            Self::Hang => "hang",
            Self::Http500 => "http_500",
            Self::Truncated => "truncated",
            Self::ControlBytes => "control_bytes",
            Self::Empty => "empty",
            Self::Html => "html",
            Self::Cut => "cut",
            Self::SpentHang => "spent_hang",
            Self::SpentCut => "spent_cut",
        }
    }
}

impl Faults {
    /// Sets one of them from a flag, `name=value`; dashes and underscores are alike.
    ///
    /// # Errors
    /// [`FaultError`]: unknown name, or a value out of bounds; the faults are then unchanged.
    pub fn set(&mut self, flag: &str) -> Result<(), FaultError> {
        let (name, value) = flag.split_once('=').ok_or(FaultError::Form)?;
        let name = name.trim().replace('-', "_");
        let bad = || FaultError::Value(name.clone());
        let mut next = self.clone();
        if name == "errcode" {
            next.errcode = value.trim().parse().map_err(|_| bad())?;
        } else if let Some(whole) = next.whole(&name) {
            *whole = value.trim().parse().map_err(|_| bad())?;
        } else if let Some(share) = next.share(&name) {
            *share = value.trim().parse().map_err(|_| bad())?;
        } else {
            return Err(FaultError::Name(name));
        }
        next.check()?;
        *self = next;
        Ok(())
    }

    fn whole(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "seed" => &mut self.seed,
            "latency" => &mut self.latency,
            "jitter" => &mut self.jitter,
            "tries" => &mut self.tries,
            _ => return None,
        })
    }

    fn share(&mut self, name: &str) -> Option<&mut f64> {
        Some(match name {
            "busy" => &mut self.busy,
            "minute_limit" => &mut self.minute_limit,
            "day_limit" => &mut self.day_limit,
            "refused" => &mut self.refused,
            "hang" => &mut self.hang,
            "http_500" => &mut self.http_500,
            "truncated" => &mut self.truncated,
            "control_bytes" => &mut self.control_bytes,
            "empty" => &mut self.empty,
            "html" => &mut self.html,
            "cut" => &mut self.cut,
            "spent_hang" => &mut self.spent_hang,
            "spent_cut" => &mut self.spent_cut,
            "string_errcode" => &mut self.string_errcode,
            "token_dies" => &mut self.token_dies,
            _ => return None,
        })
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// [`FaultError::Value`] names the first that is out of bounds.
    pub fn check(&self) -> Result<(), FaultError> {
        let bad = |name: &str| Err(FaultError::Value(name.to_owned()));
        for (name, delay) in [("latency", self.latency), ("jitter", self.jitter)] {
            if delay > MAX_DELAY_MS {
                return bad(name);
            }
        }
        let mut total = 0.0;
        for (fault, share) in self.shares() {
            if !(0.0..=1.0).contains(&share) {
                return bad(fault.name());
            }
            total += share;
        }
        let others = [
            ("string_errcode", self.string_errcode),
            ("token_dies", self.token_dies),
        ];
        for (name, share) in others {
            if !(0.0..=1.0).contains(&share) {
                return bad(name);
            }
        }
        // An answer of 0 would be a success with nothing in it.
        if self.refused > 0.0 && self.errcode == 0 {
            return bad("errcode");
        }
        // Ten shares of 0.1 come to a little more than 1.
        if total > 1.0 + 1e-9 {
            return bad("the sum");
        }
        Ok(())
    }

    fn shares(&self) -> [(Fault, f64); 13] {
        [
            (Fault::Busy, self.busy),
            (Fault::MinuteLimit, self.minute_limit),
            (Fault::DayLimit, self.day_limit),
            (Fault::Refused, self.refused),
            (Fault::Hang, self.hang),
            (Fault::Http500, self.http_500),
            (Fault::Truncated, self.truncated),
            (Fault::ControlBytes, self.control_bytes),
            (Fault::Empty, self.empty),
            (Fault::Html, self.html),
            (Fault::Cut, self.cut),
            (Fault::SpentHang, self.spent_hang),
            (Fault::SpentCut, self.spent_cut),
        ]
    }

    /// The fault that hits the `attempt`-th sending of what `subject` names.
    pub(super) fn draw(&self, subject: u64, attempt: u16) -> Option<Fault> {
        if self.tries > 0 && u64::from(attempt) >= self.tries {
            return None;
        }
        let mut at = unit(mix(&[self.seed, 1, subject, u64::from(attempt)]));
        for (fault, share) in self.shares() {
            if at < share {
                return Some(fault);
            }
            at -= share;
        }
        None
    }

    /// The delay of that sending, in milliseconds.
    pub(super) fn delay_ms(&self, subject: u64, attempt: u16) -> u64 {
        let draw = mix(&[self.seed, 2, subject, u64::from(attempt)]);
        self.latency + draw % (self.jitter + 1)
    }

    /// Whether that sending's `errcode` is a string.
    pub(super) fn as_string(&self, subject: u64, attempt: u16) -> bool {
        unit(mix(&[self.seed, 3, subject, u64::from(attempt)])) < self.string_errcode
    }

    /// Whether that sending finds its app token killed.
    pub(super) fn token_dies(&self, subject: u64, attempt: u16) -> bool {
        unit(mix(&[self.seed, 4, subject, u64::from(attempt)])) < self.token_dies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_nonsense_is_refused() {
        let mut faults = Faults::default();
        faults.set("busy=0.25").unwrap();
        faults.set("spent-cut = 0.5").unwrap();
        faults.set("latency=20").unwrap();
        assert_eq!(
            (faults.busy, faults.spent_cut, faults.latency),
            (0.25, 0.5, 20)
        );
        let before = faults.clone();
        for bad in [
            "busy",
            "rain=1",
            "busy=2",
            "busy=NaN",
            "hang=0.3",
            "latency=0.5",
            "jitter=60001",
            "refused=0.1",
            "errcode=many",
            "tries=-1",
        ] {
            assert!(faults.set(bad).is_err(), "{bad}");
        }
        assert_eq!(faults, before);
    }

    #[test]
    fn every_fault_has_a_flag_of_its_name() {
        for (fault, _) in Faults::default().shares() {
            let mut faults = Faults::default();
            faults.set("errcode=-1000").unwrap();
            faults.set(&format!("{}=1", fault.name())).unwrap();
            assert_eq!(faults.draw(1, 0), Some(fault));
            faults.set("tries=2").unwrap();
            let hit = [0, 1, 2].map(|attempt| faults.draw(1, attempt).is_some());
            assert_eq!(hit, [true, true, false]);
            let json = serde_json::to_value(&faults).unwrap();
            assert_eq!(json[fault.name()], 1.0);
        }
    }

    #[test]
    fn faults_come_as_often_as_asked_and_repeatably() {
        let mut faults = Faults::default();
        faults.set("hang=0.1").unwrap();
        faults.set("cut=0.2").unwrap();
        let count = |f| {
            (0..10_000)
                .filter(|i| faults.draw(*i, 0) == Some(f))
                .count()
        };
        assert!((900..1_100).contains(&count(Fault::Hang)));
        assert!((1_850..2_150).contains(&count(Fault::Cut)));
        let other = Faults {
            seed: 1,
            ..faults.clone()
        };
        assert!((0..100).any(|i| faults.draw(i, 0) != other.draw(i, 0)));
        assert!((0..100).any(|i| faults.draw(i, 0) != faults.draw(i, 1)));
    }
}
