//! The file that keeps a device's [`Tuning`] from one process to the next.

use super::tuning::Tuning;
use crate::device::AdapterReport;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The first line of a file.
const TITLE: &str = "anser tuning 1";
/// A file that is longer is not one of ours.
const MAX_N_BYTES: u64 = 4 << 20;

impl Tuning {
    /// The file for `report` in `folder`: one for each device and driver.
    pub(crate) fn path(folder: &Path, report: &AdapterReport) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        (&report.name, &report.driver, report.backend).hash(&mut hasher);
        folder.join(format!("tuning-{}-{:016x}", env!("CARGO_PKG_VERSION"), hasher.finish()))
    }

    /// What the file at `path` says; nothing if there is none, or if it is not a whole file of this version for `report`.
    pub(crate) fn read(path: &Path, report: &AdapterReport) -> Tuning {
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|file| file.take(MAX_N_BYTES).read_to_string(&mut text));
        let found = read.ok().and_then(|_| Tuning::parse(&text, report));
        found.unwrap_or_default()
    }

    /// Adds what `self` has to the file at `path`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn add_to(&self, path: &Path, report: &AdapterReport) -> std::io::Result<()> {
        let mut all = Tuning::read(path, report);
        all.n_cores = self.n_cores.or(all.n_cores);
        all.chosen.extend(self.chosen.clone());
        super::files::write(path, all.text(report).as_bytes())
    }

    /// Lines of a name, a tab and a value; the last line is the number of choices.
    fn text(&self, report: &AdapterReport) -> String {
        let mut lines = vec![TITLE.to_string(), format!("device\t{}", device_line(report))];
        lines.extend(self.n_cores.map(|n| format!("cores\t{n}")));
        lines.extend(self.chosen.iter().map(|(key, candidate)| format!("{key}\t{candidate}")));
        lines.push(format!("choices\t{}\n", self.chosen.len()));
        lines.join("\n")
    }

    fn parse(text: &str, report: &AdapterReport) -> Option<Tuning> {
        let mut lines = text.strip_suffix('\n')?.lines();
        let mut tuning = Tuning::default();
        if lines.next() != Some(TITLE) || lines.next()?.split_once('\t') != Some(("device", &device_line(report))) {
            return None;
        }
        let mut n_choices = None;
        for line in lines {
            match line.split_once('\t')? {
                ("cores", n) => tuning.n_cores = Some(n.parse().ok().filter(|n| (1..=1 << 16).contains(n))?),
                ("choices", n) => n_choices = n.parse().ok(),
                (key, candidate) => drop(tuning.chosen.insert(key.into(), candidate.into())),
            }
        }
        (n_choices == Some(tuning.chosen.len())).then_some(tuning)
    }
}

/// What tells devices apart, in one line.
fn device_line(report: &AdapterReport) -> String {
    let line = format!("{}, {}, {}", report.name, report.backend, report.driver);
    line.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(driver: &str) -> AdapterReport {
        AdapterReport { name: "A card".into(), driver: driver.into(), ..AdapterReport::default() }
    }

    fn tuning(n_cores: Option<u32>, chosen: &[(&str, &str)]) -> Tuning {
        Tuning { n_cores, chosen: chosen.iter().map(|&(k, c)| (k.into(), c.into())).collect() }
    }

    #[test]
    fn choices_are_added_to_those_of_before() {
        let folder = std::env::temp_dir().join(format!("anser-tuning-{}", std::process::id()));
        let report = report("1.0");
        let path = Tuning::path(&folder, &report);
        assert_ne!(path, Tuning::path(&folder, &self::report("1.1")), "each driver has a file of its own");
        assert_eq!(Tuning::read(&path, &report), Tuning::default(), "there is no file yet");
        tuning(Some(12), &[("a T=1", "x"), ("b", "y")]).add_to(&path, &report).unwrap();
        tuning(None, &[("b", "z")]).add_to(&path, &report).unwrap();
        assert_eq!(Tuning::read(&path, &report), tuning(Some(12), &[("a T=1", "x"), ("b", "z")]));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn only_whole_files_count() {
        let report = report("1.0");
        let text = tuning(Some(12), &[("a", "x"), ("b", "y")]).text(&report);
        assert!(Tuning::parse(&text, &report).is_some());
        assert_eq!(Tuning::parse(&text, &self::report("2.0")), None, "a file of another driver");
        for n in 0..text.len() {
            assert_eq!(Tuning::parse(&text[..n], &report), None, "{:?}", &text[..n]);
        }
        for cores in ["0", "-1", "x", "70000"] {
            assert_eq!(Tuning::parse(&text.replace("cores\t12", &format!("cores\t{cores}")), &report), None);
        }
    }
}
