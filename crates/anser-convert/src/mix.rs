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
/// It is the knapsack problem of several choices, solved by dynamic programming: `best[b]` is the smallest cost of the matrices so far within b
/// steps of bytes. Sizes are rounded up to whole steps, of which there are 32,768 between the smallest mix and the limit, so that the
/// limit holds exactly. The same candidates give the same choice.
pub fn choose(matrices: &[Vec<Candidate>], limit: u64) -> Option<Vec<usize>> {
    let smallest = |candidates: &Vec<Candidate>| candidates.iter().map(|c| c.n_bytes).min();
    let least: u64 = matrices.iter().map(smallest).sum::<Option<u64>>()?;
    let room = limit.checked_sub(least)?;
    let unit = room.div_ceil(N_STEPS as u64).max(1);
    let n_steps = (room / unit) as usize;
    let mut best = vec![0.0f64; n_steps + 1];
    // For each matrix and number of steps, the candidate of the best mix.
    let mut chosen: Vec<Vec<u8>> = vec![];
    for candidates in matrices {
        let base = smallest(candidates)?;
        let steps = |candidate: &Candidate| (candidate.n_bytes - base).div_ceil(unit) as usize;
        let (mut next, mut of_next) = (vec![f64::INFINITY; n_steps + 1], vec![0; n_steps + 1]);
        for (number, candidate) in candidates.iter().enumerate().take(usize::from(u8::MAX)) {
            let steps = steps(candidate);
            for at in steps..=n_steps {
                let cost = best[at - steps] + candidate.cost;
                if cost < next[at] {
                    (next[at], of_next[at]) = (cost, number as u8);
                }
            }
        }
        best = next;
        chosen.push(of_next);
    }
    let mut at = n_steps;
    let mut choice = vec![0; matrices.len()];
    for (i, candidates) in matrices.iter().enumerate().rev() {
        let number = usize::from(chosen[i][at]);
        choice[i] = number;
        at -= (candidates[number].n_bytes - smallest(candidates)?).div_ceil(unit) as usize;
    }
    Some(choice)
}

/// The bytes of the smallest mix, and those of the one that costs least.
pub fn bounds(matrices: &[Vec<Candidate>]) -> [u64; 2] {
    let smallest = |candidates: &Vec<Candidate>| candidates.iter().map(|c| c.n_bytes).min().unwrap_or(0);
    let best = |candidates: &Vec<Candidate>| {
        let best = candidates.iter().min_by(|a, b| a.cost.total_cmp(&b.cost).then(a.n_bytes.cmp(&b.n_bytes)));
        best.map_or(0, |best| best.n_bytes)
    };
    [matrices.iter().map(smallest).sum(), matrices.iter().map(best).sum()]
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
