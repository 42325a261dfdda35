//! Reading the settings again, on SIGHUP and `/updateconfig/`: all of them take effect, or none.
//!
//! Anybody may ask, so asking costs nearly nothing: at most one reload in [`INTERVAL`], and whoever asks while one waits for its
//! turn gets that one, which reads what is there then. Only what has changed is made anew: the certificates, with the keys of
//! tickets kept, and the trust and the connections of callbacks.
//!
//! A file that is still being written is not read: one younger than [`SETTLED`] is waited for, one that ends in the middle of a
//! line where it did not before is refused, and so is one in which a setting is missing whose absence would lower security.
//! Listening sockets, ports, threads and the cluster name stay. Callers: `mod.rs`, `surface/`, `scrape.rs`.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::{Control, callback, certificate_expiry, surface};
use crate::cli;
use crate::config::{Changes, Config};
use crate::io::mail::ShardMail;
use crate::io::stamp::{self, Stamp};
use crate::io::tls;
use crate::time::Instant;

/// Time between two reloads.
const INTERVAL: Duration = Duration::from_secs(1);
/// Age from which on a file counts as written.
const SETTLED: Duration = Duration::from_millis(100);
/// Pauses for files that keep changing, before the reload is refused: at least five seconds.
const PATIENCE: usize = 50;
/// Where systems keep the authorities they trust; a change there is a change of trust.
const SYSTEM_AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// What is remembered of the last reload.
pub(super) struct Reloads {
    /// One waits for its turn.
    is_waiting: Cell<bool>,
    /// When the last one ended.
    ended: Cell<Option<Instant>>,
    /// When the settings were last read, in seconds since 1970, and whether they took effect.
    result: Cell<(u64, bool)>,
    /// The files of the listening certificates, as they were read.
    identity: RefCell<Vec<Stamp>>,
    /// The files of callbacks, as they were read.
    trust: RefCell<Vec<Stamp>>,
    /// Bytes of the settings file, and whether it ended with a line's end.
    shape: Cell<(usize, bool)>,
}

/// Why a reload has not taken effect.
enum Halt {
    /// A file may be still being written.
    Unsettled,
    /// Told to the operator.
    Refused(String),
}

impl From<String> for Halt {
    fn from(text: String) -> Halt {
        Halt::Refused(text)
    }
}

impl Reloads {
    /// After a start with this configuration from this file.
    pub(super) fn new(config: &Config, file: Option<&Path>, unix_seconds: u64) -> Reloads {
        let text = file.and_then(|file| cli::read(file).ok()).unwrap_or_default();
        Reloads {
            is_waiting: Cell::new(false),
            ended: Cell::new(None),
            result: Cell::new((unix_seconds, true)),
            identity: RefCell::new(identity_stamps(config)),
            trust: RefCell::new(trust_stamps(config)),
            shape: Cell::new((text.len(), text.ends_with(b"\n"))),
        }
    }

    /// When the settings were last read, in seconds since 1970, and whether those are in force.
    pub(super) fn result(&self) -> (u64, bool) {
        self.result.get()
    }

    /// A part of the file that was read last: it has become shorter and ends in the middle of a line.
    fn is_cut(&self, text: &[u8]) -> bool {
        let (bytes, ended) = self.shape.get();
        ended && text.len() < bytes && !text.ends_with(b"\n")
    }
}

/// Reads the settings again, at once if that may be, else as soon as it may be.
pub(super) fn request(control: &Rc<Control>) {
    if control.reloads.is_waiting.replace(true) {
        return;
    }
    if control.reload_pause().is_some() || !control.try_reload() {
        monoio::spawn(wait(control.clone()));
    }
}

async fn wait(control: Rc<Control>) {
    for _ in 0..PATIENCE {
        match control.reload_pause() {
            Some(pause) => Box::pin(monoio::time::sleep(pause)).await,
            None if control.try_reload() => return,
            None => Box::pin(monoio::time::sleep(SETTLED)).await,
        }
    }
    let text = "a file of the settings is being written all the time; reload when it is done";
    control.reload_ended(Err(text.into()));
}

impl Control {
    /// How long a reload has to wait.
    fn reload_pause(&self) -> Option<Duration> {
        let since = |ended: Instant| self.clock.now().since(ended);
        let paced = self
            .reloads
            .ended
            .get()
            .and_then(|ended| INTERVAL.checked_sub(since(ended)));
        let config = self.config();
        let files = self.file.as_deref().into_iter().chain(named(&config));
        let settling = stamp::youngest(files).and_then(|age| SETTLED.checked_sub(age));
        paced.max(settling).filter(|pause| !pause.is_zero())
    }

    /// False: a file named only now is still being written.
    fn try_reload(&self) -> bool {
        match self.reload() {
            Err(Halt::Unsettled) => return false,
            Err(Halt::Refused(text)) => self.reload_ended(Err(text)),
            Ok(()) => self.reload_ended(Ok(())),
        }
        true
    }

