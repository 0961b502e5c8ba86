//! Every API that unilink calls and every code that WeChat may answer with (`docs/wechat.md` §2), as
//! stories of the real worker against the simulator over HTTP. `docs/wechat-apis.md` is their table.
//!
//! Most of a story is waiting, so that several are told at once. `UNILINK_TEST_STORY` names a part of
//! the names of those that are wanted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop, in its helpers too"
)]

mod harness;
mod pusher;

#[path = "wechat_rows/bound.rs"]
mod bound;
#[path = "wechat_rows/cloud.rs"]
mod cloud;
#[path = "wechat_rows/codes.rs"]
mod codes;
#[path = "wechat_rows/followers.rs"]
mod followers;
#[path = "wechat_rows/kit.rs"]
mod kit;
#[path = "wechat_rows/limits.rs"]
mod limits;
#[path = "wechat_rows/page.rs"]
mod page;
#[path = "wechat_rows/parks.rs"]
mod parks;
#[path = "wechat_rows/people.rs"]
mod people;
#[path = "wechat_rows/pushes.rs"]
mod pushes;
#[path = "wechat_rows/sessions.rs"]
mod sessions;
#[path = "wechat_rows/tokens.rs"]
mod tokens;

use futures::StreamExt;
use futures::future::BoxFuture;

/// Stories of a test that are told at the same time.
const AT_ONCE: usize = 7;

type Story = (&'static str, fn() -> BoxFuture<'static, ()>);

macro_rules! stories {
    ($($story:path,)+) => {
        vec![$((stringify!($story), || Box::pin($story())),)+]
    };
}

/// Tells all, and then which of them failed.
async fn tell(stories: Vec<Story>) {
    let wanted = std::env::var("UNILINK_TEST_STORY").unwrap_or_default();
    let stories = stories
        .into_iter()
        .filter(|(name, _)| name.contains(&wanted));
    let told = stories.map(async |(name, story)| {
        let begun = std::time::Instant::now();
        let told = tokio::spawn(story()).await;
        let word = if told.is_ok() { "ok" } else { "FAILED" };
        println!("story {name} ... {word} in {:.1?}", begun.elapsed());
        (name, told.is_ok())
    });
    let told: Vec<_> = futures::stream::iter(told)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let failed: Vec<_> = told
        .iter()
        .filter(|(_, ok)| !ok)
        .map(|(name, _)| name)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn apps_and_their_codes() {
    tell(stories![
        limits::what_is_too_much_for_a_minute_is_done_in_the_next,
        limits::a_days_quota_stops_one_api_of_one_app_and_tells_the_operator,
        parks::an_app_that_is_refused_is_parked_told_once_and_goes_on_by_itself,
        parks::a_refused_component_is_parked_told_once_and_goes_on_by_itself,
        parks::a_components_token_is_read_from_its_file_again,
        parks::one_request_tries_whether_a_refusal_is_over,
        codes::codes_of_every_kind_of_app_link,
        codes::snapshot_users_of_a_code_are_no_evidence,
        codes::what_a_code_does_not_tell_is_asked,
        codes::codes_are_sent_again_when_wechat_is_busy_or_its_answer_is_broken,
        codes::codes_whose_answer_is_lost_are_dead_and_say_so,
        codes::codes_that_wechat_refuses_are_dead_and_never_sent_again,
        codes::used_and_foreign_codes_are_dead,
        codes::codes_with_an_unknown_answer_are_tried_again_while_they_live,
        codes::old_codes_are_dead_unsent,
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_what_is_asked_with_them() {
    tell(stories![
        tokens::tokens_of_both_families_are_asked_for_once_and_used,
        tokens::what_waits_for_a_token_goes_on_by_itself_once_the_app_is_put_right,
        tokens::refusals_of_the_token_apis_park_what_needs_a_token,
        tokens::token_apis_that_are_busy_or_break_are_asked_again,
        tokens::a_token_api_with_an_unknown_answer_is_given_up,
        tokens::a_token_that_dies_early_is_refreshed_once_and_the_request_repeated_once,
        tokens::tokens_are_renewed_as_they_end,
        tokens::a_token_that_is_refused_again_and_again_parks_what_needs_it,
        tokens::a_token_from_a_file_is_read_again_when_it_is_refused,
        followers::followers_link_and_others_say_why_not,
        followers::one_openid_that_is_none_does_not_spoil_the_batch,
        followers::a_malformed_question_is_a_dead_letter,
        followers::followers_are_asked_about_again_when_wechat_is_busy_or_breaks,
        followers::a_question_with_an_unknown_answer_is_given_up,
        followers::a_refusal_parks_the_question_not_the_logins,
        followers::questions_of_long_standing_are_asked_when_the_pause_ends,
        followers::one_question_tries_whether_a_refusal_is_over,
        followers::accounts_without_permission_go_on_once_they_have_it,
        people::users_tokens_tell_their_unionid,
        people::a_users_token_that_is_refused_leaves_a_reason,
        people::profiles_are_asked_for_again_when_wechat_is_busy_or_breaks,
        people::payments_tell_a_unionid_for_five_minutes,
        people::payments_that_wechat_does_not_tell_of_leave_a_reason,
        people::payments_that_the_app_is_refused_wait_until_it_is_not,
        people::profiles_that_the_app_is_refused_wait_until_it_is_not,
        sessions::keys_that_the_app_may_not_ask_about_wait_until_it_may,
        sessions::keys_are_asked_about_with_a_token_that_is_refreshed_once,
        sessions::keys_of_which_wechat_does_not_tell_wait_for_another,
        sessions::a_key_is_asked_about_again_when_wechat_is_busy_or_breaks,
        sessions::a_malformed_question_about_a_key_is_a_dead_letter,
        sessions::data_of_a_newer_session_waits_for_its_key_and_links,
        sessions::data_that_came_with_an_old_key_waits_and_corrupt_data_does_not,
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_wechat_says_by_itself() {
    tell(stories![
        pushes::who_gives_an_account_up_is_erased_where_the_app_says_so,
        pushes::following_and_scanning_are_logins_and_are_asked_about,
        pushes::other_messages_are_answered_and_change_nothing,
        pushes::pushes_that_wechat_did_not_send_so_are_refused,
        pushes::the_console_may_check_the_url_of_an_app_that_pushes,
        cloud::cloud_runs_headers_say_who_calls,
        cloud::headers_that_cloud_run_would_not_send_are_refused,
        cloud::cloud_runs_headers_count_only_where_they_are_switched_on,
        bound::what_waits_goes_on_at_once_when_its_app_is_bound_anew,
    ])
    .await;
}
