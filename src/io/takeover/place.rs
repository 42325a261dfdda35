//! Where a server can be reached by the process that replaces it: a socket in a directory that only its user may enter.
//!
//! The directory is `takeover_dir`. Where that is not set it is [`RUN`], which the package makes (or a server that may), or else one
//! in [`TMP`] with the user's number. The process that takes over looks in all of them, so that it finds a server that began with
//! fewer settings or without the package.
//!
//! Invariants:
//! - A directory is used only if it is no symbolic link, belongs to this user, and gives group and others nothing. So nobody else
//!   can put a socket there, or remove one.
//! - A socket nobody listens on is what a killed process has left, and is replaced. A server removes its own and no other. Both
//!   happen under a lock on the directory.
//!
//! Blocks for the moment that takes. Caller: `takeover.rs`.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::io::sys;

/// The directory of the package, of its user.
const RUN: &str = "/run/rainbow-server";
/// Where directories of other users are.
const TMP: &str = "/tmp";
/// What the kernel takes of the path of a socket, without the zero at its end.
const PATH_BYTES_MAX: usize = 107;
/// Permissions of group and others.
const OTHERS: u32 = 0o077;

/// Directories in which a server of this user may have its socket.
#[derive(Clone, Debug)]
pub struct Places {
    dirs: Vec<PathBuf>,
    /// The first one was asked for, so it is that one or none.
    is_set: bool,
}

impl Places {
    /// As `takeover_dir` says.
    pub fn of(set: Option<&Path>) -> Self {
        let usual = [
            PathBuf::from(RUN),
            Path::new(TMP).join(format!("rainbow-server-{}", sys::own_user())),
        ];
        Self {
            dirs: set.map(Path::to_owned).into_iter().chain(usual).collect(),
            is_set: set.is_some(),
        }
    }

    /// Whether an operator chose the directory.
    pub fn is_set(&self) -> bool {
        self.is_set
    }

    /// The directory for a socket of this process, made if it is missing. Errors: why there is none.
    pub fn own(&self) -> Result<Dir, String> {
        let candidates = if self.is_set { &self.dirs[..1] } else { &self.dirs };
        let mut refusals = Vec::new();
        for path in candidates {
            match Dir::made(path) {
                Ok(dir) => return Ok(dir),
                Err(refusal) => refusals.push(refusal),
            }
        }
        Err(refusals.join("; "))
    }

    /// Connects to the server that listens under `name`. `None`: there is none. Errors: it cannot be reached.
    pub(super) fn find(&self, name: &str) -> io::Result<Option<UnixStream>> {
        let usable = self.dirs.iter().filter_map(|path| Dir::existing(path).ok());
        for dir in usable {
            match UnixStream::connect(dir.0.join(name)) {
                Ok(stream) => return Ok(Some(stream)),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
impl Places {
    /// This directory alone.
    pub(super) fn only(dir: &Path) -> Self {
        Self {
            dirs: vec![dir.to_owned()],
            is_set: true,
        }
    }
}

/// A directory of this user alone.
#[derive(Clone, Debug)]
pub struct Dir(PathBuf);

impl Dir {
    fn made(path: &Path) -> Result<Self, String> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(format!("{} cannot be made: {error}", path.display()))
            }
            _ => Self::existing(path),
        }
    }

    fn existing(path: &Path) -> Result<Self, String> {
        let dir = Self(path.to_owned());
        dir.open().map(|_| dir)
    }

    /// Errors: it is not one to be used.
    fn open(&self) -> Result<File, String> {
        let refused = |why: String| format!("{} {why}", self.0.display());
        let unreadable = |error: io::Error| refused(format!("cannot be opened: {error}"));
        let seen = fs::symlink_metadata(&self.0).map_err(unreadable)?;
        check(&seen, sys::own_user()).map_err(refused)?;
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let dir = OpenOptions::new().read(true).custom_flags(flags).open(&self.0);
        let dir = dir.map_err(unreadable)?;
        // Of what was opened: the path may lead elsewhere by now.
        let opened = dir.metadata().map_err(unreadable)?;
        check(&opened, sys::own_user()).map_err(refused)?;
        Ok(dir)
    }

    /// Keeps other servers of this user from changing it.
    fn lock(&self) -> Result<File, String> {
        let dir = self.open()?;
        dir.lock()
            .map_err(|error| format!("{} cannot be locked: {error}", self.0.display()))?;
        Ok(dir)
    }

    /// Listens under `name`. Errors: another server does, or it cannot be done.
    pub(super) fn listen(&self, name: &str) -> Result<Door, String> {
        let path = self.0.join(name);
        if path.as_os_str().len() > PATH_BYTES_MAX {
            let most = PATH_BYTES_MAX;
            return Err(format!(
                "{} is longer than the {most} bytes a socket may have",
                path.display()
            ));
        }
        let _lock = self.lock()?;
        let bound = UnixListener::bind(&path).or_else(|error| {
            if error.kind() != ErrorKind::AddrInUse || !is_left(&path) {
                return Err(error);
            }
            fs::remove_file(&path)?;
            UnixListener::bind(&path)
        });
        let door = bound.and_then(|listener| {
            fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            Ok(Door {
                listener,
                file: identity(&path)?,
                dir: self.clone(),
                path: path.clone(),
            })
        });
        door.map_err(|error| format!("{}: {error}", path.display()))
    }
}

/// What is wrong with a directory, for the sentence that begins with its name.
fn check(of: &Metadata, user: u32) -> Result<(), String> {
    if of.is_symlink() {
        return Err("is a symbolic link; name the directory itself".into());
    }
    if !of.is_dir() {
        return Err("is no directory".into());
    }
    if of.uid() != user {
        return Err(format!(
            "belongs to user {}, and the server runs as user {user}",
            of.uid()
        ));
    }
    if of.mode() & OTHERS != 0 {
        let mode = of.mode() & 0o777;
        return Err(format!(
            "is open to other users (mode {mode:03o}); chmod 700 it, if nobody has put anything there"
        ));
    }
    Ok(())
}

/// Whether the socket at `path` is nobody's any more.
fn is_left(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Device and number of a file: no other file has them while the socket is open.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// A socket in its directory, removed at the latest when this is dropped.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: UnixListener,
    file: (u64, u64),
    dir: Dir,
    path: PathBuf,
}

impl Door {
    /// Ends whoever waits for a connection, and removes the socket. Does not block.
    pub(super) fn close(&self) {
        sys::shutdown(self.listener.as_fd());
        // Whoever has the lock is about to replace a socket that nobody listens on, and so is the next server.
        let Ok(dir) = self.dir.open() else { return };
        // Another server may be there already.
        if dir.try_lock().is_ok() && identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
