//! What outlives rows: operators' decisions and tombstones. Both are registers: of two values for
//! one key the later stays, whichever arrives first.
//!
//! A ruling about an account that is given at or before its erasure is void. Stores drop it with
//! the account; what they still hold of it is not looked at.

use super::graph::Graph;
use crate::model::{
    Account, ClaimKey, ClaimVerdict, Decision, Erasure, EventId, Millis, NeverPair, Review, Ruled,
    Ruling, Tombstone, UnionKey,
};
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use uuid::Uuid;

/// The registers that the batch changes.
#[derive(Default)]
pub(super) struct Registers {
    pub claims: BTreeMap<ClaimKey, Ruled>,
    pub pairs: BTreeMap<NeverPair, Ruled>,
    pub tombstones: BTreeMap<Account, Tombstone>,
}

impl Registers {
    /// Takes an erasure in. A life that began at or before it ends; one that began later only
    /// learns that there was an earlier one, which changes its own id.
    pub fn erase<'a>(&mut self, graph: &mut Graph<'a>, erasure: &'a Erasure, namespace: Uuid) {
        let a = graph.account(&erasure.account);
        graph.load_account(a);
        if graph.accounts[a].erased_at >= Some(erasure.erased_at) {
            return;
        }
        self.raise_tombstone(graph, a, erasure, namespace);
        graph.seed_account(a, &erasure.cause);
        let node = &mut graph.accounts[a];
        node.erased_at = Some(erasure.erased_at);
        match &mut node.life {
            Some(life) if life.first_seen_at > erasure.erased_at => {
                life.generation = erasure.erased_at;
                self.void_verdicts(graph, a, erasure);
            }
            Some(_) => {
                node.life = None;
                node.ended = true;
                end_claims(graph, a, &erasure.cause);
            }
            None => {}
        }
    }

    /// Decides anew from what is stored. A life that should have ended with an erasure ends now: its
    /// row was read from another moment than the tombstone.
    pub fn review<'a>(&mut self, graph: &mut Graph<'a>, review: &'a Review) {
        let a = graph.account(&review.account);
        graph.load_account(a);
        let node = &graph.accounts[a];
        let (Some(life), Some(row)) = (&node.life, node.stored) else {
            return;
        };
        let stone = graph.view.tombstones.get(node.account);
        let over =
            |at: Millis| life.first_seen_at <= at && !self.tombstones.contains_key(node.account);
        match stone.filter(|stone| over(stone.erased_at)) {
            None => graph.seed_account(a, &review.cause),
            Some(stone) => {
                let stone = Tombstone {
                    revision: stone.revision.max(row.revision + 1),
                    ..stone.clone()
                };
                self.tombstones.insert(stone.account.clone(), stone);
                graph.seed_account(a, &review.cause);
                graph.accounts[a].life = None;
                graph.accounts[a].ended = true;
                end_claims(graph, a, &review.cause);
            }
        }
    }

    fn raise_tombstone(&mut self, graph: &Graph<'_>, a: usize, erasure: &Erasure, ns: Uuid) {
        let node = &graph.accounts[a];
        let earlier = self.tombstones.remove(node.account);
        let earlier = earlier.or_else(|| graph.view.tombstones.get(node.account).cloned());
        let (mut own_ids, revision) = earlier.map_or((Vec::new(), 0), |t| (t.own_ids, t.revision));
        // Whoever reads the tombstone alone knows the account by its very first own id.
        let first = node.account.own_id(ns, Millis(0));
        if own_ids.first() != Some(&first) {
            own_ids.retain(|id| *id != first);
            own_ids.insert(0, first);
        }
        let generation = node.life.as_ref().map(|life| life.generation);
        let own = node
            .account
            .own_id(ns, generation.or(node.erased_at).unwrap_or_default());
        if !own_ids.contains(&own) {
            own_ids.push(own);
        }
        // A life that ends is published once more, as a null.
        let ends = node
            .life
            .as_ref()
            .is_some_and(|life| life.first_seen_at <= erasure.erased_at);
        let published = node.stored.filter(|_| !node.ended).map(|row| row.revision);
        let tombstone = Tombstone {
            account: node.account.clone(),
            erased_at: erasure.erased_at,
            own_ids,
            revision: published.map_or(revision, |r| r + u64::from(ends)),
        };
        self.tombstones.insert(tombstone.account.clone(), tombstone);
    }

    fn void_verdicts<'a>(&self, graph: &mut Graph<'a>, a: usize, erasure: &'a Erasure) {
        let edges: Vec<usize> = graph.claims_of(a).collect();
        for edge in edges {
            let verdict = self.verdict(graph, a, graph.edges[edge].union);
            self.set_verdict(graph, edge, verdict, &erasure.cause);
        }
    }

    fn set_verdict<'a>(
        &self,
        graph: &mut Graph<'a>,
        edge: usize,
        verdict: Option<ClaimVerdict>,
        cause: &'a EventId,
    ) {
        if let Some(now) = &mut graph.edges[edge].now
            && now.verdict != verdict
        {
            now.verdict = verdict;
            graph.seed_claim(edge, cause);
        }
    }

    /// Takes a decision in. The erasures of the batch must have been taken in before.
    pub fn decide<'a>(&mut self, graph: &mut Graph<'a>, decision: &'a Decision) {
        match &decision.ruling {
            Ruling::Claim {
                account,
                union,
                verdict,
            } => self.decide_claim(graph, decision, (account, union), *verdict),
            Ruling::Pair { a, b, never } => self.decide_pair(graph, decision, (a, b), *never),
        }
    }

    fn decide_claim<'a>(
        &mut self,
        graph: &mut Graph<'a>,
        decision: &'a Decision,
        (account, union): (&'a Account, &'a UnionKey),
        verdict: Option<ClaimVerdict>,
    ) {
        let a = graph.account(account);
        graph.load_account(a);
        if void(graph, a, decision.at) {
            return;
        }
        let key = ClaimKey {
            account: account.clone(),
            union: union.clone(),
        };
        let ruled = ruled(decision, verdict);
        if let Some(standing) = self.standing(graph, a, &key)
            && rank(standing) >= rank(&ruled)
        {
            return;
        }
        self.claims.insert(key, ruled);
        graph.touch(a, &decision.cause);
        let u = graph.union(union);
        if let Some(edge) = graph.edge(a, u) {
            self.set_verdict(graph, edge, verdict, &decision.cause);
        }
    }

    fn decide_pair<'a>(
        &mut self,
        graph: &mut Graph<'a>,
        decision: &'a Decision,
        (a, b): (&'a Account, &'a Account),
        never: bool,
    ) {
        let nodes = [a.min(b), a.max(b)].map(|account| graph.account(account));
        for node in nodes {
            graph.load_account(node);
            if void(graph, node, decision.at) {
                return;
            }
        }
        let key = NeverPair {
            a: a.min(b).clone(),
            b: a.max(b).clone(),
        };
        let ruled = ruled(decision, never.then_some(ClaimVerdict::Reject));
        let standing = self.pairs.get(&key).or_else(|| {
            let stored = graph.view.pairs.get(&key)?;
            (!nodes.iter().any(|node| void(graph, *node, stored.at))).then_some(stored)
        });
        if standing.is_some_and(|standing| rank(standing) >= rank(&ruled)) {
            return;
        }
        let changed = standing.and_then(|s| s.verdict) != ruled.verdict;
        self.pairs.insert(key, ruled);
        for node in nodes.into_iter().filter(|_| changed) {
            graph.seed_account(node, &decision.cause);
        }
    }

    /// The register that stands on a claim of the (loaded) account.
    fn standing<'s>(&'s self, graph: &Graph<'s>, a: usize, key: &ClaimKey) -> Option<&'s Ruled> {
        self.claims.get(key).or_else(|| {
            let stored = graph.view.rulings.get(key)?;
            (!void(graph, a, stored.at)).then_some(stored)
        })
    }

    /// The standing verdict on a claim of the (loaded) account.
    pub fn verdict(&self, graph: &Graph<'_>, a: usize, u: usize) -> Option<ClaimVerdict> {
        // Decisions are rare: most batches need not even build the key.
        if self.claims.is_empty() && graph.view.rulings.is_empty() {
            return None;
        }
        let key = ClaimKey {
            account: graph.accounts[a].account.clone(),
            union: graph.unions[u].key.clone(),
        };
        self.standing(graph, a, &key)?.verdict
    }

    /// The pairs of nodes that must never be one user, both ways round. Only pairs whose accounts
    /// are both loaded can matter.
    pub fn never(&self, graph: &Graph<'_>) -> FxHashSet<(usize, usize)> {
        let stored = graph.view.pairs.iter();
        let stored = stored.filter(|(key, _)| !self.pairs.contains_key(*key));
        stored
            .chain(&self.pairs)
            .filter(|(_, ruled)| ruled.verdict == Some(ClaimVerdict::Reject))
            .filter_map(|(key, ruled)| {
                let (a, b) = (graph.known(&key.a)?, graph.known(&key.b)?);
                let stands = !void(graph, a, ruled.at) && !void(graph, b, ruled.at);
                stands.then_some([(a, b), (b, a)])
            })
            .flatten()
            .collect()
    }

    /// Stored registers about accounts that are dropped by this batch's erasures and yet are later
    /// than those: they are written again, since stores drop all registers of such an account.
    pub fn surviving(&self, graph: &Graph<'_>, dropped: &FxHashSet<&Account>) -> Survivors {
        let mut kept = Survivors::default();
        if dropped.is_empty() {
            return kept;
        }
        let void_of = |account: &Account, at: Millis| {
            graph.known(account).is_some_and(|a| void(graph, a, at))
        };
        for (key, ruled) in &graph.view.rulings {
            let hit = dropped.contains(&key.account) && !self.claims.contains_key(key);
            if hit && !void_of(&key.account, ruled.at) {
                kept.claims.push((key.clone(), ruled.clone()));
            }
        }
        for (key, ruled) in &graph.view.pairs {
            let hit = dropped.contains(&key.a) || dropped.contains(&key.b);
            let void = void_of(&key.a, ruled.at) || void_of(&key.b, ruled.at);
            if hit && !void && !self.pairs.contains_key(key) {
                kept.pairs.push((key.clone(), ruled.clone()));
            }
        }
        kept
    }
}

/// See [`Registers::surviving`].
#[derive(Default)]
pub(super) struct Survivors {
    pub claims: Vec<(ClaimKey, Ruled)>,
    pub pairs: Vec<(NeverPair, Ruled)>,
}

fn end_claims<'a>(graph: &mut Graph<'a>, a: usize, cause: &'a EventId) {
    let edges: Vec<usize> = graph.claims_of(a).collect();
    for edge in edges {
        graph.edges[edge].now = None;
        graph.seed_claim(edge, cause);
    }
}

fn void(graph: &Graph<'_>, a: usize, at: Millis) -> bool {
    graph.accounts[a].erased_at.is_some_and(|e| at <= e)
}

fn ruled(decision: &Decision, verdict: Option<ClaimVerdict>) -> Ruled {
    Ruled {
        verdict,
        at: decision.at,
        author: decision.author.clone(),
        note: decision.note.clone(),
    }
}

/// Of two rulings on one thing the larger stands.
fn rank(ruled: &Ruled) -> (Millis, &str, Option<ClaimVerdict>, &str) {
    (ruled.at, &ruled.author, ruled.verdict, &ruled.note)
}
