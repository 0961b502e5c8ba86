//! What was decided about one account, read off the graph: its user, and where it stands in its
//! newest binding.

use super::Rules;
use super::activate::Sets;
use super::graph::{Edge, Graph, Life};
use crate::model::{
    ClaimStatus, ClaimVerdict, LinkMethod, Millis, PlatformId, Reason, UnionId, UserId,
};

/// The user of every account, by node.
pub(super) struct Users<'g, 'a> {
    graph: &'g Graph<'a>,
    sets: &'g Sets,
    /// By root: the member that names the set, and its own id.
    named: Vec<Option<(usize, UserId)>>,
}

impl<'g, 'a> Users<'g, 'a> {
    /// Names each set after the member with the smallest (`first_seen_at`, appid, openid).
    pub fn new(graph: &'g Graph<'a>, sets: &'g Sets, rules: &Rules) -> Self {
        let mut named = vec![None; graph.accounts.len()];
        for (a, node) in graph.accounts.iter().enumerate() {
            if node.component.is_some() && sets.root(a) == a {
                named[a] = name(graph, sets, a, rules);
            }
        }
        Self { graph, sets, named }
    }

    /// The user, and whether the account names it. Outside of components the user is the stored
    /// one, and whether the account names it is not asked.
    pub fn of(&self, a: usize) -> Option<(UserId, bool)> {
        let node = &self.graph.accounts[a];
        if node.component.is_none() {
            return node.stored.map(|row| (row.user, false));
        }
        let (namer, user) = self.named[self.sets.root(a)]?;
        Some((user, namer == a))
    }
}

/// `None` for a set without a living account: one account that was never seen, or is erased.
fn name(graph: &Graph<'_>, sets: &Sets, root: usize, rules: &Rules) -> Option<(usize, UserId)> {
    let age = |a: usize| {
        let node = &graph.accounts[a];
        let life = node.life.as_ref()?;
        Some((life.first_seen_at, node.account, life.generation, a))
    };
    let (_, account, generation, a) = sets.members(root).filter_map(age).min()?;
    Some((a, account.own_id(rules.namespace, generation)))
}

/// Where an account stands in its newest binding.
pub(super) struct Standing<'g, 'a> {
    /// The platform of the newest binding.
    pub platform: Option<&'g PlatformId>,
    /// The active claim in it.
    pub active: Option<&'g Edge<'a>>,
    /// There is a claim in it, active or not.
    pub claimed: bool,
    /// There is an active claim in any binding.
    pub linked: bool,
}

impl<'g, 'a> Standing<'g, 'a> {
    /// Reads it off the claims now.
    pub fn of(graph: &'g Graph<'a>, a: usize, rules: &'g Rules) -> Self {
        let app = &graph.accounts[a].account.app;
        let mut standing = Standing {
            platform: rules.apps.newest_platform(app),
            active: None,
            claimed: false,
            linked: false,
        };
        for edge in graph.claims_of(a).map(|e| &graph.edges[e]) {
            let Some(now) = &edge.now else { continue };
            let newest = Some(&graph.unions[edge.union].key.platform) == standing.platform;
            let active = now.status == ClaimStatus::Active;
            standing.claimed |= newest;
            standing.linked |= active;
            if newest && active {
                standing.active = Some(edge);
            }
        }
        standing
    }

    /// Why the account has no unionid in its newest binding: what a sighting told, until there is
    /// a claim in it, which hides that for good (so that what is stored cannot depend on order).
    pub fn reason(&self, life: &Life<'_>) -> Option<(Millis, Reason)> {
        match (self.claimed, self.active) {
            (false, _) => life.reason,
            (true, None) => Some((life.first_seen_at, Reason::Contested)),
            (true, Some(_)) => None,
        }
    }

    /// The unionid in the newest binding.
    pub fn unionid(&self, graph: &Graph<'_>) -> Option<UnionId> {
        let edge = self.active?;
        Some(graph.unions[edge.union].key.unionid.clone())
    }

    /// How it was learnt.
    pub fn method(&self) -> LinkMethod {
        match self.active.and_then(|edge| edge.now.as_ref()) {
            Some(now) if now.verdict == Some(ClaimVerdict::Accept) => LinkMethod::Operator,
            Some(now) => LinkMethod::By(now.method),
            None if self.linked => LinkMethod::Merge,
            None => LinkMethod::None,
        }
    }
}
