//! Answers about accounts as they are remembered for operators' work, inside the seal.

use super::caller::Missed;
use super::codes::Action;
use super::wechat::{Follower, Profile};
use crate::model::{Millis, OpenId, UnionId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The first byte of what is kept.
const FORMAT: u8 = 1;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kept {
    /// WeChat told this.
    Told(Told),
    /// WeChat refused, for good as far as this question goes.
    Refused(i64),
    /// Nobody was asked: the question was counted.
    Nothing,
}

/// What was told of a person; which of it, depends on the question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    openid: Option<String>,
    unionid: Option<String>,
    placeholder: bool,
    subscribed: bool,
    subscribed_at: Option<i64>,
}

/// What an answer tells, as it is kept and found again.
pub(super) trait Person: Sized {
    /// As it is kept.
    fn to_kept(&self) -> Told;
    /// As it was told; `None` if that was something else.
    fn from_kept(told: Told) -> Option<Self>;
}

impl Kept {
    /// What is worth remembering: answers, and refusals of this very question.
    pub fn of<T: Person>(told: &Result<T, Missed>) -> Option<Self> {
        match told {
            Ok(person) => Some(Self::Told(person.to_kept())),
            Err(Missed::Fault(fault)) => {
                let final_here = matches!(
                    fault.action(),
                    Action::BadInput
                        | Action::Reauthorise
                        | Action::SessionStale
                        | Action::PaymentGone
                );
                fault.errcode.filter(|_| final_here).map(Self::Refused)
            }
            Err(_) => None,
        }
    }

    /// For the seal.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(vec![FORMAT]);
        bytes.extend(Zeroizing::new(postcard::to_stdvec(self).unwrap_or_default()).iter());
        bytes
    }

    /// From the seal; `None` if another version wrote it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&FORMAT, rest) = bytes.split_first()? else {
            return None;
        };
        postcard::from_bytes(rest).ok()
    }
}

impl Told {
    fn with(mut self, unionid: Option<&Result<UnionId, ()>>) -> Self {
        self.placeholder = matches!(unionid, Some(Err(())));
        let unionid = unionid.and_then(|u| u.as_ref().ok());
        self.unionid = unionid.map(|u| u.as_str().to_owned());
        self
    }

    fn of(openid: &OpenId) -> Self {
        Self {
            openid: Some(openid.as_str().to_owned()),
            ..Self::default()
        }
    }

    fn openid(&self) -> Option<OpenId> {
        OpenId::parse(self.openid.as_deref()?).ok()
    }

    fn unionid(&self) -> Option<Result<UnionId, ()>> {
        if self.placeholder {
            return Some(Err(()));
        }
        let unionid = self.unionid.as_deref()?;
        Some(UnionId::parse(unionid).map_err(|_| ()))
    }
}

impl Person for Profile {
    fn to_kept(&self) -> Told {
        Told::of(&self.openid).with(self.unionid.as_ref())
    }

    fn from_kept(told: Told) -> Option<Self> {
        Some(Self {
            openid: told.openid()?,
            unionid: told.unionid(),
        })
    }
}

impl Person for Follower {
    fn to_kept(&self) -> Told {
        Told {
            subscribed: self.subscribed,
            subscribed_at: self.subscribed_at.map(|at| at.0),
            ..Told::of(&self.openid).with(self.unionid.as_ref())
        }
    }

    fn from_kept(told: Told) -> Option<Self> {
        Some(Self {
            openid: told.openid()?,
            unionid: told.unionid(),
            subscribed: told.subscribed,
            subscribed_at: told.subscribed_at.map(Millis),
        })
    }
}

/// The unionid of a payment.
impl Person for Option<Result<UnionId, ()>> {
    fn to_kept(&self) -> Told {
        Told::default().with(self.as_ref())
    }

    fn from_kept(told: Told) -> Option<Self> {
        Some(told.unionid())
    }
}

/// That a session key is the newest.
impl Person for () {
    fn to_kept(&self) -> Told {
        Told::default()
    }

    fn from_kept(_: Told) -> Option<Self> {
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again<T: Person>(person: &T) -> T {
        let kept = Kept::of(&Ok::<_, Missed>(
            T::from_kept(person.to_kept()).expect("its own"),
        ));
        let read = Kept::from_bytes(&kept.expect("kept").to_bytes());
        match read {
            Some(Kept::Told(told)) => T::from_kept(told).expect("its own"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_was_told_is_found_again() {
        let openid = OpenId::parse("oA").expect("valid");
        let unionid = UnionId::parse("uA").expect("valid");
        for unionid in [None, Some(Err(())), Some(Ok(unionid))] {
            assert_eq!(again(&unionid), unionid);
            let profile = Profile {
                openid: openid.clone(),
                unionid: unionid.clone(),
            };
            let found = again(&profile);
            assert_eq!(
                (found.openid, found.unionid),
                (openid.clone(), unionid.clone())
            );
            for subscribed_at in [None, Some(Millis(1_500_000_000_000))] {
                let follower = Follower {
                    openid: openid.clone(),
                    subscribed: subscribed_at.is_some(),
                    subscribed_at,
                    unionid: unionid.clone(),
                };
                let found = again(&follower);
                assert_eq!(found.unionid, unionid);
                assert_eq!(found.subscribed_at, subscribed_at);
                assert_eq!(found.subscribed, subscribed_at.is_some());
            }
        }
    }

    #[test]
    fn what_another_version_wrote_is_nothing() {
        let mut bytes = Kept::Nothing.to_bytes().to_vec();
        assert_eq!(Kept::from_bytes(&bytes), Some(Kept::Nothing));
        bytes[0] += 1;
        assert_eq!(Kept::from_bytes(&bytes), None);
        assert_eq!(Kept::from_bytes(&[]), None);
    }
}
