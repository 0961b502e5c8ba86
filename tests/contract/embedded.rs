//! The embedded bus as a backend of the contract: each client opens the file anew, as another
//! process would.

use super::bus::{Backend, specs};
use async_trait::async_trait;
use std::path::Path;
use std::sync::Arc;
use unilink::bus::embedded::{EmbeddedBus, Settings};
use unilink::bus::{Bus, TopicSpec};
use unilink::sqlite::{File, Options};

pub struct Embedded {
    pub dir: tempfile::TempDir,
}

pub async fn file(dir: &Path) -> Arc<File> {
    let path = dir.join("unilink.db");
    File::open(&path, Options::default()).await.unwrap()
}

pub async fn open(dir: &Path, topics: Vec<TopicSpec>) -> Arc<EmbeddedBus> {
    let settings = Settings {
        input_topic: "in".into(),
        group: "g".into(),
        topics,
    };
    EmbeddedBus::open(file(dir).await, settings).await.unwrap()
}

impl Embedded {
    pub async fn bus(&self) -> Arc<EmbeddedBus> {
        open(self.dir.path(), specs(|short| short.into())).await
    }

    pub fn lease(&self) -> std::path::PathBuf {
        self.dir.path().join("unilink.db.lease")
    }
}

#[async_trait]
impl Backend for Embedded {
    const GAPLESS_UNITS: bool = true;
    const AHEAD: usize = 400;
    const TORN: i64 = 40;

    async fn fresh() -> Self {
        let new = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        new.bus().await;
        new
    }

    async fn client(&self) -> Arc<dyn Bus> {
        self.bus().await
    }

    fn name(&self, short: &str) -> Arc<str> {
        short.into()
    }

    /// Somebody deletes the lock file, and another worker runs for a moment.
    async fn steal(&self) {
        std::fs::remove_file(self.lease()).unwrap();
        self.bus().await.join().await.unwrap();
    }

    async fn reset_group(&self, to: i64) {
        self.bus().await.reset_group(to).await.unwrap();
    }
}
