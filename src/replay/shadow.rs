//! A shadow of the store, for dry runs: what work touches is copied from the store when it is first
//! read, and changed in the shadow only. So that merges across batches are told truly, and nothing
//! is kept in memory.
//!
//! What is in the shadow is not copied again. Accounts are copied whole, and a unionid with all
//! accounts that claim it, each time it is asked for: they are few, and those that are there stay.

use super::ground::Ground;
use crate::model::{Account, Changes, Keys, View};
use crate::store::{Batch, Held, Operate, Planner, Step, Store, StoreError, Write};
use async_trait::async_trait;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rounds of reading what one batch touches; each reaches at least one account or unionid more.
const ROUNDS: u32 = 1_000;

/// A store that is never written, and one that holds what would be.
pub struct Shadow {
    real: Arc<dyn Store>,
    own: Arc<dyn Operate>,
}

impl Shadow {
    /// Of `real`, in the empty store `own`.
    #[must_use]
    pub fn new(real: Arc<dyn Store>, own: Arc<dyn Operate>) -> Self {
        Self { real, own }
    }

    /// Copies what keys name, as far as it is not there yet.
    async fn copy(&self, keys: &Keys) -> Result<(), StoreError> {
        let mut accounts = keys.accounts.clone();
        if !keys.unionids.is_empty() {
            let asked = Keys {
                unionids: keys.unionids.clone(),
                ..Keys::default()
            };
            let real = self.real.view(&asked).await?;
            let claims = real.unionids.values().flat_map(|read| &read.claims);
            accounts.extend(claims.map(|claim| claim.key.account.clone()));
        }
        let asked = Keys {
            accounts,
            ..Keys::default()
        };
        let own = self.own.view(&asked).await?;
        let missing: BTreeSet<Account> = (asked.accounts.into_iter())
            .filter(|account| !is_there(&own, account))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let batch = Batch {
            keys: Keys {
                accounts: missing,
                ..Keys::default()
            },
            ..Batch::default()
        };
        let real = self.real.view(&batch.keys).await?;
        let changes = copied(&real, &own);
        self.own.apply(&batch, &mut Copying(changes)).await
    }

    /// Whether the batch changes nothing in the store, and nothing that it reads has been changed in
    /// the shadow: then nothing need be copied. Nearly all logins of a replay are such.
    async fn is_idle(&self, batch: &Batch, planner: &mut dyn Planner) -> Result<bool, StoreError> {
        let own = self.own.view(&batch.keys).await?;
        if !own.accounts.is_empty() || !own.tombstones.is_empty() {
            return Ok(false);
        }
        let real = self.real.view(&batch.keys).await?;
        // A planner that has to see more is about to change something.
        match planner.step(&real) {
            Step::Read(_) => Ok(false),
            Step::Write(write) => Ok(super::piece::is_nothing(&write.changes)),
        }
    }
}

#[async_trait]
impl Ground for Shadow {
    async fn view(&self, keys: &Keys) -> Result<View, StoreError> {
        let mut view = self.real.view(keys).await?;
        let own = self.own.view(keys).await?;
        for account in keys.accounts.iter().filter(|a| is_there(&own, a)) {
            put(&mut view.accounts, account, own.accounts.get(account));
            put(&mut view.claims, account, own.claims.get(account));
            put(&mut view.tombstones, account, own.tombstones.get(account));
        }
        Ok(view)
    }

    async fn apply(&self, batch: &Batch, planner: &mut dyn Planner) -> Result<(), StoreError> {
        if self.is_idle(batch, planner).await? {
            return Ok(());
        }
        let (mut all, mut new) = (batch.keys.clone(), batch.keys.clone());
        for _ in 0..ROUNDS {
            self.copy(&new).await?;
            match planner.step(&self.own.view(&all).await?) {
                Step::Write(_) => {
                    // As the store would: the planner asks for the same again, and finds it.
                    return self.own.apply(batch, planner).await;
                }
                Step::Read(more) => {
                    all.accounts.extend(more.accounts.iter().cloned());
                    all.unionids.extend(more.unionids.iter().cloned());
                    new = more;
                }
            }
        }
        let why = "a batch of the dry run reaches without end";
        Err(StoreError::Corrupt(why.to_owned()))
    }

