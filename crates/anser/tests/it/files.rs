//! Outputs appear whole or not at all, are written to the intended file, and never overwrite an input.

use anser::{Error, files};
use std::fs;
use std::io;
use std::path::Path;

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    files::write(&path, b"old").unwrap();
    let failed = files::write_with(&path, |out| {
        out.write_all(&[b'x'; 200_000])?;
        Err(io::Error::other("no more"))
    });
    let message = failed.unwrap_err().to_string();
    assert!(message.contains("state") && message.contains("cannot write: no more"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["state"]);

    fs::create_dir(folder.path().join("sub")).unwrap();
    for name in ["sub", "sub/", "new/"] {
        let message = files::write(folder.path().join(name), b"x").unwrap_err().to_string();
        assert!(message.contains("this is a folder; name a file in it"), "{name}: {message}");
    }
    let message = files::write(folder.path().join("none/state"), b"x").unwrap_err().to_string();
    assert!(message.contains("none/state"), "{message}");
    assert_eq!(names(folder.path()), ["state", "sub"]);
}

#[test]
fn writers_of_one_name_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("n".repeat(255)); // the longest name there is
    let content = |i: u8| vec![i; 100_000 + usize::from(i)];
    std::thread::scope(|scope| {
        for i in 0..8 {
            let path = &path;
            scope.spawn(move || (0..5).for_each(|_| files::write(path, &content(i)).unwrap()));
        }
    });
    let found = fs::read(&path).unwrap();
    assert_eq!(found, content(found[0]));
    assert_eq!(names(folder.path()).len(), 1);
}

#[cfg(unix)]
#[test]
fn links_modes_pipes_and_devices_stay_what_they_are() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;

    files::write(at("new"), b"1").unwrap();
    fs::write(at("ordinary"), b"1").unwrap();
    assert_eq!(mode("new"), mode("ordinary"));
    for bits in [0o600, 0o640, 0o444] {
        fs::write(at("kept"), b"old").unwrap();
        fs::set_permissions(at("kept"), fs::Permissions::from_mode(bits)).unwrap();
        files::write(at("kept"), b"new").unwrap();
        assert_eq!((mode("kept"), fs::read(at("kept")).unwrap()), (bits, b"new".to_vec()));
        fs::remove_file(at("kept")).unwrap();
    }

    fs::create_dir(at("elsewhere")).unwrap();
    symlink("elsewhere/target", at("link")).unwrap();
    symlink("link", at("second")).unwrap();
    for (name, content) in [("second", b"one"), ("link", b"two")] {
        // At first the link leads to nothing.
        files::write(at(name), content).unwrap();
        assert!(fs::symlink_metadata(at("second")).unwrap().is_symlink());
        assert_eq!(fs::read(at("elsewhere/target")).unwrap(), content);
    }
    assert_eq!(names(&at("elsewhere")), ["target"]);
    symlink("loop", at("loop")).unwrap();
    files::write(at("loop"), b"x").unwrap_err();

    let pipe = at("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || files::read_at_most(pipe, 1 << 20, "a test").unwrap()
    });
    files::write(&pipe, &[7; 300_000]).unwrap();
    assert_eq!(reader.join().unwrap(), [7; 300_000]);
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    files::write("/dev/null", b"x").unwrap();
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());

    // An open file by its number is written in place, so that the process that opened it sees the bytes.
    use std::os::fd::AsRawFd;
    let open = fs::File::create(at("open")).unwrap();
    let before = fs::metadata(at("open")).unwrap().ino();
    files::write(format!("/proc/self/fd/{}", open.as_raw_fd()), b"by number").unwrap();
    assert_eq!(fs::read(at("open")).unwrap(), b"by number");
    assert_eq!(fs::metadata(at("open")).unwrap().ino(), before);
}

#[test]
fn an_output_that_is_an_input_is_found_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("model"), b"weights").unwrap();
    fs::write(at("copy"), b"weights").unwrap();
    fs::hard_link(at("model"), at("hard")).unwrap();
    fs::create_dir(at("sub")).unwrap();
    let mut same = vec!["model", "hard", "./model", "sub/../model"];
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("hard", at("soft")).unwrap();
        same.push("soft");
    }
    let input = at("model");
    for name in same {
        match files::check_output(at(name), &[("the model", &input)]) {
            Err(error @ Error::Output { .. }) => {
                let message = error.to_string();
                assert!(message.contains(name) && message.contains("this is the model that is read"), "{message}");
                assert!(message.contains(&input.display().to_string()), "{message}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    for name in ["copy", "new", "sub", "sub/new"] {
        files::check_output(at(name), &[("the model", &input), ("the state", &at("none"))]).unwrap();
    }
    files::check_output("/dev/null", &[("the state", Path::new("/dev/null"))]).unwrap();
}

#[test]
fn readers_take_no_more_than_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    fs::write(&path, [1; 1000]).unwrap();
    assert_eq!(files::read_at_most(&path, 1000, "a test").unwrap(), [1; 1000]);
    let told = |path: &Path, max: u64| files::read_at_most(path, max, "a test").unwrap_err().to_string();
    assert!(told(&path, 999).ends_with("f: a test has at most 999 bytes, this file has more"));
    assert!(told(Path::new("/dev/zero"), 5000).contains("/dev/zero: a test has at most 5000 bytes"));
    let counted = files::read_stream(io::repeat(7), 5000, "a test").unwrap_err();
    assert_eq!(counted.kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(files::read_stream(&[3u8; 5000][..], 5000, "a test").unwrap(), [3; 5000]);
}
