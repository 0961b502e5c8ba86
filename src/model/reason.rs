//! Closed lists that others see as snake_case words: how a claim was learnt, why an account is
//! unresolved, why a claim is contested, why a record is a dead letter.

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word on the wire, in tables and in metric labels.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Reads a word back.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// How a claim was learnt. [`Method::rank`] orders them by strength.
    Method {
        /// An operator's import or decision.
        Operator = "operator",
        /// `sns/jscode2session` answered with it.
        Code2Session = "code2session",
        /// `sns/oauth2/access_token` answered with it.
        Oauth = "oauth",
        /// `sns/userinfo` answered with it.
        SnsUserinfo = "sns_userinfo",
        /// `cgi-bin/user/info` answered with it.
        UserInfo = "user_info",
        /// `wxa/getpaidunionid` answered with it.
        Paid = "paid",
        /// Decrypted with a session key that WeChat gave to us.
        Decrypted = "decrypted",
        /// Decrypted with a session key that the event brought: its holder could forge it.
        DecryptedEventKey = "decrypted_event_key",
        /// The gateway said so.
        Provided = "provided",
        /// It came from an imported table.
        Imported = "imported",
    }
}

impl Method {
    /// Strength, smallest first: operator, WeChat's API answers, decrypted with an exchanged key,
    /// decrypted with the event's key, provided, imported.
    #[must_use]
    pub fn rank(self) -> u8 {
        match self {
            Self::Operator => 0,
            Self::Code2Session | Self::Oauth | Self::SnsUserinfo | Self::UserInfo | Self::Paid => 1,
            Self::Decrypted => 2,
            Self::DecryptedEventKey => 3,
            Self::Provided => 4,
            Self::Imported => 5,
        }
    }

    /// The stronger of two; ties go to the one declared first, so that the choice commutes.
    #[must_use]
    pub fn stronger(self, other: Self) -> Self {
        if (other.rank(), other) < (self.rank(), self) {
            other
        } else {
            self
        }
    }
}

words! {
    /// Why an account has no unionid. Ordered: of two reasons at one time the larger is shown.
    Reason {
        /// Resolution goes on later; the account is linked unresolved meanwhile. First, so that
        /// what the attempt ends in replaces it.
        Deferred = "deferred",
        /// The event brought nothing that could hold a unionid.
        NoUnionid = "no_unionid",
        /// The app was in no platform at the time.
        AppNotBound = "app_not_bound",
        /// What was given as a unionid is a placeholder or the openid itself.
        PlaceholderUnionid = "placeholder_unionid",
        /// `encryptedData` came and no session key for its account did.
        NoSessionKey = "no_session_key",
        /// `encryptedData` did not decrypt to this account's data. One word for every cause.
        DecryptFailed = "decrypt_failed",
        /// `encryptedData` is sound and holds no unionid.
        DecryptedWithoutUnionid = "decrypted_without_unionid",
        /// `encryptedData` did not decrypt, and WeChat says that the session key is superseded.
        SessionSuperseded = "session_superseded",
        /// The user does not follow the official account, which alone could tell.
        NotFollowing = "not_following",
        /// The user's OAuth token is refused, or too weak to ask with.
        UserTokenRefused = "user_token_refused",
        /// WeChat tells no unionid for the payment (any more).
        PaymentGone = "payment_gone",
        /// WeChat was asked until the time for it ran out, and did not tell.
        GaveUp = "gave_up",
        /// A snapshot user: openid and unionid are virtual (`docs/wechat.md` §5).
        SnapshotUser = "snapshot_user",
        /// Every claim of the account is contested.
        Contested = "contested",
    }
}

words! {
    /// Why a claim is contested.
    Why {
        /// The account already has another unionid in that platform.
        OtherUnionid = "other_unionid",
        /// The user would hold two openids of one app.
        SameApp = "same_app",
        /// An operator has said that two of the accounts are never one person.
        NeverMerge = "never_merge",
        /// The user would hold more than 64 accounts.
        TooLarge = "too_large",
        /// Three or more openids of one app claim the unionid.
        SharedUnionid = "shared_unionid",
        /// The account has three or more unionids in the platform.
        ManyUnionids = "many_unionids",
        /// An operator rejected the claim.
        Rejected = "rejected",
    }
}

words! {
    /// Why a record is a dead letter.
    DeadReason {
        /// Not JSON, not UTF-8, or not an object.
        Malformed = "malformed",
        /// A field is missing, unknown, of the wrong type or out of bounds.
        InvalidField = "invalid_field",
        /// Fields contradict each other (a code and an openid; unequal openids).
        Contradictory = "contradictory",
        /// The appid is not configured.
        UnknownApp = "unknown_app",
        /// `ce_type` is none of ours.
        UnknownType = "unknown_type",
        /// The app's kind has no exchange for the evidence.
        UnsupportedEvidence = "unsupported_evidence",
        /// Sealed with a key that is not held. Can be redriven once it is.
        UnknownKey = "unknown_key",
        /// The sealed blob does not open, or not for this event.
        Unsealable = "unsealable",
        /// `require_sealed` is on and secrets came in plain.
        NotSealed = "not_sealed",
        /// A decision or erasure without a valid operator signature.
        BadSignature = "bad_signature",
        /// WeChat says that the code is dead or was never valid.
        CodeDead = "code_dead",
        /// The code was past its life before it could be exchanged.
        CodeExpired = "code_expired",
        /// The code was sent, the answer lost, and WeChat will not repeat it.
        CodeLost = "code_lost",
        /// WeChat blocks the user (40226).
        UserBlocked = "user_blocked",
        /// WeChat refuses the request as malformed.
        Refused = "refused",
        /// Too much deferred work for the app.
        Overload = "overload",
        /// Deferred until its time ran out.
        GaveUp = "gave_up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for r in Reason::ALL {
            assert_eq!(Reason::from_word(r.word()), Some(*r));
        }
        for r in DeadReason::ALL {
            assert_eq!(DeadReason::from_word(r.word()), Some(*r));
        }
    }

    #[test]
    fn stronger_commutes() {
        for a in Method::ALL {
            for b in Method::ALL {
                assert_eq!(a.stronger(*b), b.stronger(*a));
            }
        }
    }
}
