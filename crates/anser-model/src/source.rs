//! A model file seen through BlinkDL's tensor names: weights by name, shape-checked, in the engine's orientation. Plans are written from
//! it, and so are files of other programs' layouts.

use crate::dialect::{Dialect, Spelled};
use crate::error::ModelError;
use crate::lora;
use crate::weights::Weight;
use anser_format::{ModelFile, Tensor};
use std::sync::Arc;

/// A model file, and how it spells BlinkDL's names.
///
/// Names are BlinkDL's, e.g. `blocks.3.att.w1`, whatever the file calls its tensors. Matrices are `[out, in]`, whichever way the file has
/// them, and nothing is copied until elements are asked for.
pub struct Source<'a> {
    file: &'a Arc<ModelFile>,
    dialect: Dialect,
}

/// A tensor as the engine uses it: matrices are `[out, in]`.
struct Found {
    tensor: Tensor,
    /// The row to take, where the tensor stacks several vectors.
    row: Option<usize>,
    /// Whether its last two dimensions are the other way around in the file.
    is_transposed: bool,
    /// The number of matrices that lie side by side in the file, where the engine has a stack of them.
    n_side_by_side: Option<usize>,
}

impl<'a> Source<'a> {
    /// The view of `file`.
    pub fn new(file: &'a Arc<ModelFile>) -> Self {
        Source { file, dialect: Dialect::of(file) }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Whether the file has a tensor called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.file.info(&self.dialect.spell(self.file, name).name).is_some()
    }

    /// How the file spells `name`.
    pub fn spelled(&self, name: &str) -> String {
        self.dialect.spell(self.file, name).name
    }

    fn find(&self, name: &str) -> Result<Found, ModelError> {
        let Spelled { name: spelled, row, is_transposed, n_side_by_side } = self.dialect.spell(self.file, name);
        match (self.file.tensor(&spelled), self.file.info(&spelled)) {
            (Some(tensor), _) => {
                let turned = match (is_transposed, n_side_by_side) {
                    (true, _) => tensor.transposed(),
                    (false, Some(n)) => tensor.stacked_columns(n),
                    (false, None) => Some(tensor.clone()),
                };
                match turned {
                    Some(tensor) => Ok(Found { tensor, row, is_transposed, n_side_by_side }),
                    None => {
                        let columns = n_side_by_side.map_or("_".into(), |n| format!("{n}·_"));
                        let as_stored = Found { tensor, row, is_transposed: false, n_side_by_side: None };
                        Err(self.wrong_shape(&as_stored, &format!("[_, {columns}] of floats")))
                    }
                }
            }
            (None, Some(info)) => {
                let found = info.stored.name().into();
                Err(ModelError::Type { file: self.file.name().into(), tensor: spelled, found })
            }
            (None, None) => Err(ModelError::MissingTensor { file: self.file.name().into(), tensor: spelled }),
        }
    }

    /// Shape of a tensor in the engine's orientation.
    ///
    /// # Errors
    /// If the tensor is missing, or of a type that the engine does not compute with.
    pub fn shape(&self, name: &str) -> Result<Vec<usize>, ModelError> {
        Ok(self.find(name)?.tensor.shape().to_vec())
    }

    /// Shape of a matrix whose sizes are not known yet: both must be positive.
    pub(crate) fn matrix_shape(&self, name: &str) -> Result<[usize; 2], ModelError> {
        let found = self.find(name)?;
        match found.tensor.shape() {
            &[rows, cols] if rows > 0 && cols > 0 => Ok([rows, cols]),
            _ => Err(self.wrong_shape(&found, "[_, _]")),
        }
    }

    /// Matrix `name` of exactly `n_rows` × `n_cols`, with the low-rank pair that an adapter has put beside it.
    ///
    /// # Errors
    /// If the tensor is missing, or of another shape or type.
    pub fn matrix(&self, name: &str, [n_rows, n_cols]: [usize; 2]) -> Result<Weight, ModelError> {
        let found = self.find(name)?;
        if found.tensor.shape() != [n_rows, n_cols] {
            return Err(self.wrong_shape(&found, &found.as_in_file(&[n_rows, n_cols])));
        }
        let weight = self.whole(name, found, n_rows, n_cols)?;
        let [down, up] = lora::pair_names(name);
        let (Some(a), Some(b)) = (self.file.added(&down), self.file.added(&up)) else { return Ok(weight) };
        let rank = a.shape().first().copied().unwrap_or(0);
        let pair = Weight::from_tensor(&down, a.clone(), rank, n_cols).zip(Weight::from_tensor(&up, b, n_rows, rank));
        pair.and_then(|(a, b)| weight.with_pair([a, b])).ok_or_else(|| ModelError::Shape {
            file: self.file.name().into(),
            tensor: down,
            expected: format!("[_, {n_cols}]"),
            found: a.shape().to_vec(),
        })
    }

