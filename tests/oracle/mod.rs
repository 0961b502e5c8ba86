//! The truth about identity, worked out from the whole history at once and without any code of
//! `unilink::link`: own grouping, own order of claims, own UUIDv5. Slow to change on purpose: it is
//! what `plan` is held against, in property tests and end to end.
//!
//! Feed it every fact, in any order and as often as you like, then ask for the [`Truth`]. One thing
//! it does not know: what an erasure takes along when it arrives after later events of a life that
//! began before it (see `unilink::link`); feed histories where erasures come first.

#![allow(dead_code, clippy::unwrap_used)] // a helper of tests; each uses a part of it

use sha1::{Digest, Sha1};
use std::collections::{BTreeMap, BTreeSet};
use unilink::model::{Account, ClaimVerdict, Fact, Method, Millis, Ruling, UnionKey, UserId, Why};
use uuid::Uuid;

/// Collects facts.
pub struct Oracle {
    namespace: Uuid,
    facts: Vec<Fact>,
}

/// What holds once all facts are in.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Truth {
    /// The user of every living account.
    pub users: BTreeMap<Account, UserId>,
    /// The generation and first time of every living account.
    pub lives: BTreeMap<Account, (Millis, Millis)>,
    /// The claims that link.
    pub active: BTreeSet<(Account, UnionKey)>,
    /// The claims that do not, and why.
    pub contested: BTreeMap<(Account, UnionKey), Why>,
}

#[derive(Clone)]
struct Claim {
    account: Account,
    union: UnionKey,
    at: i64,
    rank: u8,
    verdict: Option<ClaimVerdict>,
}

impl Oracle {
    pub fn new(namespace: Uuid) -> Self {
        Self {
            namespace,
            facts: Vec::new(),
        }
    }

    pub fn feed(&mut self, fact: &Fact) {
        self.facts.push(fact.clone());
    }

    /// Works everything out.
    pub fn truth(&self) -> Truth {
        let erased = self.erasures();
        let lives = self.lives(&erased);
        let claims = self.claims(&erased);
        let never = self.never(&erased);
        let mut truth = Truth::default();
        let groups = group(claims, &never, &mut truth);
        let mut members: BTreeMap<usize, Vec<&Account>> = BTreeMap::new();
        let alone = groups.len();
        for (i, account) in lives.keys().enumerate() {
            let group = groups.get(account).copied().unwrap_or(alone + i);
            members.entry(group).or_default().push(account);
        }
        for group in members.values() {
            let eldest = group.iter().min_by_key(|a| (lives[**a].1, **a)).unwrap();
            let user = own_id(self.namespace, eldest, lives[*eldest].0);
            let users = group.iter().map(|a| ((*a).clone(), user));
            truth.users.extend(users);
        }
        truth.lives = lives;
        truth
    }

    fn erasures(&self) -> BTreeMap<Account, Millis> {
        let mut latest: BTreeMap<Account, Millis> = BTreeMap::new();
        for fact in &self.facts {
            if let Fact::Erasure(e) = fact {
                let at = latest.entry(e.account.clone()).or_insert(e.erased_at);
                *at = e.erased_at.max(*at);
            }
        }
        latest
    }

    fn lives(&self, erased: &BTreeMap<Account, Millis>) -> BTreeMap<Account, (Millis, Millis)> {
        let mut lives = BTreeMap::new();
        for fact in &self.facts {
            let Fact::Sighting(s) = fact else { continue };
            if counts(erased, &s.account, s.at) {
                let born = erased.get(&s.account).copied().unwrap_or(Millis(0));
                let life = lives.entry(s.account.clone()).or_insert((born, s.at));
                life.1 = life.1.min(s.at);
            }
        }
        lives
    }

    fn claims(&self, erased: &BTreeMap<Account, Millis>) -> Vec<Claim> {
        let verdicts = self.verdicts(erased);
        let mut claims: BTreeMap<(Account, UnionKey), Claim> = BTreeMap::new();
        for fact in &self.facts {
            let Fact::Sighting(s) = fact else { continue };
            for c in s.claims.iter().filter(|_| counts(erased, &s.account, s.at)) {
                let key = (s.account.clone(), c.union.clone());
                let claim = claims.entry(key.clone()).or_insert_with(|| Claim {
                    account: s.account.clone(),
                    union: c.union.clone(),
                    at: c.at.0,
                    rank: rank(c.method),
                    verdict: verdicts.get(&key).copied().flatten(),
                });
                claim.at = claim.at.min(c.at.0);
                claim.rank = claim.rank.min(rank(c.method));
            }
        }
        claims.into_values().collect()
    }

    /// The last ruling on each claim.
    fn verdicts(
        &self,
        erased: &BTreeMap<Account, Millis>,
    ) -> BTreeMap<(Account, UnionKey), Option<ClaimVerdict>> {
        let mut last = BTreeMap::new();
        for fact in &self.facts {
            let Fact::Decision(d) = fact else { continue };
            if let Ruling::Claim {
                account,
                union,
                verdict,
            } = &d.ruling
                && counts(erased, account, d.at)
            {
                let order = (d.at, d.author.clone(), *verdict, d.note.clone());
                let slot = last
                    .entry((account.clone(), union.clone()))
                    .or_insert(order.clone());
                *slot = order.max(slot.clone());
            }
        }
        last.into_iter()
            .map(|(key, order)| (key, order.2))
            .collect()
    }

