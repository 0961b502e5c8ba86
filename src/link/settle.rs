//! Writes down the difference between what is stored and what was decided, account by account in
//! the order of accounts, so that one batch always gives the same changes.

use super::Rules;
use super::absorb::Absorbed;
use super::activate::Sets;
use super::graph::{AccountNode, ClaimNow, Edge, Graph, Life};
use super::news::{Publisher, Shown, is_conflict};
use super::registers::Registers;
use super::standing::{Standing, Users};
use crate::model::{
    Account, AccountRow, Changes, ClaimKey, ClaimRow, ClaimStatus, EventId, Millis, Sighting,
    SightingResult, UserId,
};
use rustc_hash::FxHashSet;

/// Makes the changes. `causes` has the event behind each component.
pub(super) fn settle<'a>(
    graph: &Graph<'a>,
    absorbed: Absorbed<'a>,
    sets: &Sets,
    causes: &[&'a EventId],
    rules: &Rules,
    now: Millis,
) -> Changes {
    let registers = absorbed.registers;
    let mut settling = Settling {
        graph,
        registers: &registers,
        users: Users::new(graph, sets, rules),
        causes,
        rules,
        now,
        publisher: Publisher::new(&registers, rules.namespace, now),
        changes: Changes::default(),
        claims: Vec::new(),
    };
    for a in settling.concerned() {
        settling.account(a);
    }
    settling.sightings(&absorbed.sightings);
    let Settling {
        mut changes,
        publisher,
        ..
    } = settling;
    changes.news = publisher.finish();
    changes.resolved.sort_unstable();
    changes.resolved.dedup();
    let dropped = drop_erased(graph, &registers, &mut changes);
    let survivors = registers.surviving(graph, &dropped);
    changes.rulings = registers.claims.into_iter().collect();
    changes.rulings.extend(survivors.claims);
    changes.pairs = registers.pairs.into_iter().collect();
    changes.pairs.extend(survivors.pairs);
    changes.tombstones = registers.tombstones.into_values().collect();
    changes
}

/// Accounts whose erasure takes effect and leaves no later life standing. They are named even if no
/// row is stored: registers, session keys or ledger answers about them may be.
fn drop_erased<'a>(
    graph: &Graph<'a>,
    registers: &Registers,
    changes: &mut Changes,
) -> FxHashSet<&'a Account> {
    let mut dropped = FxHashSet::default();
    for account in registers.tombstones.keys() {
        let node = graph.known(account).map(|a| &graph.accounts[a]);
        if let Some(node) = node.filter(|node| node.ended || node.stored.is_none()) {
            dropped.insert(node.account);
            changes.erased.push(node.account.clone());
        }
    }
    dropped
}

struct Settling<'g, 'a> {
    graph: &'g Graph<'a>,
    registers: &'g Registers,
    users: Users<'g, 'a>,
    causes: &'g [&'a EventId],
    rules: &'g Rules,
    now: Millis,
    publisher: Publisher,
    changes: Changes,
    /// The claims of the account at hand, by (platform, unionid).
    claims: Vec<usize>,
}

/// What was decided about a living account.
struct Decided<'g, 'a> {
    life: &'g Life<'a>,
    /// Its row before the batch, unless that life ended in it.
    before: Option<&'a AccountRow>,
    user: UserId,
    /// Whether its own id is the user's.
    names_user: bool,
    standing: Standing<'g, 'a>,
    cause: &'a EventId,
}

impl<'g, 'a> Settling<'g, 'a> {
    /// The accounts to look at, in order.
    fn concerned(&self) -> Vec<usize> {
        let nodes = &self.graph.accounts;
        let mut concerned: Vec<usize> = (0..nodes.len())
            .filter(|a| nodes[*a].touched || nodes[*a].component.is_some())
            .collect();
        concerned.sort_unstable_by_key(|a| nodes[*a].account);
        concerned
    }

