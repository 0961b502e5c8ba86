//! The summary of `demo`: what came of the logins, held against the simulator's truth.

use super::Failure;
use super::assemble::Parts;
use super::driver::Posted;
use crate::bus::Range;
use crate::model::Account;
use crate::simulate::{CodeStats, Found, Population, Simulator, Truth, Verdict};
use crate::store::{FoundUser, Totals};
use crate::wire::{Grave, LoginWire};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// People judged at once.
const CHUNK: u64 = 200;
/// Records read at once.
const READ: usize = 2_000;

/// What `demo` ends with.
#[derive(Debug, Serialize)]
pub struct Report {
    people: u64,
    seconds: f64,
    logins_accepted: u64,
    logins_refused: u64,
    accounts: u64,
    users: u64,
    merges: u64,
    links_by_method: BTreeMap<String, u64>,
    unresolved_by_reason: BTreeMap<String, u64>,
    contested_by_why: BTreeMap<String, u64>,
    waiting_for_a_session_key: u64,
    dead_letters_by_reason: BTreeMap<String, u64>,
    unexpected_dead_letters: u64,
    codes: CodeStats,
    verdict: Verdict,
}

impl Report {
    /// Judges what the product holds. The worker has stopped.
    ///
    /// # Errors
    /// The store or the log cannot be read.
    pub async fn make(
        parts: &Arc<Parts>,
        sim: &Simulator,
        population: Population,
        posted: Posted,
        took: Duration,
    ) -> Result<Self, Failure> {
        let totals: Totals = parts.store.totals().await.map_err(Failure::failed)?;
        let mut dead = dead_letters(parts).await?;
        let mut by_reason = BTreeMap::new();
        for reason in dead.values() {
            *by_reason.entry(reason.clone()).or_default() += 1;
        }
        let mut verdict = Verdict::default();
        let lost: HashSet<String> = posted.refused.iter().chain(dead.keys()).cloned().collect();
        let mut person = 0;
        while person < population.people() {
            let end = (person + CHUNK).min(population.people());
            let truths: Vec<Truth> = (person..end)
                .map(|p| population.truth(p, sim.world()).map_err(Failure::failed))
                .collect::<Result<_, _>>()?;
            judge(parts, &truths, &lost, &mut verdict).await?;
            for (event, reasons) in truths.iter().flat_map(Truth::dead) {
                if dead
                    .get(event)
                    .is_some_and(|r| reasons.iter().any(|x| x.word() == r))
                {
                    dead.remove(event);
                }
            }
            person = end;
        }
        Ok(Self {
            people: population.people(),
            seconds: took.as_secs_f64(),
            logins_accepted: posted.accepted,
            logins_refused: posted.refused.len() as u64,
            accounts: totals.accounts,
            users: totals.users,
            merges: totals.accounts - totals.users,
            links_by_method: totals.linked_by_method,
            unresolved_by_reason: totals.unresolved_by_reason,
            contested_by_why: totals.contested_by_why,
            waiting_for_a_session_key: totals.deferred_by_app.values().sum(),
            dead_letters_by_reason: by_reason,
            unexpected_dead_letters: dead.len() as u64,
            codes: sim.stats().codes,
            verdict,
        })
    }

    /// Whether all is as it should be: no wrong merge, and nothing missed that was obtainable.
    /// Injected faults may kill codes; what they cost is not missed, since it was not obtainable.
    #[must_use]
    pub fn perfect(&self) -> bool {
        self.verdict.perfect() && self.codes.resent_after_answer == 0
    }

