//! Pauses outlive whoever made them, and the first one stands.

use super::Home;
use super::fixtures::{app, open};
use super::operate::operate;
use unilink::model::Millis;
use unilink::store::Pause;

pub async fn an_app_is_paused_until_it_is_resumed(home: &dyn Home) {
    let store = open(home).await;
    assert!(store.paused().await.expect("reads").is_empty());
    let pause = |n: u32, author: &str| Pause {
        app: app(n),
        at: Millis(n.into()),
        author: author.into(),
        note: format!("ticket {n}"),
    };
    let desk = operate(home).await;
    for n in [2, 1] {
        assert!(desk.pause(&pause(n, "ada")).await.expect("writes"));
    }
    assert!(!desk.pause(&pause(2, "eve")).await.expect("reads"));
    let all = [pause(1, "ada"), pause(2, "ada")];
    assert_eq!(store.paused().await.expect("reads"), all, "others see it");
    assert!(desk.resume(&app(1)).await.expect("writes"));
    assert!(!desk.resume(&app(1)).await.expect("reads"));
    assert_eq!(store.paused().await.expect("reads"), all[1..]);
}
