//! Runs every adapter of the `Store` seam through the same contract (`contract/store.rs`), and what is
//! PostgreSQL's own through its own stories. Another adapter adds one `contract!` line and its [`Home`].

// Helpers of tests are no `#[test]`s; they fail by panicking all the same.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "contract/store.rs"]
mod contract;
#[allow(dead_code)]
mod history;
mod oracle;
mod services;
#[path = "contract/store_postgres.rs"]
mod store_postgres;
#[path = "contract/store_postgres_alone.rs"]
mod store_postgres_alone;
#[path = "contract/store_postgres_races.rs"]
mod store_postgres_races;
#[path = "contract/store_postgres_speed.rs"]
mod store_postgres_speed;

use async_trait::async_trait;
use contract::Home;
use contract::fixtures::mac;
use std::sync::Arc;
use unilink::sqlite::{File, Options};
use unilink::store::sqlite::SqliteStore;
use unilink::store::{Birth, Operate, Rebuild, Store, StoreError};
use uuid::Uuid;

struct SqliteHome(tempfile::TempDir);

#[async_trait]
impl Home for SqliteHome {
    async fn open_in(&self, birth: Birth, ns: Uuid) -> Result<Arc<dyn Store>, StoreError> {
        let path = self.0.path().join("unilink.db");
        let file = File::open(&path, Options::default()).await?;
        let store = SqliteStore::open(file, birth, ns, Arc::new(mac)).await?;
        Ok(Arc::new(store))
    }

    async fn operate_in(&self, birth: Birth, ns: Uuid) -> Result<Arc<dyn Operate>, StoreError> {
        let path = self.0.path().join("unilink.db");
        let options = Options {
            as_it_is: true,
            ..Options::default()
        };
        let file = File::open(&path, options).await?;
        let store = SqliteStore::open_to_operate(file, birth, ns, Arc::new(mac)).await?;
        Ok(Arc::new(store))
    }

    async fn rebuild_in(&self, birth: Birth, ns: Uuid) -> Result<Arc<dyn Rebuild>, StoreError> {
        let path = self.0.path().join("unilink.db");
        let file = File::open(&path, Options::default()).await?;
        let store = SqliteStore::open_to_rebuild(file, birth, ns, Arc::new(mac)).await?;
        Ok(Arc::new(store))
    }

    async fn raw_bytes(&self) -> Vec<u8> {
        // A store that was dropped closes in the background and takes files away; then look again.
        loop {
            let entries = std::fs::read_dir(self.0.path()).expect("home");
            let files = entries.map(|entry| std::fs::read(entry.expect("entry").path()));
            match files.collect::<std::io::Result<Vec<_>>>() {
                Ok(files) => return files.concat(),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

async fn sqlite_home() -> Option<SqliteHome> {
    Some(SqliteHome(
        tempfile::tempdir().expect("temporary directory"),
    ))
}

contract!(sqlite, crate::sqlite_home().await);
contract!(postgres, crate::store_postgres::home().await);
