//! `unilink conflicts list`: contested claims, counted and listed.

use super::bulk::MOST;
use super::{FilterArgs, ListArgs};
use crate::cli::Failure;
use crate::cli::name::{app, missing, moment, platform};
use crate::cli::office::Office;
use crate::cli::shown::{ClaimJson, claim_line, say, say_json};
use crate::config::Config;
use crate::model::{AppId, ClaimKey, ClaimRow, ClaimStatus, ClaimVerdict, Millis, PlatformId, Why};
use crate::store::{State, Which};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Accounts of one page.
const PAGE: usize = 500;

/// Which contested claims.
pub(super) struct Filter {
    app: Option<AppId>,
    platform: Option<PlatformId>,
    why: Option<Why>,
    since: Option<Millis>,
}

impl Filter {
    pub(super) fn of(args: &FilterArgs, config: &Config) -> Result<Self, Failure> {
        let apps = config.apps();
        let app = args.app.as_deref().map(|text| app("--app", text, &apps));
        let why = args.why.as_deref().map(|word| {
            Why::from_word(word).ok_or_else(|| {
                let words: Vec<&str> = Why::ALL.iter().map(|why| why.word()).collect();
                Failure::Usage(format!("--why is one of {}", words.join(", ")))
            })
        });
        let platform = args.platform.as_deref().map(|text| {
            let platform = platform("--platform", text)?;
            match config.platforms.contains(&platform) {
                true => Ok(platform),
                false => {
                    let known = config.platforms.iter().map(PlatformId::as_str);
                    Err(missing("--platform", platform.as_str(), known))
                }
            }
        });
        let since = args.since.as_deref().map(|text| moment("--since", text));
        Ok(Self {
            app: app.transpose()?,
            platform: platform.transpose()?,
            why: why.transpose()?,
            since: since.transpose()?,
        })
    }

    /// Why the claim is contested, if it is among those that are meant.
    fn takes(&self, claim: &ClaimRow) -> Option<Why> {
        let ClaimStatus::Contested(why) = claim.status else {
            return None;
        };
        let platform = &claim.key.union.platform;
        let taken = self.platform.as_ref().is_none_or(|p| p == platform)
            && self.since.is_none_or(|since| claim.at >= since)
            && self.why.is_none_or(|wanted| why == wanted);
        taken.then_some(why)
    }
}

impl Filter {
    /// Contested claims that are meant and about which the word does not stand yet, up to the most that
    /// are decided about at once, and whether there are more. Those that an operator rejected are
    /// decided already, unless it is for them that one asks, or their word is taken back.
    pub(super) async fn open(
        &self,
        office: &Office,
        verdict: Option<ClaimVerdict>,
    ) -> Result<(Vec<ClaimKey>, bool), Failure> {
        let mut claims = Vec::new();
        let mut after = Some(0);
        while let Some(from) = after {
            let page = office.store.browse(&self.which(), from, PAGE).await;
            let page = page.map_err(Failure::failed)?;
            for claim in page.found.into_iter().flat_map(|(_, found)| found.claims) {
                let Some(why) = self.takes(&claim) else {
                    continue;
                };
                let decided = why == Why::Rejected && self.why.is_none() && verdict.is_some();
                if decided || claim.verdict == verdict {
                    continue;
                }
                if claims.len() == MOST {
                    return Ok((claims, true));
                }
                claims.push(claim.key);
            }
            after = page.next;
        }
        Ok((claims, false))
    }

    fn which(&self) -> Which {
        Which {
            app: self.app.clone(),
            state: State::Contested,
        }
    }
}

/// Lists.
pub(super) async fn run(config: Config, args: ListArgs) -> Result<(), Failure> {
    let filter = Filter::of(&args.filter, &config)?;
    let office = Office::open(config).await?;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut listed: Vec<ClaimRow> = Vec::new();
    let mut after = Some(0);
    while let Some(from) = after {
        let page = office.store.browse(&filter.which(), from, PAGE).await;
        let page = page.map_err(Failure::failed)?;
        for claim in page.found.into_iter().flat_map(|(_, found)| found.claims) {
            let Some(why) = filter.takes(&claim) else {
                continue;
            };
            *counts.entry(why.word()).or_default() += 1;
            // Of those that are decided already only whoever asks for them wants a list.
            let open = why != Why::Rejected || filter.why == Some(Why::Rejected);
            if open && listed.len() < args.limit {
                listed.push(claim);
            }
        }
        after = page.next;
    }
    if args.json {
        let claims: Vec<ClaimJson> = listed.iter().map(ClaimJson::of).collect();
        say_json(&json!({"by_why": counts, "claims": claims}));
        return Ok(());
    }
    say(&text(&filter, &counts, &listed).map_err(Failure::failed)?);
    Ok(())
}

fn text(
    filter: &Filter,
    counts: &BTreeMap<&str, u64>,
    listed: &[ClaimRow],
) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    if counts.is_empty() {
        return Ok("No claim that is asked for is contested.\n".to_owned());
    }
    for (why, n) in counts {
        writeln!(text, "{n:>10}  {why}")?;
    }
    for claim in listed {
        writeln!(text, "{}", claim.key.account.key())?;
        writeln!(text, "  {}", claim_line(claim))?;
    }
    let hidden = match filter.why {
        Some(_) => 0,
        None => counts.get(Why::Rejected.word()).copied().unwrap_or(0),
    };
    let open = counts.values().sum::<u64>() - hidden;
    if (listed.len() as u64) < open {
        writeln!(
            text,
            "{} of {open} are listed (-n lists more)",
            listed.len()
        )?;
    }
    Ok(text)
}
