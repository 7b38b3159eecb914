//! A mix of types of its own for a model: which type each matrix gets so that all of them fit in a number of bytes and the sum of what they cost
//! is smallest.

use anser_format::DType;

/// The number of steps into which the bytes are divided that the smallest types leave.
const N_STEPS: usize = 1 << 15;

/// A type that a matrix could get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The type.
    pub dtype: DType,
    /// The bytes of the matrix in it.
    pub n_bytes: u64,
    /// What its errors cost, in any unit that is the same for all matrices; finite and not negative.
    pub cost: f64,
}

/// Chooses a candidate for each matrix, by its number, such that all matrices together have at most `limit` bytes and Σ cost is
/// smallest. `None` if the smallest candidates do not fit.
///
/// Sizes are rounded up to whole steps, of which there are 32,768 between the smallest mix and the limit, so that the limit holds exactly. The
/// same candidates give the same choice.
pub fn choose(matrices: &[Vec<Candidate>], limit: u64) -> Option<Vec<usize>> {
    let [least, _] = bounds(matrices);
    let mixes = Mixes::new(matrices, limit.checked_sub(least)?)?;
    Some(mixes.choice(mixes.best.len() - 1))
}

/// Chooses a candidate for each matrix such that Σ cost is at most `most`, with as few bytes as steps of 1/32,768 of what lies between the smallest
/// and the best mix allow. `None` if no mix costs so little.
pub fn choose_for_cost(matrices: &[Vec<Candidate>], most: f64) -> Option<Vec<usize>> {
    let [least, best] = bounds(matrices);
    // Each matrix may waste a step by rounding up, for which there is room.
    let room = best - least;
    let mixes = Mixes::new(matrices, room + room / N_STEPS as u64 * matrices.len() as u64 + matrices.len() as u64)?;
    // Costs do not grow with the bytes.
    let at = mixes.best.partition_point(|&cost| cost > most);
    (at < mixes.best.len()).then(|| mixes.choice(at))
}

/// The best mixes for all numbers of steps of bytes: the knapsack problem of several choices, solved by dynamic programming.
struct Mixes<'a> {
    matrices: &'a [Vec<Candidate>],
    unit: u64,
    /// `best[s]` is the smallest Σ cost of a mix that has at most `s` units of bytes more than the smallest mix.
    best: Vec<f64>,
    /// For each matrix and number of steps, its candidate in the best mix of this matrix and those before it.
    chosen: Vec<Vec<u8>>,
}

/// The bytes of the smallest candidate.
fn smallest(candidates: &[Candidate]) -> u64 {
    candidates.iter().map(|candidate| candidate.n_bytes).min().unwrap_or(0)
}

