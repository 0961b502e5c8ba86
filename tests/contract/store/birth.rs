//! A store knows what it is.

use super::Home;
use super::fixtures::{NAMESPACE, birth, open};
use unilink::store::{Birth, StoreError};
use uuid::Uuid;

pub async fn is_made_once_and_kept(home: &dyn Home) {
    let first = open(home).await.identity().clone();
    assert_eq!(first.epoch, 1);
    assert_eq!(first.birth, birth());
    assert_eq!(*open(home).await.identity(), first);
}

pub async fn a_mismatch_names_what_differs(home: &dyn Home) {
    drop(open(home).await);
    let told = |change: fn(&mut Birth)| {
        let mut other = birth();
        change(&mut other);
        other
    };
    let (rebuild, empty) = ("rebuild --from store", "empty store");
    let (partitions, group) = (told(|b| b.partitions = 8), told(|b| b.group = "x".into()));
    let hash = told(|b| b.secrets_hash = [8; 32]);
    let cases = [
        (partitions, NAMESPACE, "partitions", rebuild),
        (group, NAMESPACE, "consumer group", rebuild),
        (hash, NAMESPACE, "seal.key_file", "backup"),
        (birth(), Uuid::from_u128(1), "namespace", empty),
    ];
    for (other, namespace, named, remedy) in cases {
        let error = home.open_in(other, namespace).await.err().expect("refused");
        assert!(matches!(error, StoreError::Mismatch(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(named) && text.contains(remedy), "{text}");
    }
    open(home).await;
}