    /// The pairs that must never be one user.
    fn never(&self, erased: &BTreeMap<Account, Millis>) -> BTreeSet<(Account, Account)> {
        let mut last = BTreeMap::new();
        for fact in &self.facts {
            let Fact::Decision(d) = fact else { continue };
            if let Ruling::Pair { a, b, never } = &d.ruling
                && counts(erased, a, d.at)
                && counts(erased, b, d.at)
            {
                let order = (d.at, d.author.clone(), *never, d.note.clone());
                let slot = last.entry((a.clone(), b.clone())).or_insert(order.clone());
                *slot = order.max(slot.clone());
            }
        }
        let standing = last.into_iter().filter(|(_, order)| order.2);
        standing.map(|(pair, _)| pair).collect()
    }
}

fn counts(erased: &BTreeMap<Account, Millis>, account: &Account, at: Millis) -> bool {
    erased.get(account).is_none_or(|e| at > *e)
}

/// Settles every claim, and says which accounts belong together, by the number of their group.
fn group(
    mut claims: Vec<Claim>,
    never: &BTreeSet<(Account, Account)>,
    truth: &mut Truth,
) -> BTreeMap<Account, usize> {
    let (many, shared) = hubs(&claims);
    claims.sort_by_key(|c| {
        let accepted = c.verdict == Some(ClaimVerdict::Accept);
        (!accepted, c.rank, c.at, c.account.clone(), c.union.clone())
    });
    let mut groups: Vec<Vec<Account>> = Vec::new();
    let mut group_of: BTreeMap<Account, usize> = BTreeMap::new();
    let mut holders: BTreeMap<UnionKey, Account> = BTreeMap::new();
    let mut taken: BTreeSet<(Account, unilink::model::PlatformId)> = BTreeSet::new();
    for c in claims {
        let mine = *group_of.entry(c.account.clone()).or_insert_with(|| {
            groups.push(vec![c.account.clone()]);
            groups.len() - 1
        });
        let seat = (c.account.clone(), c.union.platform.clone());
        let theirs = holders.get(&c.union).map(|holder| group_of[holder]);
        let why = match c.verdict {
            Some(ClaimVerdict::Reject) => Some(Why::Rejected),
            None if many.contains(&seat) => Some(Why::ManyUnionids),
            None if shared.contains(&c.union) => Some(Why::SharedUnionid),
            _ if taken.contains(&seat) => Some(Why::OtherUnionid),
            _ => theirs
                .filter(|t| *t != mine)
                .and_then(|t| clash(&groups[mine], &groups[t], never)),
        };
        let key = (c.account.clone(), c.union.clone());
        if let Some(why) = why {
            truth.contested.insert(key, why);
            continue;
        }
        truth.active.insert(key);
        taken.insert(seat);
        holders.entry(c.union).or_insert(c.account);
        if let Some(theirs) = theirs.filter(|t| *t != mine) {
            for account in std::mem::take(&mut groups[mine]) {
                group_of.insert(account.clone(), theirs);
                groups[theirs].push(account);
            }
        }
    }
    group_of
}

fn clash(
    mine: &[Account],
    theirs: &[Account],
    never: &BTreeSet<(Account, Account)>,
) -> Option<Why> {
    let apps: BTreeSet<_> = mine.iter().map(|a| &a.app).collect();
    if theirs.iter().any(|a| apps.contains(&a.app)) {
        return Some(Why::SameApp);
    }
    let forbidden = |a: &Account, b: &Account| {
        let pair = if a < b { (a, b) } else { (b, a) };
        never.contains(&(pair.0.clone(), pair.1.clone()))
    };
    if !never.is_empty() && mine.iter().any(|a| theirs.iter().any(|b| forbidden(a, b))) {
        return Some(Why::NeverMerge);
    }
    (mine.len() + theirs.len() > 64).then_some(Why::TooLarge)
}

type Seats = BTreeSet<(Account, unilink::model::PlatformId)>;

/// Accounts with three unionids in a platform, and unionids with three openids of an app.
fn hubs(claims: &[Claim]) -> (Seats, BTreeSet<UnionKey>) {
    let mut unionids: BTreeMap<_, usize> = BTreeMap::new();
    let mut openids: BTreeMap<_, usize> = BTreeMap::new();
    for c in claims {
        if c.verdict != Some(ClaimVerdict::Reject) {
            let seat = (c.account.clone(), c.union.platform.clone());
            *unionids.entry(seat).or_default() += 1;
            let crowd = (c.union.clone(), c.account.app.clone());
            *openids.entry(crowd).or_default() += 1;
        }
    }
    let many = unionids.into_iter().filter(|(_, n)| *n >= 3);
    let shared = openids.into_iter().filter(|(_, n)| *n >= 3);
    (
        many.map(|(seat, _)| seat).collect(),
        shared.map(|((union, _), _)| union).collect(),
    )
}

fn rank(method: Method) -> u8 {
    match method.word() {
        "operator" => 0,
        "code2session" | "oauth" | "sns_userinfo" | "user_info" | "paid" => 1,
        "decrypted" => 2,
        "decrypted_event_key" => 3,
        "provided" => 4,
        "imported" => 5,
        other => unreachable!("method {other}"),
    }
}

/// UUIDv5 by RFC 9562 §5.5, of `appid:openid:generation`.
pub fn own_id(namespace: Uuid, account: &Account, generation: Millis) -> UserId {
    let mut hash = Sha1::new();
    hash.update(namespace.as_bytes());
    let (app, openid) = (account.app.as_str(), account.openid.as_str());
    hash.update(format!("{app}:{openid}:{}", generation.0).as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    UserId(Uuid::from_bytes(bytes))
}
