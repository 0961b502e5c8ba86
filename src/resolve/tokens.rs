//! The token centre: one access token per app, shared by all workers (`docs/wechat.md` §4).
//!
//! Promises: one worker at a time refreshes an app's token, and all take what it brought; a token is
//! refreshed before it ends; one that WeChat refuses is first looked up again (another worker may
//! have brought a newer one), then refreshed once, and the request repeated once; nobody forces
//! WeChat to end a token. Tokens rest sealed.

use super::caller::{Caller, LAG_MS, Missed};
use super::codes::{Action, Api};
use super::failure::CallError;
use super::ports::{MemoryFault, Shelved};
use super::wechat::{Client, Issued};
use crate::model::{App, AppId, Millis, Secret, TokenSource};
use crate::seal::Keys;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

/// A token is renewed this long before its end: then WeChat issues a new one while the old is good
/// for as long (`docs/wechat.md` §4). A shorter life is renewed in its last third.
const MARGIN: Duration = Duration::from_secs(300);
/// How often a worker looks whether another has brought the token.
const LOOK: Duration = Duration::from_millis(50);
/// A renewal that failed is tried again after this, while the old token is good.
const AGAIN_MS: i64 = 5_000;
/// A file with a token is read again after this.
const FILE_MS: i64 = 5_000;
/// Longest token believed, in bytes; WeChat advises room for 512.
const MAX_TOKEN: usize = 2_048;

/// An app's access token.
#[derive(Debug, Clone)]
pub struct Token {
    version: u64,
    text: Secret,
    renew_at: Millis,
    dies_at: Millis,
    /// When this process began to ask for it; `None`: another one brought it.
    asked: Option<Instant>,
}

/// A token as it rests on the shelf, inside the seal.
#[derive(Serialize, Deserialize)]
struct Noted {
    text: Zeroizing<String>,
    renew_at: i64,
    dies_at: i64,
}

/// What this process holds of an app's token.
#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// When the last look for one ended in vain, and why.
    missed: Option<(Instant, Missed)>,
}

type Slot = Arc<Mutex<Held>>;

/// The tokens of all apps.
pub struct Tokens {
    caller: Arc<Caller>,
    keys: Arc<Keys>,
    /// How long a refresh may take: a worker that died in one holds the others up no longer.
    lease: Duration,
    slots: StdMutex<FxHashMap<AppId, Slot>>,
}

impl Tokens {
    /// Over the one way to WeChat; `request_timeout` is that of a call.
    #[must_use]
    pub fn new(caller: Arc<Caller>, keys: Arc<Keys>, request_timeout: Duration) -> Self {
        Self {
            caller,
            keys,
            lease: request_timeout + Duration::from_secs(2),
            slots: StdMutex::default(),
        }
    }

