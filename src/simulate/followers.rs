//! An official account's followers (`docs/wechat.md` §7, §6).

use super::answer::Body;
use super::dice::{mix, unit};
use super::gate::Call;
use super::simulator::{LoginError, Simulator, lock};
use super::world::AppNo;

/// Most openids in a batch, and in a page of the list.
const BATCH: usize = 100;
const PAGE: usize = 10_000;
/// Most people whose following was changed by hand.
const MAX_CHANGES: usize = 1_000_000;
/// Nobody follows since before this (2017), in seconds, and all since three years later.
const FIRST: i64 = 1_483_228_800;
const SPAN: u64 = 94_608_000;

impl Simulator {
    /// Whether the person follows the official account now.
    #[must_use]
    pub fn follows(&self, person: u64, app: AppNo) -> bool {
        let changed = lock(&self.follows).get(&(app, person)).copied();
        changed.unwrap_or_else(|| self.world.follows(person, app))
    }

    /// The person follows the official account, or no longer; openid and unionid stay.
    ///
    /// # Errors
    /// [`LoginError`]: app or person are not of this world, or too many changes are remembered.
    pub fn set_follows(&self, app: AppNo, person: u64, on: bool) -> Result<(), LoginError> {
        self.known(app, person)?;
        let mut follows = lock(&self.follows);
        if self.world.follows(person, app) == on {
            follows.remove(&(app, person));
            return Ok(());
        }
        if follows.len() >= MAX_CHANGES {
            return Err(LoginError::Full);
        }
        follows.insert((app, person), on);
        Ok(())
    }

    /// `GET /cgi-bin/user/info`.
    pub(super) fn follower(&self, call: &Call, app: AppNo) -> Result<Body, i32> {
        match call.request.field("openid") {
            "" => Err(41009),
            openid => self.follower_body(app, openid),
        }
    }

    /// `POST /cgi-bin/user/info/batchget`: one bad openid spoils all.
    pub(super) fn follower_batch(&self, call: &Call, app: AppNo) -> Result<Body, i32> {
        let json = call.request.json()?;
        let list = json["user_list"].as_array().ok_or(40032)?;
        if list.is_empty() || list.len() > BATCH {
            return Err(40032);
        }
        let mut found = Vec::with_capacity(list.len());
        for user in list {
            let openid = user["openid"].as_str().ok_or(40003)?;
            let order = mix(&[call.subject, self.world.person_of(openid, app).unwrap_or(0)]);
            found.push((order, self.follower_body(app, openid)?));
        }
        // The order is not promised: join by openid.
        found.sort_by_key(|(order, _)| *order);
        let users = found.into_iter().map(|(_, body)| body).collect();
        Ok(Body::new().bodies("user_info_list", users))
    }

    fn follower_body(&self, app: AppNo, openid: &str) -> Result<Body, i32> {
        let person = self.world.person_of(openid, app).ok_or(40003)?;
        let draw = mix(&[self.world.seed(), person, u64::from(app.0), 0x0f0]);
        let body = Body::new();
        let empty = |body: Body| {
            let names = ["nickname", "language", "city", "province", "country"];
            let body = names.iter().fold(body, |body, name| body.text(name, ""));
            body.text("headimgurl", "")
        };
        if !self.follows(person, app) {
            let body = body.number("subscribe", 0).text("openid", openid);
            // Both are seen.
            return Ok(if draw.is_multiple_of(2) {
                body
            } else {
                empty(body).texts("tagid_list", &[])
            });
        }
        let bound = self.world.bound(app, self.now());
        let unionid = self.world.unionid_text(person, app).filter(|_| bound);
        let spaced = unit(mix(&[draw])) < self.settings.spaced_unionids;
        let unionid = unionid.map(|u| if spaced { format!(" {u}") } else { u });
        let since = FIRST + i64::try_from(draw % SPAN).unwrap_or(0);
        let body = body.number("subscribe", 1).text("openid", openid);
        Ok(empty(body)
            .number("sex", 0)
            .number("subscribe_time", since)
            .some("unionid", unionid.as_deref())
            .text("remark", "")
            .number("groupid", 0)
            .texts("tagid_list", &[])
            .text("subscribe_scene", "ADD_SCENE_QR_CODE")
            .number("qr_scene", 0)
            .text("qr_scene_str", ""))
    }

    /// `GET /cgi-bin/user/get`. The last page still names a next openid; the page after it has no
    /// `data`.
    pub(super) fn follower_list(&self, call: &Call, app: AppNo) -> Result<Body, i32> {
        let first = match call.request.field("next_openid") {
            "" => 0,
            openid => self.world.person_of(openid, app).ok_or(40003)? + 1,
        };
        let people = self.settings.people;
        let follow = |person: &u64| self.follows(*person, app);
        let total = (0..people).filter(follow).count();
        let page: Vec<String> = (first..people)
            .filter(follow)
            .take(PAGE)
            .map(|person| self.world.openid_text(person, app))
            .collect();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let body = Body::new()
            .number("total", count(total))
            .number("count", count(page.len()));
        Ok(match page.last() {
            Some(last) => body
                .body("data", Body::new().texts("openid", &page))
                .text("next_openid", last),
            None => body.text("next_openid", ""),
        })
    }
}
