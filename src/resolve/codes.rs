//! WeChat's error codes: one table from code to what the caller does (`docs/wechat.md` §2).
//!
//! A test compares the table with that page, so that the two cannot drift apart.

pub use crate::model::Api;

/// What an error asks of the caller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// WeChat is busy. The same request again, with backoff and jitter, for as long as its
    /// single-use code lives (`docs/wechat.md` §3.1).
    Transient,
    /// Too many calls this minute. Wait for the next minute, then the same request again.
    MinuteLimit,
    /// The day's quota is used up. No call of this API for this app until the next day.
    DailyQuota,
    /// The app's access token is refused. Refresh it once (single flight), repeat once, then fail.
    AppTokenBad,
    /// The code is used, timed out, or was never valid. Never send it again: only a new login helps.
    CodeDead,
    /// WeChat blocks this user. Final for this login; report it.
    UserBlocked,
    /// This request is malformed and stays so. Put the item aside, go on with others.
    BadInput,
    /// The app's credentials, permissions or addresses are wrong. Stop all work for the app and
    /// call the operator; the item itself is fine and can be repeated afterwards.
    Configuration,
    /// The user's own authorisation is gone. Only a new OAuth round helps.
    Reauthorise,
    /// The third-party platform's token or its permissions. Refresh that token, or the operator.
    Component,
    /// The session key is stale. Forget it; only a new login brings another.
    SessionStale,
    /// The payment gives no unionid: no such trade, or more than five minutes ago. Final.
    PaymentGone,
    /// A code that no page lists. Treat as [`Action::Transient`], but with a small fixed number of
    /// attempts: a permanent error that nobody has documented must not be repeated for ever.
    Unknown,
}

impl Action {
    /// The word for metric labels and messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::MinuteLimit => "minute_limit",
            Self::DailyQuota => "daily_quota",
            Self::AppTokenBad => "app_token_bad",
            Self::CodeDead => "code_dead",
            Self::UserBlocked => "user_blocked",
            Self::BadInput => "bad_input",
            Self::Configuration => "configuration",
            Self::Reauthorise => "reauthorise",
            Self::Component => "component",
            Self::SessionStale => "session_stale",
            Self::PaymentGone => "payment_gone",
            Self::Unknown => "unknown",
        }
    }
}

/// What a request proves itself with, which is what "invalid credential" then means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Credential {
    AppSecret,
    AppToken,
    UserToken,
    ComponentToken,
}

/// What the API's requests carry.
fn credential(api: Api) -> Credential {
    match api {
        Api::Code2Session | Api::OauthToken | Api::AppToken => Credential::AppSecret,
        Api::UserInfo | Api::CheckSession | Api::PaidUnionid => Credential::AppToken,
        Api::SnsUserinfo => Credential::UserToken,
        Api::ComponentCode2Session | Api::ComponentOauthToken => Credential::ComponentToken,
    }
}

/// Whether the API's requests carry the app's token.
#[must_use]
pub fn by_app_token(api: Api) -> bool {
    credential(api) == Credential::AppToken
}

/// The caller's address is not on the app's list.
pub const ADDRESS_REFUSED: i64 = 40164;
/// No permission for the API, or a token of the wrong kind.
const NO_PERMISSION: i64 = 48001;
/// The app is in no Open Platform account: there is nothing to tell, now or soon.
pub const NOT_BOUND: i64 = 89002;
/// The account is frozen or gone: no API answers.
const ACCOUNT_GONE: i64 = 50002;
/// Refusals of one API, not of the app as a whole: no permission, banned, not bound to a platform, and
/// the addresses, which WeChat checks where tokens are given out (`docs/wechat.md` §2) and maybe not
/// where codes are exchanged: a code must not die for that.
const OF_ONE_API: [i64; 5] = [NO_PERMISSION, 48004, NOT_BOUND, ADDRESS_REFUSED, 89503];