impl<'a> Mixes<'a> {
    /// For at most `room` bytes more than the smallest mix has. `None` if a matrix has no candidate.
    fn new(matrices: &'a [Vec<Candidate>], room: u64) -> Option<Mixes<'a>> {
        if matrices.iter().any(Vec::is_empty) {
            return None;
        }
        let unit = room.div_ceil(N_STEPS as u64).max(1);
        let n_steps = (room / unit) as usize;
        let mut mixes = Mixes { matrices, unit, best: vec![0.0; n_steps + 1], chosen: vec![] };
        for candidates in matrices {
            let (mut next, mut of_next) = (vec![f64::INFINITY; n_steps + 1], vec![0; n_steps + 1]);
            for (number, candidate) in candidates.iter().enumerate().take(usize::from(u8::MAX)) {
                let steps = mixes.steps(candidates, candidate);
                for at in steps..=n_steps {
                    let cost = mixes.best[at - steps] + candidate.cost;
                    if cost < next[at] {
                        (next[at], of_next[at]) = (cost, number as u8);
                    }
                }
            }
            mixes.best = next;
            mixes.chosen.push(of_next);
        }
        Some(mixes)
    }

    /// The steps that a candidate takes beyond the smallest one.
    fn steps(&self, candidates: &[Candidate], candidate: &Candidate) -> usize {
        (candidate.n_bytes - smallest(candidates)).div_ceil(self.unit) as usize
    }

    /// The numbers of the candidates in the best mix of at most `at` steps.
    fn choice(&self, mut at: usize) -> Vec<usize> {
        let mut choice = vec![0; self.matrices.len()];
        for (i, candidates) in self.matrices.iter().enumerate().rev() {
            choice[i] = usize::from(self.chosen[i][at]);
            at -= self.steps(candidates, &candidates[choice[i]]);
        }
        choice
    }
}

/// The bytes of the smallest mix, and those of the one that costs least.
pub fn bounds(matrices: &[Vec<Candidate>]) -> [u64; 2] {
    let best = |candidates: &Vec<Candidate>| {
        let best = candidates.iter().min_by(|a, b| a.cost.total_cmp(&b.cost).then(a.n_bytes.cmp(&b.n_bytes)));
        best.map_or(0, |best| best.n_bytes)
    };
    [matrices.iter().map(|candidates| smallest(candidates)).sum(), matrices.iter().map(best).sum()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(of: &[(u64, f64)]) -> Vec<Candidate> {
        of.iter().map(|&(n_bytes, cost)| Candidate { dtype: DType::Q8_0, n_bytes, cost }).collect()
    }

    /// Numbers that look random: a linear congruential generator.
    fn numbers(mut seed: u64) -> impl FnMut(u64) -> u64 {
        move |below| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        }
    }

    /// Every mix of five matrices with four candidates each, tried one by one.
    #[test]
    fn the_choice_is_the_best_of_all_mixes() {
        let mut next = numbers(7);
        for _ in 0..30 {
            let matrices: Vec<_> =
                (0..5).map(|_| candidates(&[0; 4].map(|_| (10 + next(500), next(1000) as f64)))).collect();
            let [least, _] = bounds(&matrices);
            let limit = least + next(900);
            let sums = |choice: &[usize]| {
                let chosen = matrices.iter().zip(choice).map(|(candidates, &number)| candidates[number]);
                chosen.fold((0, 0.0), |(n_bytes, cost), c| (n_bytes + c.n_bytes, cost + c.cost))
            };
            let all = (0..4usize.pow(5)).map(|code| [0, 1, 2, 3, 4].map(|i| code / 4usize.pow(i) % 4));
            let fitting = all.map(|choice| sums(&choice)).filter(|&(n_bytes, _)| n_bytes <= limit);
            let best = fitting.map(|(_, cost)| cost).fold(f64::INFINITY, f64::min);
            let (n_bytes, cost) = sums(&choose(&matrices, limit).unwrap());
            assert!(n_bytes <= limit && cost == best, "{n_bytes} of {limit} bytes, {cost} beside {best}");

            // For a cost: no mix of fewer bytes costs as little.
            let most = next(3000) as f64;
            let all = (0..4usize.pow(5)).map(|code| sums(&[0, 1, 2, 3, 4].map(|i| code / 4usize.pow(i) % 4)));
            let fewest = all.filter(|&(_, cost)| cost <= most).map(|(n_bytes, _)| n_bytes).min();
            assert_eq!(choose_for_cost(&matrices, most).map(|choice| sums(&choice).0), fewest, "{most}");
        }
    }

    #[test]
    fn what_does_not_fit_has_no_choice() {
        let matrices = [candidates(&[(10, 2.0), (30, 0.0)]), candidates(&[(5, 1.0), (6, 1.0)])];
        assert_eq!(choose(&matrices, 14), None);
        assert_eq!(choose(&matrices, 15), Some(vec![0, 0]));
        assert_eq!(choose(&matrices, 35), Some(vec![1, 0]));
        assert_eq!(choose(&matrices, u64::MAX), Some(vec![1, 0]));
        assert_eq!(bounds(&matrices), [15, 35]);
        assert_eq!(choose(&[], 0), Some(vec![]));
        assert_eq!(choose_for_cost(&matrices, 1.0), Some(vec![1, 0]));
        assert_eq!(choose_for_cost(&matrices, 0.5), None);
    }

    #[test]
    fn large_sizes_stay_below_the_limit() {
        let mut next = numbers(3);
        let matrices: Vec<_> = (0..200)
            .map(|_| {
                let n = 1_000_000 + next(90_000_000);
                candidates(&[(n * 3, 9.0), (n * 4, 4.0), (n * 5, 1.0), (n * 8, 0.0)])
            })
            .collect();
        let [least, most] = bounds(&matrices);
        for percent in [0, 10, 50, 90] {
            let limit = least + (most - least) * percent / 100;
            let choice = choose(&matrices, limit).unwrap();
            let n_bytes: u64 = matrices.iter().zip(choice).map(|(c, number)| c[number].n_bytes).sum();
            assert!(n_bytes <= limit && n_bytes * 100 >= limit * 99, "{n_bytes} of {limit}");
        }
    }
}
