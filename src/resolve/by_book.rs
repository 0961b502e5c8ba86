//! Asking with a book, as operators' work does; without one, WeChat itself is asked each time.

use super::asking::Asking;
use super::book::Book;
use super::caller::Missed;
use super::climb::Climb;
use super::codes::Api;
use super::followers::Followers;
use super::kept::Person;
use super::wechat::Follower;
use crate::model::{App, Millis, OpenId};
use std::sync::Arc;

impl Asking {
    /// Asks as operators' work does, with a book.
    #[must_use]
    pub fn with_book(mut self, book: Arc<Book>) -> Self {
        self.book = Some(book);
        self
    }

    /// Those who follow.
    #[must_use]
    pub fn followers(&self) -> &Followers {
        &self.followers
    }

    /// Asks, or finds what the book holds of it; and when it was told.
    pub(super) async fn once<T: Person>(
        &self,
        app: &App,
        climb: &Climb<'_>,
        what: (Api, &str),
        call: impl Future<Output = Result<T, Missed>>,
    ) -> Result<(T, Millis), Missed> {
        match &self.book {
            None => Ok((call.await?, self.caller.now())),
            Some(book) => book.once(app, &climb.account, what, call).await,
        }
    }

    pub(super) async fn about_follower(
        &self,
        app: &App,
        openid: &OpenId,
    ) -> Result<(Follower, Millis), Missed> {
        match &self.book {
            None => {
                let told = self.followers.ask(app, openid.clone()).await?;
                Ok((told, self.caller.now()))
            }
            Some(book) => book.follower(app, openid).await,
        }
    }
}
