//! Lists: whole, or in parts.

use std::future::IntoFuture;

use super::api::{Api, Pending};
use crate::protocol::gateway::api::{ApiError, Call, Outcome, PAGE_MAX, Page};

type ToCall = Box<dyn FnOnce(Page) -> Result<Call, ApiError> + Send>;

/// Reads a list and where it goes on out of an outcome.
pub(super) type Read<T> = fn(Outcome) -> Result<(Vec<T>, Option<String>), ApiError>;

/// A list. Awaited, it is all of it, if that is not too much ([`ErrorCode::TooLarge`](super::ErrorCode::TooLarge)).
#[must_use = "nothing is asked before it is awaited"]
pub struct Listing<T> {
    api: Api,
    call: ToCall,
    read: Read<T>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to give [`Listing::part`] for the next part; `None`: this was the last.
    pub next: Option<String>,
}

impl<T> Listing<T> {
    pub(super) fn new(
        api: &Api,
        call: impl FnOnce(Page) -> Result<Call, ApiError> + Send + 'static,
        read: Read<T>,
    ) -> Self {
        Self {
            api: api.clone(),
            call: Box::new(call),
            read,
        }
    }

    /// At most `limit` items (1 to 10 000), from where the part before ended. What stays while parts are asked for is in one
    /// of them at least.
    pub async fn part(self, limit: usize, from: Option<String>) -> Result<Part<T>, ApiError> {
        if !(1..=PAGE_MAX).contains(&limit) {
            return Err(ApiError::bad_request(format!("limit: 1 to {PAGE_MAX} expected")));
        }
        let page = Page {
            limit: Some(limit),
            cursor: from,
        };
        let (items, next) = self.page(page).await?;
        Ok(Part { items, next })
    }

    async fn page(self, page: Page) -> Result<(Vec<T>, Option<String>), ApiError> {
        let Self { api, call, read } = self;
        let call = call(page)?;
        read(api.ask(call).await?)
    }
}

impl<T: 'static> IntoFuture for Listing<T> {
    type Output = Result<Vec<T>, ApiError>;
    type IntoFuture = Pending<Vec<T>>;

    fn into_future(self) -> Pending<Vec<T>> {
        Box::pin(async move { Ok(self.page(Page::default()).await?.0) })
    }
}
