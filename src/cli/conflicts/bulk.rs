//! Many decisions of one sort, about claims that a filter finds.
//!
//! What belongs together is planned together: of the claims on a shared unionid, rejecting some lets the
//! rest link strangers, although rejecting any one of them would not. So claims are gathered into groups
//! that do not touch each other, each is planned as a whole, and nothing is begun that would join users
//! unasked. Within a group decisions go one after the other, each looked at again ([`Judge::decide`]); a
//! unionid with more claims than a store reads at once is seen to its end only that way.

use crate::cli::Failure;
use crate::cli::deed::{Carried, DeedArgs, Judge};
use crate::cli::office::{FORESEEN, Office};
use crate::cli::progress::{Progress, until_signalled};
use crate::cli::shown::{outlook_lines, say, say_refused};
use crate::cli::word::{Agreed, latest, ruling_of};
use crate::link::Outlook;
use crate::model::{Account, ClaimKey, ClaimVerdict, Fact, Keys, UnionKey, View};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use tokio_util::sync::CancellationToken;

/// Claims that one command decides about. They are all held in memory; what is left over, the next
/// command finds.
pub(super) const MOST: usize = 10_000;
/// Groups that are at work at once: each waits for a worker most of its time.
const AT_ONCE: usize = 32;
/// Groups whose outlook is printed in full.
const SHOWN: usize = 20;

/// What is decided about many claims.
pub(super) struct Bulk {
    /// The claims.
    pub claims: Vec<ClaimKey>,
    /// Whether more were found.
    pub more: bool,
    /// The word about each.
    pub verdict: Option<ClaimVerdict>,
    /// Whether users may be joined.
    pub allow_links: bool,
    /// Decisions a second.
    pub rate: NonZeroU32,
    /// For the audit: which command, and what was asked for.
    pub action: &'static str,
    /// See `action`.
    pub detail: Vec<(&'static str, String)>,
}

/// Something that a plan rests on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Account(Account),
    Unionid(UnionKey),
}

/// Claims that belong together.
struct Group {
    claims: Vec<ClaimKey>,
    /// What its plan has read.
    keys: Keys,
    reach: BTreeSet<Place>,
    outlook: Outlook,
    /// It has more decisions, or a unionid of it more claims, than are looked at beforehand.
    endless: bool,
    /// One decision after the other would join users on the way who are apart in the end.
    stuck: bool,
}

impl Bulk {
    /// Plans, asks, decides, and says what became of it.
    pub(super) async fn run(self, office: &Office, deed: &DeedArgs) -> Result<(), Failure> {
        let wait = deed.wait()?;
        let groups = self.groups(office).await?;
        say(&self.plan_lines(&groups));
        if deed.dry_run || groups.is_empty() {
            say_refused(self.refuse(&groups));
            return Ok(());
        }
        self.refuse(&groups)?;
        deed.consent.to(&self.summary(&groups))?;
        let judge = Judge::new(office, deed.judge()?, wait)?.paced(self.rate);
        let stop = until_signalled()?;
        let progress = Progress::new(false);
        let total = self.claims.len() as u64;
        progress.begin("claims", 0, total);
        let carried = self.carry_out(&judge, groups, &stop, &progress).await;
        progress.finish();
        let (all, failed) = carried;
        let counts = [
            ("claims", total),
            ("decisions", all.given),
            ("shown", all.shown),
        ];
        let detail: Vec<(&str, &str)> = self.detail.iter().map(|(k, v)| (*k, &**v)).collect();
        judge.audit(self.action, &detail, &counts).await?;
        let told = format!("{} of {total} claims are decided", all.shown);
        match failed {
            Some(why) => Err(Failure::Failed(format!("{told}. {why}"))),
            None if all.shown < total => Err(Failure::Failed(format!(
                "stopped: {told}. Run the same command again: it goes on with the rest"
            ))),
            None => {
                let rest = match self.more {
                    true => ". More match: run the same command again",
                    false => "",
                };
                say(&format!("Done: {told}{rest}.\n"));
                Ok(())
            }
        }
    }

    /// Each group one decision after the other, many groups at once. The first thing that fails ends it.
    async fn carry_out(
        &self,
        judge: &Judge<'_>,
        groups: Vec<Group>,
        stop: &CancellationToken,
        progress: &Progress,
    ) -> (Carried, Option<Failure>) {
        let at_work = groups.into_iter().map(|group| async move {
            let mut carried = Carried::default();
            let agreed = Agreed::to(&group.outlook, self.allow_links);
            let rulings = group.claims.iter().map(|key| ruling_of(key, self.verdict));
            let decided = judge
                .decide(rulings.collect(), &agreed, &mut carried, stop)
                .await;
            (carried, decided)
        });
        let mut at_work = futures::stream::iter(at_work).buffer_unordered(AT_ONCE);
        let (mut all, mut failed) = (Carried::default(), None);
        while let Some((carried, decided)) = at_work.next().await {
            all.given += carried.given;
            all.shown += carried.shown;
            progress.went(all.shown, &[]);
            if let Err(why) = decided {
                stop.cancel();
                failed.get_or_insert(why);
            }
        }
        (all, failed)
    }

