//! The end of the server: asked to by a signal, or because another process has taken over.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::Duration;

use super::{Control, http, surface};
use crate::engine::command::Command;
use crate::io::mail::Handover;
use crate::io::sys;
use crate::io::takeover::{Offer, Successor};
use crate::limits::ACCEPT_PAUSE;
use crate::metrics::Metric;
use crate::protocol::ListenerId;
use crate::wire::http1::RequestHead;

/// Pace of looking whether everything is done.
const STEP: Duration = Duration::from_millis(10);
/// Looks in a row that have to find everything done: a connection on its way from a shard to this core is nowhere.
const QUIET_LOOKS: u32 = 3;
/// Pace of telling how far it is.
const PROGRESS: Duration = Duration::from_secs(5);

impl Control {
    /// Another process may take over from now on.
    pub(super) fn may_be_replaced(&self, offer: Offer) {
        if self.stopping.get() {
            offer.withdraw();
        } else {
            *self.offer.borrow_mut() = Some(offer);
        }
    }

    /// Begins to stop.
    pub(super) fn stop(self: &Rc<Self>) {
        if !self.stopping.replace(true) {
            if let Some(offer) = self.offer.borrow_mut().take() {
                offer.withdraw();
            }
            monoio::spawn(stop(self.clone()));
        }
    }

    /// Another process has taken over: stops, and serves what that one passes on for the clients that are still here.
    pub(super) fn give_way(self: &Rc<Self>, mut successor: Successor) {
        let port = successor.port.take();
        *self.successor.borrow_mut() = Some(successor);
        if let Some(port) = port
            && let Err(error) = serve_successor(self, port)
        {
            tracing::warn!(%error, "calls to the new process do not reach the clients of this one");
        }
        self.stop();
    }

    /// Whether a connection stays open after this request. Callers shall come back to the process that has the port; what
    /// that one passes on comes to this one.
    pub(super) fn keeps_connection(&self, head: &RequestHead) -> bool {
        !self.stopping.get() || self.successor.borrow().is_some() && surface::is_passed_on(head)
    }

    /// Clients of all shards that are open.
    fn open_clients(&self) -> u64 {
        let open = self.metrics.iter().map(|core| core.value(Metric::SessionsOpen));
        open.fold(0, u64::wrapping_add)
    }

    fn open_callbacks(&self) -> u64 {
        self.callbacks.pending()
    }
}

/// Serves the connections of a process that has taken over.
fn serve_successor(control: &Rc<Control>, port: TcpListener) -> io::Result<()> {
    port.set_nonblocking(true)?;
    let ready = sys::watch(&[port.as_fd()])?;
    let ready = monoio::net::TcpStream::from_std(TcpStream::from(ready))?;
    let control = control.clone();
    monoio::spawn(async move {
        while ready.readable(false).await.is_ok() {
            match port.accept() {
                Ok((stream, _)) => http::serve(
                    &control,
                    Handover {
                        socket: stream.into(),
                        bytes: Vec::new(),
                        tls: None,
                        told: None,
                        listener: ListenerId::MAIN,
                    },
                ),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => monoio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    });
    Ok(())
}

/// Stops in order: accept no more, leave the cluster, close every client, finish callbacks, answer callers, exit.
async fn stop(control: Rc<Control>) {
    let is_replaced = control.successor.borrow().is_some();
    let config = control.config();
    let limit = config.drain_timeout;
    let begun = control.clock.now();
    let (deadline, mut tell_at) = (begun + limit, begun + PROGRESS);
    let reason = if is_replaced {
        "another process has taken over"
    } else {
        "asked to"
    };
    tracing::info!(
        reason,
        clients = control.open_clients(),
        drain_rate = config.drain_rate,
        seconds = limit.as_secs_f64(),
        "stopping: closing clients, finishing callbacks"
    );
    control.cluster.leave(is_replaced);
    for shard in control.shards() {
        control.post(shard, Command::Drain);
    }
    let shards = control.shards().count();
    let mut quiet_looks = 0;
    while quiet_looks < QUIET_LOOKS && control.clock.now() < deadline {
        let quiet = control.drained.get() == shards
            && control.open_callbacks() == 0
            && !control.surfaces.is_busy()
            && control.desk.borrow().publishes() == 0
            && control.connections.places.all_answered();
        quiet_looks = if quiet { quiet_looks + 1 } else { 0 };
        if control.clock.now() >= tell_at {
            tell_at = tell_at + PROGRESS;
            let (clients, callbacks) = (control.open_clients(), control.open_callbacks());
            tracing::info!(clients, callbacks, "still stopping");
        }
        monoio::time::sleep(STEP).await;
    }
    let left = control.open_callbacks();
    if left > 0 || control.drained.get() < shards {
        tracing::warn!(
            clients = control.open_clients(),
            callbacks = left,
            shards_left = shards - control.drained.get(),
            "the time to stop is over"
        );
    }
    // Callers that still wait are told what is known.
    control.desk.borrow_mut().give_up();
    control.carry(&[]);
    monoio::time::sleep(STEP).await;
    tracing::info!("stopped");
    let _ = control.exit.send(0);
}
