//! `unilink conflicts move`: an app changed its platform, and the binding was entered late. What was
//! claimed in between stands under the old platform with unionids of the new one. It is rejected there; a
//! replay of those logins files it under the new binding.

use super::MoveArgs;
use super::bulk::{Bulk, MOST};
use crate::cli::Failure;
use crate::cli::name::{moment, platform};
use crate::cli::office::Office;
use crate::config::Config;
use crate::model::{AppId, Apps, ClaimKey, ClaimVerdict, Millis, PlatformId};
use crate::store::{State, Which};

/// Accounts of one page.
const PAGE: usize = 500;

/// Rejects what is filed under the wrong platform.
pub(super) async fn run(config: Config, args: MoveArgs) -> Result<(), Failure> {
    let app = AppId::parse(&args.app)
        .map_err(|why| Failure::Usage(format!("--app is no appid: it {why}")))?;
    let from = platform("--from-platform", &args.from_platform)?;
    let since = moment("--since", &args.since)?;
    args.deed.wait()?;
    if !args.deed.dry_run {
        args.deed.judge()?;
    }
    bound(&config.apps(), &app, &from, since)?;
    let office = Office::open(config).await?;
    let (claims, more) = misfiled(&office, &app, &from, since).await?;
    let bulk = Bulk {
        claims,
        more,
        verdict: Some(ClaimVerdict::Reject),
        allow_links: args.allow_links,
        rate: args.rate,
        action: "conflicts move",
        detail: vec![
            ("app", args.app.clone()),
            ("from_platform", args.from_platform.clone()),
            ("since", since.to_string()),
        ],
    };
    bulk.run(&office, &args.deed).await
}

/// The configuration must say where the app is since then: else a replay would file the same again.
fn bound(apps: &Apps, app: &AppId, from: &PlatformId, since: Millis) -> Result<(), Failure> {
    let Some(app) = apps.get(app) else {
        let why = "--app is no app of the configuration";
        return Err(Failure::Usage(why.to_owned()));
    };
    let mut bindings = app.bindings.iter();
    if !bindings.any(|b| b.platform == *from && b.since < since) {
        let why = "--from-platform: the app has no binding to it that began before --since";
        return Err(Failure::Usage(why.to_owned()));
    }
    let mut bindings = app.bindings.iter();
    match bindings.find(|b| b.since == since && b.platform != *from) {
        Some(_) => Ok(()),
        None => Err(Failure::Usage(format!(
            "the configuration has no other platform for the app since {since}: add [[apps.platforms]] with \
             its id and that `since`, and restart the workers; else each login would be filed as before"
        ))),
    }
}

/// Claims of the app in the old platform from then on, whether they link or not, that are not rejected
/// yet.
async fn misfiled(
    office: &Office,
    app: &AppId,
    from: &PlatformId,
    since: Millis,
) -> Result<(Vec<ClaimKey>, bool), Failure> {
    let which = Which {
        app: Some(app.clone()),
        state: State::Any,
    };
    let mut claims = Vec::new();
    let mut after = Some(0);
    while let Some(place) = after {
        let page = office.store.browse(&which, place, PAGE).await;
        let page = page.map_err(Failure::failed)?;
        for claim in page.found.into_iter().flat_map(|(_, found)| found.claims) {
            let misfiled = claim.key.union.platform == *from
                && claim.at >= since
                && claim.verdict != Some(ClaimVerdict::Reject);
            if misfiled && claims.len() == MOST {
                return Ok((claims, true));
            }
            if misfiled {
                claims.push(claim.key);
            }
        }
        after = page.next;
    }
    Ok((claims, false))
}
