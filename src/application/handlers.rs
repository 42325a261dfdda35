//! Runs handlers: each event in a task of its own on the side threads. Which of them may run at the same time is decided before
//! they get here: one per client, and as many as `callback_concurrency` says.
//!
//! Every event that is begun is ended once, whatever its handler does ([`Under`]).

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Application;
use super::api::Api;
use super::events::Event;
use crate::engine::mailbox::Entrance;
use crate::io::application::{End, Handled, Handlers, Told};
use crate::io::mail::ControlMail;
use crate::io::wake::Waker;

/// Pause before a full mailbox is tried again.
const PAUSE: Duration = Duration::from_millis(1);

/// The handlers of an application.
pub(super) struct Tasks<A> {
    pub(super) shared: Arc<Shared<A>>,
    pub(super) runtime: Handle,
    pub(super) control: Entrance<ControlMail, Waker>,
}

/// What all handlers see.
pub(super) struct Shared<A> {
    pub(super) app: A,
    pub(super) api: Api,
    /// `on_start` has ended.
    pub(super) started: watch::Receiver<bool>,
}

impl<A: Application> Handlers for Tasks<A> {
    fn begin(&self, told: Told) {
        let under = Under {
            ended: None,
            number: told.number,
            client: told.request.client,
            event: told.request.hook.event,
            control: self.control.clone(),
        };
        let shared = self.shared.clone();
        self.runtime.spawn(run(shared, told, under));
    }
}

async fn run<A: Application>(shared: Arc<Shared<A>>, told: Told, mut under: Under) {
    let deadline = Instant::from_std(told.deadline);
    under.ended = match timeout_at(deadline, shared.handle(told)).await {
        Ok(answer) => Some(End::Answered(answer)),
        Err(_) => Some(End::TimedOut),
    };
}

impl<A: Application> Shared<A> {
    async fn handle(&self, told: Told) -> Bytes {
        if !*self.started.borrow() {
            let _ = self.started.clone().wait_for(|is| *is).await;
        }
        let Some(event) = Event::read(&told.request, &self.api) else {
            return Bytes::new();
        };
        let (app, api) = (&self.app, &self.api);
        match event {
            Event::Handshake(handshake) => return app.on_handshake(api, &handshake).await.answer(),
            Event::Connected(client) => app.on_connect(api, &client).await,
            Event::Message(client, message) => app.on_message(api, &client, message).await,
            Event::Closed(client) => app.on_close(api, &client).await,
        }
        Bytes::new()
    }
}

/// An event whose handler has begun. Dropped, it tells how that ended.
struct Under {
    /// None: not by itself.
    ended: Option<End>,
    number: u64,
    client: crate::engine::ids::ClientId,
    event: crate::engine::hook::Event,
    control: Entrance<ControlMail, Waker>,
}

impl Drop for Under {
    fn drop(&mut self) {
        let end = self.ended.take().unwrap_or(match thread::panicking() {
            true => End::Panicked,
            // The threads come to their end.
            false => End::TimedOut,
        });
        let mut mail = ControlMail::Handled(Handled {
            number: self.number,
            client: self.client,
            event: self.event,
            end,
        });
        // The control core empties its mailbox whatever happens, so this is short.
        while let Err(back) = self.control.post(mail) {
            mail = back;
            thread::sleep(PAUSE);
        }
    }
}
