//! SIGTERM, SIGINT and SIGHUP: blocked from the first instruction of `main` ([`sys::hold_signals`]), taken by one thread.
//!
//! | when | SIGTERM, SIGINT | SIGHUP |
//! | --- | --- | --- |
//! | before the server may have clients | exit code 0 at once | waits until the server is up |
//! | while it starts to accept | waits until it is up, then a graceful stop | the same |
//! | it serves | a graceful stop | a reload |
//! | asked to stop already | exit code 1 at once | a reload |
//!
//! Bounds: a signal that waits for the server stands for all of its kind. The thread waits for nobody but the kernel, so a
//! second request to stop ends the process also when a core hangs or nobody reads the log. Caller: `main.rs`, `server.rs`.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::mail::Signal;
use super::{console, runtime, sys};

/// The signals of this process.
#[derive(Clone, Debug)]
pub struct Signals(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    /// From now on a stop has to be graceful.
    has_clients: bool,
    /// Asked to stop.
    stops: bool,
    /// That waits for the server.
    stop: bool,
    /// A reload waits for the server.
    reload: bool,
}

/// Why the process ends at once, and its exit code.
type Exit = (i32, &'static str);

impl Signals {
    /// Begins to take signals, which must be held already. Errors: no thread.
    pub fn catch() -> io::Result<Self> {
        let signals = Self(Arc::default());
        let taker = signals.clone();
        runtime::start_side("signals".into(), move || {
            loop {
                let signal = sys::wait_for_signal();
                if let Some((code, text)) = taker.state().take(signal) {
                    console::say(text);
                    std::process::exit(code);
                }
                taker.0.1.notify_one();
            }
        })?;
        Ok(signals)
    }

    /// No signals: the process they are sent to is not this server's alone.
    pub fn none() -> Self {
        Self(Arc::default())
    }

    /// The server may have clients from now on, who have to be told when it ends.
    pub fn begin_to_serve(&self) {
        self.state().has_clients = true;
    }

    /// Whether the server has been asked to stop.
    pub fn stops(&self) -> bool {
        self.state().stops
    }

    /// Waits for something to do for the server.
    pub fn next(&self) -> Signal {
        let mut state = self.state();
        loop {
            if let Some(signal) = state.give() {
                return signal;
            }
            state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A signal has come.
    fn take(&mut self, signal: Signal) -> Option<Exit> {
        match signal {
            Signal::Reload => self.reload = true,
            Signal::Stop if self.stops => return Some((1, "stopped at once by a second signal")),
            Signal::Stop if !self.has_clients => {
                return Some((0, "asked to stop before it had clients, so it ends at once"));
            }
            Signal::Stop => (self.stops, self.stop) = (true, true),
        }
        None
    }

    /// What waits for the server.
    fn give(&mut self) -> Option<Signal> {
        if std::mem::take(&mut self.reload) {
            return Some(Signal::Reload);
        }
        std::mem::take(&mut self.stop).then_some(Signal::Stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_there_are_clients_a_stop_ends_at_once_and_a_reload_waits() {
        let mut state = State::default();
        assert_eq!(state.take(Signal::Reload), None);
        assert_eq!(state.take(Signal::Reload), None);
        assert!(matches!(state.take(Signal::Stop), Some((0, _))));
        assert_eq!((state.give(), state.give()), (Some(Signal::Reload), None));
    }

    #[test]
    fn with_clients_a_stop_waits_for_the_server_and_a_second_one_for_nobody() {
        let mut state = State {
            has_clients: true,
            ..State::default()
        };
        assert_eq!(state.take(Signal::Stop), None);
        assert_eq!(state.take(Signal::Reload), None);
        assert!(matches!(state.take(Signal::Stop), Some((1, _))));
        let given = [state.give(), state.give(), state.give()];
        assert_eq!(given, [Some(Signal::Reload), Some(Signal::Stop), None]);
    }
}
