//! How accounts, claims and users look on an operator's terminal, and as JSON.

use super::Failure;
use crate::link::{Against, Outlook, Person};
use crate::model::{Account, ClaimRow, ClaimStatus, ClaimVerdict, Ruled};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;

/// Prints a result. Whoever read our output may have left (`| head`): that is no failure.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes());
    written.and_then(|()| out.flush()).ok();
}

/// Prints a line of a result, as `println!`, which panics once the reader has left.
macro_rules! say_line {
    ($($line:tt)*) => {
        $crate::cli::shown::say(&format!("{}\n", format_args!($($line)*)))
    };
}

/// The same without an end of line.
macro_rules! say_text {
    ($($text:tt)*) => {
        $crate::cli::shown::say(&format!($($text)*))
    };
}

pub(crate) use {say_line, say_text};

/// Prints a result as JSON.
pub fn say_json(value: &serde_json::Value) {
    say(&format!("{value:#}\n"));
}

/// A claim as scripts want it.
#[derive(Serialize)]
pub struct ClaimJson {
    appid: String,
    openid: String,
    platform: String,
    unionid: String,
    method: &'static str,
    at: String,
    /// The login that brought it first.
    cause: String,
    status: &'static str,
    why: Option<&'static str>,
    verdict: Option<&'static str>,
}

impl ClaimJson {
    /// Of a claim.
    #[must_use]
    pub fn of(claim: &ClaimRow) -> Self {
        let (status, why) = match claim.status {
            ClaimStatus::Active => ("active", None),
            ClaimStatus::Contested(why) => ("contested", Some(why.word())),
        };
        let key = &claim.key;
        Self {
            appid: key.account.app.as_str().to_owned(),
            openid: key.account.openid.as_str().to_owned(),
            platform: key.union.platform.as_str().to_owned(),
            unionid: key.union.unionid.as_str().to_owned(),
            method: claim.method.shown(),
            at: claim.at.to_string(),
            cause: claim.cause.as_str().to_owned(),
            status,
            why,
            verdict: claim.verdict.map(verdict_word),
        }
    }
}

/// An operator's word about a claim.
#[must_use]
pub fn verdict_word(verdict: ClaimVerdict) -> &'static str {
    match verdict {
        ClaimVerdict::Accept => "accept",
        ClaimVerdict::Reject => "reject",
    }
}

/// A claim in a line: what it says, how and when it was learnt, and whether it links.
#[must_use]
pub fn claim_line(claim: &ClaimRow) -> String {
    let union = &claim.key.union;
    let status = match claim.status {
        ClaimStatus::Active => "links".to_owned(),
        ClaimStatus::Contested(why) => format!("contested: {why}"),
    };
    let verdict = match claim.verdict {
        Some(ClaimVerdict::Accept) => ", accepted by an operator",
        _ => "",
    };
    format!(
        "{} {}  {} {} (login {})  {status}{verdict}",
        union.platform.as_str(),
        union.unionid.as_str(),
        claim.method.shown(),
        claim.at,
        claim.cause
    )
}

/// Who ruled, when and why.
#[must_use]
pub fn ruled_words(ruled: &Ruled) -> String {
    format!("{} on {}: {}", ruled.author, ruled.at, ruled.note)
}

/// What stands against a claim, in words.
#[must_use]
pub fn against_words(against: &Against<'_>) -> String {
    match against {
        Against::Has(claim) => format!(
            "the account has another unionid there: {}",
            claim_line(claim)
        ),
        Against::Both(one, other) => format!(
            "one user would hold two openids of one app: {} and {}",
            one.key(),
            other.key()
        ),
        Against::Never(pair, ruled) => format!(
            "{} and {} are never one user, by {}",
            pair.a.key(),
            pair.b.key(),
            ruled_words(ruled)
        ),
        Against::Large(accounts) => format!("the user would have {accounts} accounts"),
        Against::Shared(app, openids) => format!(
            "{openids} openids of {app} claim this unionid (of those that were read): it is no person's"
        ),
        Against::Many(unionids) => {
            format!("the account claims {unionids} unionids in this platform: accept one")
        }
        Against::Rejected(ruled) => format!("rejected by {}", ruled_words(ruled)),
        Against::Unread => "what stands against it has changed meanwhile: look again".to_owned(),
    }
}

/// Users with their accounts, under a title.
#[must_use]
pub fn people_lines(title: &str, people: &[Person]) -> String {
    let mut text = format!("{title}:\n");
    if people.is_empty() {
        text.push_str("  nobody\n");
    }
    for person in people {
        writeln!(text, "  user {}", person.user).ok();
        for account in &person.accounts {
            writeln!(text, "    {}", account.key()).ok();
        }
    }
    text
}

/// What a decision would do, in full. Names everybody whom it touches.
#[must_use]
pub fn outlook_lines(outlook: &Outlook) -> String {
    if outlook.after == outlook.before {
        return "No user would change.\n".to_owned();
    }
    let mut text = people_lines("Now", &outlook.before);
    text.push_str(&people_lines("Then", &outlook.after));
    for (person, of) in outlook.joined() {
        let (user, n) = (person.user, of.len());
        writeln!(text, "JOINED: {n} users would be one, {user}.").ok();
    }
    for (person, into) in outlook.parted() {
        let (user, n) = (person.user, into.len());
        writeln!(text, "PARTED: user {user} would become {n}.").ok();
    }
    text
}

/// The same in numbers, without any name.
#[must_use]
pub fn outlook_summary(outlook: &Outlook) -> String {
    let (joined, parted) = (outlook.joined().len(), outlook.parted().len());
    format!("users that come apart: {parted}; users that are joined of several: {joined}")
}

/// What a dry run adds if the deed itself is refused.
pub fn say_refused(refused: Result<(), Failure>) {
    if let Err(why) = refused {
        say(&format!("Without --dry-run this is refused: {why}\n"));
    }
}

/// An account named alone on its line.
#[must_use]
pub fn account_line(account: &Account) -> String {
    format!("  {}\n", account.key())
}
