//! What each person does: a few logins, drawn from the seed and the person's number alone, so that
//! events and truth can both be computed from it at any time.

use super::super::dice::Dice;
use super::super::world::{AppNo, World};
use super::Population;
use crate::model::AppKind;

/// Most logins of one person.
pub(super) const MAX_LOGINS: usize = 6;

/// What a login looks like to the product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A code whose exchange shows the unionid.
    Code,
    /// A code whose exchange shows none, and nothing else comes.
    CodeBare,
    /// A code whose exchange shows none; `encryptedData` of the session follows in an event of its own.
    CodeThenData,
    /// A code whose exchange shows none, with `encryptedData` in the same event.
    CodeWithData,
    /// The gateway exchanged the code: openid, session key and `encryptedData`.
    Exchanged,
    /// openid and unionid in plain.
    Provided,
    /// An openid and nothing more.
    OpenIdOnly,
    /// A snapshot page's virtual ids, the unionid shared with others.
    Snapshot,
    /// An openid with "undefined" or the like for a unionid.
    Placeholder,
    /// `encryptedData` under an older session key than the one beside it.
    StaleData,
    /// `encryptedData` and session key of another app.
    WrongAppData,
    /// `encryptedData` and session key of another person.
    OthersData,
    /// As `Exchanged`, and another event gives another person's unionid in plain for the account.
    Contradicted,
    /// A code that cannot be exchanged.
    DeadCode(Dead),
    /// An OAuth code whose exchange shows the unionid, or else `sns/userinfo` does.
    OauthCode,
    /// An OAuth code of the scope `snsapi_base`: no unionid.
    OauthBase,
    /// An OAuth code of a snapshot page.
    OauthSnapshot,
    /// The gateway exchanged the OAuth code: openid and user token.
    Grant,
    /// The same of the scope `snsapi_base`.
    GrantBase,
    /// The same, some hours ago: the user token has ended.
    GrantOld,
    /// An openid and the transaction number of a payment just made.
    Paid,
    /// An openid and the merchant's number of a payment just made.
    PaidOrder,
    /// A payment that is too old.
    PaidLate,
}

/// Why a code cannot be exchanged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dead {
    /// WeChat never gave it out.
    Unknown,
    /// It is another app's.
    OtherApp,
    /// Somebody exchanged it already.
    Used,
    /// It is older than its life.
    Old,
}

/// One login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Login {
    /// Its place in the person's life.
    pub(super) n: u8,
    pub(super) app: AppNo,
    pub(super) kind: Kind,
    /// The gateway posts its event twice.
    pub(super) twice: bool,
    /// How long ago it was, in ms; codes are always fresh.
    pub(super) ago_ms: i64,
}

/// How many logins people have.
const COUNTS: [(usize, u32); 6] = [(1, 25), (2, 25), (3, 20), (4, 15), (5, 10), (6, 5)];
/// How often each app is used, by kind; the first of a kind twice as often.
fn weight(kind: AppKind, bound: bool, first: bool) -> u32 {
    let base = match kind {
        AppKind::MiniProgram => 12,
        AppKind::OfficialAccount => 14,
        AppKind::Website | AppKind::MobileApp => 9,
    };
    let base = if bound { base } else { base / 2 };
    if first { base * 2 } else { base }
}

