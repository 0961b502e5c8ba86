//! Questions to WeChat as operators' work asks them, who goes through many logins at once: what was
//! answered within the last day is not asked again, questions about followers are gathered into
//! full batches, and what would be asked can be counted without being asked.
//!
//! Live workers have no book: what they ask is about a login of this moment.

use super::caller::Missed;
use super::codes::{self, Api};
use super::failure::{CallError, CallFailure};
use super::flights::Flights;
use super::followers::Answer as FollowerAnswer;
use super::kept::{Kept, Person};
use super::ports::{Answers, Asked, Found, Mark, MemoryFault};
use super::wechat::{Follower, MAX_BATCH};
use crate::clock::Clock;
use crate::model::{Account, App, AppId, Apps, Millis, OpenId};
use crate::seal::Keys;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An answer to an operator's question is good for this long, in milliseconds: a day, as the quotas are.
pub const ANSWERS_MS: i64 = 24 * 3_600_000;

/// Files that an account was told of as one that something could be asked about.
const TOLD: [u8; 16] = [0; 16];

/// Questions by app and API.
pub type Tally = BTreeMap<(AppId, Api), u64>;

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It is asked; if not `again`, only where no answer is remembered.
    Asked {
        /// See above.
        again: bool,
    },
    /// It is counted, once for each account and evidence, and stays open.
    Counted,
    /// It stays open.
    Left,
}

/// The questions of one piece of work.
pub struct Book {
    answers: Arc<dyn Answers>,
    keys: Arc<Keys>,
    apps: Arc<Apps>,
    clock: Clock,
    manner: Manner,
    /// When the work began: with `again`, only answers since then are good.
    since: Millis,
    flights: Flights,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Followers to be asked about.
    followers: BTreeMap<AppId, BTreeSet<OpenId>>,
    /// What was counted since it was last taken.
    counted: Tally,
    /// About whom.
    askable: BTreeSet<Account>,
}

/// A question about an account, with the evidence that it rests on.
struct Question<'a> {
    app: &'a App,
    account: &'a Account,
    api: Api,
    evidence: &'a str,
}

impl Book {
    /// Over the answers that are remembered, for work that began at `since`.
    #[must_use]
    pub fn new(
        answers: Arc<dyn Answers>,
        keys: Arc<Keys>,
        apps: Arc<Apps>,
        clock: Clock,
        manner: Manner,
        since: Millis,
    ) -> Self {
        Self {
            answers,
            keys,
            apps,
            since,
            clock,
            manner,
            flights: Flights::default(),
            open: Mutex::default(),
        }
    }

    /// What was counted since this was last asked.
    #[must_use]
    pub fn take_counted(&self) -> Tally {
        std::mem::take(&mut self.lock().counted)
    }

    /// Accounts about which something was counted, by app; each is told once.
    ///
    /// # Errors
    /// The memory is not available.
    pub async fn take_askable(&self) -> Result<BTreeMap<AppId, u64>, MemoryFault> {
        let accounts = std::mem::take(&mut self.lock().askable);
        let (mut new, mut kept) = (BTreeMap::new(), Vec::new());
        let at = (self.clock)();
        for account in accounts {
            let app = account.app.clone();
            let told = Asked {
                account,
                what: TOLD,
            };
            if self
                .answers
                .known(told.clone(), at.plus(-ANSWERS_MS))
                .await?
                .is_none()
            {
                *new.entry(app).or_default() += 1;
                kept.push((told, at, Vec::new()));
            }
        }
        if !kept.is_empty() {
            self.answers.keep(kept).await?;
        }
        Ok(new)
    }

    /// The followers to be asked about, in batches; each of them is to be told with [`Book::learn`].
    #[must_use]
    pub fn take_followers(&self) -> Vec<(AppId, Vec<OpenId>)> {
        let gathered = std::mem::take(&mut self.lock().followers);
        let mut batches = Vec::new();
        for (app, openids) in gathered {
            let openids: Vec<OpenId> = openids.into_iter().collect();
            let full = openids.chunks(MAX_BATCH);
            batches.extend(full.map(|batch| (app.clone(), batch.to_vec())));
        }
        batches
    }

    /// Remembers what was told of followers; what could not be asked stays open.
    ///
    /// # Errors
    /// The memory is not available.
    pub async fn learn(
        &self,
        app: &App,
        told: impl IntoIterator<Item = (OpenId, FollowerAnswer)>,
    ) -> Result<(), MemoryFault> {
        let at = (self.clock)();
        let mut kept = Vec::new();
        for (openid, answer) in told {
            let Some(answer) = Kept::of(&answer) else {
                continue;
            };
            let account = Account {
                app: app.id.clone(),
                openid,
            };
            let question = about_follower(app, &account);
            kept.push((self.asked(&question), at, self.seal(&question, &answer)?));
        }
        self.answers.keep(kept).await
    }

    /// What is remembered of a follower, if anything was told.
    ///
    /// # Errors
    /// The memory is not available.
    pub async fn told(&self, app: &App, openid: &OpenId) -> Result<Option<Follower>, MemoryFault> {
        let account = Account {
            app: app.id.clone(),
            openid: openid.clone(),
        };
        let known = self.known(&about_follower(app, &account)).await?;
        Ok(known.and_then(|(told, _)| told.ok()))
    }

