//! The distribution by its definition.

use crate::sampler::{SamplerOptions, SamplerOrder};

/// The distance of a sum of probabilities from a border within which rounding could decide.
const MARGIN: f64 = 3e-6;
/// The distance of two logits within which rounding could decide.
const LOGIT_MARGIN: f64 = 1e-4;

struct Candidate {
    token: u32,
    logit: f64,
    p: f64,
}

/// (token, probability), the most likely first. `None` if which tokens pass a filter depends on the rounding of f32.
pub(super) fn reference_distribution(
    options: &SamplerOptions,
    uncounted: &[u32],
    history: &[u32],
    logits: &[f32],
) -> Option<Vec<(u32, f64)>> {
    let mut logits: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
    for &(token, bias) in &options.logit_bias {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit += f64::from(bias);
        }
    }
    for (token, logit) in logits.iter_mut().enumerate() {
        if !history.contains(&(token as u32)) {
            continue;
        }
        let penalty = f64::from(options.repetition_penalty);
        *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        // Of n tokens, the one at position i has decayed n − 1 − i times.
        let amount = |i: usize| f64::from(options.penalty_decay).powi((history.len() - 1 - i) as i32);
        let counted = (0..history.len()).filter(|&i| history[i] == token as u32 && !uncounted.contains(&history[i]));
        let count: f64 = counted.map(amount).sum();
        *logit -= f64::from(options.presence_penalty) + count * f64::from(options.frequency_penalty);
    }

    let temperature = f64::from(options.temperature);
    let common = options.order == SamplerOrder::Common;
    let exponent = |logit: f64| if common { logit / temperature } else { logit };
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|&l| exponent(l - max).exp()).sum();
    let candidate = |(token, &logit): (u32, &f64)| Candidate { token, logit, p: exponent(logit - max).exp() / sum };
    let mut all: Vec<Candidate> = (0..).zip(&logits).map(candidate).collect();
    drop_underflow(&mut all, |c| exponent(c.logit - max))?;
    if all.iter().any(|a| all.iter().any(|b| a.logit != b.logit && (a.logit - b.logit).abs() < LOGIT_MARGIN)) {
        return None;
    }
    let renormalize = |all: &mut Vec<Candidate>| {
        let sum: f64 = all.iter().map(|c| c.p).sum();
        all.iter_mut().for_each(|c| c.p /= if common { sum } else { 1.0 });
    };

    if options.typical_p < 1.0 {
        let entropy: f64 = all.iter().map(|c| -c.p * c.p.ln()).sum();
        let distance = |c: &Candidate| (-c.p.ln() - entropy).abs();
        all.sort_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.token.cmp(&b.token)));
        let differ = |w: &[Candidate]| w[0].logit != w[1].logit;
        if all.windows(2).any(|w| differ(w) && (distance(&w[0]) - distance(&w[1])).abs() < LOGIT_MARGIN) {
            return None;
        }
        let n = reaching(&all, f64::from(options.typical_p))?;
        all.truncate(n);
        renormalize(&mut all);
    }
    all.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token)));
    if options.top_k == 1 || options.top_p == 0.0 {
        // Greedy, before any filter.
        let best = (0..logits.len()).find(|&t| logits[t] == max).unwrap_or(0);
        return Some(vec![(best as u32, 1.0)]);
    }
    if options.top_k > 0 {
        all.truncate(options.top_k);
        renormalize(&mut all);
    }
    if options.top_p < 1.0 {
        let n = reaching(&all, f64::from(options.top_p))?;
        all.truncate(n);
    }
    let (best, bound) = (all[0].logit, f64::from(options.min_p) * all[0].p);
    if all.iter().any(|c| c.logit != best && (c.p / bound - 1.0).abs() < MARGIN) {
        return None;
    }
    all.retain(|c| c.logit == best || c.p >= bound);

    if !common {
        drop_underflow(&mut all, |c| (c.logit - best) / temperature)?;
    }
    let weight = |c: &Candidate| if common { c.p } else { ((c.logit - best) / temperature).exp() };
    let sum: f64 = all.iter().map(weight).sum();
    Some(all.iter().map(|c| (c.token, weight(c) / sum)).collect())
}

/// The number of first candidates that together have probability `share`; all if they never reach it. `None` if it is
/// too close.
fn reaching(all: &[Candidate], share: f64) -> Option<usize> {
    let mut sum = 0.0;
    for (at, candidate) in all.iter().enumerate() {
        sum += candidate.p;
        if (sum - share).abs() < MARGIN {
            return None;
        }
        if sum >= share {
            return Some(at + 1);
        }
    }
    Some(all.len())
}

/// Probabilities are f32 relative to the largest: what is below its smallest number is 0, and no candidate.
fn drop_underflow(all: &mut Vec<Candidate>, exponent: impl Fn(&Candidate) -> f64) -> Option<()> {
    let lowest = f64::from(f32::MIN_POSITIVE).ln();
    if all.iter().any(|c| (exponent(c) - lowest).abs() < 100.0 * LOGIT_MARGIN) {
        return None;
    }
    all.retain(|c| exponent(c) > lowest);
    Some(())
}
