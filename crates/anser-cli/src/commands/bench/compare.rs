//! `anser bench --compare`: the results of two builds, or of two devices, side by side.

use crate::printable::printable;
use crate::report::Failure;
use serde::Deserialize;
use serde::de::Error as _;
use serde_json::{Map, Value};
use std::path::Path;

/// A file of results is larger than this only if it is something else.
const MAX_N_BYTES: u64 = 16 << 20;

/// The JSON object that a run of `anser bench --json` printed.
#[derive(Deserialize)]
struct BenchResult {
    title: String,
    dtype: String,
    n_prompt: usize,
    n_gen: usize,
    n_runs: usize,
    commit: String,
    date: String,
    device: String,
    device_name: Option<String>,
    driver: Option<String>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A figure over the runs of one result, larger than 0.
#[derive(Clone, Copy, Deserialize)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

/// The direction in which a figure gets better.
#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
}

/// Whether B is slower than A by more than the noise, faster by more than the noise, or neither.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Loss,
    Same,
    Gain,
}

/// The ratio of a figure of B to that of A, inverted for times and memory: more than 1 if B is better, less if B is worse.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ratio {
    median: f64,
    /// The ratio of B's worst run to A's best.
    min: f64,
    /// The ratio of B's best run to A's worst.
    max: f64,
}

/// The comparison of two files.
pub(super) struct Comparison {
    /// One table for each measurement.
    pub(super) table: String,
    /// Name and ratio of each figure that is worse in B by more than the noise.
    losses: Vec<(String, f64)>,
    n_figures: usize,
}

impl Comparison {
    /// Compares the results in the files `a` and `b`. The noise of every figure is at least `noise_percent`.
    pub(super) fn of_files([a, b]: [&Path; 2], noise_percent: f64) -> Result<Comparison, Failure> {
        let read = |path: &Path| -> Result<Vec<BenchResult>, Failure> {
            let bytes = anser::files::read_at_most(path, MAX_N_BYTES, "a file of results")?;
            results(&bytes).map_err(|reason| Failure::about(path.display(), reason))
        };
        let (results_a, results_b) = (read(a)?, read(b)?);
        let names = [a, b].map(|path| path.display().to_string());
        compare([&results_a, &results_b], &names, noise_percent).map_err(Failure::Run)
    }

    /// A failure that lists the losses, if there are any.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if self.losses.is_empty() {
            return Ok(());
        }
        let listed: Vec<String> = self.losses.iter().map(|(name, ratio)| format!("{name} ({ratio:.3})")).collect();
        let (n_losses, n_figures) = (self.losses.len(), self.n_figures);
        Err(Failure::Loss(format!("{n_losses} of {n_figures} figures are worse in B: {}", listed.join(", "))))
    }
}

impl BenchResult {
    /// The model and the sizes that were measured. Only results with equal subjects are compared.
    fn subject(&self) -> String {
        let BenchResult { title, dtype, n_prompt, n_gen, .. } = self;
        format!("{title} in {dtype}, prompt {n_prompt}, generate {n_gen}")
    }

    fn origin(&self) -> String {
        let device = self.device_name.as_ref().unwrap_or(&self.device);
        let driver = self.driver.as_ref().map_or(String::new(), |driver| format!(" with driver {driver}"));
        format!("commit {}, {}, {} runs on {device}{driver}", self.commit, self.date, self.n_runs)
    }

    /// The figures that each run measured.
    fn spreads(&self) -> Result<Vec<(&str, Spread)>, String> {
        let measured = self.others.iter().filter(|(_, value)| value.is_object());
        measured
            .map(|(name, value)| match Spread::deserialize(value) {
                Ok(spread) if 0.0 < spread.min && spread.min <= spread.median && spread.median <= spread.max => {
                    Ok((&**name, spread))
                }
                Ok(_) | Err(_) => Err(format!("{name}: expected median, min and max above 0, found {value}")),
            })
            .collect()
    }

    /// A figure that was measured once.
    fn single(&self, name: &str) -> Option<f64> {
        self.others.get(name)?.as_f64()
    }

    /// Names of the figures that were measured once, in the order of the file.
    fn singles(&self) -> impl Iterator<Item = &str> {
        let is_figure = |name: &str| better(name).is_some();
        self.others.iter().filter(move |(name, value)| value.is_number() && is_figure(name)).map(|(name, _)| &**name)
    }
}

