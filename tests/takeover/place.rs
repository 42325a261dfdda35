//! Where the socket is: nobody but the user of the server gets there, whatever anybody has put there before.

use super::refusals::refused;
use super::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

/// `nobody`, wherever there is one.
const STRANGER: u32 = 65534;

/// A directory anybody may enter, as `/run` and `/tmp` are; removed at the end.
struct Public(PathBuf);

impl Public {
    fn new(what: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("rainbow-place-{}-{what}", std::process::id()));
        std::fs::create_dir(&dir).expect("directory");
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).expect("mode");
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    let file = std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.mode() & 0o7777
}

/// The one socket there, once it is.
fn socket_in(dir: &Path, server: &Server) -> PathBuf {
    let only = || Some(std::fs::read_dir(dir).ok()?.next()?.ok()?.path());
    assert!(
        eventually(SOON, || only().is_some()),
        "no socket: {}",
        server.log_tail()
    );
    only().expect("seen")
}

#[test]
fn the_socket_is_the_users_alone_and_goes_with_its_server() {
    let (business, port, public) = (business(), Arc::new(ports::claim()), Public::new("modes"));
    let dir = public.path("own");
    let builder = || Builder::new(&business).on(&port).set("takeover_dir", dir.display());
    let mut old = builder().start();
    let socket = socket_in(&dir, &old);
    assert_eq!((mode(&dir), mode(&socket)), (0o700, 0o600));
    let first = std::fs::metadata(&socket).expect("socket").ino();
    let mut new = builder().arg("--takeover").start();
    assert_eq!(old.wait_exit(SOON), Some(0));
    assert!(eventually(SOON, || std::fs::metadata(&socket)
        .is_ok_and(|socket| socket.ino() != first)));
    assert_eq!((mode(&dir), mode(&socket)), (0o700, 0o600));
    new.signal("TERM");
    assert_eq!(new.wait_exit(SOON), Some(0));
    assert!(!socket.exists(), "the socket outlives its server");
}

/// One that was killed could not remove its socket.
#[test]
fn a_server_follows_one_that_was_killed() {
    let (business, port) = (business(), Arc::new(ports::claim()));
    let builder = || Builder::new(&business).on(&port);
    let mut killed = builder().start();
    killed.signal("KILL");
    assert_eq!(killed.wait_exit(SOON), Some(-1));
    refused(&builder().arg("--takeover"), "there is no server to take over from");
    let mut old = builder().start();
    let _new = builder().arg("--takeover").start();
    assert_eq!(old.wait_exit(SOON), Some(0));
}

#[test]
fn a_directory_that_others_could_meddle_with_is_refused() {
    let (business, port, public) = (business(), Arc::new(ports::claim()), Public::new("refused"));
    let (own, link, open) = (public.path("own"), public.path("link"), public.path("open"));
    for (dir, mode) in [(&own, 0o700), (&open, 0o770)] {
        std::fs::create_dir(dir).expect("directory");
        std::fs::set_permissions(dir, PermissionsExt::from_mode(mode)).expect("mode");
    }
    std::os::unix::fs::symlink(&own, &link).expect("link");
    let builder = |dir: &Path| Builder::new(&business).on(&port).set("takeover_dir", dir.display());
    let server = builder(&own).start();
    for (dir, words) in [
        (&link, "is a symbolic link"),
        (&open, "is open to other users (mode 770)"),
        (&public.path("no/such"), "cannot be made"),
    ] {
        for arguments in [&[][..], &["--takeover"]] {
            let builder = arguments.iter().fold(builder(dir), |builder, arg| builder.arg(arg));
            refused(&builder, &format!("takeover_dir: {} {words}", dir.display()));
        }
    }
    assert_eq!(server.send("nobody", 0, "still here")["status"], 0);
}

/// The unit makes the directory the server looks for first, and leaves it to a process that has taken over.
#[test]
fn the_package_makes_the_directory() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unit = std::fs::read_to_string(root.join("packaging/rainbow-server.service")).expect("the unit");
    for line in [
        "RuntimeDirectory=rainbow-server",
        "RuntimeDirectoryMode=0700",
        "RuntimeDirectoryPreserve=yes",
    ] {
        assert!(unit.lines().any(|is| is == line), "{line}");
    }
}

/// Two users of one machine: the second one tries to take over, and to be where the first one will look.
#[test]
fn another_user_neither_takes_over_nor_is_taken_for_the_server() {
    if std::fs::metadata("/proc/self").expect("/proc").uid() != 0 {
        return super::common::not_run("only root can play a second user");
    }
    let (business, port, public) = (business(), Arc::new(ports::claim()), Public::new("stranger"));
    let (own, theirs, program) = (public.path("own"), public.path("theirs"), public.path("server"));
    std::fs::copy(env!("CARGO_BIN_EXE_rainbow-server"), &program).expect("a copy they may run");
    let builder = |dir: &Path| Builder::new(&business).on(&port).set("takeover_dir", dir.display());
    let server = builder(&own).start();
    let socket = socket_in(&own, &server);

    let settings = public.path("server.ini");
    std::fs::copy(&server.ini, &settings).expect("settings");
    std::fs::set_permissions(&settings, PermissionsExt::from_mode(0o644)).expect("mode");
    let said = as_stranger(&[&program, Path::new("-f"), &settings], &port, "--takeover");
    assert!(said.contains("belongs to user 0"), "{said}");
    assert!(
        server.log_tail().matches("tried to take over").count() == 0,
        "they have reached the socket"
    );
    assert_eq!(server.send("nobody", 0, "still here")["status"], 0);

    std::fs::create_dir(&theirs).expect("directory");
    std::fs::set_permissions(&theirs, PermissionsExt::from_mode(0o700)).expect("mode");
    std::os::unix::fs::chown(&theirs, Some(STRANGER), Some(STRANGER)).expect("owner");
    let _planted = std::os::unix::net::UnixListener::bind(theirs.join(socket.file_name().expect("name")));
    for builder in [builder(&theirs), builder(&theirs).arg("--takeover")] {
        refused(
            &builder,
            &format!("belongs to user {STRANGER}, and the server runs as user 0"),
        );
    }
}

/// What a program says that is run by somebody else, and is refused.
fn as_stranger(words: &[&Path], port: &ports::Port, last: &str) -> String {
    let who = [
        format!("--reuid={STRANGER}"),
        format!("--regid={STRANGER}"),
        "--clear-groups".into(),
    ];
    let output = Command::new("setpriv")
        .args(who)
        .args(words)
        .args(["-p", &port.number.to_string(), last])
        .output()
        .expect("setpriv");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}
