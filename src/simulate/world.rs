//! The simulated company: its platforms, its apps, and everybody's ids in them.
//! Ids look as WeChat's do (`docs/wechat.md` §10) and are computed, never stored.

use super::crypto::{Contents, Encrypted, Keyed, user_info};
use super::dice::{mix, unit};
use super::ids::{Cloak, id, prefix};
use super::session::MAX_PEOPLE;
use crate::model::{
    Account, AppId, AppKind, InvalidId, Millis, OpenId, PlatformId, UnionId, UnionKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Most apps in a world: a page of sessions has that many slots per person.
pub const MAX_APPS: usize = 8;
/// Share of people whom WeChat answers with 40226 in the default world.
const BLOCKED: f64 = 0.002;
/// Share of people who follow each official account of the default world.
const FOLLOWERS: f64 = 0.5;
/// So many people share one virtual unionid on snapshot pages (`docs/wechat.md` §5).
const SNAPSHOT_GROUP: u64 = 2;

/// Why a world cannot be.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// A platform's name is no identifier.
    #[error("a platform's name {0}")]
    Id(#[from] InvalidId),
    /// More than [`MAX_APPS`] apps.
    #[error("more than {MAX_APPS} apps")]
    TooManyApps,
    /// An app names a platform that is not there.
    #[error("an app is bound to a platform that is not there")]
    NoSuchPlatform,
}

/// An app of a world, by its place in [`World::sim_apps`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AppNo(pub(super) u8);

/// What an app should be like.
#[derive(Clone, Copy, Debug)]
pub struct AppSpec {
    /// Its kind.
    pub kind: AppKind,
    /// Place of its platform in the list of platforms; `None` for an app that is not bound.
    pub platform: Option<usize>,
    /// From then on WeChat gives unionids for it.
    pub bound_since: Millis,
}

/// One simulated app.
#[derive(Clone)]
pub struct SimApp {
    /// Its id.
    pub id: AppId,
    /// Its kind.
    pub kind: AppKind,
    /// The AppSecret.
    pub secret: String,
    /// Its platform's place, if it is bound.
    pub platform: Option<usize>,
    /// From then on WeChat gives unionids for it.
    pub bound_since: Millis,
    prefix: u32,
}

pub(super) struct Platform {
    pub(super) id: PlatformId,
    prefix: u32,
}

/// The simulated company.
pub struct World {
    seed: u64,
    pub(super) platforms: Vec<Platform>,
    apps: Vec<SimApp>,
    /// Share of people who are blocked (40226), from 0 to 1.
    pub blocked_share: f64,
    /// Share of people who follow an official account, from 0 to 1.
    pub follower_share: f64,
    openids: Cloak,
    unionids: Keyed,
    keys: Keyed,
}

impl World {
    /// The default company: two mini programs, an official account, a website and a mobile app on
    /// one platform, a mini program on no platform, and a mini program on a second platform.
    ///
    /// # Errors
    /// None in practice; [`World::build`] says which there are.
    pub fn new(seed: u64) -> Result<Self, WorldError> {
        let app = |kind, platform| AppSpec {
            kind,
            platform,
            bound_since: Millis(0),
        };
        let apps = [
            app(AppKind::MiniProgram, Some(0)),
            app(AppKind::MiniProgram, Some(0)),
            app(AppKind::OfficialAccount, Some(0)),
            app(AppKind::Website, Some(0)),
            app(AppKind::MobileApp, Some(0)),
            app(AppKind::MiniProgram, None),
            app(AppKind::MiniProgram, Some(1)),
        ];
        Self::build(seed, &["main", "second"], &apps)
    }

    /// A company of your own making.
    ///
    /// # Errors
    /// [`WorldError`]: a bad platform name or place, or too many apps.
    pub fn build(seed: u64, platforms: &[&str], apps: &[AppSpec]) -> Result<Self, WorldError> {
        if apps.len() > MAX_APPS {
            return Err(WorldError::TooManyApps);
        }
        let names = Keyed::new(seed, "names");
        let platforms = platforms
            .iter()
            .map(|name| {
                let id = PlatformId::parse(name)?;
                let prefix = prefix(&names.tag(0, name.as_bytes()));
                Ok(Platform { id, prefix })
            })
            .collect::<Result<Vec<_>, InvalidId>>()?;
        let apps = (0u64..).zip(apps).map(|(i, spec)| {
            if spec.platform.is_some_and(|p| p >= platforms.len()) {
                return Err(WorldError::NoSuchPlatform);
            }
            let name = names.tag(i, b"app");
            Ok(SimApp {
                id: AppId::parse(&format!("wx{}", hex::encode(&name[..8])))?,
                kind: spec.kind,
                secret: hex::encode(&name[8..24]),
                platform: spec.platform,
                bound_since: spec.bound_since,
                prefix: prefix(&name[24..]),
            })
        });
        Ok(Self {
            seed,
            apps: apps.collect::<Result<_, _>>()?,
            platforms,
            blocked_share: BLOCKED,
            follower_share: FOLLOWERS,
            openids: Cloak::new(seed),
            unionids: Keyed::new(seed, "unionid"),
            keys: Keyed::new(seed, "session_key"),
        })
    }

    /// The seed it was made of.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The apps; [`AppNo`]s are places in this slice.
    #[must_use]
    pub fn sim_apps(&self) -> &[SimApp] {
        &self.apps
    }

    /// All app numbers.
    pub fn numbers(&self) -> impl Iterator<Item = AppNo> + use<> {
        (0u8..).take(self.apps.len()).map(AppNo)
    }

    /// The app of a number that this world gave out (another world's number may hit another app).
    #[must_use]
    pub fn app(&self, app: AppNo) -> Option<&SimApp> {
        self.apps.get(usize::from(app.0))
    }

    /// The number of an appid.
    #[must_use]
    pub fn number(&self, appid: &str) -> Option<AppNo> {
        let mut numbers = self.numbers().zip(&self.apps);
        Some(numbers.find(|(_, app)| app.id.as_str() == appid)?.0)
    }

    /// Whether WeChat blocks the person (40226).
    #[must_use]
    pub fn blocked(&self, person: u64) -> bool {
        unit(mix(&[self.seed, person, 0xb10c])) < self.blocked_share
    }

    /// Whether the person follows the official account to begin with; `false` for other apps.
    #[must_use]
    pub fn follows(&self, person: u64, app: AppNo) -> bool {
        let official = |a: &SimApp| a.kind == AppKind::OfficialAccount;
        let draw = mix(&[self.seed, person, u64::from(app.0), 0xf0110]);
        self.app(app).is_some_and(official) && unit(draw) < self.follower_share
    }

    /// Whose openid in the app the text is; `None` if it is nobody's there.
    #[must_use]
    pub fn person_of(&self, openid: &str, app: AppNo) -> Option<u64> {
        let person = self.openids.person(openid, app.0, self.app(app)?.prefix);
        person.filter(|person| *person < MAX_PEOPLE)
    }

    /// The person's openid in the app, as text.
    #[must_use]
    pub fn openid_text(&self, person: u64, app: AppNo) -> String {
        let prefix = self.app(app).map_or(0, |a| a.prefix);
        self.openids.openid(person, app.0, prefix)
    }

    /// The person's unionid in the app's platform, as text; `None` if the app is not bound.
    #[must_use]
    pub fn unionid_text(&self, person: u64, app: AppNo) -> Option<String> {
        let place = self.app(app)?.platform?;
        let prefix = self.platforms.get(place)?.prefix;
        Some(id(prefix, &self.unionids.tag(person, &place.to_be_bytes())))
    }

    /// What a snapshot page shows instead: an openid of nobody, and a unionid that several share.
    #[must_use]
    pub fn snapshot_text(&self, person: u64, app: AppNo) -> (String, String) {
        let app_prefix = self.app(app).map_or(0, |a| a.prefix);
        let openid = id(app_prefix, &self.unionids.tag(person, b"virtual openid"));
        let place = self.app(app).and_then(|a| a.platform).unwrap_or(0);
        let prefix = self.platforms.get(place).map_or(0, |p| p.prefix);
        let shared = self.unionids.tag(person / SNAPSHOT_GROUP, b"snapshot");
        (openid, id(prefix, &shared))
    }

    /// What messages about the app are addressed to: the account's own name, `gh_…`.
    pub(super) fn account_name(&self, app: AppNo) -> String {
        let tag = self.keys.tag(u64::from(app.0), b"account name");
        format!("gh_{}", hex::encode(&tag[..6]))
    }

    /// The sender of messages that no user causes: an openid of no person (`docs/wechat.md` §11).
    pub(super) fn pusher(&self, app: AppNo) -> String {
        let prefix = self.app(app).map_or(0, |a| a.prefix);
        id(prefix, &self.keys.tag(u64::from(app.0), b"pusher"))
    }

    /// The person's openid in the app.
    ///
    /// # Errors
    /// None in practice: generated ids are valid.
    pub fn openid(&self, person: u64, app: AppNo) -> Result<OpenId, InvalidId> {
        OpenId::parse(&self.openid_text(person, app))
    }

    /// The person's account in the app.
    ///
    /// # Errors
    /// As [`World::openid`]; also for a number of another world.
    pub fn account(&self, person: u64, app: AppNo) -> Result<Account, InvalidId> {
        self.account_of(app, &self.openid_text(person, app))
    }

    /// The account of an openid given as text.
    pub(super) fn account_of(&self, app: AppNo, openid: &str) -> Result<Account, InvalidId> {
        let app = self.app(app).ok_or(InvalidId::Empty)?.id.clone();
        let openid = OpenId::parse(openid)?;
        Ok(Account { app, openid })
    }

    /// The person's unionid in the app's platform; `None` if the app is not bound.
    ///
    /// # Errors
    /// None in practice: generated ids are valid.
    pub fn unionid(&self, person: u64, app: AppNo) -> Result<Option<UnionKey>, InvalidId> {
        let platform = self.app(app).and_then(|a| a.platform);
        let platform = platform.and_then(|p| self.platforms.get(p));
        let (Some(platform), Some(text)) = (platform, self.unionid_text(person, app)) else {
            return Ok(None);
        };
        Ok(Some(UnionKey {
            platform: platform.id.clone(),
            unionid: UnionId::parse(&text)?,
        }))
    }

    /// Whether WeChat gives unionids for the app at `at`.
    pub(super) fn bound(&self, app: AppNo, at: Millis) -> bool {
        self.app(app)
            .is_some_and(|a| a.platform.is_some() && a.bound_since <= at)
    }

    /// The session key of the person's `epoch`-th session in the app: base64 of 16 bytes.
    #[must_use]
    pub fn session_key(&self, person: u64, app: AppNo, epoch: u16) -> String {
        STANDARD.encode(self.session_secrets(person, app, epoch).0)
    }

    fn session_secrets(&self, person: u64, app: AppNo, epoch: u16) -> ([u8; 16], [u8; 16]) {
        let [high, low] = epoch.to_be_bytes();
        let tag = self.keys.tag(person, &[app.0, high, low]);
        let (mut key, mut iv) = ([0; 16], [0; 16]);
        key.copy_from_slice(&tag[..16]);
        iv.copy_from_slice(&tag[16..]);
        (key, iv)
    }

    /// The person's user info, encrypted under that session's key at `at`.
    #[must_use]
    pub fn encrypted(&self, person: u64, app: AppNo, epoch: u16, at: Millis) -> Encrypted {
        let (key, iv) = self.session_secrets(person, app, epoch);
        let openid = self.openid_text(person, app);
        let bound = self.bound(app, at);
        let unionid = bound.then(|| self.unionid_text(person, app)).flatten();
        let contents = Contents {
            openid: &openid,
            unionid: unionid.as_deref(),
            appid: self.app(app).map_or("", |a| a.id.as_str()),
            timestamp: at.0.div_euclid(1000),
        };
        user_info(&contents, key, iv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_look_as_wechats_do() {
        let world = World::new(1).unwrap();
        let app = AppNo(0);
        let ids: HashSet<_> = (0..1_000).map(|p| world.openid_text(p, app)).collect();
        assert_eq!(ids.len(), 1_000);
        let first = world.openid_text(0, app);
        for id in &ids {
            assert!(id.len() == 28 && id.starts_with('o'), "{id}");
            assert_eq!(id[..6], first[..6]);
        }
    }

    #[test]
    fn a_unionid_is_one_per_platform_and_an_openid_one_per_app() {
        let world = World::new(1).unwrap();
        let union = |n| world.unionid(3, AppNo(n)).unwrap();
        assert_eq!(union(0), union(4));
        assert_ne!(union(0), union(6));
        assert_eq!(union(5), None);
        let openids: HashSet<_> = world.numbers().map(|n| world.openid_text(3, n)).collect();
        assert_eq!(openids.len(), 7);
    }

    #[test]
    fn an_openid_tells_its_person_and_a_foreign_text_nobody() {
        let world = World::new(1).unwrap();
        let app = AppNo(2);
        for person in [0, 7, MAX_PEOPLE - 1] {
            let openid = world.openid_text(person, app);
            assert_eq!(world.person_of(&openid, app), Some(person));
            assert_eq!(world.person_of(&openid, AppNo(0)), None);
            for i in 0..openid.len() {
                let mut other = openid.clone().into_bytes();
                other[i] = if other[i] == b'A' { b'B' } else { b'A' };
                let other = String::from_utf8(other).unwrap();
                assert_eq!(world.person_of(&other, app), None, "at {i}");
            }
        }
        for stranger in [
            world.openid_text(MAX_PEOPLE, app),
            world.unionid_text(7, app).unwrap(),
            world.snapshot_text(7, app).0,
            String::new(),
        ] {
            assert_eq!(world.person_of(&stranger, app), None);
        }
    }

    #[test]
    fn about_half_of_the_people_follow_an_official_account_and_nobody_a_website() {
        let world = World::new(1).unwrap();
        let count = |app| (0..1_000).filter(|p| world.follows(*p, AppNo(app))).count();
        assert!((450..550).contains(&count(2)));
        assert_eq!(count(0) + count(3), 0);
    }

    #[test]
    fn the_seed_decides_everything() {
        let (a, b) = (World::new(1).unwrap(), World::new(1).unwrap());
        assert_eq!(a.toml(), b.toml());
        assert_eq!(a.openid_text(9, AppNo(2)), b.openid_text(9, AppNo(2)));
        let c = World::new(2).unwrap();
        assert_ne!(a.toml(), c.toml());
        assert_ne!(a.unionid_text(9, AppNo(2)), c.unionid_text(9, AppNo(2)));
    }

    #[test]
    fn impossible_worlds_are_refused() {
        let spec = AppSpec {
            kind: AppKind::Website,
            platform: Some(1),
            bound_since: Millis(0),
        };
        assert!(World::build(0, &["p"], &[spec]).is_err());
        assert!(World::build(0, &["p q"], &[]).is_err());
        assert!(World::build(0, &["p", "q"], &[spec; 9]).is_err());
    }

    #[test]
    fn snapshot_unionids_are_shared_by_two_and_openids_by_none() {
        let world = World::new(1).unwrap();
        let (a, b) = (
            world.snapshot_text(4, AppNo(2)),
            world.snapshot_text(5, AppNo(3)),
        );
        assert_ne!(a.0, b.0);
        assert_eq!(a.1, b.1);
        assert_ne!(a.1, world.snapshot_text(6, AppNo(2)).1);
    }
}
