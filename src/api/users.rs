//! Look-ups of users: by an id that was ever published, or by a unionid in its platform.

use super::view::UserView;
use super::{Api, not_found, valid};
use crate::http::{HttpError, InPath};
use crate::model::{PlatformId, UnionId, UnionKey, UserId};
use crate::store::FoundUser;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

/// The user that a published id stands for now.
#[derive(Serialize)]
pub(super) struct ById {
    requested: String,
    #[serde(flatten)]
    user: UserView,
}

/// The user whose accounts claim the unionid.
#[derive(Serialize)]
pub(super) struct ByUnionid {
    platform: String,
    unionid: String,
    #[serde(flatten)]
    user: UserView,
}

pub(super) async fn by_id(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    InPath(user_id): InPath<String>,
) -> Result<Json<ById>, HttpError> {
    let _place = api.admit(&headers)?;
    let not_uuid = |_| HttpError::field("user_id", "must be a UUID");
    let wanted = UserId(Uuid::try_parse(&user_id).map_err(not_uuid)?);
    let user = api.user(wanted).await?;
    let requested = wanted.to_string();
    Ok(Json(ById { requested, user }))
}

pub(super) async fn by_unionid(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    InPath((platform, unionid)): InPath<(String, String)>,
) -> Result<Json<ByUnionid>, HttpError> {
    let _place = api.admit(&headers)?;
    let key = UnionKey {
        platform: valid("platform", PlatformId::parse(&platform))?,
        unionid: valid("unionid", UnionId::parse(&unionid))?,
    };
    let found = api.ask(api.store.find_unionid(&key)).await?;
    let user = found.ok_or_else(|| not_found("no account is linked by this unionid"))?;
    Ok(Json(ByUnionid {
        platform,
        unionid,
        user: api.user(user).await?,
    }))
}

impl Api {
    async fn user(&self, wanted: UserId) -> Result<UserView, HttpError> {
        match self.ask(self.store.find_user(wanted)).await? {
            FoundUser::Is(user, accounts) => {
                let epoch = self.store.identity().epoch;
                Ok(UserView::of(user, &accounts, &self.apps, epoch))
            }
            FoundUser::Gone => Err(HttpError::new(StatusCode::GONE, "this user was erased")),
            FoundUser::Unknown => Err(not_found("no such user")),
        }
    }
}
