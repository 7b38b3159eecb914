//! Tells the command which commit and target it is built from, for `anser --version` and the results of `anser bench --json`.
//!
//! `ANSER_COMMIT` is the first of these that is there: the variable of that name in the build's environment, for builds
//! from an archive; the commit of the git repository that holds this workspace; the word `unknown`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=ANSER_COMMIT");
    println!("cargo:rerun-if-changed=build.rs");
    let named = std::env::var("ANSER_COMMIT").ok().filter(|name| !name.is_empty());
    let commit = named.or_else(from_git).unwrap_or_else(|| "unknown".into());
    println!("cargo:rustc-env=ANSER_COMMIT={commit}");
    println!(
        "cargo:rustc-env=ANSER_TARGET={}",
        std::env::var("TARGET").expect("cargo tells a build script the target")
    );
}

/// The first twelve digits of the commit's hash; `+changes` follows if a crate or the manifest of the workspace differs
/// from it.
fn from_git() -> Option<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().ok()?;
    // The sources may lie in a repository of another project, whose commits say nothing about them.
    let repository = PathBuf::from(git(&workspace, &["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if repository != workspace {
        return None;
    }
    let commit = git(&workspace, &["rev-parse", "--short=12", "HEAD"])?;
    let sources = ["crates", "Cargo.toml", "Cargo.lock"];
    let status = [&["status", "--porcelain", "--"][..], &sources].concat();
    let changes = if git(&workspace, &status)?.is_empty() { "" } else { "+changes" };
    // A commit and a checkout write to both files. A file that is missing would make cargo run this script every time.
    let git_files = ["HEAD", "logs/HEAD"].map(|name| git(&workspace, &["rev-parse", "--git-path", name]));
    let watched = git_files.into_iter().flatten().chain(sources.map(str::to_owned)).map(|path| workspace.join(path));
    for path in watched.filter(|path| path.exists()) {
        println!("cargo:rerun-if-changed={}", path.display());
    }
    Some(format!("{commit}{changes}"))
}

/// What git prints without the end of its last line; `None` if it fails or is not there.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(folder).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim_end().to_owned())
}
