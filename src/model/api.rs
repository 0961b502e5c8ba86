//! The APIs of WeChat's that are called, as far as limits and the meaning of error codes depend on them.

words! {
    /// An API of WeChat's.
    Api {
        /// `sns/jscode2session`.
        Code2Session = "jscode2session",
        /// `sns/component/jscode2session`.
        ComponentCode2Session = "component_jscode2session",
        /// `sns/oauth2/access_token`.
        OauthToken = "oauth_access_token",
        /// `sns/oauth2/component/access_token`.
        ComponentOauthToken = "component_oauth_access_token",
        /// `sns/userinfo`.
        SnsUserinfo = "sns_userinfo",
        /// `cgi-bin/stable_token` (and `cgi-bin/token`).
        AppToken = "app_token",
        /// `cgi-bin/user/info` and `user/info/batchget`.
        UserInfo = "user_info",
        /// `cgi-bin/user/get`.
        UserGet = "user_get",
        /// `wxa/checksession`.
        CheckSession = "checksession",
        /// `wxa/getpaidunionid`.
        PaidUnionid = "getpaidunionid",
    }
}