const MINI: [(Kind, u32); 12] = [
    (Kind::Code, 420),
    (Kind::CodeThenData, 100),
    (Kind::CodeWithData, 110),
    (Kind::Exchanged, 190),
    (Kind::OpenIdOnly, 90),
    (Kind::CodeBare, 30),
    (Kind::Placeholder, 12),
    (Kind::StaleData, 10),
    (Kind::WrongAppData, 10),
    (Kind::OthersData, 10),
    (Kind::Contradicted, 8),
    (Kind::DeadCode(Dead::Unknown), 10),
];
const UNBOUND: [(Kind, u32); 5] = [
    (Kind::Code, 500),
    (Kind::CodeWithData, 150),
    (Kind::Exchanged, 200),
    (Kind::OpenIdOnly, 140),
    (Kind::DeadCode(Dead::Unknown), 10),
];
const PAGES: [(Kind, u32); 4] = [
    (Kind::Provided, 790),
    (Kind::OpenIdOnly, 150),
    (Kind::Snapshot, 40),
    (Kind::Placeholder, 20),
];
const MOBILE: [(Kind, u32); 3] = [
    (Kind::Provided, 830),
    (Kind::OpenIdOnly, 150),
    (Kind::Placeholder, 20),
];
// The same where everything that WeChat can be asked is asked.
const MINI_WAYS: [(Kind, u32); 15] = [
    (Kind::Code, 350),
    (Kind::CodeThenData, 90),
    (Kind::CodeWithData, 90),
    (Kind::Exchanged, 140),
    (Kind::OpenIdOnly, 70),
    (Kind::CodeBare, 30),
    (Kind::Placeholder, 12),
    (Kind::StaleData, 10),
    (Kind::WrongAppData, 10),
    (Kind::OthersData, 10),
    (Kind::Contradicted, 8),
    (Kind::DeadCode(Dead::Unknown), 10),
    (Kind::Paid, 90),
    (Kind::PaidOrder, 60),
    (Kind::PaidLate, 20),
];
const OFFICIAL_WAYS: [(Kind, u32); 11] = [
    (Kind::OauthCode, 250),
    (Kind::OauthBase, 60),
    (Kind::OauthSnapshot, 30),
    (Kind::Grant, 170),
    (Kind::GrantBase, 40),
    (Kind::GrantOld, 20),
    (Kind::Provided, 210),
    (Kind::OpenIdOnly, 170),
    (Kind::Snapshot, 20),
    (Kind::Placeholder, 20),
    (Kind::DeadCode(Dead::Unknown), 10),
];
const OTHER_WAYS: [(Kind, u32); 7] = [
    (Kind::OauthCode, 350),
    (Kind::Grant, 250),
    (Kind::GrantOld, 30),
    (Kind::Provided, 240),
    (Kind::OpenIdOnly, 100),
    (Kind::Placeholder, 20),
    (Kind::DeadCode(Dead::Unknown), 10),
];
const DEAD: [Dead; 4] = [Dead::Unknown, Dead::OtherApp, Dead::Used, Dead::Old];
/// Share of events that are posted twice.
const TWICE: f64 = 0.03;
/// Chance that an openid alone is followed by a login that shows the unionid.
const LATER: f64 = 0.6;
/// Oldest login, in ms: well inside the 30 days that the product accepts.
const OLDEST_MS: u64 = 20 * 86_400_000;
/// Youngest of those that are not fresh, in ms.
const YOUNGEST_MS: u64 = 600_000;

/// The person's logins, in the order of their lives.
pub(super) fn logins(world: &World, population: &Population, person: u64) -> Vec<Login> {
    let mut dice = Dice::new(&[world.seed(), population.seed, person, 0x0001_091a]);
    let wanted = dice.weighted(&COUNTS).unwrap_or(1);
    let weights = app_weights(world);
    let mut logins: Vec<Login> = Vec::with_capacity(wanted);
    while logins.len() < wanted {
        let Some(app) = dice.weighted(&weights) else {
            break;
        };
        let kind = draw_kind(world, app, population.every_way, &mut dice);
        push(&mut logins, app, kind, &mut dice);
        if kind == Kind::OpenIdOnly && logins.len() < MAX_LOGINS && dice.chance(LATER) {
            push(&mut logins, app, showing(world, app), &mut dice);
        }
    }
    logins
}

