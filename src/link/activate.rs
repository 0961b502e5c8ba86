//! Decides which claims link: all claims of the components in one order, each one activated that
//! contradicts nothing active (P2, P6). Starting from scratch is what makes the result a function
//! of the claims instead of their arrival.

use super::graph::Graph;
use crate::model::{ClaimStatus, ClaimVerdict, Millis, Why};
use rustc_hash::FxHashSet;

/// Most accounts one user may have: far above the apps a person uses, and a bound on what one
/// wrong unionid can join.
pub(super) const MAX_ACCOUNTS: usize = 64;

/// Which accounts are one user: disjoint sets over the graph's account nodes.
pub(super) struct Sets {
    parent: Vec<usize>,
    size: Vec<usize>,
    /// Circular lists of the members of each set.
    next: Vec<usize>,
    /// By unionid: an account that has it active.
    holder: Vec<Option<usize>>,
}

impl Sets {
    fn new(accounts: usize, unions: usize) -> Self {
        Self {
            parent: (0..accounts).collect(),
            size: vec![1; accounts],
            next: (0..accounts).collect(),
            holder: vec![None; unions],
        }
    }

    /// The account that stands for the set.
    pub fn root(&self, mut a: usize) -> usize {
        // Union by size: at most log2(64) steps.
        while self.parent[a] != a {
            a = self.parent[a];
        }
        a
    }

    /// The members of the account's set.
    pub fn members(&self, a: usize) -> impl Iterator<Item = usize> + '_ {
        let rest = move |m: &usize| Some(self.next[*m]).filter(|n| *n != a);
        std::iter::successors(Some(a), rest)
    }

    fn join(&mut self, a: usize, b: usize) {
        let (mut big, mut small) = (self.root(a), self.root(b));
        if self.size[big] < self.size[small] {
            std::mem::swap(&mut big, &mut small);
        }
        self.parent[small] = big;
        self.size[big] += self.size[small];
        self.next.swap(big, small);
    }
}

/// Sets the status of every claim of the accounts in components. Claims of others keep theirs.
pub(super) fn activate(graph: &mut Graph<'_>, never: &FxHashSet<(usize, usize)>) -> Sets {
    let mut sets = Sets::new(graph.accounts.len(), graph.unions.len());
    for edge in in_order(graph) {
        let why = contradiction(graph, &sets, never, edge);
        let (a, u) = (graph.edges[edge].account, graph.edges[edge].union);
        if why.is_none() {
            match sets.holder[u] {
                None => sets.holder[u] = Some(a),
                Some(b) if sets.root(a) != sets.root(b) => sets.join(a, b),
                Some(_) => {}
            }
        }
        set_status(graph, edge, why);
    }
    sets
}

fn set_status(graph: &mut Graph<'_>, edge: usize, why: Option<Why>) {
    if let Some(now) = &mut graph.edges[edge].now {
        now.status = why.map_or(ClaimStatus::Active, ClaimStatus::Contested);
    }
}

/// Settles the claims that are barred whatever else is, and returns the others in the order that
/// decides between them: accepted ones, then by strength, time, account and unionid.
fn in_order(graph: &mut Graph<'_>) -> Vec<usize> {
    let mut open: Vec<(bool, u8, Millis, usize)> = Vec::new();
    for edge in 0..graph.edges.len() {
        if graph.accounts[graph.edges[edge].account]
            .component
            .is_none()
        {
            continue;
        }
        let barred = graph.barred(edge);
        set_status(graph, edge, barred.or(Some(Why::OtherUnionid)));
        if let (None, Some(now)) = (barred, &graph.edges[edge].now) {
            let accepted = now.verdict == Some(ClaimVerdict::Accept);
            open.push((!accepted, now.method.rank(), now.at, edge));
        }
    }
    let names = |edge: usize| {
        let edge = &graph.edges[edge];
        (
            graph.accounts[edge.account].account,
            graph.unions[edge.union].key,
        )
    };
    open.sort_unstable_by(|x, y| {
        let strength = (x.0, x.1, x.2).cmp(&(y.0, y.1, y.2));
        strength.then_with(|| names(x.3).cmp(&names(y.3)))
    });
    open.into_iter().map(|(_, _, _, edge)| edge).collect()
}

/// What active claims say against this one. Claims not come to yet are not active.
fn contradiction(
    graph: &Graph<'_>,
    sets: &Sets,
    never: &FxHashSet<(usize, usize)>,
    edge: usize,
) -> Option<Why> {
    let (a, u) = (graph.edges[edge].account, graph.edges[edge].union);
    if has_other_unionid(graph, a, u) {
        return Some(Why::OtherUnionid);
    }
    let b = sets.holder[u].filter(|b| sets.root(*b) != sets.root(a))?;
    let app = |m: usize| &graph.accounts[m].account.app;
    let any_pair = |against: &dyn Fn(usize, usize) -> bool| {
        sets.members(a)
            .any(|m| sets.members(b).any(|n| against(m, n)))
    };
    if any_pair(&|m, n| app(m) == app(n)) {
        return Some(Why::SameApp);
    }
    if !never.is_empty() && any_pair(&|m, n| never.contains(&(m, n))) {
        return Some(Why::NeverMerge);
    }
    let size = sets.size[sets.root(a)] + sets.size[sets.root(b)];
    (size > MAX_ACCOUNTS).then_some(Why::TooLarge)
}

fn has_other_unionid(graph: &Graph<'_>, a: usize, u: usize) -> bool {
    let platform = &graph.unions[u].key.platform;
    graph.claims_of(a).any(|e| {
        let other = &graph.edges[e];
        let now = other.now.as_ref();
        other.union != u
            && now.is_some_and(|now| now.status == ClaimStatus::Active)
            && graph.unions[other.union].key.platform == *platform
    })
}
