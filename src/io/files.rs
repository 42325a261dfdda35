//! Reads the files that are read while the server serves. Callers: `cli.rs` (a reload), `control/reload.rs`, `tls/pem.rs`.
//!
//! Invariant: never waits for anybody. A name may come to lead to a pipe, whose opening waits for a writer, or to a device
//! that never ends; either would hold the control core, and with it every call and every new client. So only regular files
//! are read, and of them a bounded part.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// The content of a regular file, at most one byte more than `bytes_max`, by which a longer one is noticed.
///
/// # Errors
/// It cannot be read, or is a pipe, a socket or a device.
pub fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    // Of what was opened: the path may lead elsewhere by now.
    match kind(file.metadata()?.file_type()) {
        None => bounded(file, bytes_max),
        Some(kind) => Err(io::Error::other(format!("it is {kind}, not a file"))),
    }
}

/// The same of whatever `path` leads to, also of a pipe, for as long as that takes: for a start only.
///
/// # Errors
/// It cannot be read.
pub fn read_patiently(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    bounded(File::open(path)?, bytes_max)
}

fn bounded(file: File, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What may keep its reader waiting; `None`: a regular file or a directory, which the kernel refuses to read.
fn kind(of: FileType) -> Option<&'static str> {
    let kinds = [
        (of.is_fifo(), "a pipe"),
        (of.is_socket(), "a socket"),
        (of.is_char_device() || of.is_block_device(), "a device"),
    ];
    kinds.into_iter().find_map(|(is, kind)| is.then_some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_waited_for_and_nothing_is_read_without_end() {
        let pipe = std::env::temp_dir().join(format!("rainbow-pipe-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo").success());
        let said = |path: &Path| read(path, 10).expect_err("refused").to_string();
        assert_eq!(said(&pipe), "it is a pipe, not a file");
        std::fs::remove_file(&pipe).expect("remove");
        assert_eq!(said(Path::new("/dev/zero")), "it is a device, not a file");
        assert!(said(Path::new("/")).contains("directory"), "{}", said(Path::new("/")));
        let own = std::env::current_exe().expect("path");
        assert_eq!(read(&own, 10).expect("a file").len(), 11);
    }
}
