//! Asking about followers of official accounts, a hundred at a time across events
//! (`docs/wechat.md` §7). One openid that is none fails a whole batch: such a batch is halved until
//! the others have their answers.

use super::caller::Missed;
use super::codes::{Action, Api};
use super::tokens::Tokens;
use super::wechat::{Client, Follower, FollowerPage, MAX_BATCH};
use crate::model::{App, AppId, OpenId};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// How long the first of a batch waits for company.
const LINGER: Duration = Duration::from_millis(10);
/// Batches of one app under way at once; more people gather meanwhile.
const BATCHES: usize = 4;
/// People that may wait to be gathered, per app.
const QUEUE: usize = 1_024;

/// What WeChat tells of one person.
pub type Answer = Result<Follower, Missed>;

struct Asked {
    openid: OpenId,
    answer: oneshot::Sender<Answer>,
}

/// Gathers questions about followers.
pub struct Followers {
    tokens: Arc<Tokens>,
    queues: Mutex<FxHashMap<AppId, mpsc::Sender<Asked>>>,
}

impl Followers {
    /// Over the token centre.
    #[must_use]
    pub fn new(tokens: Arc<Tokens>) -> Self {
        Self {
            tokens,
            queues: Mutex::default(),
        }
    }

    /// What WeChat tells of the person.
    ///
    /// # Errors
    /// [`Missed`]; a fault is about this openid alone.
    pub async fn ask(&self, app: &App, openid: OpenId) -> Answer {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { openid, answer };
        let gone = || Missed::Later(None);
        let queue = self.queue(app);
        queue.send(asked).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// What WeChat tells of each of these people, at most [`MAX_BATCH`] of them, in one call unless one of
    /// the openids is none.
    pub async fn ask_batch(&self, app: &App, openids: Vec<OpenId>) -> Vec<(OpenId, Answer)> {
        let mut answers = Vec::with_capacity(openids.len());
        let tell = |openid, answer| answers.push((openid, answer));
        ask_all(&self.tokens, app, openids, tell).await;
        answers
    }

    /// A page of the list of those who follow, from the first or after `after`.
    ///
    /// # Errors
    /// [`Missed`].
    pub async fn page(&self, app: &App, after: Option<&OpenId>) -> Result<FollowerPage, Missed> {
        let page = |client: Client, token| async move { client.follower_page(after, &token).await };
        self.tokens.ask(app, Api::UserGet, page).await
    }

    fn queue(&self, app: &App) -> mpsc::Sender<Asked> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let open = |app: &App| {
            let (queue, asked) = mpsc::channel(QUEUE);
            tokio::spawn(gather(Arc::clone(&self.tokens), app.clone(), asked));
            queue
        };
        let queue = queues
            .entry(app.id.clone())
            .and_modify(|queue| {
                // Its task ended with the runtime that it was on.
                if queue.is_closed() {
                    *queue = open(app);
                }
            })
            .or_insert_with(|| open(app));
        queue.clone()
    }
}

/// Ends when nobody can ask any more.
async fn gather(tokens: Arc<Tokens>, app: App, mut asked: mpsc::Receiver<Asked>) {
    let slots = Arc::new(Semaphore::new(BATCHES));
    let mut batch = Vec::new();
    while asked.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let end = Instant::now() + LINGER;
        while batch.len() < MAX_BATCH {
            let room = MAX_BATCH - batch.len();
            match timeout_at(end, asked.recv_many(&mut batch, room)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => break,
            }
        }
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        // Who came while it waited for the slot comes along.
        while batch.len() < MAX_BATCH
            && let Ok(one) = asked.try_recv()
        {
            batch.push(one);
        }
        let (tokens, app, batch) = (Arc::clone(&tokens), app.clone(), std::mem::take(&mut batch));
        tokio::spawn(async move {
            let _slot = slot;
            answer(&tokens, &app, batch).await;
        });
    }
}

/// Asks about everybody once and tells all who asked; who has given up hears nothing.
async fn answer(tokens: &Tokens, app: &App, batch: Vec<Asked>) {
    let mut askers: FxHashMap<OpenId, Vec<oneshot::Sender<Answer>>> = FxHashMap::default();
    for asked in batch {
        askers.entry(asked.openid).or_default().push(asked.answer);
    }
    let openids = askers.keys().cloned().collect();
    ask_all(tokens, app, openids, |openid, answer| {
        for asker in askers.remove(&openid).unwrap_or_default() {
            asker.send(answer.clone()).ok();
        }
    })
    .await;
}

/// Asks about people, at most a batch of them, and halves what one bad openid spoils; tells of each as
/// soon as it is known.
async fn ask_all(
    tokens: &Tokens,
    app: &App,
    openids: Vec<OpenId>,
    mut tell: impl FnMut(OpenId, Answer) + Send,
) {
    let mut parts = vec![openids];
    while let Some(part) = parts.pop() {
        let mut told: FxHashMap<OpenId, Answer> = FxHashMap::default();
        match look_up(tokens, app, &part).await {
            Ok(followers) => {
                for follower in followers {
                    told.insert(follower.openid.clone(), Ok(follower));
                }
            }
            Err(Missed::Fault(fault)) if fault.action() == Action::BadInput && part.len() > 1 => {
                let (one, other) = part.split_at(part.len() / 2);
                parts.extend([one.to_vec(), other.to_vec()]);
                continue;
            }
            Err(missed) => {
                told.extend((part.iter().cloned()).map(|openid| (openid, Err(missed.clone()))));
            }
        }
        for openid in part {
            // Nobody promises that the answer names everybody.
            let answer = told.remove(&openid).unwrap_or(Err(Missed::Later(None)));
            tell(openid, answer);
        }
    }
}

async fn look_up(tokens: &Tokens, app: &App, part: &[OpenId]) -> Result<Vec<Follower>, Missed> {
    if let [openid] = part {
        let one = |client: Client, token| async move { client.follower(openid, &token).await };
        return Ok(vec![tokens.ask(app, Api::UserInfo, one).await?]);
    }
    let all = |client: Client, token| async move { client.followers(part, &token).await };
    tokens.ask(app, Api::UserInfo, all).await
}
