//! Models are found, downloaded, resumed and kept as they should be, and refusals are told: against a hub on this machine.

mod server;

use anser_hub::{Event, Hub, HubError, ModelName, Settings};
use server::{COMMIT, Faults, LARGE_N_BYTES, REPO, TOKEN, TestHub, etag};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file of `n_bytes` that differs from others of another `seed`.
fn bytes(n_bytes: usize, seed: u8) -> Vec<u8> {
    (0..n_bytes).map(|i| (i * 31 + i / 251) as u8 ^ seed).collect()
}

fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("README.md", bytes(100, 0)),
        ("geese-F16.gguf", bytes(900_000, 1)),
        ("geese-Q4_K_M.gguf", bytes(300_000, 2)),
        ("geese-Q8_0.gguf", bytes(500_000, 3)),
        ("old/two words.pth", bytes(2_000, 4)),
        ("old/tokenizer.json", bytes(50, 5)),
        ("hf/config.json", bytes(60, 6)),
        ("hf/model.safetensors", bytes(3_000, 7)),
        ("split-00001-of-00002.gguf", bytes(1_500, 8)),
        ("split-00002-of-00002.gguf", bytes(1_600, 9)),
    ]
}

struct Setup {
    server: TestHub,
    cache: TempDir,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Setup {
    fn new() -> Setup {
        let files = files();
        Setup { server: TestHub::start(&files), cache: tempfile::tempdir().unwrap(), files }
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint: self.server.endpoint.clone(),
            cache: self.cache.path().join("hub"),
            token: Some(TOKEN.into()),
            offline: false,
        }
    }

    fn offline(&self) -> Settings {
        Settings { offline: true, endpoint: "http://127.0.0.1:9".into(), ..self.settings() }
    }

    /// The path, and the remarks on the way.
    fn fetch(&self, settings: Settings, name: &str) -> Result<(PathBuf, Vec<String>), HubError> {
        let mut remarks = vec![];
        let path = Hub::new(settings).fetch(&ModelName::parse(name).unwrap(), &mut |event| {
            if let Event::Remark(remark) = event {
                remarks.push(remark.to_owned());
            }
            ControlFlow::Continue(())
        })?;
        Ok((path, remarks))
    }

    fn get(&self, name: &str) -> PathBuf {
        self.fetch(self.settings(), name).unwrap().0
    }

    #[track_caller]
    fn error(&self, name: &str) -> String {
        self.fetch(self.settings(), name).unwrap_err().to_string()
    }

    fn content(&self, path: &str) -> &[u8] {
        &self.files.iter().find(|(other, _)| *other == path).unwrap().1
    }

    fn repo(&self) -> PathBuf {
        self.cache.path().join("hub").join("models--ann--geese")
    }

    fn incomplete(&self, path: &str) -> PathBuf {
        self.repo().join("blobs").join(format!("{}.incomplete", etag(self.content(path))))
    }
}

