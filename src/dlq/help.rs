//! What each reason means, what to do about it, and whether a redrive can help: README's table of dead
//! letters, held against it by a test.

use crate::model::DeadReason;

/// Whether a letter that goes back to the login topic can end otherwise than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Help {
    /// Once what was wrong is corrected on our side.
    Redrive,
    /// Never: its code is dead, and only the person's next login brings another.
    DeadCode,
    /// Only if the program or its operators' keys are others now: the bytes stay what they are.
    Otherwise,
}

/// What is said of a reason.
#[derive(Debug, Clone, Copy)]
pub struct Advice {
    /// The reason.
    pub reason: DeadReason,
    /// Whether a redrive can help.
    pub help: Help,
    /// What it means.
    pub meaning: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// For every reason, in README's order.
pub const ADVICE: &[Advice] = &[
    advice(
        DeadReason::Malformed,
        Help::Otherwise,
        "no JSON object",
        "correct the writer",
    ),
    advice(
        DeadReason::InvalidField,
        Help::Otherwise,
        "a field is missing, unknown or out of bounds",
        "`dlq_detail` names it: correct the writer",
    ),
    advice(
        DeadReason::Contradictory,
        Help::Otherwise,
        "fields contradict each other",
        "send the code or the openid, not both",
    ),
    advice(
        DeadReason::UnknownApp,
        Help::Redrive,
        "the appid is not configured",
        "add `[[apps]]`, redrive",
    ),
    advice(
        DeadReason::UnknownType,
        Help::Otherwise,
        "`ce_type` is none of ours",
        "correct the writer",
    ),
    advice(
        DeadReason::UnsupportedEvidence,
        Help::Redrive,
        "a code of an app without `secret` or `component`",
        "configure one and redrive within the code's 5 minutes, or exchange at the gateway and send \
         the openid",
    ),
    advice(
        DeadReason::UnknownKey,
        Help::Redrive,
        "sealed to a key that is not held",
        "restore the key file, redrive",
    ),
    advice(
        DeadReason::Unsealable,
        Help::Otherwise,
        "the seal is broken, or of another event",
        "seal with this `id` and `appid`",
    ),
    advice(
        DeadReason::NotSealed,
        Help::Redrive,
        "secrets in plain, `intake.require_sealed` is on",
        "seal them; a redrive lets these through, sealed by now",
    ),
    advice(
        DeadReason::BadSignature,
        Help::Otherwise,
        "a decision, erasure or import without a valid operator signature",
        "find out who wrote it; if that was you, add the key to `[[operators]]` and redrive this reason",
    ),
    advice(
        DeadReason::CodeDead,
        Help::DeadCode,
        "WeChat: used, or never valid",
        "new `wx.login`; does another service spend the codes?",
    ),
    advice(
        DeadReason::CodeExpired,
        Help::DeadCode,
        "older than 5 minutes before it could be sent",
        "deliver faster; look for an outage",
    ),
    advice(
        DeadReason::CodeLost,
        Help::DeadCode,
        "sent, the answer lost, WeChat does not repeat it",
        "new `wx.login`",
    ),
    advice(
        DeadReason::UserBlocked,
        Help::DeadCode,
        "WeChat blocks the user (40226)",
        "nothing",
    ),
    advice(
        DeadReason::Refused,
        Help::Otherwise,
        "WeChat calls the code malformed, or the openid none of the app's",
        "check what the gateway sends",
    ),
    advice(
        DeadReason::Overload,
        Help::Redrive,
        "more deferred work of the app than `worker.deferred_per_app`",
        "find out why WeChat does not answer, then redrive",
    ),
    advice(
        DeadReason::GaveUp,
        Help::Redrive,
        "deferred until its time was over",
        "redrive what came with an openid; of a code: new `wx.login`",
    ),
];

const fn advice(
    reason: DeadReason,
    help: Help,
    meaning: &'static str,
    remedy: &'static str,
) -> Advice {
    Advice {
        reason,
        help,
        meaning,
        remedy,
    }
}

/// What is said of a reason.
#[must_use]
pub fn of(reason: DeadReason) -> Option<&'static Advice> {
    ADVICE.iter().find(|advice| advice.reason == reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one() {
        let told: Vec<_> = ADVICE.iter().map(|a| a.reason).collect();
        assert_eq!(told, DeadReason::ALL);
    }
}
