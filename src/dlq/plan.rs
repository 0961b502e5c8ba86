//! What a redrive would do: which letters go, and which are left, and why.

use super::help::{self, Help};
use super::{Desk, DlqError, Filter, Letter, Place};
use crate::bus::Range;
use crate::model::Millis;
use crate::resolve::exchange::CODE_LIFE_MS;
use std::collections::{BTreeMap, BTreeSet};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Which letters are meant.
    pub filter: Filter,
    /// How often one letter goes back at most, however often it dies.
    pub limit: u32,
    /// Whether those that went before go again.
    pub again: bool,
    /// Letters a second; 0: as many as the bus takes.
    pub rate: u32,
}

/// Why a letter is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// It went back before.
    Redriven,
    /// Another redrive has begun with it, and may not have ended.
    UnderWay,
    /// It went back as often as is allowed.
    TooOften,
    /// Its code is dead.
    DeadCode,
    /// Its code is past its life.
    CodeExpired,
    /// A redrive ends as before.
    NoHelp,
    /// Its reason is of another version of the program.
    UnknownReason,
    /// The login topic does not take it.
    NotTaken,
}

impl Left {
    /// Why, in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Redriven => "redriven before (--again)",
            Self::UnderWay => "begun by another redrive",
            Self::TooOften => "redriven as often as --limit allows",
            Self::DeadCode => "dead codes: only a new login helps",
            Self::CodeExpired => "codes past their 5 minutes: only a new login helps",
            Self::NoHelp => "would end as before (--reason, if something changed)",
            Self::UnknownReason => "of a reason that this version does not know",
            Self::NotTaken => "not taken by the login topic",
        }
    }
}

/// What becomes of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes.
    Goes,
    /// It is left.
    Left(Left),
}

impl Wish {
    /// What becomes of a letter that the filter takes.
    #[must_use]
    pub fn judge(&self, letter: &Letter, now: Millis, gone: &BTreeSet<Place>) -> Verdict {
        let known = letter.redriven.as_ref();
        let went = known.is_some_and(|one| one.times > 0) || gone.contains(&letter.place);
        if went && !self.again {
            return Verdict::Left(Left::Redriven);
        }
        if letter.redrives() >= self.limit {
            return Verdict::Left(Left::TooOften);
        }
        // Whoever names a reason, or a place, knows more than the table.
        if !self.filter.reasons.is_empty() || !self.filter.places.is_empty() {
            return Verdict::Goes;
        }
        let advice = letter.grave.reason.and_then(help::of);
        match advice.map(|advice| advice.help) {
            None => Verdict::Left(Left::UnknownReason),
            Some(Help::DeadCode) => Verdict::Left(Left::DeadCode),
            Some(Help::Otherwise) => Verdict::Left(Left::NoHelp),
            Some(Help::Redrive) if letter.by_code && expired(letter, now) => {
                Verdict::Left(Left::CodeExpired)
            }
            Some(Help::Redrive) => Verdict::Goes,
        }
    }
}

fn expired(letter: &Letter, now: Millis) -> bool {
    now.since(letter.happened_at) > CODE_LIFE_MS
}

/// Letters by reason's word.
pub type Count = BTreeMap<&'static str, u64>;

/// What a redrive would do.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What was looked through; letters that come later are none of it.
    pub held: Vec<Range>,
    /// Letters that go, by reason.
    pub goes: Count,
    /// Letters that are left, by why and by reason.
    pub left: BTreeMap<Left, Count>,
    /// Records that are no dead letters.
    pub strange: u64,
}

impl Plan {
    /// How many go.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.goes.values().sum()
    }

    pub(super) fn leave(&mut self, letter: &Letter, why: Left) {
        let of = self.left.entry(why).or_default();
        *of.entry(letter.reason()).or_default() += 1;
    }
}

impl Desk {
    /// Looks through all letters; `seen` learns how many records that took so far. `gone` went back
    /// though nobody noted it.
    ///
    /// # Errors
    /// Bus or store do not answer.
    pub async fn plan(
        &self,
        wish: &Wish,
        gone: &BTreeSet<Place>,
        seen: impl Fn(u64),
    ) -> Result<Plan, DlqError> {
        let mut plan = Plan {
            held: self.held().await?,
            ..Plan::default()
        };
        let (now, mut read) = ((self.clock)(), 0);
        for mut range in plan.held.clone() {
            while let Some((letters, records)) = self.page(&mut range).await? {
                read += records;
                plan.strange += records - letters.len() as u64;
                for letter in letters.iter().filter(|l| wish.filter.takes(l)) {
                    match wish.judge(letter, now, gone) {
                        Verdict::Goes => *plan.goes.entry(letter.reason()).or_default() += 1,
                        Verdict::Left(why) => plan.leave(letter, why),
                    }
                }
                seen(read);
            }
        }
        Ok(plan)
    }
}