    /// Calls an API that wants the app's token: with the one that is held, with what another worker
    /// may have brought if WeChat refuses that, and once with one that is refreshed for it.
    ///
    /// # Errors
    /// [`Missed`]; a token that is refused twice parks the app.
    pub async fn ask<T, F>(
        &self,
        app: &App,
        api: Api,
        request: impl Fn(Client, Secret) -> F,
    ) -> Result<T, Missed>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let mut token = self.get(app, None).await?;
        // Since when the token in use is wanted; one that was brought before may have died with the
        // one before it.
        let mut wanted: Option<Instant> = None;
        for _ in 0..3 {
            let call = self
                .caller
                .call(app, api, |client| request(client, token.text.clone()));
            match call.await {
                Err(Missed::Fault(fault)) if fault.action() == Action::AppTokenBad => {
                    let refreshed = |since| token.asked.is_some_and(|asked| asked >= since);
                    if wanted.is_some_and(refreshed) {
                        break;
                    }
                    wanted = Some(Instant::now());
                    token = self.get(app, Some(&token)).await?;
                }
                other => return other,
            }
        }
        let why = "a token that WeChat has just issued is refused: does something else refresh this app's token?";
        Err(self.caller.refuse(app, api, why))
    }

    /// The app's token, newer than the refused one.
    async fn get(&self, app: &App, refused: Option<&Token>) -> Result<Token, Missed> {
        let slot = self.slot(&app.id);
        let asked = Instant::now();
        // Held over the refresh: in this process one task asks, the others wait for it.
        let mut held = slot.lock().await;
        let now = self.caller.now();
        if let Some(token) = &held.token {
            let newer = refused.is_none_or(|r| token.version > r.version);
            if newer && now < token.renew_at {
                return Ok(token.clone());
            }
        }
        // They share what it comes to: a hundred of them, each waiting for its own answer that does
        // not come, would hold the app up for minutes.
        if let Some((at, missed)) = &held.missed
            && *at >= asked
        {
            return Err(missed.clone());
        }
        let found = match &app.token {
            TokenSource::File(path) => self.read_file(app, path, refused, now).await,
            TokenSource::Stable | TokenSource::Plain => self.shared(app, refused).await,
        };
        match &found {
            Ok(token) => held.token = Some(token.clone()),
            Err(missed) => held.missed = Some((Instant::now(), missed.clone())),
        }
        found
    }

    /// Takes what another worker has brought, or brings it.
    async fn shared(&self, app: &App, refused: Option<&Token>) -> Result<Token, Missed> {
        let shelf = self.caller.shelf();
        let lease = i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX / 2);
        let give_up = self.caller.now().plus(lease + LAG_MS);
        loop {
            let now = self.caller.now();
            let shelved = shelf.token(&app.id).await?;
            let version = shelved.as_ref().map_or(0, |s| s.version);
            let token = shelved.and_then(|s| self.open(app, &s));
            let newer = |t: &Token| refused.is_none_or(|r| t.version > r.version);
            let token = token.filter(newer);
            if let Some(token) = token.as_ref().filter(|t| now < t.renew_at) {
                return Ok(token.clone());
            }
            if shelf.lease(&app.id, version, now, now.plus(lease)).await? {
                match (self.refresh(app, version, refused).await, token) {
                    (Ok(Some(token)), _) => return Ok(token),
                    (Ok(None), _) => continue,
                    // There is time: the old one is good for minutes yet.
                    (Err(Missed::Later(_) | Missed::Strange), Some(token))
                        if now < token.dies_at =>
                    {
                        let renew_at = now.plus(AGAIN_MS).min(token.dies_at);
                        return Ok(Token { renew_at, ..token });
                    }
                    (Err(missed), _) => return Err(missed),
                }
            }
            // Another worker is at it. Until it is done the old one is good, if it is not refused.
            if let Some(token) = token.filter(|t| now < t.dies_at) {
                return Ok(token);
            }
            if now >= give_up {
                return Err(Missed::Later(None));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Gets a token and shelves it; `None` if another was faster after all.
    async fn refresh(
        &self,
        app: &App,
        version: u64,
        refused: Option<&Token>,
    ) -> Result<Option<Token>, Missed> {
        let shelf = self.caller.shelf();
        let asked = Instant::now();
        let issued = match self.issue(app).await {
            Ok(issued) => issued,
            Err(missed) => {
                shelf.release(&app.id, version).await?;
                return Err(missed);
            }
        };
        if refused.is_some_and(|r| r.text == issued.token) {
            shelf.release(&app.id, version).await?;
            let why = "WeChat refuses the token that it issues as the app's current one";
            return Err(self.caller.refuse(app, Api::AppToken, why));
        }
        let token = self.dated(issued, version + 1, asked);
        let sealed = self.seal(app, &token)?;
        let put = shelf.put(&app.id, version, sealed, token.dies_at).await?;
        Ok(put.then_some(token))
    }

    async fn issue(&self, app: &App) -> Result<Issued, Missed> {
        let Some(secret) = app.secret.clone() else {
            let why = "the app has no secret configured";
            return Err(self.caller.refuse(app, Api::AppToken, why));
        };
        let (id, plain) = (app.id.clone(), app.token == TokenSource::Plain);
        let request = |client: Client| async move {
            if plain {
                client.plain_token(&id, &secret).await
            } else {
                client.stable_token(&id, &secret).await
            }
        };
        self.caller.call(app, Api::AppToken, request).await
    }

    fn dated(&self, issued: Issued, version: u64, asked: Instant) -> Token {
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(0);
        let now = self.caller.now();
        let margin = MARGIN.min(issued.life / 3);
        Token {
            version,
            text: issued.token,
            renew_at: now.plus(ms(issued.life - margin)),
            dies_at: now.plus(ms(issued.life)),
            asked: Some(asked),
        }
    }

    /// Whoever keeps the file fresh replaces it; what was refused is not tried again.
    async fn read_file(
        &self,
        app: &App,
        path: &Path,
        refused: Option<&Token>,
        now: Millis,
    ) -> Result<Token, Missed> {
        let Some(text) = read_token(path).await else {
            let why = "the file with the app's token cannot be read, or is empty";
            return Err(self.caller.refuse(app, Api::AppToken, why));
        };
        if refused.is_some_and(|r| r.text == text) {
            let why = "WeChat refuses the token of the file, and the file holds no newer one";
            return Err(self.caller.refuse(app, Api::AppToken, why));
        }
        Ok(Token {
            version: refused.map_or(0, |r| r.version + 1),
            text,
            renew_at: now.plus(FILE_MS),
            dies_at: Millis(i64::MAX),
            asked: Some(Instant::now()),
        })
    }

    fn seal(&self, app: &App, token: &Token) -> Result<Vec<u8>, Missed> {
        let noted = Noted {
            text: Zeroizing::new(token.text.expose().to_owned()),
            renew_at: token.renew_at.0,
            dies_at: token.dies_at.0,
        };
        let bytes = Zeroizing::new(postcard::to_stdvec(&noted).unwrap_or_default());
        let sealed = self
            .keys
            .ring
            .seal("app_token", app.id.as_str().as_bytes(), &bytes);
        sealed.map_err(|e| Missed::Memory(MemoryFault(e.to_string())))
    }

    /// A token that does not open (its key is gone) is as good as none.
    fn open(&self, app: &App, shelved: &Shelved) -> Option<Token> {
        let id = app.id.as_str().as_bytes();
        let opened = self.keys.ring.open("app_token", id, &shelved.sealed);
        let noted: Noted = postcard::from_bytes(&opened.ok()?).ok()?;
        Some(Token {
            version: shelved.version,
            text: Secret::new(noted.text.to_string()),
            renew_at: Millis(noted.renew_at),
            dies_at: Millis(noted.dies_at),
            asked: None,
        })
    }

    fn slot(&self, app: &AppId) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(app.clone()).or_default())
    }
}

/// The token that a file holds; `None` if there is none to use.
pub(super) async fn read_token(path: &Path) -> Option<Secret> {
    let text = Zeroizing::new(tokio::fs::read_to_string(path).await.ok()?);
    let token = text.trim();
    let usable = !token.is_empty() && token.len() <= MAX_TOKEN;
    usable.then(|| Secret::new(token.to_owned()))
}
