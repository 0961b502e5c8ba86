//! The ends that a code comes to without an account: what WeChat says of it for good, and what its age
//! says (`docs/wechat.md` §3.1).

use super::codes::Action;
use super::exchange::Exchanged;
use super::failure::CallError;
use crate::model::{DeadReason, Millis};
use serde::{Deserialize, Serialize};

/// What a note under the "refused" mark says.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Refusal {
    /// Dead on first sight; final at the second look. `lost`: an earlier request with it may have
    /// reached WeChat.
    Used { lost: bool },
    /// WeChat blocks the user.
    Blocked,
    /// WeChat refuses the request itself.
    Malformed,
}

impl Refusal {
    /// What WeChat says about the code for good; `None`: nothing about the code.
    pub(super) fn of(fault: &CallError, sent_before: bool) -> Option<Self> {
        match fault.action() {
            // Only a new login, or a new round of OAuth, brings another code.
            Action::CodeDead | Action::Reauthorise => Some(Self::Used { lost: sent_before }),
            Action::UserBlocked => Some(Self::Blocked),
            Action::BadInput => Some(Self::Malformed),
            _ => None,
        }
    }

    /// What it comes to at `now`, if that a code was used is final from `second_look` on.
    pub(super) fn judge(self, second_look: Millis, now: Millis) -> Exchanged {
        match self {
            Self::Blocked => Exchanged::Dead(DeadReason::UserBlocked, "WeChat blocks the user"),
            Self::Malformed => {
                Exchanged::Dead(DeadReason::Refused, "WeChat refuses the code as malformed")
            }
            Self::Used { .. } if now < second_look => Exchanged::Later(Some(second_look)),
            Self::Used { lost: true } => lost(),
            Self::Used { lost: false } => {
                let detail = "WeChat says that the code was used or never valid";
                Exchanged::Dead(DeadReason::CodeDead, detail)
            }
        }
    }
}

/// A code past its life; `sent`: a request with it may have reached WeChat.
pub(super) fn expired(sent: bool) -> Exchanged {
    if sent {
        return lost();
    }
    let detail = "the code was past its 5 minutes before it could be exchanged";
    Exchanged::Dead(DeadReason::CodeExpired, detail)
}

fn lost() -> Exchanged {
    let detail = "the code was sent, the answer was lost, and WeChat does not repeat it";
    Exchanged::Dead(DeadReason::CodeLost, detail)
}