/// All files below a folder, by path.
fn tree(folder: &Path) -> Vec<String> {
    let mut all = vec![];
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                all.push(path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    all.sort();
    all
}

#[test]
fn a_model_is_chosen_downloaded_and_kept() {
    let setup = Setup::new();
    // The name fits three storage types of one model.
    let (path, remarks) = setup.fetch(setup.settings(), "hf:ann/geese:geese").unwrap();
    assert_eq!(fs::read(&path).unwrap(), setup.content("geese-Q4_K_M.gguf"));
    assert!(path.ends_with("geese-Q4_K_M.gguf"), "the model keeps its own name");
    assert!(remarks[0].contains("took geese-Q4_K_M.gguf") && remarks[0].contains("F16, Q8_0"), "{remarks:?}");
    // A second call asks for the list alone.
    setup.server.asked(0);
    setup.server.asked(1);
    assert_eq!(setup.get("hf:ann/geese:Q4_K_M"), path);
    assert_eq!((setup.server.asked(0).len(), setup.server.asked(1).len()), (1, 0));
}

#[test]
fn hugging_faces_own_crate_finds_what_is_downloaded() {
    let setup = Setup::new();
    for (name, file) in [
        ("hf:ann/geese:Q8_0", "geese-Q8_0.gguf"),
        ("hf:ann/geese:old/two words.pth@v1", "old/two words.pth"),
        ("hf:ann/geese:hf/model.safetensors@refs/pr/1", "hf/model.safetensors"),
        ("hf:ann/geese:hf/model.safetensors@refs/pr/1", "hf/config.json"),
    ] {
        setup.get(name);
        let revision = name.split_once('@').map_or("main", |(_, revision)| revision).to_owned();
        let repo = hf_hub::Repo::with_revision(REPO.into(), hf_hub::RepoType::Model, revision);
        let found = hf_hub::Cache::new(setup.cache.path().join("hub")).repo(repo).get(file);
        assert_eq!(fs::read(found.unwrap()).unwrap(), setup.content(file), "{file}");
    }
    let blob = setup.repo().join("blobs").join(etag(setup.content("geese-Q8_0.gguf")));
    assert_eq!(fs::read(blob).unwrap(), setup.content("geese-Q8_0.gguf"));
    assert!(!tree(setup.cache.path()).iter().any(|path| path.ends_with(".incomplete")), "nothing is left over");
}

#[test]
fn what_another_tool_left_in_the_cache_is_not_downloaded_again() {
    let setup = Setup::new();
    let snapshot = setup.repo().join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(setup.repo().join("refs")).unwrap();
    fs::write(setup.repo().join("refs/main"), COMMIT).unwrap();
    fs::write(snapshot.join("geese-Q8_0.gguf"), b"as another tool left it").unwrap();
    let path = setup.get("hf:ann/geese:Q8_0");
    assert_eq!(fs::read(path).unwrap(), b"as another tool left it");
    assert_eq!(setup.server.asked(1), []);
}

#[test]
fn models_in_several_files_come_whole() {
    let setup = Setup::new();
    let path = setup.get("hf:ann/geese:split");
    let beside = path.with_file_name("split-00002-of-00002.gguf");
    assert_eq!(fs::read(beside).unwrap(), setup.content("split-00002-of-00002.gguf"));
    let folder = setup.get("hf:ann/geese:hf/model.safetensors");
    assert_eq!(fs::read(folder.with_file_name("config.json")).unwrap(), setup.content("hf/config.json"));
    let torch = setup.get("hf:ann/geese:old/two words.pth");
    assert_eq!(fs::read(torch.with_file_name("tokenizer.json")).unwrap(), setup.content("old/tokenizer.json"));
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_ended() {
    let setup = Setup::new();
    setup.server.set(Faults { cuts: vec![100_000, 50_000], ..Faults::default() });
    let path = setup.get("hf:ann/geese:Q8_0");
    assert_eq!(fs::read(path).unwrap(), setup.content("geese-Q8_0.gguf"));
    let from: Vec<_> = setup.server.asked(1).iter().map(|asked| asked.from).collect();
    assert_eq!(from, [None, Some(100_000), Some(150_000)]);
}

#[test]
fn the_next_call_goes_on_where_the_last_one_ended() {
    let setup = Setup::new();
    setup.server.set(Faults { cuts: vec![200_000, 0, 0, 0, 0, 0, 0], ..Faults::default() });
    let error = setup.error("hf:ann/geese:Q8_0");
    assert!(error.contains("broke off after 200000 bytes") && error.contains("repeat the command"), "{error}");
    assert_eq!(fs::metadata(setup.incomplete("geese-Q8_0.gguf")).unwrap().len(), 200_000);
    setup.server.set(Faults::default());
    setup.server.asked(1);
    assert_eq!(fs::read(setup.get("hf:ann/geese:Q8_0")).unwrap(), setup.content("geese-Q8_0.gguf"));
    assert_eq!(setup.server.asked(1)[0].from, Some(200_000));
}

#[test]
fn a_server_without_ranges_sends_all_again() {
    let setup = Setup::new();
    let incomplete = setup.incomplete("geese-Q8_0.gguf");
    fs::create_dir_all(incomplete.parent().unwrap()).unwrap();
    fs::write(&incomplete, &setup.content("geese-Q8_0.gguf")[..1_000]).unwrap();
    setup.server.set(Faults { ignores_ranges: true, ..Faults::default() });
    assert_eq!(fs::read(setup.get("hf:ann/geese:Q8_0")).unwrap(), setup.content("geese-Q8_0.gguf"));
}

#[test]
fn damaged_bytes_are_found_and_deleted() {
    let setup = Setup::new();
    setup.server.set(Faults { corrupts: true, ..Faults::default() });
    let error = setup.error("hf:ann/geese:Q8_0");
    assert!(error.contains("geese-Q8_0.gguf: its SHA-256 is") && error.contains("deleted"), "{error}");
    setup.server.set(Faults::default());
    // So is what an earlier download left, if it belongs to another file.
    let incomplete = setup.incomplete("geese-Q8_0.gguf");
    assert!(!incomplete.exists());
    fs::write(&incomplete, b"something else").unwrap();
    assert!(setup.error("hf:ann/geese:Q8_0").contains("SHA-256"));
    assert_eq!(fs::read(setup.get("hf:ann/geese:Q8_0")).unwrap(), setup.content("geese-Q8_0.gguf"));
}

#[test]
fn the_token_goes_to_the_hub_alone() {
    let setup = Setup::new();
    setup.server.set(Faults { is_private: true, ..Faults::default() });
    setup.get("hf:ann/geese:Q8_0");
    let hub = setup.server.asked(0);
    assert!(hub.iter().all(|asked| asked.authorization.as_deref() == Some("Bearer hf_secret")), "{hub:?}");
    let other = setup.server.asked(1);
    assert!(!other.is_empty() && other.iter().all(|asked| asked.authorization.is_none()), "{other:?}");
    let nobody = Settings { token: None, ..setup.settings() };
    let error = setup.fetch(nobody, "hf:ann/geese:F16").unwrap_err().to_string();
    assert!(error.contains("ann/geese") && error.contains("private") && error.contains("HF_TOKEN"), "{error}");
}

#[test]
fn refusals_are_told_apart() {
    let setup = Setup::new();
    let refused = |status, reason| {
        setup.server.set(Faults { refuses: Some((status, reason)), ..Faults::default() });
        setup.error("hf:ann/geese:Q8_0")
    };
    assert!(refused(403, "GatedRepo").contains("ann/geese: it is gated; accept its conditions at http://"));
    assert!(refused(401, "GatedRepo").contains("HF_TOKEN"));
    assert!(refused(404, "RepoNotFound").contains("no such repository"));
    assert!(refused(401, "").contains("no such repository"));
    assert!(refused(429, "").contains("fewer requests"));
    assert!(refused(503, "").contains("repeat the command later"));
    assert!(refused(418, "").contains("418"));
    setup.server.set(Faults::default());
    let error = setup.error("hf:ann/geese@v2");
    assert!(error.contains("no revision \"v2\""), "{error}");
    let error = setup.error("hf:ann/geese:Q3_K_M");
    assert!(error.contains("no model \"Q3_K_M\"") && error.contains("geese-Q8_0.gguf"), "{error}");
    let error = setup.error("hf:ann/geese");
    assert!(error.contains("split-00001-of-00002.gguf") && error.contains("name one"), "{error}");
    assert_eq!(tree(setup.cache.path()).iter().filter(|path| path.contains("blobs/")).count(), 0);
}

#[test]
fn no_answer_leads_out_of_the_cache() {
    let setup = Setup::new();
    setup.server.set(Faults { etag: Some("../../../evil"), ..Faults::default() });
    assert!(setup.error("hf:ann/geese:Q8_0").contains("is no hash"));
    for location in ["file:///etc/passwd", "ftp://x/y"] {
        setup.server.set(Faults { location: Some(location), ..Faults::default() });
        assert!(setup.error("hf:ann/geese:Q8_0").contains("it sends to"), "{location}");
    }
    for listing in [r#"{"sha": "../../evil", "siblings": []}"#, "<html>", "{}", ""] {
        setup.server.set(Faults { listing: Some(listing.into()), ..Faults::default() });
        setup.error("hf:ann/geese");
    }
    let listing = format!(r#"{{"sha": "{COMMIT}", "siblings": [{{"rfilename": "../../evil.gguf"}}]}}"#);
    setup.server.set(Faults { listing: Some(listing), ..Faults::default() });
    assert!(setup.error("hf:ann/geese").contains("none of its 0 files"));
    assert!(tree(setup.cache.path()).iter().all(|path| !path.contains("evil")));
}

#[test]
fn offline_the_cache_alone_is_used() {
    let setup = Setup::new();
    let error = setup.fetch(setup.offline(), "hf:ann/geese:Q8_0").unwrap_err().to_string();
    assert!(error.contains("not in the cache") && error.contains("HF_HUB_OFFLINE"), "{error}");
    let online = setup.get("hf:ann/geese:Q8_0");
    setup.server.asked(0);
    for name in
        ["hf:ann/geese:Q8_0", "hf:ann/geese", "hf:ann/geese:geese-Q8_0.gguf@0123456789abcdef0123456789abcdef01234567"]
    {
        assert_eq!(setup.fetch(setup.offline(), name).unwrap(), (online.clone(), vec![]), "{name}");
    }
    for name in ["hf:ann/geese:F16", "hf:ann/geese:Q8_0@v1", "hf:ann/ducks"] {
        let error = setup.fetch(setup.offline(), name).unwrap_err().to_string();
        assert!(error.contains(&format!("{name}: it is not in the cache")), "{error}");
    }
    assert_eq!(setup.server.asked(0), [], "nothing was asked");
}

#[test]
fn without_a_network_the_cache_stands_in_and_that_is_told() {
    let setup = Setup::new();
    let gone = || Settings { endpoint: "http://127.0.0.1:9".into(), ..setup.settings() };
    let error = setup.fetch(gone(), "hf:ann/geese:Q8_0").unwrap_err().to_string();
    assert!(
        error.contains("http://127.0.0.1:9/api/models/ann/geese") && error.contains("check the network"),
        "{error}"
    );
    let online = setup.get("hf:ann/geese:Q8_0");
    let (path, remarks) = setup.fetch(gone(), "hf:ann/geese:Q8_0").unwrap();
    assert_eq!((path, remarks.len()), (online, 1));
    assert!(remarks[0].contains("going on with what the cache has"), "{remarks:?}");
}

/// Writing to /dev/full fails as on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let setup = Setup::new();
    let incomplete = setup.incomplete("geese-Q8_0.gguf");
    fs::create_dir_all(incomplete.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &incomplete).unwrap();
    let error = setup.error("hf:ann/geese:Q8_0");
    assert!(error.contains("no space is left for the 500000 bytes of geese-Q8_0.gguf"), "{error}");
}

#[test]
fn progress_is_told_from_where_the_download_goes_on() {
    let setup = Setup::new();
    let incomplete = setup.incomplete("geese-Q8_0.gguf");
    fs::create_dir_all(incomplete.parent().unwrap()).unwrap();
    fs::write(&incomplete, &setup.content("geese-Q8_0.gguf")[..400_000]).unwrap();
    let mut seen = vec![];
    let name = ModelName::parse("hf:ann/geese:Q8_0").unwrap();
    let path = Hub::new(setup.settings()).fetch(&name, &mut |event| match event {
        Event::Downloading { file, n_bytes, total_n_bytes } => {
            assert_eq!((file, total_n_bytes), ("geese-Q8_0.gguf", Some(500_000)));
            seen.push(n_bytes);
            ControlFlow::Continue(())
        }
        other => panic!("{other:?}"),
    });
    assert!(path.is_ok() && seen.is_sorted() && seen[0] > 400_000 && seen.last() == Some(&500_000), "{seen:?}");
    assert!(setup.content("old/two words.pth").len() >= LARGE_N_BYTES);
}

#[test]
fn a_cancelled_download_goes_on_later() {
    let setup = Setup::new();
    let name = ModelName::parse("hf:ann/geese:Q8_0").unwrap();
    let mut n_pieces = 0;
    let error = Hub::new(setup.settings()).fetch(&name, &mut |_| {
        n_pieces += 1;
        ControlFlow::Break(())
    });
    let message = error.unwrap_err().to_string();
    assert!(message.contains("geese-Q8_0.gguf: the download was cancelled after ") && n_pieces == 1, "{message}");
    let kept = fs::metadata(setup.incomplete("geese-Q8_0.gguf")).unwrap().len();
    assert!(kept > 0 && kept < 500_000, "{kept}");
    assert_eq!(fs::read(setup.get("hf:ann/geese:Q8_0")).unwrap(), setup.content("geese-Q8_0.gguf"));
}