    /// The summary for a person.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        let rate = count(self.logins_accepted, self.seconds);
        let mut line = |name: &str, value: String| {
            out.push_str(&format!("  {name:<34}{value}\n"));
        };
        line("people", self.people.to_string());
        line(
            "logins accepted",
            format!("{} ({rate} a second)", self.logins_accepted),
        );
        line(
            "logins refused (placeholders)",
            self.logins_refused.to_string(),
        );
        line("accounts (a person in an app)", self.accounts.to_string());
        line("users (a person)", self.users.to_string());
        line("merges (accounts that joined)", self.merges.to_string());
        line("linked, by method", words(&self.links_by_method));
        line("unresolved, by reason", words(&self.unresolved_by_reason));
        line("contested claims, by why", words(&self.contested_by_why));
        line(
            "waiting for a session key",
            self.waiting_for_a_session_key.to_string(),
        );
        line(
            "dead letters, by reason",
            words(&self.dead_letters_by_reason),
        );
        line("codes spent at WeChat", self.codes.spent.to_string());
        line(
            "codes sent again after an answer",
            self.codes.resent_after_answer.to_string(),
        );
        out.push_str("\nAgainst the simulator's truth:\n");
        let v = &self.verdict;
        for (name, value) in [
            ("wrong merges", v.wrong_merges),
            ("missed merges", v.missed_merges),
            ("accounts missing", v.missing),
            ("links missed", v.missed_links),
            ("links wrong", v.wrong_links),
            ("reasons wrong", v.wrong_reasons),
        ] {
            out.push_str(&format!("  {name:<34}{value}\n"));
        }
        if self.unexpected_dead_letters > 0 {
            let n = self.unexpected_dead_letters;
            out.push_str(&format!("  {:<34}{n}\n", "logins lost to injected faults"));
        }
        let end = if self.perfect() {
            "\nEvery person is one user, wherever WeChat let it be known.\n"
        } else {
            "\nThis is not as it should be.\n"
        };
        out + end
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]
fn count(n: u64, seconds: f64) -> u64 {
    (n as f64 / seconds.max(0.001)) as u64
}

fn words(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(word, n)| format!("{word} {n}"))
        .collect();
    parts.join(", ")
}

/// Judges a chunk of people by what the store's look-ups answer.
async fn judge(
    parts: &Parts,
    truths: &[Truth],
    lost: &HashSet<String>,
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    let lost = |event: &str| lost.contains(event);
    let expected: Vec<Vec<Account>> = truths
        .iter()
        .map(|t| t.accounts(&lost).into_iter().map(|e| e.account).collect())
        .collect();
    let asked: Vec<Account> = expected.iter().flatten().cloned().collect();
    let rows = parts
        .store
        .find_accounts(&asked)
        .await
        .map_err(Failure::failed)?;
    let mut members = HashMap::new();
    let mut rows = rows.into_iter();
    for (truth, accounts) in truths.iter().zip(&expected) {
        let mut found = Vec::with_capacity(accounts.len());
        for row in rows.by_ref().take(accounts.len()).flatten() {
            let user = row.row.user;
            if let std::collections::hash_map::Entry::Vacant(slot) = members.entry(user) {
                slot.insert(members_of(parts, user).await?);
            }
            let shown = crate::model::present(&row.row, &row.claims, &parts.apps);
            found.push(Found {
                account: row.row.account,
                user,
                members: members.get(&user).cloned().unwrap_or_default(),
                unionid: shown.unionid,
                reason: shown.reason,
            });
        }
        verdict.add(&truth.judge(&found, &lost));
    }
    Ok(())
}

async fn members_of(parts: &Parts, user: crate::model::UserId) -> Result<Vec<Account>, Failure> {
    let found = parts.store.find_user(user).await.map_err(Failure::failed)?;
    Ok(match found {
        FoundUser::Is(_, accounts) => accounts.into_iter().map(|a| a.row.account).collect(),
        FoundUser::Gone | FoundUser::Unknown => Vec::new(),
    })
}

/// Event id and reason of every dead letter.
async fn dead_letters(parts: &Parts) -> Result<HashMap<String, String>, Failure> {
    let topic = &parts.config.topics.dlq;
    let topics = parts.bus.topics(&[]).await.map_err(Failure::failed)?;
    let bounds = topics.into_iter().find(|t| t.name == *topic);
    let mut dead = HashMap::new();
    for (partition, (from, to)) in (0u32..).zip(bounds.map(|t| t.bounds).unwrap_or_default()) {
        let mut range = Range {
            topic: Arc::clone(topic),
            partition,
            from,
            to,
        };
        loop {
            let records = parts
                .bus
                .read(&range, READ)
                .await
                .map_err(Failure::failed)?;
            let Some(last) = records.last() else { break };
            range.from = last.offset + 1;
            for record in &records {
                let grave = Grave::parse(record).map_err(Failure::failed)?;
                let login = record
                    .value
                    .as_deref()
                    .and_then(|v| LoginWire::parse(v).ok());
                let place = format!("{}/{}", grave.origin.partition, grave.origin.offset);
                let reason = grave.reason.map_or("unknown", |r| r.word());
                dead.insert(login.map_or(place, |l| l.id), reason.to_owned());
            }
        }
    }
    Ok(dead)
}
