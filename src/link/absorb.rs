//! Joins sightings with what is stored. Each join takes the smaller or the larger of two values, so
//! that neither order nor repetition matters.

use super::Rules;
use super::graph::{ClaimNow, Graph, Life};
use super::registers::Registers;
use crate::model::{
    AccountRow, ClaimRow, ClaimStatus, EventId, ExternalId, Fact, Millis, NewClaim, Reason,
    Sighting,
};

/// What came of the facts, besides the graph.
pub(super) struct Absorbed<'a> {
    pub registers: Registers,
    /// Every sighting, with its account's node unless it told nothing new.
    pub sightings: Vec<(&'a Sighting, Option<usize>)>,
}

/// Brings the facts into the graph: erasures first, since they decide which other facts count, then
/// decisions, since claims ask for their verdicts, then sightings. All their accounts are read.
pub(super) fn absorb<'a>(graph: &mut Graph<'a>, facts: &'a [Fact], rules: &Rules) -> Absorbed<'a> {
    let mut registers = Registers::default();
    for fact in facts {
        if let Fact::Erasure(erasure) = fact {
            registers.erase(graph, erasure, rules.namespace);
        }
    }
    for fact in facts {
        if let Fact::Decision(decision) = fact {
            registers.decide(graph, decision);
        }
    }
    for fact in facts {
        if let Fact::Review(review) = fact {
            registers.review(graph, review);
        }
    }
    let mut sightings = Vec::with_capacity(facts.len());
    for fact in facts {
        if let Fact::Sighting(s) = fact {
            let node = (!tells_nothing(graph, s, rules)).then(|| see(graph, s, &registers));
            sightings.push((s, node));
        }
    }
    Absorbed {
        registers,
        sightings,
    }
}

/// The path of nearly every login: what it says is stored already. Only reads the view. An account
/// that the graph knows is left to the joins, which find the same.
fn tells_nothing(graph: &Graph<'_>, s: &Sighting, rules: &Rules) -> bool {
    let Some(row) = graph.view.accounts.get(&s.account) else {
        return false;
    };
    let stored = graph.view.claims.get(&s.account);
    let stored = stored.map_or(&[][..], Vec::as_slice);
    s.at >= row.first_seen_at
        && s.claims.iter().all(|c| claim_is_known(stored, c, &s.cause))
        && external_is_known(row, s)
        && reason_is_known(row, stored, s, rules)
        && graph.known(&s.account).is_none()
}

fn claim_is_known(stored: &[ClaimRow], claim: &NewClaim, cause: &EventId) -> bool {
    stored.iter().any(|row| {
        row.key.union == claim.union
            && (row.at, &row.cause) <= (claim.at, cause)
            && row.method.stronger(claim.method) == row.method
    })
}

fn external_is_known(row: &AccountRow, s: &Sighting) -> bool {
    s.external_id.as_ref().is_none_or(|id| {
        let stored = row.external.as_ref();
        stored.is_some_and(|(at, known)| (*at, known) >= (s.at, id))
    })
}

fn reason_is_known(row: &AccountRow, stored: &[ClaimRow], s: &Sighting, rules: &Rules) -> bool {
    let Some(reason) = s.reason else { return true };
    let newest = rules.apps.newest_platform(&s.account.app);
    let hidden = |claim: &ClaimRow| Some(&claim.key.union.platform) == newest;
    let known =
        |(at, known): (Millis, Reason)| known != Reason::Contested && (at, known) >= (s.at, reason);
    stored.iter().any(hidden) || row.reason.is_some_and(known)
}

/// Joins one sighting. An event at or before the account's erasure has no effect, as a whole.
fn see<'a>(graph: &mut Graph<'a>, s: &'a Sighting, registers: &Registers) -> usize {
    let a = graph.account(&s.account);
    graph.load_account(a);
    if graph.accounts[a].erased_at.is_some_and(|e| s.at <= e) {
        return a;
    }
    if see_time(graph, a, s) {
        graph.seed_account(a, &s.cause);
    }
    if see_words(graph, a, s) {
        graph.touch(a, &s.cause);
    }
    for claim in &s.claims {
        see_claim(graph, a, claim, &s.cause, registers);
    }
    a
}

fn see_time(graph: &mut Graph<'_>, a: usize, s: &Sighting) -> bool {
    let node = &mut graph.accounts[a];
    match &mut node.life {
        Some(life) if life.first_seen_at <= s.at => return false,
        Some(life) => life.first_seen_at = s.at,
        None => {
            node.life = Some(Life {
                generation: node.erased_at.unwrap_or_default(),
                first_seen_at: s.at,
                external: None,
                reason: None,
            });
        }
    }
    true
}

fn see_words<'a>(graph: &mut Graph<'a>, a: usize, s: &'a Sighting) -> bool {
    let Some(life) = &mut graph.accounts[a].life else {
        return false;
    };
    let told: Option<(Millis, &'a ExternalId)> = s.external_id.as_ref().map(|id| (s.at, id));
    let reason = s.reason.map(|r| (s.at, r));
    let news = told > life.external || reason > life.reason;
    life.external = life.external.max(told);
    life.reason = life.reason.max(reason);
    news
}

fn see_claim<'a>(
    graph: &mut Graph<'a>,
    a: usize,
    claim: &'a NewClaim,
    cause: &'a EventId,
    registers: &Registers,
) {
    let u = graph.union(&claim.union);
    let edge = graph.edge(a, u).unwrap_or_else(|| graph.add_edge(a, u));
    let Some(now) = &mut graph.edges[edge].now else {
        let verdict = registers.verdict(graph, a, u);
        graph.edges[edge].now = Some(ClaimNow {
            at: claim.at,
            method: claim.method,
            cause,
            verdict,
            reported: false,
            status: ClaimStatus::Active,
        });
        graph.seed_claim(edge, cause);
        return;
    };
    let method = now.method.stronger(claim.method);
    let moved = method != now.method || claim.at < now.at;
    let first = (claim.at, cause) < (now.at, now.cause);
    now.method = method;
    if first {
        (now.at, now.cause) = (claim.at, cause);
    }
    if moved {
        graph.seed_claim(edge, cause);
    } else if first {
        graph.touch(a, cause);
    }
}