impl Spread {
    /// The ratio of `self` to `base`.
    fn against(self, base: Spread, better: Better) -> Ratio {
        match better {
            Better::More => {
                Ratio { median: self.median / base.median, min: self.min / base.max, max: self.max / base.min }
            }
            Better::Less => {
                Ratio { median: base.median / self.median, min: base.min / self.max, max: base.max / self.min }
            }
        }
    }
}

/// The noise of a figure, as a fraction: the range of one file's runs, relative to their median, or `noise_percent` if
/// that is more.
fn noise(spreads: [Spread; 2], noise_percent: f64) -> f64 {
    let ranges = spreads.map(|Spread { median, min, max }| (max - min) / median);
    ranges.into_iter().fold(noise_percent / 100.0, f64::max)
}

/// The rule that the command's help states: medians must differ by more than the noise.
fn verdict(ratio: f64, noise: f64) -> Verdict {
    if ratio < 1.0 - noise {
        Verdict::Loss
    } else if ratio > 1.0 + noise {
        Verdict::Gain
    } else {
        Verdict::Same
    }
}

/// A line of the table.
fn row(name: &str, [a, b]: [String; 2], ratio: &str, noise: &str, verdict: &str) -> String {
    format!("{name:<18} {a:>10} {b:>10}   {ratio:<26} {noise:>6}  {verdict}\n")
}

/// Names of figures end in their unit.
fn better(name: &str) -> Option<Better> {
    match name {
        "decode_of_copy" | "prefill_of_gemm" => Some(Better::More),
        _ if name.ends_with("_tps") || name.ends_with("_per_s") => Some(Better::More),
        _ if name.ends_with("_ms") || name.ends_with("_mib") => Some(Better::Less),
        _ => None,
    }
}

/// The results in a file: one JSON object for each measurement.
fn results(bytes: &[u8]) -> Result<Vec<BenchResult>, String> {
    let objects = serde_json::Deserializer::from_slice(bytes).into_iter::<BenchResult>();
    let found = objects.collect::<Result<Vec<_>, _>>().and_then(|found| match found.is_empty() {
        true => Err(serde_json::Error::custom("it is empty")),
        false => Ok(found),
    });
    let found = found.map_err(|e| format!("expected what `anser bench --json` prints: {e}"))?;
    for (i, result) in found.iter().enumerate() {
        let subject = result.subject();
        if found[..i].iter().any(|before| before.subject() == subject) {
            return Err(format!("it has two results of {subject}; keep one"));
        }
    }
    Ok(found)
}

fn compare([a, b]: [&[BenchResult]; 2], names: &[String; 2], noise_percent: f64) -> Result<Comparison, String> {
    let subjects = |results: &[BenchResult]| results.iter().map(BenchResult::subject).collect::<Vec<_>>();
    check_same("measurements", [subjects(a), subjects(b)], names)?;
    let mut comparison = Comparison { table: String::new(), losses: vec![], n_figures: 0 };
    for of_a in a {
        let subject = of_a.subject();
        let of_b = b.iter().filter(|result| result.subject() == subject);
        for of_b in of_b {
            comparison.add([of_a, of_b], names, noise_percent).map_err(|reason| format!("{subject}: {reason}"))?;
        }
    }
    Ok(comparison)
}

/// An error that lists what only one of two files has, if they differ in that.
fn check_same(what: &str, [a, b]: [Vec<String>; 2], names: &[String; 2]) -> Result<(), String> {
    let only = |these: &[String], those: &[String], name: &str| {
        let missing: Vec<&str> = these.iter().filter(|one| !those.contains(one)).map(String::as_str).collect();
        (!missing.is_empty()).then(|| format!("only {name} has {}", missing.join("; ")))
    };
    let told: Vec<String> = [only(&a, &b, &names[0]), only(&b, &a, &names[1])].into_iter().flatten().collect();
    if told.is_empty() { Ok(()) } else { Err(format!("the {what} differ: {}", told.join("; "))) }
}