fn push(logins: &mut Vec<Login>, app: AppNo, kind: Kind, dice: &mut Dice) {
    // A second session without unionid in the app would need the key of the first kept longer.
    let bare = |k| matches!(k, Kind::CodeThenData | Kind::CodeBare | Kind::CodeWithData);
    let again = logins.iter().any(|l| l.app == app && bare(l.kind));
    let kind = if again && bare(kind) {
        Kind::Code
    } else {
        kind
    };
    let ago = YOUNGEST_MS + dice.below(OLDEST_MS - YOUNGEST_MS);
    logins.push(Login {
        n: u8::try_from(logins.len()).unwrap_or(u8::MAX),
        app,
        kind,
        twice: dice.chance(TWICE),
        ago_ms: i64::try_from(ago).unwrap_or(0),
    });
}

fn app_weights(world: &World) -> Vec<(AppNo, u32)> {
    let mut seen: Vec<(AppKind, bool)> = Vec::new();
    let numbered = world.numbers().zip(world.sim_apps());
    numbered
        .map(|(number, app)| {
            let sort = (app.kind, app.platform.is_some());
            let first = !seen.contains(&sort);
            seen.push(sort);
            (number, weight(sort.0, sort.1, first))
        })
        .collect()
}

fn draw_kind(world: &World, number: AppNo, every_way: bool, dice: &mut Dice) -> Kind {
    let Some(app) = world.app(number) else {
        return Kind::OpenIdOnly;
    };
    let drawn = match (app.kind, app.platform) {
        (AppKind::MiniProgram, Some(_)) if every_way => dice.weighted(&MINI_WAYS),
        (AppKind::OfficialAccount, _) if every_way => dice.weighted(&OFFICIAL_WAYS),
        (AppKind::Website | AppKind::MobileApp, _) if every_way => dice.weighted(&OTHER_WAYS),
        (AppKind::MiniProgram, Some(_)) => dice.weighted(&MINI),
        (AppKind::MiniProgram, None) => dice.weighted(&UNBOUND),
        (AppKind::MobileApp, _) => dice.weighted(&MOBILE),
        _ => dice.weighted(&PAGES),
    };
    let lonely = other_mini(world, number).is_none();
    match drawn {
        Some(Kind::DeadCode(_)) => match dice.of(&DEAD) {
            Some(Dead::OtherApp) if lonely => Kind::DeadCode(Dead::Unknown),
            dead => Kind::DeadCode(dead.copied().unwrap_or(Dead::Unknown)),
        },
        Some(Kind::WrongAppData) if lonely => Kind::StaleData,
        drawn => drawn.unwrap_or(Kind::OpenIdOnly),
    }
}

/// The plainest login that shows the unionid, if the app has one.
fn showing(world: &World, app: AppNo) -> Kind {
    match world.app(app).map(|a| a.kind) {
        Some(AppKind::MiniProgram) => Kind::Code,
        _ => Kind::Provided,
    }
}

/// A mini program to take foreign data or codes from: of another platform, if there is one.
pub(super) fn other_mini(world: &World, app: AppNo) -> Option<AppNo> {
    let own = world.app(app)?.platform;
    let mut minis: Vec<_> = world
        .numbers()
        .zip(world.sim_apps())
        .filter(|(n, a)| *n != app && a.kind == AppKind::MiniProgram && a.platform.is_some())
        .collect();
    minis.sort_by_key(|(n, a)| (a.platform == own, *n));
    minis.first().map(|(n, _)| *n)
}

/// Somebody else who is not seen in the app but elsewhere, so that a linker that believed in the
/// data would merge two people; failing that, just somebody else.
pub(super) fn other_person(world: &World, all: &Population, person: u64, app: AppNo) -> u64 {
    /// Enough to find one nearly always: about a third of people are not seen in an app.
    const TRIES: u64 = 16;
    let neighbour = |i: u64| (person + i) % all.people.max(2);
    (1..=TRIES)
        .map(neighbour)
        .find(|other| *other != person && logins(world, all, *other).iter().all(|l| l.app != app))
        .unwrap_or_else(|| neighbour(1))
}

/// The person whose unionid a confused gateway takes for this one's; they come in pairs, so that at
/// most one stranger claims a unionid.
pub(super) fn partner(person: u64) -> u64 {
    person ^ 1
}
