//! Decisions about one person travel as events of their own, and each shows before the next is given.
//! Whether that can be done without joining on the way whom the whole leaves apart.

use super::{Outlook, Rules, plan};
use crate::model::{Changes, Fact, Keys, Millis, Outcome, View};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InTurn {
    /// Ask again with these read too.
    Read(Keys),
    /// Each can be given.
    All,
    /// So many can; then each that is left joins somebody unasked.
    Only(usize),
}

/// Gives the facts one after the other, always the first of those left whose step is `agreed` to.
pub fn in_turn(
    view: &View,
    facts: &[Fact],
    agreed: impl Fn(&Outlook) -> bool,
    rules: &Rules,
    now: Millis,
) -> InTurn {
    let mut left: Vec<&Fact> = facts.iter().collect();
    let (mut given, mut earlier) = (Vec::new(), Changes::default());
    while !left.is_empty() {
        let mut next = None;
        for (n, fact) in left.iter().enumerate() {
            // What facts change does not hang on how they are divided (P2): giving these at once is
            // giving them one by one.
            let so_far: Vec<Fact> = given.iter().chain([*fact]).cloned().collect();
            match plan(view, &so_far, rules, now) {
                Outcome::Read(more) => return InTurn::Read(more),
                Outcome::Done(then) if agreed(&Outlook::between(view, &earlier, &then)) => {
                    next = Some((n, *then));
                    break;
                }
                Outcome::Done(_) => {}
            }
        }
        let Some((n, then)) = next else {
            return InTurn::Only(given.len());
        };
        given.push(left.remove(n).clone());
        earlier = then;
    }
    InTurn::All
}
