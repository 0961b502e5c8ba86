//! What replays and the like work with: a ladder that sends no codes and has a book, and the store or a
//! shadow of it.

use super::open::{birth, mac, namespace};
use super::upkeep::SESSION_KEYS_MS;
use super::worker::decoder;
use super::{Operating, open_file};
use crate::cli::Failure;
use crate::link::Rules;
use crate::model::Millis;
use crate::replay::ground::{Ground, Real};
use crate::replay::piece::Desk;
use crate::replay::recall::{Resolved, StoreAnswers, WorkMemory};
use crate::replay::resolver::Resolver;
use crate::replay::shadow::Shadow;
use crate::resolve::asking::Asking;
use crate::resolve::book::{Book, Manner};
use crate::resolve::ports::Shelf;
use crate::store::Operate;
use crate::store::sqlite::SqliteStore;
use crate::worker::Decoder;
use crate::worker::memory::StoreMemory;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How the work is to be done.
pub struct Wish {
    /// How WeChat is asked.
    pub manner: Manner,
    /// When the work began.
    pub since: Millis,
    /// Most calls a minute of each API for each app.
    pub calls: Option<u32>,
    /// On a shadow.
    pub dry: bool,
    /// Whether accounts that are linked are left aside.
    pub only_unresolved: bool,
}

/// What the work is done with.
pub struct Tools {
    /// Resolves.
    pub resolver: Resolver,
    /// Plans.
    pub desk: Desk,
    /// What is worked on.
    pub ground: Arc<dyn Ground>,
    /// Reads records.
    pub decoder: Arc<Decoder>,
    /// Learns which apps are paused, until this is dropped.
    _pauses: JoinSet<()>,
    /// Where a shadow is, until this is dropped.
    _dir: Option<TempDir>,
}

impl Operating {
    /// Puts them together; `stop` ends waiting.
    ///
    /// # Errors
    /// The WeChat client cannot be made, or the shadow.
    pub async fn tools(&self, wish: &Wish, stop: &CancellationToken) -> Result<Tools, Failure> {
        let parts = &self.parts;
        let (dir, shadow) = match wish.dry {
            true => {
                let (dir, own) = self.shadow().await?;
                (Some(dir), Some(own))
            }
            false => (None, None),
        };
        let ground: Arc<dyn Ground> = match &shadow {
            Some(own) => Arc::new(Shadow::new(Arc::clone(&parts.store), Arc::clone(own))),
            None => Arc::new(Real(Arc::clone(&parts.store))),
        };
        let book = Arc::new(self.book(wish, shadow));
        let known = Arc::new(Resolved::default());
        let (apps, clock) = (&parts.apps, &parts.clock);
        let shelf: Arc<dyn Shelf> = Arc::new(StoreMemory::new(&parts.store, clock));
        let caller = parts.caller(shelf, wish.calls)?;
        let asking = Asking::new(Arc::clone(&caller), parts.tokens(&caller));
        let asking = asking.with_book(Arc::clone(&book));
        let memory = WorkMemory::new(
            &parts.store,
            Arc::clone(&ground),
            Arc::clone(&known),
            Arc::clone(apps),
            clock,
        );
        let ladder = parts.climbing(&caller, asking, Arc::new(memory), false);
        let resolver = Resolver {
            ladder: Arc::new(ladder),
            caller,
            book,
            known,
            ground: Arc::clone(&ground),
            apps: Arc::clone(apps),
            clock: Arc::clone(clock),
            asks: matches!(wish.manner, Manner::Asked { .. }),
            only_unresolved: wish.only_unresolved,
            keys_ms: SESSION_KEYS_MS,
            stop: stop.clone(),
        };
        Ok(Tools {
            resolver,
            desk: Desk {
                rules: Rules {
                    namespace: parts.namespace,
                    apps: Arc::clone(apps),
                },
                records: parts.records(),
                only_unresolved: wish.only_unresolved,
            },
            ground,
            decoder: Arc::new(decoder(&parts.config, apps, &parts.keys)?),
            _pauses: parts.heeding_pauses(stop).await,
            _dir: dir,
        })
    }

    /// What is counted is remembered in the shadow; what WeChat answers, in the store.
    fn book(&self, wish: &Wish, shadow: Option<Arc<dyn Operate>>) -> Book {
        let real = Arc::clone(&self.store);
        let counts = wish.manner == Manner::Counted;
        let answers = match shadow.filter(|_| counts) {
            Some(own) => StoreAnswers {
                read: vec![real, Arc::clone(&own)],
                kept: own,
            },
            None => StoreAnswers {
                read: vec![Arc::clone(&real)],
                kept: real,
            },
        };
        let parts = &self.parts;
        Book::new(
            Arc::new(answers),
            Arc::clone(&parts.keys),
            Arc::clone(&parts.apps),
            Arc::clone(&parts.clock),
            wish.manner,
            wish.since,
        )
    }

    /// An empty store in a file that goes with the directory.
    async fn shadow(&self) -> Result<(TempDir, Arc<dyn Operate>), Failure> {
        let dir = tempfile::Builder::new()
            .prefix("unilink-dry-run-")
            .tempdir();
        let dir = dir.map_err(|e| {
            Failure::Failed(format!(
                "no place for the dry run's shadow: {e}; set TMPDIR"
            ))
        })?;
        let file = open_file(&dir.path().join("shadow.db"), None).await?;
        let (config, keys) = (&self.parts.config, &self.parts.keys);
        let (space, born) = (namespace(config, keys), birth(config, keys));
        let own = SqliteStore::open(file, born, space, mac(keys)).await;
        Ok((dir, Arc::new(own.map_err(Failure::failed)?)))
    }
}
