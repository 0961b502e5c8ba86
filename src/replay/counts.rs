//! What a piece of work came to, in numbers. They are kept with the job, so that they go on counting
//! after a stop, and each batch's are written with what it changed.

use super::event::Cause;
use crate::model::{AppId, DeadReason, Reason};
use crate::resolve::book::Tally;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Numbers by a word.
pub type ByWord = BTreeMap<String, u64>;

/// All numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Records (or accounts, or followers) gone through, those left aside included.
    pub records: u64,
    /// Operators' decisions and erasures among them.
    pub operator_events: u64,
    /// Records that name no app, by the reason for which they are dead letters.
    pub unreadable: ByWord,
    /// What concerns an app, by appid.
    pub apps: BTreeMap<String, AppCounts>,
}

/// The numbers of one app. Each login ends in exactly one of `linked`, `unresolved`, `dead`,
/// `not_asked`, `unanswered`, `void` and `left_aside`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppCounts {
    /// Logins (or accounts).
    pub logins: u64,
    /// Logins whose account has a unionid in its newest platform now.
    pub linked: u64,
    /// Logins whose account has none, by reason.
    pub unresolved: ByWord,
    /// Logins that are dead letters, by reason; none is published again.
    pub dead: ByWord,
    /// Logins about which something could not be asked, by cause: another run may tell more.
    pub not_asked: ByWord,
    /// Logins with a code of which no answer is remembered: codes are not sent again.
    pub unanswered: u64,
    /// Logins from before their account's erasure.
    pub void: u64,
    /// Logins of accounts that are linked already, where only the others were asked for.
    pub left_aside: u64,
    /// Accounts that got a unionid in their newest platform.
    pub newly_linked: u64,
    /// Accounts that belong to another user now.
    pub merged: u64,
    /// Accounts that were not known before.
    pub new_accounts: u64,
    /// Claims that became contested.
    pub contested: u64,
    /// Accounts about which something could be asked.
    pub askable: u64,
    /// Calls to WeChat that were made, by API.
    pub calls: ByWord,
    /// Calls to WeChat that it would take at most, by API.
    pub would_call: ByWord,
}

impl Counts {
    /// The numbers of an app.
    pub fn of(&mut self, app: &AppId) -> &mut AppCounts {
        if !self.apps.contains_key(app.as_str()) {
            self.apps.insert(app.to_string(), AppCounts::default());
        }
        self.apps.entry(app.to_string()).or_default()
    }

    /// The numbers of an app, one login more.
    pub fn login_of(&mut self, app: &AppId) -> &mut AppCounts {
        let of_app = self.of(app);
        of_app.logins += 1;
        of_app
    }

    /// Adds up.
    pub fn add(&mut self, more: &Self) {
        self.records += more.records;
        self.operator_events += more.operator_events;
        add_words(&mut self.unreadable, &more.unreadable);
        for (app, more) in &more.apps {
            self.apps.entry(app.clone()).or_default().add(more);
        }
    }

    /// Adds calls that were made.
    pub fn add_calls(&mut self, made: &Tally) {
        for ((app, api), n) in made {
            *self.of(app).calls.entry(api.word().to_owned()).or_default() += n;
        }
    }

    /// Adds calls that it would take.
    pub fn add_would_call(&mut self, counted: &Tally) {
        for ((app, api), n) in counted {
            let words = &mut self.of(app).would_call;
            *words.entry(api.word().to_owned()).or_default() += n;
        }
    }

    /// Takes back where logins ended since `before`. What became of accounts, and the calls, stay: they
    /// will not happen again.
    pub fn go_back_to(&mut self, before: &Self) {
        self.records = before.records;
        self.operator_events = before.operator_events;
        self.unreadable.clone_from(&before.unreadable);
        for (app, now) in &mut self.apps {
            let before = before.apps.get(app).cloned().unwrap_or_default();
            let after = std::mem::take(now);
            *now = AppCounts {
                newly_linked: after.newly_linked,
                merged: after.merged,
                new_accounts: after.new_accounts,
                contested: after.contested,
                askable: after.askable,
                calls: after.calls,
                would_call: after.would_call,
                ..before
            };
        }
    }

    /// All apps together.
    #[must_use]
    pub fn total(&self) -> AppCounts {
        let mut total = AppCounts::default();
        for app in self.apps.values() {
            total.add(app);
        }
        total
    }
}

impl AppCounts {
    fn add(&mut self, more: &Self) {
        for (to, from) in [
            (&mut self.logins, more.logins),
            (&mut self.linked, more.linked),
            (&mut self.unanswered, more.unanswered),
            (&mut self.void, more.void),
            (&mut self.left_aside, more.left_aside),
            (&mut self.newly_linked, more.newly_linked),
            (&mut self.merged, more.merged),
            (&mut self.new_accounts, more.new_accounts),
            (&mut self.contested, more.contested),
            (&mut self.askable, more.askable),
        ] {
            *to += from;
        }
        for (to, from) in [
            (&mut self.unresolved, &more.unresolved),
            (&mut self.dead, &more.dead),
            (&mut self.not_asked, &more.not_asked),
            (&mut self.calls, &more.calls),
            (&mut self.would_call, &more.would_call),
        ] {
            add_words(to, from);
        }
    }

    /// A login whose account stays without a unionid.
    pub fn unresolved(&mut self, reason: Reason) {
        *self.unresolved.entry(reason.word().to_owned()).or_default() += 1;
    }

    /// A login that is a dead letter.
    pub fn dead(&mut self, reason: DeadReason) {
        *self.dead.entry(reason.word().to_owned()).or_default() += 1;
    }

    /// A login about which something could not be asked.
    pub fn not_asked(&mut self, cause: Cause) {
        *self.not_asked.entry(cause.word().to_owned()).or_default() += 1;
    }
}

fn add_words(to: &mut ByWord, from: &ByWord) {
    for (word, n) in from {
        *to.entry(word.clone()).or_default() += n;
    }
}

/// All of them.
#[must_use]
pub fn sum(words: &ByWord) -> u64 {
    words.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_through_again_is_counted_once() {
        let app = AppId::parse("wx1").expect("valid");
        let mut before = Counts::default();
        before.login_of(&app).linked += 1;
        before.records = 1;
        let mut counts = before.clone();
        counts.login_of(&app).unresolved(Reason::NotFollowing);
        counts.of(&app).newly_linked += 1;
        counts.records = 2;
        counts.go_back_to(&before);
        assert_eq!((counts.records, counts.of(&app).logins), (1, 1));
        assert_eq!(counts.of(&app).unresolved, ByWord::new());
        assert_eq!(counts.of(&app).newly_linked, 1, "will not happen again");
    }

    #[test]
    fn numbers_add_up_and_come_back_from_the_store() {
        let app = AppId::parse("wx1").expect("valid");
        let mut counts = Counts::default();
        counts.of(&app).newly_linked = 2;
        counts.of(&app).unresolved(Reason::NotFollowing);
        counts.records = 5;
        let mut twice = counts.clone();
        twice.add(&counts);
        assert_eq!(twice.of(&app).newly_linked, 4);
        assert_eq!(twice.total().unresolved["not_following"], 2);
        assert_eq!(twice.records, 10);
        let text = serde_json::to_string(&twice).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Counts>(&text).expect("its own"),
            twice
        );
        // What an older version wrote lacks what it did not know.
        let old: Counts = serde_json::from_str(r#"{"apps":{"wx1":{"logins":1}}}"#).expect("reads");
        assert_eq!(old.apps["wx1"].logins, 1);
    }
}