    async fn held(&self, accounts: &[Account]) -> Result<Vec<Held>, StoreError> {
        let real = self.real.held(accounts).await?;
        let own = self.own.held(accounts).await?;
        let both = real.into_iter().zip(own).map(|(mut held, own)| {
            held.resolved |= own.resolved;
            held.keys.extend(own.keys);
            held.keys
                .sort_by_key(|key| std::cmp::Reverse((key.at, key.exchanged)));
            held.keys.dedup();
            held
        });
        Ok(both.collect())
    }
}

/// Whether an account was copied, or came to be in the shadow.
fn is_there(own: &View, account: &Account) -> bool {
    own.accounts.contains_key(account) || own.tombstones.contains_key(account)
}

fn put<T: Clone>(map: &mut FxHashMap<Account, T>, account: &Account, value: Option<&T>) {
    match value {
        Some(value) => map.insert(account.clone(), value.clone()),
        None => map.remove(account),
    };
}

/// Everything that is stored of the accounts asked for, but for registers that the shadow has.
fn copied(real: &View, own: &View) -> Changes {
    let missing = |account: &Account| !own.accounts.contains_key(account);
    let rulings = real.rulings.iter();
    let pairs = real.pairs.iter();
    Changes {
        accounts: real.accounts.values().cloned().collect(),
        claims: (real.claims.values().flatten())
            .filter(|claim| missing(&claim.key.account))
            .cloned()
            .collect(),
        tombstones: real.tombstones.values().cloned().collect(),
        rulings: (rulings.filter(|(key, _)| !own.rulings.contains_key(*key)))
            .map(|(key, ruled)| (key.clone(), ruled.clone()))
            .collect(),
        pairs: (pairs.filter(|(key, _)| !own.pairs.contains_key(*key)))
            .map(|(key, ruled)| (key.clone(), ruled.clone()))
            .collect(),
        ..Changes::default()
    }
}

struct Copying(Changes);

