//! `anser bench --profile`: the time of every kernel.

use crate::report::Failure;
use anser::{KernelTime, Model};
use std::fmt::Write;

/// All runs of one kernel in a step.
struct Row<'a> {
    label: &'a str,
    n_runs: usize,
    elapsed_us: f64,
    n_bytes: u64,
}

/// A table of the kernels of one step of `tokens`, measured after a step that compiles them.
pub(super) fn table(model: &Model, tokens: &[u32]) -> Result<String, Failure> {
    let mut session = model.session()?;
    session.feed(tokens)?;
    let mut runs: Vec<Vec<KernelTime>> = (0..5).map(|_| session.profile(tokens)).collect::<Result<_, _>>()?;
    let total = |times: &[KernelTime]| times.iter().map(|t| t.elapsed_us).sum::<f64>();
    runs.sort_by(|a, b| total(a).total_cmp(&total(b)));
    let times = &runs[runs.len() / 2];
    let mut rows: Vec<Row> = vec![];
    for KernelTime { label, elapsed_us, n_bytes, .. } in times {
        let at = rows.iter().position(|row| row.label == *label).unwrap_or_else(|| {
            rows.push(Row { label, n_runs: 0, elapsed_us: 0.0, n_bytes: 0 });
            rows.len() - 1
        });
        rows[at].n_runs += 1;
        rows[at].elapsed_us += elapsed_us;
        rows[at].n_bytes += n_bytes;
    }
    rows.sort_by(|a, b| b.elapsed_us.total_cmp(&a.elapsed_us));
    let all = Row {
        label: "all",
        n_runs: times.len(),
        elapsed_us: total(times),
        n_bytes: times.iter().map(|t| t.n_bytes).sum(),
    };
    let mut text = format!("one step of {} tokens, median of {} runs\n", tokens.len(), runs.len());
    text += "kernel                                     runs          µs        MB     GB/s   share\n";
    for row in rows.iter().chain([&all]) {
        let (share, gb_per_s) = (100.0 * row.elapsed_us / all.elapsed_us, row.n_bytes as f64 / row.elapsed_us / 1e3);
        let _ = writeln!(
            text,
            "{:<40} {:>6} {:>11.1} {:>9.2} {gb_per_s:>8.1} {share:>6.1}%",
            row.label,
            row.n_runs,
            row.elapsed_us,
            row.n_bytes as f64 / 1e6
        );
    }
    let layer = times.iter().filter(|t| t.node.split(" + ").all(|name| name.starts_with("blocks.1.")));
    text += "\none layer, in order\n";
    for KernelTime { label, shape, node, elapsed_us, n_bytes } in layer {
        let gb_per_s = *n_bytes as f64 / elapsed_us / 1e3;
        let node = node.replace("blocks.1.", "");
        let _ = writeln!(
            text,
            "{label:<22} {elapsed_us:>8.1} µs {gb_per_s:>8.1} GB/s  {node}{}",
            if shape.is_empty() { String::new() } else { format!(" ({shape})") }
        );
    }
    Ok(text)
}
