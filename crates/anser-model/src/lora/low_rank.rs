//! Low-rank pairs that stay beside the matrices that they change.

use super::merge::{Change, MAX_F16, Merge, numbers};
use super::names::Target;
use super::pair_names;
use crate::error::ModelError;
use anser_format::quant::quantize;
use anser_format::{Addition, DType, ModelFile, Tensor};
use std::sync::Arc;

/// The largest number of a matrix below which F16 would lose it: F16 has its 11 bits down to 2⁻¹⁴, and everything above a sixteenth of the
/// largest number keeps them.
const MIN_MAX_F16: f32 = 1.0 / (1 << 10) as f32;

/// A matrix W of the model, and what adapters put beside it: A `[ΣR, in]`, B `[out, ΣR]`.
#[derive(Debug, Clone)]
pub struct LowRank {
    base: Arc<ModelFile>,
    /// BlinkDL's name of W.
    name: String,
    dtype: DType,
    n_out: usize,
    n_in: usize,
    /// Of each adapter A `[R, in]`, B `[out, R]`, and the factor by which their product counts.
    pairs: Vec<(Tensor, Tensor, f32)>,
}

impl LowRank {
    /// The pairs of `merge`, if `target` is a matrix and they are all that changes it.
    pub(super) fn of(base: &Arc<ModelFile>, target: &Target, merge: &Merge) -> Option<LowRank> {
        let &[n_out, n_in] = &target.shape[..] else { return None };
        let pair = |(row, change): &(Option<usize>, Change)| match (row, change) {
            (None, Change::Pair { down, up, factor }) => Some((down.clone(), up.clone(), *factor)),
            _ => None,
        };
        let pairs = merge.changes().iter().map(pair).collect::<Option<Vec<_>>>()?;
        let dtype = base.tensor(&target.tensor)?.dtype();
        Some(LowRank { base: base.clone(), name: target.name.clone(), dtype, n_out, n_in, pairs })
    }

    /// BlinkDL's name of the matrix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// ΣR.
    pub fn rank(&self) -> usize {
        self.pairs.iter().map(|(_, up, _)| up.shape().get(1).copied().unwrap_or(0)).sum()
    }

    /// Whether W is quantized and the pair takes fewer bytes than W.
    pub(super) fn takes_less_than_quantized(&self) -> bool {
        let n_bytes = self.dtype.row_n_bytes(self.n_in).map_or(0, |n_bytes| n_bytes * self.n_out);
        self.dtype.is_quantized() && self.rank() * (self.n_in + self.n_out) * DType::F16.block_n_bytes() < n_bytes
    }

    /// A and B as tensors, which [`crate::Source::matrix`] finds: F16, and F32 where a matrix has a number beyond its range or none but small
    /// ones.
    ///
    /// # Errors
    /// If a number is not finite.
    pub fn compute(&self) -> Result<[Addition; 2], ModelError> {
        let rank = self.rank();
        let mut down = Vec::with_capacity(rank * self.n_in);
        let mut up = vec![0.0; self.n_out * rank];
        for (a, b, factor) in &self.pairs {
            let (first, b) = (down.len() / self.n_in, numbers(b));
            down.extend(numbers(a));
            let n = down.len() / self.n_in - first;
            for (row, b) in up.chunks_exact_mut(rank).zip(b.chunks_exact(n)) {
                row[first..first + n].iter_mut().zip(b).for_each(|(up, b)| *up = factor * b);
            }
        }
        let [down_name, up_name] = pair_names(&self.name);
        Ok([self.addition(down_name, [rank, self.n_in], &down)?, self.addition(up_name, [self.n_out, rank], &up)?])
    }

    fn addition(&self, name: String, shape: [usize; 2], numbers: &[f32]) -> Result<Addition, ModelError> {
        let refuse = |problem: String| ModelError::Adapter { file: self.base.name().into(), problem };
        if let Some((i, x)) = numbers.iter().enumerate().find(|(_, x)| !x.is_finite()) {
            return Err(refuse(format!("{name}: element {i} is {x}; the adapter is damaged, or its scale too large")));
        }
        let max = numbers.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        let dtype = if max == 0.0 || (MIN_MAX_F16..=MAX_F16).contains(&max) { DType::F16 } else { DType::F32 };
        let bytes = quantize(dtype, numbers).map_err(|error| refuse(format!("{name}: {error}")))?;
        Ok(Addition { name, dtype, shape: shape.to_vec(), bytes })
    }
}