    fn reload_ended(&self, outcome: Result<(), String>) {
        let reloads = &self.reloads;
        reloads.is_waiting.set(false);
        reloads.ended.set(Some(self.clock.now()));
        reloads
            .result
            .set((self.clock.unix_micros() / 1_000_000, outcome.is_ok()));
        if let Err(error) = outcome {
            tracing::error!(%error, "reload refused, the old settings stay in force");
        }
    }

    fn reload(&self) -> Result<(), Halt> {
        let file = self.file.as_ref().ok_or("there is no file to read again".to_owned())?;
        let text = cli::read(file).map_err(|error| error.to_string())?;
        if self.reloads.is_cut(&text) {
            let text = format!(
                "{} has become shorter and ends in the middle of a line: is it the whole file? End its last line if it is",
                file.display()
            );
            return Err(Halt::Refused(text));
        }
        let (fresh, warnings) = cli::interpret(file, &text, &self.overrides).map_err(|errors| join(&errors))?;
        let old = self.config();
        let lowered = old.lowered_by_absence(&fresh);
        if !lowered.is_empty() {
            return Err(Halt::Refused(format!("{}: {}", file.display(), lowered.join("; "))));
        }
        let fresh = fresh.resolved(self.machine.cores, self.machine.descriptors_max);
        let (config, changes) = old.reloaded(fresh);
        // Before they are read: what changes meanwhile is seen by the next reload.
        let (identity_stamps, trust_stamps) = (identity_stamps(&config), trust_stamps(&config));
        if stamp::youngest(named(&config)).is_some_and(|age| age < SETTLED) {
            return Err(Halt::Unsettled);
        }
        let (has_identity, has_trust) = (
            *self.reloads.identity.borrow() != identity_stamps,
            *self.reloads.trust.borrow() != trust_stamps,
        );
        let identity = if has_identity { tls::load(&config) } else { Ok(None) };
        let identity = identity.map_err(|fault| format!("{}: {}", fault.key, fault.text))?;
        let options = callback::options(&config);
        if has_trust || options != callback::options(&old) {
            let reloaded = self.client.reload(&options);
            reloaded.map_err(|error| format!("https callbacks: {error}"))?;
        }
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        self.put_in_force(config, &old, identity);
        self.reloads.identity.replace(identity_stamps);
        self.reloads.trust.replace(trust_stamps);
        self.reloads.shape.set((text.len(), text.ends_with(b"\n")));
        let Changes {
            hot,
            new_connections,
            restart,
        } = changes;
        tracing::info!(
            hot = hot.join(" "),
            new_connections = new_connections.join(" "),
            needs_restart = restart.join(" "),
            certificates = if has_identity || has_trust { "new" } else { "unchanged" },
            "configuration read again"
        );
        Ok(())
    }

    fn put_in_force(&self, config: Config, old: &Config, identity: Option<tls::Identity>) {
        self.certificate_expiry.set(certificate_expiry(&config));
        if config != *old {
            let config = Arc::new(config);
            *self.config.borrow_mut() = config.clone();
            self.callbacks.rebuild(self.local.in_place(surface::builders(&config)));
            self.callbacks.reload(callback::Settings::of(&config));
            self.cluster.reload(&config);
            for shard in self.shards() {
                self.post_mail(shard, ShardMail::Reload(config.clone()));
            }
        }
        if let Some(identity) = identity {
            for shard in self.shards() {
                self.post_mail(shard, ShardMail::Identity(identity.clone()));
            }
        }
    }
}

/// The files the settings name.
fn named(config: &Config) -> impl Iterator<Item = &Path> {
    identity_files(config).chain(trust_files(config)).map(PathBuf::as_path)
}

fn identity_files(config: &Config) -> impl Iterator<Item = &PathBuf> {
    config.tls_cert.iter().chain(&config.tls_key)
}

fn trust_files(config: &Config) -> impl Iterator<Item = &PathBuf> {
    let ours = [&config.ca_file, &config.callback_cert, &config.callback_key];
    ours.into_iter().flatten()
}

fn identity_stamps(config: &Config) -> Vec<Stamp> {
    identity_files(config).map(|file| Stamp::of(file)).collect()
}

fn trust_stamps(config: &Config) -> Vec<Stamp> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let system = SYSTEM_AUTHORITIES.iter().map(PathBuf::from).chain(named);
    let ours = trust_files(config).map(|file| Stamp::of(file));
    ours.chain(system.map(|file| Stamp::of(&file))).collect()
}

/// Several errors on one line of log.
fn join<E: std::fmt::Display>(errors: &[E]) -> String {
    errors.iter().map(E::to_string).collect::<Vec<_>>().join("; ")
}
