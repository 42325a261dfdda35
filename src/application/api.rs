//! What handlers, and all other code of the process, can ask of the server: one method for each row of the HTTP interface, with
//! its meaning. Each makes the same [`Call`] as a request over HTTP, which goes to the control core by its mailbox and is
//! carried out there.
//!
//! Bound: [`CALLS_UNDER_WAY_MAX`] calls at once; who comes then waits. No call waits for a client.

mod clients;
mod groups;
mod uids;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::engine::mailbox::Entrance;
use crate::engine::name::{Name, Space};
use crate::io::application::Asked;
use crate::io::mail::ControlMail;
use crate::io::wake::Waker;
use crate::protocol::gateway::api::{
    self, ApiError, BATCH_MAX, Call, ClientText, Context, ErrorCode, LIST_MAX, Outcome, Request,
};

/// Calls at once; far fewer than a mailbox has room for.
const CALLS_UNDER_WAY_MAX: usize = 1024;
/// Pause before a full mailbox is tried again.
const PAUSE: Duration = Duration::from_millis(1);

/// The id of a client: 20 hex digits.
pub type ClientId = ClientText;

/// Session data of a client: a JSON object.
pub type Session = Map<String, Value>;

/// A future on its way, as the builders of this module become one.
pub type Pending<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send>>;

/// Asks the server. Cheap to clone, and may be used from any thread, for as long as the process lives.
///
/// Groups and uids are not empty, and at most 255 bytes long. A client that is not connected is
/// [`ErrorCode::ClientNotFound`] where one is named, and left out where several are.
#[derive(Clone, Debug)]
pub struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    control: Entrance<ControlMail, Waker>,
    places: Semaphore,
    runtime: Handle,
}

/// Takes what is expected of an outcome.
macro_rules! taken {
    ($outcome:expr, $pattern:pat => $value:expr) => {
        match $outcome {
            $pattern => Ok($value),
            other => Err($crate::application::api::unexpected(&other)),
        }
    };
}
pub(super) use taken;

impl Api {
    pub(super) fn new(control: Entrance<ControlMail, Waker>, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            control,
            places: Semaphore::new(CALLS_UNDER_WAY_MAX),
            runtime,
        }))
    }

    /// Calls a function by one of its names in the HTTP interface (`/v1/call/…`); returns the `data` of its answer.
    pub async fn call(&self, function: &str, arguments: Value) -> Result<Value, ApiError> {
        let request = by_name(function, arguments)?;
        self.ask_as(request).await.map(|outcome| data(&outcome))
    }

    /// Calls functions by name, one after the other. None is called if one of them cannot be understood.
    pub async fn batch<'a>(
        &self,
        calls: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Result<Vec<Result<Value, ApiError>>, ApiError> {
        let calls = calls
            .into_iter()
            .map(|(function, arguments)| by_name(function, arguments));
        let calls: Vec<_> = calls.collect::<Result<_, _>>()?;
        if calls.len() > BATCH_MAX {
            return Err(ApiError::too_large(format!("calls: more than {BATCH_MAX}")));
        }
        let outcome = self.ask(Call::Batch(calls)).await?;
        let read = |result: Result<Outcome, ApiError>| result.map(|outcome| data(&outcome));
        taken!(outcome, Outcome::Results(results) => results.into_iter().map(read).collect())
    }

    /// Asks the control core.
    pub(super) async fn ask(&self, call: Call) -> Result<Outcome, ApiError> {
        self.ask_as(Request::strict(call)).await
    }

    async fn ask_as(&self, request: Request) -> Result<Outcome, ApiError> {
        let _place = self.0.places.acquire().await.map_err(|_| stopped())?;
        let (answer, answered) = oneshot::channel();
        let mut mail = ControlMail::Asked(Asked { request, answer });
        while let Err(back) = self.0.control.post(mail) {
            mail = back;
            let pause = {
                let _timers = self.0.runtime.enter();
                tokio::time::sleep(PAUSE)
            };
            pause.await;
        }
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

fn stopped() -> ApiError {
    ApiError::new(ErrorCode::NodeUnreachable, "the server has stopped")
}

/// The control core answered what was not asked.
pub(super) fn unexpected(outcome: &Outcome) -> ApiError {
    debug_assert!(false, "unexpected outcome: {outcome:?}");
    ApiError::new(ErrorCode::NodeUnreachable, "the answer is not one to this call")
}

fn by_name(function: &str, arguments: Value) -> Result<Request, ApiError> {
    let item = serde_json::json!({"fn": function, "args": arguments});
    api::item(item, &Context::default())
}

/// What an outcome looks like over HTTP.
fn data(outcome: &Outcome) -> Value {
    let mut text = Vec::new();
    outcome.write(&mut text);
    serde_json::from_slice(&text).unwrap_or_default()
}

pub(super) fn text(name: &Name) -> String {
    String::from_utf8_lossy(name.text()).into_owned()
}

pub(super) fn texts(names: &[Name]) -> Vec<String> {
    names.iter().map(text).collect()
}

pub(super) fn by_text<T, U>(names: Vec<(Name, T)>, value: impl Fn(T) -> U) -> Vec<(String, U)> {
    names.into_iter().map(|(name, of)| (text(&name), value(of))).collect()
}

/// What is kept is a JSON object; empty if it was never set.
pub(super) fn read_session(text: &[u8]) -> Session {
    serde_json::from_slice(text).unwrap_or_default()
}

pub(super) fn name(parameter: &str, space: Space, text: &str) -> Result<Name, ApiError> {
    api::checked_name(parameter, space, text)
}

pub(super) fn names(
    parameter: &str,
    space: Space,
    texts: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<Vec<Name>, ApiError> {
    let names = texts.into_iter().map(|text| name(parameter, space, text.as_ref()));
    list(parameter, names)?.into_iter().collect()
}

/// As many as a list among the arguments may have.
pub(super) fn list<T>(parameter: &str, items: impl IntoIterator<Item = T>) -> Result<Vec<T>, ApiError> {
    let items: Vec<T> = items.into_iter().take(LIST_MAX + 1).collect();
    if items.len() > LIST_MAX {
        return Err(ApiError::too_large(format!("{parameter}: more than {LIST_MAX} items")));
    }
    Ok(items)
}