    fn account(&mut self, a: usize) {
        let node = &self.graph.accounts[a];
        if node.ended {
            let stone = self.registers.tombstones.get(node.account);
            self.publisher
                .ended(node, stone.map(|stone| stone.revision));
        }
        let Some(decided) = self.decided(a) else {
            return;
        };
        self.collect_claims(a);
        let visible = self.differs(node, &decided);
        let row = self.row(node, &decided, visible);
        if visible {
            self.tell(&row, &decided);
        }
        let (before, cause) = (decided.before, decided.cause);
        self.publisher
            .merges(&row, before, decided.names_user, cause);
        self.write_claims(node, &decided);
        if decided.standing.linked && !(before.is_some() && self.was_linked(a)) {
            self.changes.resolved.push(node.account.clone());
        }
        if before != Some(&row) {
            self.changes.accounts.push(row);
        }
    }

    fn decided(&self, a: usize) -> Option<Decided<'g, 'a>> {
        let node = &self.graph.accounts[a];
        let (user, names_user) = self.users.of(a)?;
        let before = node.stored.filter(|_| !node.ended);
        let reached = || node.component.map(|c| self.causes[c]);
        Some(Decided {
            life: node.life.as_ref()?,
            before,
            user,
            names_user,
            standing: Standing::of(self.graph, a, self.rules),
            cause: node.cause.or_else(reached)?,
        })
    }

    fn collect_claims(&mut self, a: usize) {
        let graph = self.graph;
        self.claims.clear();
        let live = graph.claims_of(a).filter(|e| graph.edges[*e].now.is_some());
        self.claims.extend(live);
        self.claims
            .sort_unstable_by_key(|e| graph.unions[graph.edges[*e].union].key);
    }

    fn was_linked(&self, a: usize) -> bool {
        let stored = self.graph.claims_of(a).map(|e| self.graph.edges[e].stored);
        stored
            .flatten()
            .any(|row| row.status == ClaimStatus::Active)
    }

    /// Whether others can see a difference. The times of external id and reason do not show.
    fn differs(&self, node: &AccountNode<'_>, decided: &Decided<'_, '_>) -> bool {
        let Decided { life, standing, .. } = decided;
        let Some(row) = decided.before else {
            return true;
        };
        row.user != decided.user
            || row.generation != life.generation
            || row.first_seen_at != life.first_seen_at
            || row.external.as_ref().map(|(_, id)| id) != life.external.map(|(_, id)| id)
            || row.reason.map(|(_, r)| r) != standing.reason(life).map(|(_, r)| r)
            || self.claims_differ(node, standing)
    }