/// `docs/wechat.md` §2, row by row, then what §1 says of malformed requests.
const TABLE: &[(Action, &[i64])] = &[
    (Action::Transient, &[-1]),
    (Action::MinuteLimit, &[45011]),
    (Action::DailyQuota, &[45009]),
    (Action::AppTokenBad, &[40001, 40014, 42001]),
    (Action::CodeDead, &[40029, 40163, 42003, 41008]),
    (Action::UserBlocked, &[40226]),
    (
        Action::BadInput,
        &[40003, 40032, 40035, 40097, 41009, 47001],
    ),
    (
        Action::Configuration,
        &[
            40013, 40125, 40164, 40002, 41001, 41002, 41004, 40243, 89503, 48001, 48004, 50002,
            NOT_BOUND,
        ],
    ),
    (Action::Reauthorise, &[40030, 42002, 42007, 50001]),
    (
        Action::Component,
        &[
            61003, 61007, 61004, 61005, 61006, 61023, 41018, 41021, 42006,
        ],
    ),
    (Action::SessionStale, &[87007, 87008, 87009]),
    (Action::PaymentGone, &[89300]),
    // Wrong method or scheme: a base URL or a proxy in between is wrong, for every request alike.
    (Action::Configuration, &[43001, 43002, 43003]),
    // A body that WeChat cannot read or does not see.
    (Action::BadInput, &[40033, 44002]),
];

/// Every code that has an action.
pub fn all() -> impl Iterator<Item = i64> {
    TABLE.iter().flat_map(|(_, codes)| codes.iter().copied())
}

/// What `errcode`, answered by `api`, asks of the caller.
///
/// A refused credential is the app's token where the request carried one, the AppSecret where it
/// carried that (`docs/wechat.md` §2: the operator's matter), the third-party platform's token, and
/// the user's at `sns/userinfo` (§5). What only other APIs can mean is [`Action::Unknown`].
#[must_use]
pub fn action(api: Api, errcode: i64) -> Action {
    match (listed(errcode), credential(api)) {
        (Action::AppTokenBad, Credential::AppSecret) => Action::Configuration,
        (Action::AppTokenBad, Credential::UserToken) => Action::Reauthorise,
        (Action::AppTokenBad, Credential::ComponentToken) => Action::Component,
        // A request for a token holds nothing of any item.
        (Action::BadInput, _) if api == Api::AppToken => Action::Configuration,
        // A token of too small a scope (`docs/wechat.md` §5): the user's matter, not the app's.
        _ if api == Api::SnsUserinfo && errcode == NO_PERMISSION => Action::Reauthorise,
        (action, _) if means(api, action) => action,
        _ => Action::Unknown,
    }
}

/// What the page says of the code, whatever the API.
fn listed(errcode: i64) -> Action {
    let found = TABLE.iter().find(|(_, codes)| codes.contains(&errcode));
    found.map_or(Action::Unknown, |(action, _)| *action)
}

/// Whether the API can ask for it.
fn means(api: Api, action: Action) -> bool {
    let exchanges = matches!(
        api,
        Api::Code2Session | Api::OauthToken | Api::ComponentCode2Session | Api::ComponentOauthToken
    );
    match action {
        Action::CodeDead | Action::UserBlocked => exchanges,
        Action::Reauthorise => exchanges || api == Api::SnsUserinfo,
        // The app's token may be one that a third-party platform got for the app.
        Action::Component => matches!(
            credential(api),
            Credential::AppToken | Credential::ComponentToken
        ),
        Action::SessionStale => api == Api::CheckSession,
        Action::PaymentGone => api == Api::PaidUnionid,
        Action::Transient
        | Action::MinuteLimit
        | Action::DailyQuota
        | Action::AppTokenBad
        | Action::BadInput
        | Action::Configuration
        | Action::Unknown => true,
    }
}

