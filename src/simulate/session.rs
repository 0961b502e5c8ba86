//! Which session of each person in each app is the current one: two bytes per person and app, in
//! pages made when first touched. Older session keys are dead (`docs/wechat.md` §3.3).

use super::world::{AppNo, MAX_APPS};
use crate::model::Millis;
use rustc_hash::FxHashMap;

/// People are numbered below this, which bounds the memory for sessions (1.6 GB at the worst).
pub const MAX_PEOPLE: u64 = 100_000_000;
/// People per page: 16 KiB, small enough to waste little on scattered people.
const PAGE: u64 = 1_024;

/// How a session came about, which decides what its exchange shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Manner {
    /// Whether the exchange shows the unionid, if the app is bound at all. `false` is what mini
    /// programs saw before 2021; in an official account it is the scope `snsapi_base`; elsewhere
    /// `sns/userinfo` still shows it (`docs/wechat.md` §6).
    pub unionid: bool,
    /// A snapshot page: virtual ids (`docs/wechat.md` §5).
    pub snapshot: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            unionid: true,
            snapshot: false,
        }
    }
}

/// One `wx.login`: what its code buys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// Who.
    pub person: u64,
    /// Where.
    pub app: AppNo,
    /// The how-manieth session of the person in the app; it fixes the session key.
    pub epoch: u16,
    /// How.
    pub manner: Manner,
    /// When.
    pub at: Millis,
}

/// The current epochs.
#[derive(Default)]
pub(super) struct Sessions {
    pages: FxHashMap<u64, Box<[u16]>>,
}

impl Sessions {
    fn place(person: u64, app: AppNo) -> usize {
        let row = usize::try_from(person % PAGE).unwrap_or(0);
        row * MAX_APPS + usize::from(app.0)
    }

    /// Begins a new session and returns its epoch. Wraps after 65,536 logins.
    pub(super) fn next(&mut self, person: u64, app: AppNo) -> u16 {
        let slots = usize::try_from(PAGE).unwrap_or(0) * MAX_APPS;
        let page = self
            .pages
            .entry(person / PAGE)
            .or_insert_with(|| vec![0; slots].into());
        let Some(epoch) = page.get_mut(Self::place(person, app)) else {
            return 0;
        };
        *epoch = epoch.wrapping_add(1);
        *epoch
    }

    /// The current epoch; 0 before any login.
    pub(super) fn current(&self, person: u64, app: AppNo) -> u16 {
        let page = self.pages.get(&(person / PAGE));
        let epoch = page.and_then(|page| page.get(Self::place(person, app)));
        epoch.copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_person_counts_alone_in_each_app() {
        let mut sessions = Sessions::default();
        assert_eq!(sessions.current(5_000, AppNo(7)), 0);
        assert_eq!(sessions.next(5_000, AppNo(7)), 1);
        assert_eq!(sessions.next(5_000, AppNo(7)), 2);
        assert_eq!(sessions.next(5_001, AppNo(0)), 1);
        assert_eq!(sessions.current(5_000, AppNo(7)), 2);
        assert_eq!(sessions.current(5_000, AppNo(6)), 0);
    }
}
