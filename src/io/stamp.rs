//! Whether a file has changed, and how long ago it was written, without reading it. Caller: `control/reload.rs`.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a file looked like: another one under its name, another length or another time means that it has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    /// Device, inode, bytes, and the times of writing and of any change with their nanoseconds; `None`: there is no such file.
    seen: Option<[i64; 7]>,
}

impl Stamp {
    /// Of the file that `path` leads to.
    pub fn of(path: &Path) -> Stamp {
        let seen = |data: Metadata| {
            [
                data.dev() as i64,
                data.ino() as i64,
                data.size() as i64,
                data.mtime(),
                data.mtime_nsec(),
                data.ctime(),
                data.ctime_nsec(),
            ]
        };
        Stamp {
            path: path.to_path_buf(),
            seen: std::fs::metadata(path).ok().map(seen),
        }
    }
}

/// How long ago the youngest of these files was written; `None`: there is none. A time in the future counts as long ago,
/// since a clock was set.
pub fn youngest<'a>(paths: impl Iterator<Item = &'a Path>) -> Option<Duration> {
    let written = paths.filter_map(|path| std::fs::metadata(path).ok()?.modified().ok());
    let now = SystemTime::now();
    written.map(|at| now.duration_since(at).unwrap_or(Duration::MAX)).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_touched_or_replaced_looks_different() {
        let path = std::env::temp_dir().join(format!("rainbow-stamp-{}", std::process::id()));
        let none = Stamp::of(&path);
        std::fs::write(&path, "one").unwrap();
        let one = Stamp::of(&path);
        assert_ne!(none, one);
        assert_eq!(one, Stamp::of(&path));
        assert!(youngest([path.as_path()].into_iter()).unwrap() < Duration::from_secs(600));
        let other = path.with_extension("other");
        std::fs::write(&other, "one").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(one, Stamp::of(&path), "the same text in another file");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(youngest([path.as_path()].into_iter()), None);
    }
}