    async fn groups(&self, office: &Office) -> Result<Vec<Group>, Failure> {
        let mut on: BTreeMap<&UnionKey, Vec<ClaimKey>> = BTreeMap::new();
        for key in &self.claims {
            on.entry(&key.union).or_default().push(key.clone());
        }
        let mut groups: Vec<Option<Group>> = Vec::new();
        let mut holder: BTreeMap<Place, usize> = BTreeMap::new();
        for claims in on.into_values() {
            let mut group = self.group(office, claims).await?;
            // Ends: each round takes another group in.
            loop {
                let met = group.reach.iter().filter_map(|place| holder.get(place));
                let met: BTreeSet<usize> = met.copied().collect();
                let met = met.into_iter().filter_map(|n| groups.get_mut(n)?.take());
                let met: Vec<Group> = met.collect();
                if met.is_empty() {
                    break;
                }
                for place in met.iter().flat_map(|other| &other.reach) {
                    holder.remove(place);
                }
                let mut claims = group.claims;
                claims.extend(met.into_iter().flat_map(|other| other.claims));
                group = self.group(office, claims).await?;
            }
            let n = groups.len();
            holder.extend(group.reach.iter().map(|place| (place.clone(), n)));
            groups.push(Some(group));
        }
        let mut groups: Vec<Group> = groups.into_iter().flatten().collect();
        for group in groups.iter_mut().filter(|group| group.claims.len() > 1) {
            let rulings = group.claims.iter().map(|key| ruling_of(key, self.verdict));
            let agreed = Agreed::to(&group.outlook, self.allow_links);
            let keys = std::mem::take(&mut group.keys);
            group.stuck = !office.in_turn(keys, rulings, &agreed).await?;
        }
        Ok(groups)
    }

    async fn group(&self, office: &Office, claims: Vec<ClaimKey>) -> Result<Group, Failure> {
        let words = claims
            .iter()
            .map(|key| latest(ruling_of(key, self.verdict)));
        let facts = words.map(|word| word.map(Fact::Decision));
        let facts: Vec<Fact> = facts.collect::<Result<_, _>>()?;
        let (view, changes) = office.plan(&facts).await?;
        Ok(Group {
            reach: reach(&view),
            outlook: Outlook::of(&view, &changes),
            endless: claims.len() > FORESEEN || view.unionids.values().any(|read| read.truncated),
            keys: view.asked,
            claims,
            stuck: false,
        })
    }

    fn plan_lines(&self, groups: &[Group]) -> String {
        let mut text = String::new();
        let changing = groups
            .iter()
            .filter(|group| group.outlook != Outlook::default());
        for group in changing.clone().take(SHOWN) {
            text.push_str(&outlook_lines(&group.outlook));
        }
        let (shown, all) = (changing.clone().count().min(SHOWN), changing.count());
        if shown < all {
            text.push_str(&format!("… and {} more groups that change\n", all - shown));
        }
        text.push_str(&self.summary(groups));
        text.push('\n');
        text
    }

    /// In numbers, without a name.
    fn summary(&self, groups: &[Group]) -> String {
        let joined: usize = groups.iter().map(|g| g.outlook.joined().len()).sum();
        let parted: usize = groups.iter().map(|g| g.outlook.parted().len()).sum();
        let endless = groups.iter().filter(|group| group.endless).count();
        let endless = match endless {
            0 => String::new(),
            n => format!(
                "; {n} groups are larger than is looked at beforehand: what is left of them shows only on \
                 the way, where nobody is joined unasked either"
            ),
        };
        format!(
            "{}: claims {} in {} groups; users that come apart: {parted}; users that are joined of \
             several: {joined}{endless}",
            self.verdict
                .map_or("withdraw", crate::cli::shown::verdict_word),
            self.claims.len(),
            groups.len(),
        )
    }

    fn refuse(&self, groups: &[Group]) -> Result<(), Failure> {
        let joining = groups.iter().filter(|g| !g.outlook.joined().is_empty());
        let joining = joining.count();
        if joining > 0 && !self.allow_links {
            return Err(Failure::Usage(format!(
                "{joining} groups would have users joined of several that are apart now (JOINED above): \
                 choose other claims, all of a unionid's for instance, or add --allow-links if they are \
                 the same people"
            )));
        }
        match groups.iter().filter(|group| group.stuck).count() {
            0 => Ok(()),
            n => Err(Failure::Usage(format!(
                "{n} groups would have users joined for a while who are apart in the end, whichever claim \
                 comes first: choose all claims of their unionids, and afterwards withdraw the word about \
                 those that stay"
            ))),
        }
    }
}

fn reach(view: &View) -> BTreeSet<Place> {
    let accounts = view.asked.accounts.iter().cloned().map(Place::Account);
    let unionids = view.asked.unionids.iter().cloned().map(Place::Unionid);
    accounts.chain(unionids).collect()
}
