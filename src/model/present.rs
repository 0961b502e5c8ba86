//! What others are shown of an account, as a function of its state alone: the platform and unionid
//! of its newest binding, how that unionid was learnt, and why there is none.

use super::{
    AccountRow, Apps, ClaimRow, ClaimStatus, ClaimVerdict, LinkMethod, Method, PlatformId, Reason,
    UnionId,
};

/// See [`present`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Platform of the newest binding, if the app has one.
    pub platform: Option<PlatformId>,
    /// The active unionid in it.
    pub unionid: Option<UnionId>,
    /// How that unionid was learnt.
    pub method: LinkMethod,
    /// Why the account is unresolved; `None` unless `method` is [`LinkMethod::None`].
    pub reason: Option<Reason>,
}

/// Computes what `account.linked` and the look-ups show, from the account's row and all its claims.
#[must_use]
pub fn present(row: &AccountRow, claims: &[ClaimRow], apps: &Apps) -> Presented {
    let platform = apps.newest_platform(&row.account.app);
    let mut active = claims.iter().filter(|c| c.status == ClaimStatus::Active);
    let newest = active
        .clone()
        .find(|c| Some(&c.key.union.platform) == platform);
    let method = match newest {
        Some(claim) if claim.verdict == Some(ClaimVerdict::Accept) => LinkMethod::Operator,
        Some(claim) => LinkMethod::By(claim.method),
        None if active.next().is_some() => LinkMethod::Merge,
        None => LinkMethod::None,
    };
    let unresolved = method == LinkMethod::None;
    Presented {
        platform: platform.cloned(),
        unionid: newest.map(|c| c.key.union.unionid.clone()),
        method,
        reason: unresolved.then(|| why_unresolved(row, claims)),
    }
}

/// Claims that exist and do not link outweigh whatever the last event said of itself.
fn why_unresolved(row: &AccountRow, claims: &[ClaimRow]) -> Reason {
    match &row.reason {
        _ if !claims.is_empty() => Reason::Contested,
        Some((_, reason)) => *reason,
        None => Reason::NoUnionid,
    }
}

impl Method {
    /// The word that others see. Which session key decrypted is the operator's affair: it only
    /// weighs in contests.
    #[must_use]
    pub fn shown(self) -> &'static str {
        match self {
            Self::DecryptedEventKey => Self::Decrypted.word(),
            other => other.word(),
        }
    }
}

impl LinkMethod {
    /// The word that others see.
    #[must_use]
    pub fn shown(self) -> &'static str {
        match self {
            Self::By(method) => method.shown(),
            Self::Operator => Method::Operator.word(),
            Self::Merge => "merge",
            Self::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Account, App, AppKind, Binding, ClaimKey, EventId, Method, Millis, UnionKey, UserId, Why,
    };

    fn platform(text: &str) -> PlatformId {
        PlatformId::parse(text).expect("valid")
    }

    fn apps() -> Apps {
        let binding = |p, since| Binding {
            platform: platform(p),
            since: Millis(since),
        };
        Apps::new(vec![App {
            id: crate::model::AppId::parse("wx1").expect("valid"),
            kind: AppKind::MiniProgram,
            secret: None,
            token: crate::model::TokenSource::default(),
            component: None,
            bindings: vec![binding("old", 0), binding("new", 100)],
        }])
    }

    fn row(reason: Option<Reason>) -> AccountRow {
        AccountRow {
            account: Account::from_key("wx1:o1").expect("valid"),
            generation: Millis(0),
            first_seen_at: Millis(1),
            user: UserId(uuid::Uuid::nil()),
            revision: 1,
            external: None,
            reason: reason.map(|r| (Millis(1), r)),
            cause: EventId::parse("e1").expect("valid"),
            linked_at: Millis(1),
        }
    }

    fn claim(in_platform: &str, unionid: &str, status: ClaimStatus) -> ClaimRow {
        ClaimRow {
            key: ClaimKey {
                account: Account::from_key("wx1:o1").expect("valid"),
                union: UnionKey {
                    platform: platform(in_platform),
                    unionid: UnionId::parse(unionid).expect("valid"),
                },
            },
            at: Millis(1),
            method: Method::Decrypted,
            cause: EventId::parse("e1").expect("valid"),
            status,
            verdict: None,
            reported: false,
        }
    }

    #[test]
    fn the_active_claim_of_the_newest_binding_is_shown() {
        let contested = ClaimStatus::Contested(Why::OtherUnionid);
        let claims = [
            claim("new", "u0", contested),
            claim("new", "u1", ClaimStatus::Active),
            claim("old", "u2", ClaimStatus::Active),
        ];
        let shown = present(&row(Some(Reason::NoUnionid)), &claims, &apps());
        assert_eq!(shown.platform, Some(platform("new")));
        assert_eq!(shown.unionid.expect("one").as_str(), "u1");
        assert_eq!(shown.method, LinkMethod::By(Method::Decrypted));
        assert_eq!(shown.reason, None);
    }

    #[test]
    fn an_accepted_claim_is_the_operators() {
        let mut claim = claim("new", "u1", ClaimStatus::Active);
        claim.verdict = Some(ClaimVerdict::Accept);
        let shown = present(&row(None), &[claim], &apps());
        assert_eq!(shown.method, LinkMethod::Operator);
    }

    #[test]
    fn a_claim_of_an_older_binding_only_merges() {
        let shown = present(
            &row(None),
            &[claim("old", "u2", ClaimStatus::Active)],
            &apps(),
        );
        assert_eq!((shown.unionid, shown.method), (None, LinkMethod::Merge));
        assert_eq!(shown.reason, None);
    }

    #[test]
    fn the_unresolved_have_a_reason() {
        let of = |reason, claims: &[ClaimRow]| present(&row(reason), claims, &apps()).reason;
        assert_eq!(of(None, &[]), Some(Reason::NoUnionid));
        assert_eq!(of(Some(Reason::Deferred), &[]), Some(Reason::Deferred));
        let contested = claim("new", "u1", ClaimStatus::Contested(Why::SameApp));
        assert_eq!(
            of(Some(Reason::Deferred), &[contested]),
            Some(Reason::Contested)
        );
    }
}
