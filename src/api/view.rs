//! What look-ups show: an account has the fields that `account.linked` has.

use crate::model::{Apps, ClaimRow, ClaimStatus, UserId, present};
use crate::store::FoundAccount;
use serde::Serialize;

/// Most claims shown of one account, as in `account.linked`; their number is always told.
const MAX_CLAIMS: usize = 32;

/// An account, as look-ups and commands show it.
#[derive(Serialize)]
pub struct AccountView {
    appid: String,
    openid: String,
    user_id: String,
    platform: Option<String>,
    unionid: Option<String>,
    method: &'static str,
    reason: Option<&'static str>,
    claims: Vec<ClaimView>,
    claims_count: usize,
    epoch: u32,
    revision: u64,
    generation: i64,
    external_id: Option<String>,
    first_seen_at: String,
    linked_at: String,
}

#[derive(Serialize)]
struct ClaimView {
    platform: String,
    unionid: String,
    method: &'static str,
    at: String,
    status: &'static str,
    why: Option<&'static str>,
}

/// A user with its accounts.
#[derive(Serialize)]
pub struct UserView {
    /// Its id.
    pub user_id: String,
    /// Its accounts.
    pub accounts: Vec<AccountView>,
}

impl AccountView {
    /// Of what a store found.
    #[must_use]
    pub fn of(found: &FoundAccount, apps: &Apps, epoch: u32) -> Self {
        let FoundAccount { row, claims } = found;
        let shown = present(row, claims, apps);
        Self {
            appid: row.account.app.as_str().to_owned(),
            openid: row.account.openid.as_str().to_owned(),
            user_id: row.user.to_string(),
            platform: shown.platform.map(|p| p.as_str().to_owned()),
            unionid: shown.unionid.map(|u| u.as_str().to_owned()),
            method: shown.method.shown(),
            reason: shown.reason.map(|r| r.word()),
            claims: claims.iter().take(MAX_CLAIMS).map(ClaimView::of).collect(),
            claims_count: claims.len(),
            epoch,
            revision: row.revision,
            generation: row.generation.0,
            external_id: row.external.as_ref().map(|(_, id)| id.as_str().to_owned()),
            first_seen_at: row.first_seen_at.to_string(),
            linked_at: row.linked_at.to_string(),
        }
    }
}

impl ClaimView {
    fn of(claim: &ClaimRow) -> Self {
        let (status, why) = match claim.status {
            ClaimStatus::Active => ("active", None),
            ClaimStatus::Contested(why) => ("contested", Some(why.word())),
        };
        Self {
            platform: claim.key.union.platform.as_str().to_owned(),
            unionid: claim.key.union.unionid.as_str().to_owned(),
            method: claim.method.shown(),
            at: claim.at.to_string(),
            status,
            why,
        }
    }
}

impl UserView {
    /// Of what a store found.
    #[must_use]
    pub fn of(user: UserId, accounts: &[FoundAccount], apps: &Apps, epoch: u32) -> Self {
        let view = |found| AccountView::of(found, apps, epoch);
        Self {
            user_id: user.to_string(),
            accounts: accounts.iter().map(view).collect(),
        }
    }
}