/// Whether a refusal by `api` is about it only, so that the app's other APIs go on. About the whole
/// app are those of its account and of its AppSecret, which others show too; were others counted to
/// it, an API that works and one that does not would open and close the app by turns. A request that
/// WeChat cannot read says nothing of the app.
#[must_use]
pub fn of_one_api(api: Api, errcode: Option<i64>) -> bool {
    let account = errcode == Some(ACCOUNT_GONE);
    let one = |code| OF_ONE_API.contains(&code) || listed(code) == Action::BadInput;
    !account && (errcode.is_some_and(one) || credential(api) != Credential::AppSecret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The codes of §1 that §2 has no row for.
    const OUTSIDE: [i64; 5] = [40033, 43001, 43002, 43003, 44002];

    fn class(name: &str) -> Action {
        match name {
            "transient" => Action::Transient,
            "minute limit" => Action::MinuteLimit,
            "daily quota" => Action::DailyQuota,
            "app token bad" => Action::AppTokenBad,
            "input code dead" => Action::CodeDead,
            "user blocked" => Action::UserBlocked,
            "bad input" => Action::BadInput,
            "configuration" => Action::Configuration,
            "user must re-authorise" => Action::Reauthorise,
            "third-party platform" => Action::Component,
            "session state" => Action::SessionStale,
            "payment unionid" => Action::PaymentGone,
            other => panic!("docs/wechat.md §2 has a class without an action: {other}"),
        }
    }

    fn documented() -> BTreeMap<i64, Action> {
        let page = include_str!("../../docs/wechat.md");
        let from = page.find("\n## 2. ").expect("§2");
        let to = page.find("\n## 3. ").expect("§3");
        let mut codes = BTreeMap::new();
        for row in page[from..to].lines().filter(|l| l.starts_with("| ")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            if cells[1] == "class" {
                continue;
            }
            for word in cells[2].split(|c: char| !(c.is_ascii_digit() || c == '-')) {
                match word.parse::<i64>() {
                    Ok(code) if code == -1 || code > 9_999 => {
                        let before = codes.insert(code, class(cells[1]));
                        assert_eq!(before, None, "{code} stands twice in §2");
                    }
                    _ => {}
                }
            }
        }
        codes
    }

    #[test]
    fn the_table_is_that_of_the_page() {
        let documented = documented();
        assert!(
            documented.len() > 45,
            "only {} codes read",
            documented.len()
        );
        let mut table = BTreeMap::new();
        for (action, codes) in TABLE {
            for code in *codes {
                assert_eq!(table.insert(*code, *action), None, "{code} stands twice");
            }
        }
        table.retain(|code, _| !OUTSIDE.contains(code));
        assert_eq!(table, documented);
    }

    #[test]
    fn codes_outside_the_table_of_the_page_stand_in_its_section_1() {
        let page = include_str!("../../docs/wechat.md");
        let section = &page[..page.find("\n## 2. ").expect("§2")];
        for code in OUTSIDE {
            assert!(section.contains(&code.to_string()), "{code}");
            assert_ne!(action(Api::UserInfo, code), Action::Unknown);
        }
    }

    #[test]
    fn a_refused_credential_means_what_the_request_carried() {
        for code in [40001, 40014, 42001] {
            assert_eq!(action(Api::UserInfo, code), Action::AppTokenBad);
            assert_eq!(action(Api::AppToken, code), Action::Configuration);
            assert_eq!(action(Api::Code2Session, code), Action::Configuration);
            assert_eq!(action(Api::SnsUserinfo, code), Action::Reauthorise);
            assert_eq!(action(Api::ComponentOauthToken, code), Action::Component);
        }
    }

    #[test]
    fn what_only_other_apis_can_mean_is_unknown() {
        let exchanges = [
            Api::Code2Session,
            Api::OauthToken,
            Api::ComponentCode2Session,
            Api::ComponentOauthToken,
        ];
        for api in Api::ALL.iter().copied() {
            let is = |code, meant: bool, action_meant| {
                let want = if meant { action_meant } else { Action::Unknown };
                assert_eq!(action(api, code), want, "{api:?} {code}");
            };
            let exchange = exchanges.contains(&api);
            is(40_029, exchange, Action::CodeDead);
            is(40_226, exchange, Action::UserBlocked);
            is(
                42_002,
                exchange || api == Api::SnsUserinfo,
                Action::Reauthorise,
            );
            let component = exchanges[2..].contains(&api) || by_app_token(api);
            is(61_007, component, Action::Component);
            is(87_009, api == Api::CheckSession, Action::SessionStale);
            is(89_300, api == Api::PaidUnionid, Action::PaymentGone);
            // A question about nobody is no question about the app.
            let malformed = action(api, 47_001);
            assert_eq!(malformed == Action::BadInput, api != Api::AppToken);
        }
    }

    #[test]
    fn only_the_account_and_the_secret_concern_the_whole_app() {
        for api in [Api::Code2Session, Api::OauthToken, Api::AppToken] {
            assert!(!of_one_api(api, Some(40_125)) && of_one_api(api, Some(40_164)));
            assert!(!of_one_api(api, Some(50_002)) && !of_one_api(api, None));
            assert!(of_one_api(api, Some(47_001)));
        }
        for api in [Api::UserInfo, Api::PaidUnionid, Api::ComponentCode2Session] {
            assert!(of_one_api(api, Some(40_013)) && !of_one_api(api, Some(50_002)));
        }
    }

    #[test]
    fn codes_of_no_page_are_unknown() {
        for code in [1, -2, 99_999, i64::MAX, i64::MIN] {
            assert_eq!(action(Api::Code2Session, code), Action::Unknown);
        }
    }
}
