//! Every API that unilink calls and every code that WeChat may answer with (`docs/wechat.md` §2), as
//! stories of the real worker against the simulator over HTTP. `docs/wechat-apis.md` is their table.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop, in its helpers too"
)]

mod harness;

#[path = "wechat_rows/codes.rs"]
mod codes;
#[path = "wechat_rows/followers.rs"]
mod followers;
#[path = "wechat_rows/kit.rs"]
mod kit;
#[path = "wechat_rows/limits.rs"]
mod limits;
#[path = "wechat_rows/parks.rs"]
mod parks;
#[path = "wechat_rows/people.rs"]
mod people;
#[path = "wechat_rows/tokens.rs"]
mod tokens;
