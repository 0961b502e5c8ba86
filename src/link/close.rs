//! Walks from what the facts changed to everything that the change can reach, and says what has to
//! be read for that.
//!
//! The walk passes each claim that could be active before the batch or after it, contested ones
//! too. It does not pass a claim that is barred at both moments (rejected, or at a hub and not
//! accepted): nothing on its far side can change. What bars a claim is decided here alone.

use super::graph::{Graph, Moment, Place};
use crate::model::{Account, AppId, ClaimVerdict, EventId, Keys, UnionKey, Why};

/// A unionid claimed by this many openids of one app is no person: a placeholder, a bug or a
/// virtual identity (`docs/wechat.md` §5). Two can be one person's change of openid.
const SHARED_OPENIDS: usize = 3;
/// An account with this many unionids in one platform is no person either.
const MANY_UNIONIDS: usize = 3;

/// Puts every node that the seeds reach into a component and returns, for each component, the
/// smallest event that caused it.
///
/// # Errors
/// The keys that have to be read first.
pub(super) fn close<'a>(graph: &mut Graph<'a>) -> Result<Vec<&'a EventId>, Keys> {
    let mut causes: Vec<&'a EventId> = Vec::new();
    let mut walk = Walk::default();
    for (place, cause) in std::mem::take(&mut graph.seeds) {
        if let Some(component) = component_of(graph, place) {
            causes[component] = causes[component].min(cause);
            continue;
        }
        walk.enter(graph, place, causes.len());
        causes.push(cause);
        walk.exhaust(graph);
    }
    if walk.accounts.is_empty() && walk.unionids.is_empty() {
        return Ok(causes);
    }
    Err(Keys {
        accounts: walk.accounts.into_iter().collect(),
        unionids: walk.unionids.into_iter().collect(),
    })
}

fn component_of(graph: &Graph<'_>, place: Place) -> Option<usize> {
    match place {
        Place::Account(a) => graph.accounts[a].component,
        Place::Union(u) => graph.unions[u].component,
    }
}

#[derive(Default)]
struct Walk {
    stack: Vec<(Place, usize)>,
    accounts: Vec<Account>,
    unionids: Vec<UnionKey>,
}

impl Walk {
    fn enter(&mut self, graph: &mut Graph<'_>, place: Place, component: usize) {
        let slot = match place {
            Place::Account(a) => &mut graph.accounts[a].component,
            Place::Union(u) => &mut graph.unions[u].component,
        };
        if slot.is_none() {
            *slot = Some(component);
            self.stack.push((place, component));
        }
    }

    /// Ends, because each node is entered once and the graph grows only by what the view holds.
    fn exhaust(&mut self, graph: &mut Graph<'_>) {
        while let Some((place, component)) = self.stack.pop() {
            if !self.load(graph, place) {
                continue;
            }
            let mut next = graph.first_of(place);
            while let Some(edge) = next {
                let claim = &graph.edges[edge];
                let (far, bar) = match place {
                    Place::Account(_) => (Place::Union(claim.union), Bar::Account),
                    Place::Union(_) => (Place::Account(claim.account), Bar::Union),
                };
                next = match place {
                    Place::Account(_) => claim.next_of_account,
                    Place::Union(_) => claim.next_of_union,
                };
                if graph.passes(edge, bar)
                    && self.load(graph, far)
                    && graph.passes(edge, Bar::Either)
                {
                    self.enter(graph, far, component);
                }
            }
        }
    }

    fn load(&mut self, graph: &mut Graph<'_>, place: Place) -> bool {
        match place {
            Place::Account(a) => {
                let read = graph.load_account(a);
                if !read {
                    self.accounts.push(graph.accounts[a].account.clone());
                }
                read
            }
            Place::Union(u) => {
                let read = graph.load_union(u);
                if !read {
                    self.unionids.push(graph.unions[u].key.clone());
                }
                read
            }
        }
    }
}

/// Which hubs to look at: those at an end that is not loaded are not known yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bar {
    Account,
    Union,
    Either,
}

impl Graph<'_> {
    /// The verdict on a claim at the moment; `None` if there is no claim.
    fn verdict(&self, edge: usize, moment: Moment) -> Option<Option<ClaimVerdict>> {
        let edge = &self.edges[edge];
        match moment {
            Moment::Before => edge.stored.map(|row| row.verdict),
            Moment::Now => edge.now.as_ref().map(|claim| claim.verdict),
        }
    }

    fn counts(&self, edge: usize, moment: Moment) -> bool {
        self.verdict(edge, moment)
            .is_some_and(|verdict| verdict != Some(ClaimVerdict::Reject))
    }

    /// Whether the claim's account has too many unionids in the claim's platform.
    fn is_many(&self, edge: usize, moment: Moment) -> bool {
        let platform = &self.unions[self.edges[edge].union].key.platform;
        self.claims_of(self.edges[edge].account)
            .filter(|e| self.unions[self.edges[*e].union].key.platform == *platform)
            .filter(|e| self.counts(*e, moment))
            .nth(MANY_UNIONIDS - 1)
            .is_some()
    }

    /// Whether too many openids of one app claim the unionid, by the edges that the graph has.
    pub fn is_shared(&self, union: usize, moment: Moment) -> bool {
        let counted = || self.claims_on(union).filter(|e| self.counts(*e, moment));
        if counted().nth(SHARED_OPENIDS - 1).is_none() {
            return false;
        }
        let mut openids: Vec<(&AppId, usize)> = Vec::new();
        for edge in counted() {
            let app = &self.accounts[self.edges[edge].account].account.app;
            match openids.iter_mut().find(|(a, _)| *a == app) {
                Some((_, n)) if *n + 1 >= SHARED_OPENIDS => return true,
                Some((_, n)) => *n += 1,
                None => openids.push((app, 1)),
            }
        }
        false
    }

    /// Whether the claim could be active before the batch or now, for all that `bar` looks at.
    fn passes(&self, edge: usize, bar: Bar) -> bool {
        let (account, union) = (bar != Bar::Union, bar != Bar::Account);
        [Moment::Before, Moment::Now]
            .into_iter()
            .any(|moment| match self.verdict(edge, moment) {
                None | Some(Some(ClaimVerdict::Reject)) => false,
                Some(Some(ClaimVerdict::Accept)) => true,
                Some(None) => {
                    let shared = || self.unions[self.edges[edge].union].shared[moment as usize];
                    !(account && self.is_many(edge, moment) || union && shared())
                }
            })
    }

    /// Why the claim cannot be active now, whatever else is. The claim's account must be loaded,
    /// and its unionid too unless the account alone bars it.
    pub fn barred(&self, edge: usize) -> Option<Why> {
        match self.verdict(edge, Moment::Now) {
            Some(Some(ClaimVerdict::Reject)) => Some(Why::Rejected),
            Some(Some(ClaimVerdict::Accept)) | None => None,
            Some(None) if self.is_many(edge, Moment::Now) => Some(Why::ManyUnionids),
            Some(None) => self.unions[self.edges[edge].union].shared[Moment::Now as usize]
                .then_some(Why::SharedUnionid),
        }
    }
}
