//! One batch of this work: facts for `plan`, and, from what it decides, the records of the outbox and the
//! numbers, which go with them into one transaction.

use super::counts::Counts;
use super::event::Fate;
use super::ground::has_unionid;
use crate::link::{self, Rules};
use crate::model::{
    Account, AppId, Apps, Changes, ClaimRow, Fact, Millis, News, Outcome, Reason, Sighting,
    SightingResult, View, present,
};
use crate::store::{Batch, JobNote, Planner, Step, Write};
use crate::worker::Records;
use std::collections::{BTreeMap, BTreeSet};

/// What planning and publishing need to know.
pub struct Desk {
    /// The rules of `plan`.
    pub rules: Rules,
    /// Makes records.
    pub records: Records,
    /// Whether logins of accounts that are linked are left aside.
    pub only_unresolved: bool,
}

/// A batch under way.
pub struct Piece<'a> {
    desk: &'a Desk,
    /// With the app, for logins.
    facts: Vec<(Option<AppId>, Fact)>,
    /// Numbers before it, and what is known without `plan`.
    base: Counts,
    now: Millis,
    /// How the job stands afterwards, but for its numbers, if it has one.
    note: Option<JobNote>,
    /// Whether it is noted even if nothing changes.
    in_any_case: bool,
    /// Numbers after it, once `plan` has decided.
    pub counts: Counts,
    /// Whether anything is written.
    pub writes: bool,
}

impl<'a> Piece<'a> {
    /// Takes the facts out of the fates; the rest is counted.
    #[must_use]
    pub fn new(desk: &'a Desk, fates: Vec<Fate>, mut base: Counts, now: Millis) -> Self {
        let mut facts = Vec::new();
        for fate in fates {
            base.records += 1;
            match fate {
                Fate::Fact(app, fact) => {
                    if app.is_none() {
                        base.operator_events += 1;
                    }
                    facts.push((app, *fact));
                }
                Fate::Dead(None, reason) => {
                    *base.unreadable.entry(reason.word().to_owned()).or_default() += 1;
                }
                Fate::Dead(Some(app), reason) => base.login_of(&app).dead(reason),
                Fate::Unanswered(app) => base.login_of(&app).unanswered += 1,
                Fate::NotAsked(app, cause) => base.login_of(&app).not_asked(cause),
                Fate::Void(app) => base.login_of(&app).void += 1,
                Fate::LeftAside(app) => base.login_of(&app).left_aside += 1,
                Fate::Other => {}
            }
        }
        Self {
            desk,
            facts,
            counts: base.clone(),
            base,
            now,
            note: None,
            in_any_case: false,
            writes: false,
        }
    }

    /// Notes the job's progress with what changes, or in any case.
    #[must_use]
    pub fn noting(self, note: Option<JobNote>, in_any_case: bool) -> Self {
        Self {
            note,
            in_any_case,
            ..self
        }
    }

    /// The batch, but for what `plan` will decide.
    #[must_use]
    pub fn batch(&self) -> Batch {
        let accounts = self.facts.iter().map(|(_, fact)| fact.clone());
        Batch {
            keys: link::keys(&accounts.collect::<Vec<_>>()),
            ..Batch::default()
        }
    }

    /// The facts that count, and for each sighting among them the app whose login it is (an imported one
    /// is nobody's login); others are left aside.
    fn chosen(&self, view: &View, counts: &mut Counts) -> (Vec<Fact>, Vec<Option<AppId>>) {
        let mut facts = Vec::with_capacity(self.facts.len());
        let mut apps = Vec::with_capacity(self.facts.len());
        for (app, fact) in &self.facts {
            if let Fact::Sighting(sighting) = fact {
                let linked = || has_unionid(view, &sighting.account, &self.desk.rules.apps);
                if let Some(app) = app
                    && self.desk.only_unresolved
                    && linked()
                {
                    counts.login_of(app).left_aside += 1;
                    continue;
                }
                apps.push(app.clone());
            }
            facts.push(fact.clone());
        }
        (facts, apps)
    }