impl Planner for Copying {
    fn step(&mut self, _: &View) -> Step {
        Step::Write(Box::new(Write {
            changes: self.0.clone(),
            ..Write::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Rules;
    use crate::model::{
        Apps, EventId, Fact, Method, Millis, NewClaim, PlatformId, Reason, Sighting, UnionId,
        UnionKey, View,
    };
    use crate::replay::counts::Counts;
    use crate::replay::event::Fate;
    use crate::replay::ground::Real;
    use crate::replay::piece::{Desk, Piece};
    use crate::sqlite::{File, Options};
    use crate::store::Birth;
    use crate::store::sqlite::SqliteStore;
    use crate::wire::Topics;
    use crate::worker::Records;
    use uuid::Uuid;

    async fn store(dir: &tempfile::TempDir, name: &str) -> Arc<SqliteStore> {
        let file = File::open(&dir.path().join(name), Options::default()).await;
        let birth = Birth {
            partitions: 1,
            group: "g".into(),
            secrets_hash: [0; 32],
        };
        let mac: crate::store::Mac = Arc::new(|text| {
            let mut mac = [0; 32];
            for (at, byte) in text.bytes().enumerate() {
                mac[at % 32] ^= byte;
            }
            mac
        });
        let store = SqliteStore::open(file.expect("opens"), birth, Uuid::nil(), mac).await;
        Arc::new(store.expect("opens"))
    }

    fn desk(dir: &tempfile::TempDir) -> Desk {
        let keys = crate::seal::Keys::load_or_create(&dir.path().join("keys")).expect("keys");
        let topics = Topics {
            logins: "l".into(),
            account_links: "a".into(),
            user_merges: "m".into(),
            registers: "r".into(),
            link_conflicts: "c".into(),
            linked_logins: None,
            dlq: "d".into(),
        };
        let platform = PlatformId::parse("main").expect("valid");
        let app = |id: &str| crate::model::App {
            id: crate::model::AppId::parse(id).expect("valid"),
            kind: crate::model::AppKind::MiniProgram,
            secret: None,
            token: crate::model::TokenSource::default(),
            component: None,
            bindings: vec![crate::model::Binding {
                platform: platform.clone(),
                since: Millis(0),
            }],
        };
        Desk {
            rules: Rules {
                namespace: Uuid::nil(),
                apps: Arc::new(Apps::new(vec![app("wx1"), app("wx2"), app("wx3")])),
            },
            records: Records::new(topics, 1, 1, "t".into(), Arc::new(keys)),
            only_unresolved: false,
        }
    }

    fn seen(account: &str, at: i64, unionid: Option<&str>) -> Fate {
        let account = Account::from_key(account).expect("valid");
        let claim = unionid.map(|unionid| NewClaim {
            union: UnionKey {
                platform: PlatformId::parse("main").expect("valid"),
                unionid: UnionId::parse(unionid).expect("valid"),
            },
            at: Millis(at),
            method: Method::UserInfo,
        });
        let sighting = Sighting {
            at: Millis(at),
            cause: EventId::parse(&format!("e{at}")).expect("valid"),
            external_id: None,
            reason: claim.is_none().then_some(Reason::NoUnionid),
            claims: claim.into_iter().collect(),
            session_key: None,
            account: account.clone(),
        };
        Fate::Fact(Some(account.app), Box::new(Fact::Sighting(sighting)))
    }

    async fn applied(ground: &dyn Ground, desk: &Desk, fate: Fate, counts: Counts) -> Counts {
        let mut piece = Piece::new(desk, vec![fate], counts, Millis(1_000));
        let batch = piece.batch();
        ground.apply(&batch, &mut piece).await.expect("applies");
        piece.counts
    }

    /// A person's accounts are linked in three batches: each but the first joins what the ones before
    /// have made, of which the store knows nothing.
    #[tokio::test]
    async fn what_batches_before_have_changed_is_seen_and_the_store_is_not_changed() {
        let dir = tempfile::tempdir().expect("dir");
        let (real, own) = (store(&dir, "real.db").await, store(&dir, "own.db").await);
        let desk = desk(&dir);
        let ground = Real(real.clone());
        let accounts = ["wx1:oA", "wx2:oB", "wx3:oC"];
        for (at, account) in (1..).zip(accounts) {
            applied(&ground, &desk, seen(account, at, None), Counts::default()).await;
        }
        let keys = Keys {
            accounts: accounts
                .map(|a| Account::from_key(a).expect("valid"))
                .into(),
            ..Keys::default()
        };
        let before = real.view(&keys).await.expect("reads").accounts;
        let work = async |ground: &dyn Ground| {
            let mut counts = Counts::default();
            for (at, account) in (11..).zip(accounts) {
                counts = applied(ground, &desk, seen(account, at, Some("u1")), counts).await;
            }
            counts
        };
        let shadow = Shadow::new(real.clone(), own);
        let said = work(&shadow).await;
        assert_eq!(real.view(&keys).await.expect("reads").accounts, before);
        let total = said.total();
        assert_eq!((total.newly_linked, total.linked), (3, 3), "{said:?}");
        assert!(total.merged >= 2, "{said:?}");
        let told: View = shadow.view(&keys).await.expect("reads");
        let users: BTreeSet<_> = told.accounts.values().map(|row| row.user.0).collect();
        assert_eq!(users.len(), 1, "one person");
        assert_eq!(
            work(&ground).await,
            said,
            "the store does as the shadow said"
        );
    }
}
