//! What every adapter of the `Store` seam promises, as tests generic over how a store is opened.
//! Planners here are a few lines each: the contract knows nothing of identity.

#[path = "store/apply.rs"]
pub mod apply;
#[path = "store/birth.rs"]
pub mod birth;
#[path = "store/deferred.rs"]
pub mod deferred;
#[path = "store/erasure.rs"]
pub mod erasure;
#[path = "store/find.rs"]
pub mod find;
#[path = "store/fixtures.rs"]
pub mod fixtures;
#[path = "store/jobs.rs"]
pub mod jobs;
#[path = "store/ledger.rs"]
pub mod ledger;
#[path = "store/operate.rs"]
pub mod operate;
#[path = "store/outbox.rs"]
pub mod outbox;
#[path = "store/pauses.rs"]
pub mod pauses;
#[path = "store/redriven.rs"]
pub mod redriven;
#[path = "store/sends.rs"]
pub mod sends;
#[path = "store/tokens.rs"]
pub mod tokens;
#[path = "store/view.rs"]
pub mod view;

use async_trait::async_trait;
use std::sync::Arc;
use unilink::store::{Birth, Operate, Rebuild, Store, StoreError};
use uuid::Uuid;

/// One database, empty at first. Everything opened in it sees the same data; it is gone when the
/// home is dropped.
#[async_trait]
pub trait Home: Send + Sync {
    /// Opens it, as a process of its own would.
    async fn open_in(&self, birth: Birth, namespace: Uuid) -> Result<Arc<dyn Store>, StoreError>;

    /// Opens it as an operator's command would: it must be there.
    async fn operate_in(
        &self,
        birth: Birth,
        namespace: Uuid,
    ) -> Result<Arc<dyn Operate>, StoreError>;

    /// Opens it as a rebuild would.
    async fn rebuild_in(
        &self,
        birth: Birth,
        namespace: Uuid,
    ) -> Result<Arc<dyn Rebuild>, StoreError>;

    /// All bytes at rest, to look for what must not be there. Empty where there is no way to tell.
    async fn raw_bytes(&self) -> Vec<u8>;

    /// Takes it away, where dropping does not.
    async fn close(self)
    where
        Self: Sized,
    {
    }
}

/// Makes a module of tests, named after the adapter; `$home` gives an empty home, or nothing where
/// the service that it needs is not at hand.
#[macro_export]
macro_rules! contract {
    ($backend:ident, $home:expr) => {
        mod $backend {
            $crate::contract_cases! { $home;
                birth: is_made_once_and_kept, a_mismatch_names_what_differs;
                view: absent_keys_are_asked_and_absent, present_keys_show_their_rows,
                    shared_unionids_are_truncated, rejected_claims_do_not_count,
                    registers_show_with_their_accounts, rows_round_trip;
                apply: what_is_read_in_steps_is_one_view, a_dropped_apply_leaves_nothing,
                    a_failing_write_leaves_nothing, a_planner_is_asked_again_when_the_state_moved,
                    eight_sessions_on_one_person_lose_nothing,
                    eight_sessions_on_meeting_people_lose_nothing, positions_are_kept_as_given,
                    a_large_batch_round_trips, nothing_to_write_writes_nothing,
                    an_endless_planner_is_stopped, all_is_there_after_reopening;
                operate: a_store_that_nobody_used_is_none, a_walk_shows_every_account_once,
                    only_those_that_match_are_walked, a_long_walk_has_pages_without_anybody,
                    who_did_what_is_told_newest_first;
                jobs: one_at_a_time_holds_a_job, progress_and_changes_are_written_together,
                    a_job_that_is_done_stays_done, a_rebuild_ends_what_was_under_way,
                    answers_are_good_for_their_time, an_erasure_takes_answers_away;
                pauses: an_app_is_paused_until_it_is_resumed;
                redriven: a_letter_goes_once, what_another_has_begun_is_left_until_it_is_stale,
                    letters_of_other_topics_are_others, what_the_topic_dropped_is_forgotten;
                outbox: is_gapless_and_in_commit_order, a_polling_reader_misses_nothing, stops_at_the_byte_limit, partitions_are_read_together,
                    records_round_trip, relayed_rows_go_but_the_newest, changes_wake;
                deferred: is_added_once, finished_ones_stay_finished, leases_hide_and_end,
                    codes_go_newest_first, apps_take_turns, a_session_key_wakes,
                    a_key_that_came_during_the_attempt_wakes, a_key_that_came_before_wakes,
                    who_lost_the_lease_puts_nobody_to_sleep,
                    whoever_begins_to_wait_for_a_key_goes_once_more,
                    a_link_wakes, attempts_go_on, markers_go_once_nothing_brings_them_up,
                    an_app_is_hastened, a_hastened_app_wakes, hastening_spares_what_is_leased,
                    a_large_app_is_hastened_whole, hastening_and_attempts_lose_nothing;
                tokens: there_is_none_until_one_is_put, one_session_at_a_time_refreshes,
                    a_lease_that_ran_out_is_free, one_of_eight_sessions_makes_each_version,
                    a_lease_is_given_back, apps_noted_otherwise_are_told,
                    one_of_eight_sessions_is_told_of_an_app;
                sends: one_of_eight_sessions_has_a_code, whoever_has_it_goes_on,
                    a_lease_that_ran_out_is_taken_over_after_notice, what_is_given_back_is_free,
                    several_claims_of_one_code_are_one_after_the_other,
                    what_is_known_of_their_sending_is_told,
                    claims_and_releases_do_not_wait_in_a_circle;
                ledger: the_first_answer_wins, a_code_without_an_answer_keeps_none,
                    an_erased_account_keeps_no_answer, the_newest_keys_are_held,
                    resolved_accounts_hold_no_keys, old_rows_are_pruned;
                find: users_are_all_that_is_linked, merged_ids_lead_to_the_user,
                    unknown_ids_are_unknown, unionids_lead_to_the_user, accounts_in_their_order,
                    fates_are_kept, totals_count;
                erasure: leaves_a_tombstone_and_no_rows, own_ids_are_gone,
                    an_erasure_and_a_first_life_come_together,
                    a_later_life_has_its_own_id, no_openid_stays_in_plain,
                    pairs_outlive_their_accounts, younger_data_stays, what_is_noted_late_is_void_too;
            }
        }
    };
}

/// One `#[tokio::test]` for each case.
#[macro_export]
macro_rules! contract_cases {
    ($home:expr; $($group:ident: $($case:ident),+;)+) => {
        $(mod $group { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(home) = $home else {
                    eprintln!("left out: no service to run {} on", module_path!());
                    return;
                };
                $crate::contract::$group::$case(&home).await;
                $crate::contract::Home::close(home).await;
            }
        )+ })+
    };
}
