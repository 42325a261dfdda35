use super::*;
use crate::io::takeover::tests::Scratch;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn made_with(path: &Path, mode: u32) {
    fs::create_dir(path).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_missing_directory_is_made_for_this_user_alone() {
    let scratch = Scratch::new("made");
    let path = scratch.path("own");
    let door = Places::only(&path).own().unwrap().listen("a.sock").unwrap();
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("a.sock")), 0o600);
    drop(door);
    assert!(!path.join("a.sock").exists(), "the socket outlives its server");
    let refusal = Places::only(&scratch.path("no/such")).own().unwrap_err();
    assert!(refusal.contains("cannot be made"), "{refusal}");
}

#[test]
fn directories_that_others_could_meddle_with_are_refused() {
    let scratch = Scratch::new("refused");
    let own = scratch.path("own");
    made_with(&own, 0o700);
    Places::only(&own).own().expect("a directory of ours");
    let link = scratch.path("link");
    std::os::unix::fs::symlink(&own, &link).unwrap();
    let file = scratch.path("file");
    File::create(&file).unwrap();
    let mut refused = vec![(link, "symbolic link"), (file, "no directory")];
    for open in [0o750, 0o720, 0o701, 0o777, 0o1777] {
        let path = scratch.path(&format!("{open:o}"));
        made_with(&path, open);
        refused.push((path, "open to other users"));
    }
    for (path, word) in refused {
        let refusal = Places::only(&path).own().unwrap_err();
        assert!(
            refusal.contains(word) && refusal.contains(&*path.to_string_lossy()),
            "{refusal}"
        );
        // Nor does anybody look for a server there.
        let _planted = UnixListener::bind(path.join("a.sock"));
        assert!(
            Places::only(&path).find("a.sock").unwrap().is_none(),
            "{}",
            path.display()
        );
    }
}

#[test]
fn directories_of_other_users_are_refused() {
    let refusal = check(&fs::symlink_metadata("/").unwrap(), u32::MAX).unwrap_err();
    assert!(refusal.contains("belongs to user 0"), "{refusal}");
}

#[test]
fn without_a_setting_the_first_directory_that_can_be_used_is() {
    let scratch = Scratch::new("first");
    let (open, own) = (scratch.path("open"), scratch.path("own"));
    made_with(&open, 0o755);
    let mut places = Places {
        dirs: vec![open.clone(), own.clone()],
        is_set: false,
    };
    let door = places.own().unwrap().listen("a.sock").unwrap();
    assert_eq!(door.path, own.join("a.sock"));
    assert!(places.find("a.sock").unwrap().is_some());
    places.is_set = true;
    assert!(
        places.own().unwrap_err().contains("open to other users"),
        "one that was asked for is meant"
    );
    assert!(places.find("a.sock").unwrap().is_some(), "it began before that was set");
}

#[test]
fn what_a_killed_server_left_is_replaced_and_a_living_one_is_not() {
    let scratch = Scratch::new("left");
    let dir = Places::only(&scratch.path("own")).own().unwrap();
    let path = dir.0.join("a.sock");
    drop(UnixListener::bind(&path).unwrap());
    let first = dir.listen("a.sock").expect("nobody listens");
    let refusal = dir.listen("a.sock").unwrap_err();
    assert!(refusal.contains("in use"), "{refusal}");
    // One that stops answers nobody any more, and ends later than the next one begins.
    sys::shutdown(first.listener.as_fd());
    let second = dir.listen("a.sock").expect("it stops");
    drop(first);
    assert!(path.exists(), "a server has removed another one's socket");
    drop(second);
    assert!(!path.exists());
}

#[test]
fn a_path_that_is_too_long_is_told() {
    let scratch = Scratch::new("long");
    let dir = Places::only(&scratch.path("own")).own().unwrap();
    let refusal = dir.listen(&"x".repeat(108)).unwrap_err();
    assert!(refusal.contains("107 bytes"), "{refusal}");
}