impl Comparison {
    /// Appends the table of two results of the same subject.
    fn add(&mut self, [a, b]: [&BenchResult; 2], names: &[String; 2], noise_percent: f64) -> Result<(), String> {
        let [spreads_a, spreads_b] = [a.spreads()?, b.spreads()?];
        let listed = |spreads: &[(&str, Spread)]| spreads.iter().map(|(name, _)| (*name).to_owned()).collect();
        check_same("figures", [listed(&spreads_a), listed(&spreads_b)], names)?;
        let table = &mut self.table;
        if !table.is_empty() {
            table.push('\n');
        }
        *table += &printable(&a.subject());
        for (letter, result, file) in [("A", a, &names[0]), ("B", b, &names[1])] {
            *table += &format!("\n{letter}  {}: {}", printable(file), printable(&result.origin()));
        }
        table.push_str("\n\n");
        *table += &row("median", ["A", "B"].map(str::to_owned), "how much better B is", "noise", "verdict");
        for (name, of_a) in spreads_a {
            let of_b = spreads_b.iter().filter(|(other, _)| *other == name);
            for &(_, of_b) in of_b {
                let better = better(name).ok_or_else(|| format!("{name}: a figure that this version does not know"))?;
                let ratio = of_b.against(of_a, better);
                let noise = noise([of_a, of_b], noise_percent);
                let verdict = verdict(ratio.median, noise);
                let word = match verdict {
                    Verdict::Loss => "loss",
                    Verdict::Same => "-",
                    Verdict::Gain => "gain",
                };
                let spread = format!("{:.3} ({:.3} to {:.3})", ratio.median, ratio.min, ratio.max);
                let noise = format!("{:.1} %", 100.0 * noise);
                let medians = [of_a, of_b].map(|spread| format!("{:.2}", spread.median));
                *table += &row(name, medians, &spread, &noise, word);
                self.n_figures += 1;
                if verdict == Verdict::Loss {
                    self.losses.push((name.to_owned(), ratio.median));
                }
            }
        }
        for name in a.singles() {
            if let (Some(of_a), Some(of_b), Some(better)) = (a.single(name), b.single(name), better(name)) {
                let ratio = match better {
                    Better::More => of_b / of_a,
                    Better::Less => of_a / of_b,
                };
                // A figure may be 0: the first load may add no memory.
                let shown = if ratio.is_finite() { format!("{ratio:.3}") } else { "-".into() };
                *table += &row(name, [of_a, of_b].map(|value| format!("{value:.2}")), &shown, "", "measured once");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{BenchResult, Comparison, Spread, Verdict, compare, noise, results, verdict};
    use crate::report::Failure;
    use serde_json::{Value, json};
    use std::slice::from_ref;

    /// A result with two figures of each run and two that were measured once.
    fn made(prefill: [f64; 3], load: [f64; 3]) -> Value {
        let spread = |[median, min, max]: [f64; 3]| json!({ "median": median, "min": min, "max": max });
        json!({
            "title": "rwkv7 L6", "dtype": "Q8_0, F32", "n_prompt": 8, "n_gen": 4, "n_runs": 3, "commit": "abc",
            "date": "2026-11-29T00:00:00Z", "device": "CPU, 2 threads: asked for", "device_name": null, "driver": null,
            "prefill_tps": spread(prefill), "load_ms": spread(load), "generate_tps": null,
            "load_anon_mib": 0.0, "peak_rss_mib": 80.0,
        })
    }

    fn parsed(values: &[Value]) -> Result<Vec<BenchResult>, String> {
        results(values.iter().map(Value::to_string).collect::<Vec<_>>().join("\n").as_bytes())
    }

    fn compared(a: &[Value], b: &[Value]) -> Result<Comparison, String> {
        let names = ["a.json".to_owned(), "b.json".to_owned()];
        compare([&parsed(a)?, &parsed(b)?], &names, 3.0)
    }

    const PREFILL: [f64; 3] = [100.0, 98.0, 101.0];
    const LOAD: [f64; 3] = [10.0, 9.0, 12.0];

    #[test]
    fn equal_results_are_no_loss() {
        let found = compared(&[made(PREFILL, LOAD)], &[made(PREFILL, LOAD)]).unwrap();
        assert!(found.losses.is_empty() && found.verdict().is_ok());
        assert_eq!(found.n_figures, 2);
        assert!(found.table.contains("1.000 (0.970 to 1.031)"), "{}", found.table);
    }

    #[test]
    fn less_speed_and_more_time_are_losses() {
        let slow = made([90.0, 89.0, 91.0], LOAD);
        let found = compared(&[made(PREFILL, LOAD)], from_ref(&slow)).unwrap();
        assert_eq!(found.losses, [("prefill_tps".to_owned(), 0.9)]);
        let Err(Failure::Loss(told)) = found.verdict() else { panic!("no loss") };
        assert_eq!(told, "1 of 2 figures are worse in B: prefill_tps (0.900)");
        assert!(found.table.lines().any(|line| line.starts_with("prefill_tps") && line.ends_with("loss")));
        let late = made(PREFILL, [16.0, 15.0, 17.0]);
        assert_eq!(compared(&[made(PREFILL, LOAD)], &[late]).unwrap().losses, [("load_ms".to_owned(), 0.625)]);
        // The other way round it is a gain.
        let gain = compared(&[slow], &[made(PREFILL, LOAD)]).unwrap();
        assert!(gain.verdict().is_ok() && gain.table.contains("gain"), "{}", gain.table);
    }

    #[test]
    fn noise_is_no_loss() {
        // Ranges of 2 % and 4 % of the medians.
        let spreads = [(100.0, 99.0, 101.0), (50.0, 49.0, 51.0)].map(|(median, min, max)| Spread { median, min, max });
        assert!((noise(spreads, 3.0) - 0.04).abs() < 1e-9 && (noise(spreads, 7.5) - 0.075).abs() < 1e-9);
        assert_eq!((verdict(0.97, 0.04), verdict(1.03, 0.04)), (Verdict::Same, Verdict::Same));
        assert_eq!((verdict(0.95, 0.04), verdict(1.05, 0.04)), (Verdict::Loss, Verdict::Gain));
        // The median is 10 % worse, and B's runs lie 20 % apart.
        let noisy = made([90.0, 80.0, 98.0], LOAD);
        assert!(compared(&[made(PREFILL, LOAD)], &[noisy]).unwrap().losses.is_empty());
    }

    #[test]
    fn what_was_measured_once_is_shown_and_not_judged() {
        let [mut large, small] = [made(PREFILL, LOAD), made(PREFILL, LOAD)];
        large["peak_rss_mib"] = json!(160.0);
        let found = compared(&[small], &[large]).unwrap();
        assert!(found.verdict().is_ok());
        let line = |name: &str| found.table.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("peak_rss_mib").contains("0.500"), "{}", found.table);
        // 0 of 0 is no number.
        assert!(line("load_anon_mib").contains(" - "), "{}", found.table);
    }

    #[test]
    fn what_only_one_file_has_is_listed() {
        let [mut longer, base] = [made(PREFILL, LOAD), made(PREFILL, LOAD)];
        longer["n_prompt"] = json!(9);
        let told = compared(from_ref(&base), from_ref(&longer)).err().unwrap();
        assert!(told.contains("only a.json has rwkv7 L6 in Q8_0, F32, prompt 8, generate 4"), "{told}");
        assert!(told.contains("only b.json has rwkv7 L6 in Q8_0, F32, prompt 9, generate 4"), "{told}");
        let told = compared(&[base.clone(), longer.clone()], from_ref(&base)).err().unwrap();
        assert!(told.contains("only a.json has") && !told.contains("only b.json has"), "{told}");

        let mut generates = base.clone();
        generates["generate_tps"] = base["prefill_tps"].clone();
        let told = compared(from_ref(&base), &[generates]).err().unwrap();
        assert!(told.contains("the figures differ: only b.json has generate_tps"), "{told}");

        // The order of results in a file does not matter.
        let both = compared(&[base.clone(), longer.clone()], &[longer, base]).unwrap();
        assert_eq!(both.n_figures, 4);
    }

    #[test]
    fn other_files_are_refused_with_a_reason() {
        assert!(results(b"").err().unwrap().contains("it is empty"));
        assert!(results(b"{}").err().unwrap().contains("missing field"));
        assert!(results(b"[1, 2").err().unwrap().contains("anser bench --json"));
        let base = made(PREFILL, LOAD);
        assert!(parsed(&[base.clone(), base.clone()]).err().unwrap().contains("two results of rwkv7 L6"));
        for wrong in [json!({ "median": 0.0, "min": 0.0, "max": 0.0 }), json!({ "median": 1.0 }), json!({})] {
            let mut result = base.clone();
            result["load_ms"] = wrong;
            let told = compared(&[result], from_ref(&base)).err().unwrap();
            assert!(told.contains("load_ms: expected median, min and max above 0"), "{told}");
        }
        let mut unknown = base.clone();
        unknown["beauty"] = base["load_ms"].clone();
        assert!(compared(from_ref(&unknown), from_ref(&unknown)).err().unwrap().contains("beauty"));
    }
}