    fn claims_differ(&self, node: &AccountNode<'_>, standing: &Standing<'_, '_>) -> bool {
        let differs = |e: &usize| {
            let edge = &self.graph.edges[*e];
            match (edge.stored.filter(|_| !node.ended), &edge.now) {
                (Some(row), Some(now)) => {
                    (row.at, row.method, row.status) != (now.at, now.method, now.status)
                }
                _ => true,
            }
        };
        // The verdict on the claim that links decides whether the method is the operator's.
        let ruled = |edge: &Edge<'_>| {
            let now = edge.now.as_ref().and_then(|now| now.verdict);
            edge.stored.is_some_and(|row| row.verdict != now)
        };
        self.claims.iter().any(differs) || standing.active.is_some_and(ruled)
    }

    /// The row now: a new revision if others can see a difference.
    fn row(&self, node: &AccountNode<'a>, decided: &Decided<'_, 'a>, visible: bool) -> AccountRow {
        let Decided { life, before, .. } = decided;
        let (revision, cause, linked_at) = match before {
            Some(row) if !visible => (row.revision, &row.cause, row.linked_at),
            Some(row) => (row.revision + 1, decided.cause, self.now),
            None => (self.last_revision(node) + 1, decided.cause, self.now),
        };
        AccountRow {
            account: node.account.clone(),
            generation: life.generation,
            first_seen_at: life.first_seen_at,
            user: decided.user,
            revision,
            external: life.external.map(|(at, id)| (at, id.clone())),
            reason: decided.standing.reason(life),
            cause: cause.clone(),
            linked_at,
        }
    }

    /// The last revision of the life before this one: they go on counting.
    fn last_revision(&self, node: &AccountNode<'_>) -> u64 {
        let tombstone = self.registers.tombstones.get(node.account);
        let stored = || self.graph.view.tombstones.get(node.account);
        tombstone.or_else(stored).map_or(0, |t| t.revision)
    }

    fn tell(&mut self, row: &AccountRow, decided: &Decided<'_, '_>) {
        let standing = &decided.standing;
        let shown = Shown {
            platform: standing.platform.cloned(),
            unionid: standing.unionid(self.graph),
            method: standing.method(),
        };
        let edges = self.claims.iter().map(|e| &self.graph.edges[*e]);
        let claims = edges.filter_map(|edge| {
            let now = edge.now.as_ref()?;
            Some(claim_row(self.graph, edge, now))
        });
        let claims = claims.collect();
        self.publisher.linked(row, decided.before, shown, claims);
    }

    fn write_claims(&mut self, node: &AccountNode<'_>, decided: &Decided<'_, '_>) {
        for edge in self.claims.iter().map(|e| &self.graph.edges[*e]) {
            let Some(now) = &edge.now else { continue };
            let stored = edge.stored.filter(|_| !node.ended);
            if stored.is_some_and(|row| is_stored(row, now)) {
                continue;
            }
            let row = claim_row(self.graph, edge, now);
            if is_conflict(row.status) && !now.reported {
                self.publisher.conflict(&row, decided.user, decided.cause);
            }
            self.changes.claims.push(row);
        }
    }

    fn sightings(&mut self, sightings: &[(&'a Sighting, Option<usize>)]) {
        self.changes.sightings.reserve_exact(sightings.len());
        for (sighting, node) in sightings {
            let node = node.or_else(|| self.graph.known(&sighting.account));
            let (result, linked) = match node.filter(|a| self.graph.accounts[*a].loaded) {
                Some(a) => self.decided_result(a, sighting),
                None => self.stored_result(sighting),
            };
            self.keep_key(sighting, result.user.is_some(), linked);
            self.changes.sightings.push(result);
        }
    }

    /// The result of a sighting, and whether its account has an active claim.
    fn decided_result(&self, a: usize, sighting: &Sighting) -> (SightingResult, bool) {
        let node = &self.graph.accounts[a];
        let void = node.erased_at.is_some_and(|e| sighting.at <= e);
        let user = self.users.of(a).filter(|_| !void && node.life.is_some());
        let standing = Standing::of(self.graph, a, self.rules);
        let unionid = user.and_then(|_| standing.unionid(self.graph));
        let user = user.map(|(user, _)| user);
        (SightingResult { user, unionid }, standing.linked)
    }

    /// The same for an account that the batch changes nothing about.
    fn stored_result(&self, sighting: &Sighting) -> (SightingResult, bool) {
        let view = self.graph.view;
        let row = view.accounts.get(&sighting.account);
        let claims = view.claims.get(&sighting.account);
        let active = |claim: &&ClaimRow| claim.status == ClaimStatus::Active;
        let mut active = claims.into_iter().flatten().filter(active).peekable();
        let linked = active.peek().is_some();
        let newest = self.rules.apps.newest_platform(&sighting.account.app);
        let unionid = active.find(|claim| Some(&claim.key.union.platform) == newest);
        let result = SightingResult {
            user: row.map(|row| row.user),
            unionid: unionid.map(|claim| claim.key.union.unionid.clone()),
        };
        (result, linked)
    }

    /// Session keys are of use only until a claim is active; events without effect bring none.
    fn keep_key(&mut self, sighting: &Sighting, effective: bool, linked: bool) {
        let Some(key) = sighting.session_key.as_ref().filter(|_| effective) else {
            return;
        };
        let account = sighting.account.clone();
        if linked {
            self.changes.resolved.push(account);
        } else {
            self.changes.session_keys.push((account, key.clone()));
        }
    }
}

fn is_stored(row: &ClaimRow, now: &ClaimNow<'_>) -> bool {
    (row.at, row.method, &row.cause) == (now.at, now.method, now.cause)
        && (row.status, row.verdict) == (now.status, now.verdict)
        && row.reported == is_reported(now)
}

fn is_reported(now: &ClaimNow<'_>) -> bool {
    now.reported || is_conflict(now.status)
}

fn claim_row(graph: &Graph<'_>, edge: &Edge<'_>, now: &ClaimNow<'_>) -> ClaimRow {
    ClaimRow {
        key: ClaimKey {
            account: graph.accounts[edge.account].account.clone(),
            union: graph.unions[edge.union].key.clone(),
        },
        at: now.at,
        method: now.method,
        cause: now.cause.clone(),
        status: now.status,
        verdict: now.verdict,
        reported: is_reported(now),
    }
}