    /// Matrices of exactly `n_rows` × `n_cols` that a tensor `[K, n_rows, n_cols]` stacks.
    pub(crate) fn matrices<const K: usize>(
        &self,
        name: &str,
        [n_rows, n_cols]: [usize; 2],
    ) -> Result<[Weight; K], ModelError> {
        let all = self.stack(name, [K, n_rows, n_cols])?;
        Ok(std::array::from_fn(|i| all.rows(i * n_rows..(i + 1) * n_rows)))
    }

    /// A stack of matrices, `[n, n_rows, n_cols]`, as one matrix of all their rows.
    ///
    /// # Errors
    /// If the tensor is missing, or of another shape or type.
    pub fn stack(&self, name: &str, [n, n_rows, n_cols]: [usize; 3]) -> Result<Weight, ModelError> {
        let found = self.find(name)?;
        if found.tensor.shape() != [n, n_rows, n_cols] {
            return Err(self.wrong_shape(&found, &found.as_in_file(&[n, n_rows, n_cols])));
        }
        self.whole(name, found, n * n_rows, n_cols)
    }

    /// Vector `name` of length `len`; dimensions of length 1 do not count, and a matrix `[H, N]` is a vector of H·N.
    ///
    /// # Errors
    /// If the tensor is missing, or of another shape or type.
    pub fn vector(&self, name: &str, len: usize) -> Result<Weight, ModelError> {
        let found = self.find(name)?;
        let Some(row) = found.row else {
            if found.tensor.shape().iter().product::<usize>() != len {
                return Err(self.wrong_shape(&found, &format!("[{len}]")));
            }
            return self.whole(name, found, 1, len);
        };
        match squeeze(found.tensor.shape())[..] {
            [n_rows, n_cols] if n_cols == len && row < n_rows => {
                Ok(self.whole(name, found, n_rows, len)?.rows(row..row + 1))
            }
            _ => Err(self.wrong_shape(&found, &format!("[{} or more, {len}]", row + 1))),
        }
    }

    /// A low-rank pair: down [R, n_in] and up [n_out, R], with R from the file.
    pub(crate) fn low_rank(
        &self,
        down: &str,
        up: &str,
        [n_out, n_in]: [usize; 2],
    ) -> Result<(Weight, Weight), ModelError> {
        let [rank, n_cols] = self.matrix_shape(down)?;
        if n_cols != n_in {
            let found = self.find(down)?;
            let expected = if found.is_transposed { format!("[{n_in}, _]") } else { format!("[_, {n_in}]") };
            return Err(self.wrong_shape(&found, &expected));
        }
        Ok((self.matrix(down, [rank, n_in])?, self.matrix(up, [n_out, rank])?))
    }

    fn whole(&self, name: &str, found: Found, n_rows: usize, n_cols: usize) -> Result<Weight, ModelError> {
        let expected = format!("[{n_rows}, {n_cols}] in whole {} blocks", found.tensor.dtype().name());
        Weight::from_tensor(name, found.tensor.clone(), n_rows, n_cols)
            .ok_or_else(|| self.wrong_shape(&found, &expected))
    }

    /// The error of a tensor whose shape is not the `expected` one.
    pub(crate) fn refused_shape(&self, name: &str, expected: &str) -> ModelError {
        match self.find(name) {
            Ok(found) => self.wrong_shape(&found, expected),
            Err(error) => error,
        }
    }

    fn wrong_shape(&self, found: &Found, expected: &str) -> ModelError {
        let name = found.tensor.name();
        // As the file has it.
        let shape = self.file.info(name).map_or(found.tensor.shape(), |info| info.shape);
        ModelError::Shape {
            file: self.file.name().into(),
            tensor: name.into(),
            expected: expected.into(),
            found: shape.to_vec(),
        }
    }
}

impl Found {
    /// A shape of the engine's in the file's orientation, for messages.
    fn as_in_file(&self, shape: &[usize]) -> String {
        if let (Some(n), &[_, n_rows, n_cols]) = (self.n_side_by_side, shape) {
            return format!("{:?}", [n_rows, n * n_cols]);
        }
        let mut shape = shape.to_vec();
        let n = shape.len();
        if self.is_transposed && n >= 2 {
            shape.swap(n - 2, n - 1);
        }
        format!("{shape:?}")
    }
}

/// A shape without its dimensions of length 1.
pub(crate) fn squeeze(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&n| n != 1).collect()
}