    fn decided(
        &mut self,
        view: &View,
        facts: &[Fact],
        apps: &[Option<AppId>],
        changes: Changes,
    ) -> Step {
        let sightings = facts.iter().filter_map(|fact| match fact {
            Fact::Sighting(sighting) => Some(sighting),
            _ => None,
        });
        for ((sighting, app), result) in sightings.zip(apps).zip(&changes.sightings) {
            if let Some(app) = app {
                count_login(&mut self.counts, app, sighting, result);
            }
        }
        count_changes(&mut self.counts, view, &changes, &self.desk.rules.apps);
        let mut outbox: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for news in &changes.news {
            let (partition, record) = self.desk.records.news(news);
            outbox.entry(partition).or_default().push(record);
        }
        self.writes = self.in_any_case || !is_nothing(&changes);
        let job = self.note.clone().filter(|_| self.writes);
        let job = job.map(|note| JobNote {
            counts: super::spec::text(&self.counts),
            ..note
        });
        Step::Write(Box::new(Write {
            changes,
            outbox,
            job,
        }))
    }
}

impl Planner for Piece<'_> {
    fn step(&mut self, view: &View) -> Step {
        let mut counts = self.base.clone();
        let (facts, apps) = self.chosen(view, &mut counts);
        match link::plan(view, &facts, &self.desk.rules, self.now) {
            Outcome::Read(keys) => Step::Read(keys),
            Outcome::Done(changes) => {
                self.counts = counts;
                self.decided(view, &facts, &apps, *changes)
            }
        }
    }
}

/// Whether nothing was decided to be written.
pub(super) fn is_nothing(changes: &Changes) -> bool {
    changes.accounts.is_empty()
        && changes.claims.is_empty()
        && changes.erased.is_empty()
        && changes.tombstones.is_empty()
        && changes.rulings.is_empty()
        && changes.pairs.is_empty()
        && changes.session_keys.is_empty()
        && changes.resolved.is_empty()
        && changes.news.is_empty()
}

/// Where a login ends.
fn count_login(counts: &mut Counts, app: &AppId, sighting: &Sighting, result: &SightingResult) {
    let of_app = counts.login_of(app);
    match (result.user, &result.unionid) {
        (None, _) => of_app.void += 1,
        (Some(_), Some(_)) => of_app.linked += 1,
        // Claims that do not show as a unionid are contested.
        (Some(_), None) if !sighting.claims.is_empty() => of_app.unresolved(Reason::Contested),
        (Some(_), None) => of_app.unresolved(sighting.reason.unwrap_or(Reason::NoUnionid)),
    }
}

/// What becomes of accounts, whoever's login it was.
fn count_changes(counts: &mut Counts, view: &View, changes: &Changes, apps: &Apps) {
    for row in &changes.accounts {
        let of_app = counts.of(&row.account.app);
        match view.accounts.get(&row.account) {
            None => of_app.new_accounts += 1,
            Some(before) if before.user != row.user => of_app.merged += 1,
            Some(_) => {}
        }
    }
    let rows = changes.accounts.iter().map(|row| &row.account);
    let claims = changes.claims.iter().map(|claim| &claim.key.account);
    let touched: BTreeSet<&Account> = rows.chain(claims).collect();
    for account in touched {
        if !has_unionid(view, account, apps) && will_have_unionid(view, changes, account, apps) {
            counts.of(&account.app).newly_linked += 1;
        }
    }
    for news in &changes.news {
        if let News::Conflict { claim, .. } = news {
            counts.of(&claim.key.account.app).contested += 1;
        }
    }
}

fn will_have_unionid(view: &View, changes: &Changes, account: &Account, apps: &Apps) -> bool {
    let new = changes.accounts.iter().find(|row| row.account == *account);
    let Some(row) = new.or_else(|| view.accounts.get(account)) else {
        return false;
    };
    let stored = view.claims.get(account).into_iter().flatten();
    let mut claims: BTreeMap<_, &ClaimRow> = stored.map(|c| (&c.key.union, c)).collect();
    let written = changes.claims.iter();
    claims.extend(
        written
            .filter(|c| c.key.account == *account)
            .map(|c| (&c.key.union, c)),
    );
    let claims: Vec<ClaimRow> = claims.into_values().cloned().collect();
    present(row, &claims, apps).unionid.is_some()
}