    /// What is known of a follower, and when it was told; gathered if it is to be asked.
    pub(super) async fn follower(
        &self,
        app: &App,
        openid: &OpenId,
    ) -> Result<(Follower, Millis), Missed> {
        let account = Account {
            app: app.id.clone(),
            openid: openid.clone(),
        };
        let question = about_follower(app, &account);
        if let Some((known, at)) = self.known(&question).await? {
            return Ok((known?, at));
        }
        if self.manner == Manner::Left {
            return Err(Missed::Later(None));
        }
        if self.manner == Manner::Counted {
            self.note_counted(&question).await?;
        }
        let mut open = self.lock();
        let of_app = open.followers.entry(app.id.clone()).or_default();
        of_app.insert(openid.clone());
        Err(Missed::Later(None))
    }

    /// What is known about an account, and when it was told, or else what `call` brings, which is then
    /// known.
    pub(super) async fn once<T, F>(
        &self,
        app: &App,
        account: &Account,
        (api, evidence): (Api, &str),
        call: F,
    ) -> Result<(T, Millis), Missed>
    where
        T: Person,
        F: Future<Output = Result<T, Missed>>,
    {
        let question = Question {
            app,
            account,
            api,
            evidence,
        };
        // Two logins with one question: the second finds what the first was told.
        let _flight = self.flights.enter(Mark(self.mac(&question))).await;
        if let Some((known, at)) = self.known(&question).await? {
            return Ok((known?, at));
        }
        match self.manner {
            Manner::Left => Err(Missed::Later(None)),
            Manner::Counted => {
                self.note_counted(&question).await?;
                let key = (app.id.clone(), api);
                *self.lock().counted.entry(key).or_default() += 1;
                Err(Missed::Later(None))
            }
            Manner::Asked { .. } => {
                let told = call.await;
                let at = (self.clock)();
                if let Some(answer) = Kept::of(&told) {
                    let sealed = self.seal(&question, &answer)?;
                    let kept = (self.asked(&question), at, sealed);
                    self.answers.keep(vec![kept]).await?;
                }
                Ok((told?, at))
            }
        }
    }

    async fn known<T: Person>(
        &self,
        question: &Question<'_>,
    ) -> Result<Option<(Result<T, Missed>, Millis)>, MemoryFault> {
        let since = match self.manner {
            Manner::Asked { again: true } => self.since,
            _ => (self.clock)().plus(-ANSWERS_MS),
        };
        let found = self.answers.known(self.asked(question), since).await?;
        let found = found.and_then(|found| {
            let at = found.at;
            Some((self.open_answer(question, found)?, at))
        });
        Ok(found.map(|(kept, at)| {
            let told = match kept {
                Kept::Told(person) => T::from_kept(person).ok_or(Missed::Later(None)),
                Kept::Refused(errcode) => Err(Missed::Fault(CallError {
                    errcode: Some(errcode),
                    ..CallError::of(CallFailure::Api(codes::action(question.api, errcode)))
                })),
                // Counted, not asked.
                Kept::Nothing => Err(Missed::Later(None)),
            };
            (told, at)
        }))
    }

    /// Notes that the question was counted.
    async fn note_counted(&self, question: &Question<'_>) -> Result<(), MemoryFault> {
        self.lock().askable.insert(question.account.clone());
        let sealed = self.seal(question, &Kept::Nothing)?;
        let kept = (self.asked(question), (self.clock)(), sealed);
        self.answers.keep(vec![kept]).await
    }

    /// The question as it is filed: an answer is one under the platform that the app is in now, and to
    /// this evidence.
    fn asked(&self, question: &Question<'_>) -> Asked {
        let mac = self.mac(question);
        let mut what = [0; 16];
        what.copy_from_slice(&mac[..16]);
        Asked {
            account: question.account.clone(),
            what,
        }
    }

    fn mac(&self, question: &Question<'_>) -> [u8; 32] {
        let platform = self.apps.platform_at(&question.app.id, (self.clock)());
        let text = zeroize::Zeroizing::new(format!(
            "{}\0{}\0{}\0{}",
            question.api.word(),
            question.account.key(),
            platform.map_or("", |p| p.as_str()),
            question.evidence
        ));
        self.keys.ring.mac("answer", text.as_bytes())
    }

    fn seal(&self, question: &Question<'_>, kept: &Kept) -> Result<Vec<u8>, MemoryFault> {
        let id = question.account.key();
        let sealed = self
            .keys
            .ring
            .seal("answer", id.as_bytes(), &kept.to_bytes());
        sealed.map_err(|e| MemoryFault(e.to_string()))
    }

    /// What does not open (its key is gone) is as good as none.
    fn open_answer(&self, question: &Question<'_>, found: Found) -> Option<Kept> {
        let id = question.account.key();
        let opened = self
            .keys
            .ring
            .open("answer", id.as_bytes(), &found.sealed?)
            .ok()?;
        Kept::from_bytes(&opened)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn about_follower<'a>(app: &'a App, account: &'a Account) -> Question<'a> {
    Question {
        app,
        account,
        api: Api::UserInfo,
        evidence: "",
    }
}
