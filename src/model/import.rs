//! What an imported table says of an account.

use super::{
    Account, Apps, EventId, ExternalId, Method, Millis, NewClaim, Reason, Sighting, UnionKey,
};

/// An account as a table has it: seen at a time, with unionids that somebody else has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The event that carries it.
    pub cause: EventId,
    /// Who.
    pub account: Account,
    /// When the person was first seen there; it names the user, so it may be years ago.
    pub first_seen_at: Millis,
    /// The unionids, each in its platform.
    pub unions: Vec<UnionKey>,
    /// The company's own id for the person.
    pub external_id: Option<ExternalId>,
}

impl Import {
    /// The first unionid whose platform is none of the app's.
    #[must_use]
    pub fn stray(&self, apps: &Apps) -> Option<&UnionKey> {
        let bindings = apps.get(&self.account.app).map(|app| &app.bindings);
        let bound = |union: &UnionKey| {
            bindings.is_some_and(|all| all.iter().any(|b| b.platform == union.platform))
        };
        self.unions.iter().find(|union| !bound(union))
    }

    /// The fact that it is. WeChat is asked nothing about it.
    #[must_use]
    pub fn sighting(self, apps: &Apps) -> Sighting {
        let claims = self.unions.iter().map(|union| NewClaim {
            union: union.clone(),
            at: self.claimed_at(union, apps),
            method: Method::Imported,
        });
        let claims: Vec<NewClaim> = claims.collect();
        let bound = apps.newest_platform(&self.account.app).is_some();
        let reason = match (claims.is_empty(), bound) {
            (false, _) => None,
            (true, true) => Some(Reason::NoUnionid),
            (true, false) => Some(Reason::AppNotBound),
        };
        Sighting {
            account: self.account,
            at: self.first_seen_at,
            cause: self.cause,
            external_id: self.external_id,
            reason,
            claims,
            session_key: None,
        }
    }

    /// A unionid means nothing before the app was bound to its platform: the claim is as old as the
    /// account, or as that binding.
    fn claimed_at(&self, union: &UnionKey, apps: &Apps) -> Millis {
        let (app, seen) = (&self.account.app, self.first_seen_at);
        if apps.platform_at(app, seen) == Some(&union.platform) {
            return seen;
        }
        let bindings = apps.get(app).into_iter().flat_map(|app| &app.bindings);
        let later = bindings.filter(|b| b.platform == union.platform && b.since > seen);
        later.map(|b| b.since).min().unwrap_or(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{App, AppKind, Binding, PlatformId, TokenSource, UnionId};

    fn union(platform: &str, unionid: &str) -> UnionKey {
        UnionKey {
            platform: PlatformId::parse(platform).expect("valid"),
            unionid: UnionId::parse(unionid).expect("valid"),
        }
    }

    fn apps(bindings: &[(&str, i64)]) -> Apps {
        let binding = |(platform, since): &(&str, i64)| Binding {
            platform: PlatformId::parse(platform).expect("valid"),
            since: Millis(*since),
        };
        Apps::new(vec![App {
            id: crate::model::AppId::parse("wx1").expect("valid"),
            kind: AppKind::MiniProgram,
            secret: None,
            token: TokenSource::default(),
            component: None,
            bindings: bindings.iter().map(binding).collect(),
        }])
    }

    fn import(seen: i64, unions: Vec<UnionKey>) -> Import {
        Import {
            cause: EventId::parse("i").expect("valid"),
            account: Account::from_key("wx1:oA").expect("valid"),
            first_seen_at: Millis(seen),
            unions,
            external_id: None,
        }
    }

    #[test]
    fn a_claim_lies_within_a_binding_of_its_platform() {
        let apps = apps(&[("old", 100), ("new", 200), ("old", 300)]);
        let both = vec![union("old", "uO"), union("new", "uN")];
        for (seen, want) in [
            (50, [100, 200]),
            (150, [150, 200]),
            (250, [300, 250]),
            (350, [350, 350]),
        ] {
            let sighting = import(seen, both.clone()).sighting(&apps);
            let times: Vec<i64> = sighting.claims.iter().map(|c| c.at.0).collect();
            assert_eq!(times, want, "seen at {seen}");
            assert_eq!((sighting.at, sighting.reason), (Millis(seen), None));
        }
    }

    #[test]
    fn an_account_without_a_unionid_says_why() {
        let reason = |apps: &Apps| import(1, vec![]).sighting(apps).reason;
        assert_eq!(reason(&apps(&[("main", 0)])), Some(Reason::NoUnionid));
        assert_eq!(reason(&apps(&[])), Some(Reason::AppNotBound));
    }

    #[test]
    fn a_platform_that_is_none_of_the_apps_is_told() {
        let apps = apps(&[("main", 0)]);
        assert_eq!(import(1, vec![union("main", "uA")]).stray(&apps), None);
        let two = import(1, vec![union("main", "uA"), union("games", "uB")]);
        assert_eq!(two.stray(&apps), Some(&union("games", "uB")));
    }
}
