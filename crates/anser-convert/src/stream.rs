//! Reads rows, converts them on all cores and hands them out in their order.

use crate::error::ConvertError;
use crate::output::{OutputTensor, Piece};
use anser_format::quant::{QuantizeError, dequantize, quantize_row};
use anser_format::{DType, ModelFile};
use rayon::prelude::*;
use std::ops::{ControlFlow, Range};

/// The number of elements that a thread converts at a time, if rows are not longer.
const CHUNK_LEN: usize = 1 << 19;

/// What the caller is told, and whether it has ended the work.
pub(crate) struct Progress<F> {
    n_bytes: u64,
    total_n_bytes: u64,
    on_progress: F,
}

impl<F: FnMut(u64, u64) -> ControlFlow<()>> Progress<F> {
    pub(crate) fn new(total_n_bytes: u64, on_progress: F) -> Progress<F> {
        Progress { n_bytes: 0, total_n_bytes, on_progress }
    }

    fn advance(&mut self, n_bytes: usize) -> Result<(), ConvertError> {
        self.n_bytes += n_bytes as u64;
        match (self.on_progress)(self.n_bytes, self.total_n_bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(ConvertError::Cancelled),
        }
    }
}

/// Rows of a piece that are converted together, and the number of their first element in the tensor.
struct Chunk<'a> {
    piece: &'a Piece,
    rows: Range<usize>,
    first: usize,
}

/// The bytes of a tensor in pieces of about a megabyte; after an error there is no other one.
pub(crate) fn chunks<'a, F: FnMut(u64, u64) -> ControlFlow<()>>(
    file: &'a ModelFile,
    tensor: &'a OutputTensor,
    progress: &'a mut Progress<F>,
) -> impl Iterator<Item = Result<Vec<u8>, ConvertError>> + 'a {
    let mut all = vec![];
    let mut first = 0;
    for piece in &tensor.pieces {
        let (n_rows, n_cols) = match piece {
            Piece::Stored { weight, .. } => (weight.n_rows(), weight.n_cols()),
            Piece::Numbers(numbers) => (1, numbers.len()),
        };
        let n_at_once = (CHUNK_LEN / n_cols.max(1)).max(1);
        for row in (0..n_rows).step_by(n_at_once) {
            let rows = row..(row + n_at_once).min(n_rows);
            all.push(Chunk { piece, first: first + row * n_cols, rows });
        }
        first += n_rows * n_cols;
    }
    let group_len = 2 * rayon::current_num_threads();
    let mut at = 0;
    let mut ready: std::vec::IntoIter<Result<Vec<u8>, ConvertError>> = vec![].into_iter();
    let mut has_failed = false;
    std::iter::from_fn(move || {
        if has_failed {
            return None;
        }
        if ready.len() == 0 && at < all.len() {
            let group = &all[at..(at + group_len).min(all.len())];
            at += group.len();
            ready = group.par_iter().map(|chunk| convert(file, tensor, chunk)).collect::<Vec<_>>().into_iter();
        }
        let next = ready.next()?;
        let next = next.and_then(|bytes| progress.advance(bytes.len()).map(|()| bytes));
        has_failed = next.is_err();
        Some(next)
    })
}

/// The rows of a chunk in the tensor's type.
fn convert(file: &ModelFile, tensor: &OutputTensor, chunk: &Chunk) -> Result<Vec<u8>, ConvertError> {
    let mut scratch = vec![];
    let (numbers, n_cols) = match chunk.piece {
        Piece::Stored { weight, factor } => {
            let stored = weight.fetch_rows(chunk.rows.clone(), &mut scratch)?;
            if weight.dtype() == tensor.dtype && *factor == 1.0 {
                return Ok(stored.to_vec());
            }
            let mut numbers = vec![0.0; chunk.rows.len() * weight.n_cols()];
            dequantize(weight.dtype(), stored, &mut numbers);
            if *factor != 1.0 {
                numbers.iter_mut().for_each(|number| *number *= factor);
            }
            (numbers, weight.n_cols())
        }
        Piece::Numbers(numbers) => (numbers.to_vec(), numbers.len()),
    };
    check(file, tensor, chunk.first, &numbers)?;
    let failed = |source| ConvertError::Quantize { file: file.name().into(), tensor: tensor.name.clone(), source };
    let importance = tensor.importance.as_deref();
    if importance.is_none() {
        return quantize_row(tensor.dtype, &numbers, None).map_err(failed);
    }
    let rows: Result<Vec<Vec<u8>>, QuantizeError> =
        numbers.chunks_exact(n_cols).map(|row| quantize_row(tensor.dtype, row, importance)).collect();
    Ok(rows.map_err(failed)?.concat())
}

/// Refuses numbers that the tensor's type cannot hold.
fn check(file: &ModelFile, tensor: &OutputTensor, first: usize, numbers: &[f32]) -> Result<(), ConvertError> {
    let (limit, advice) = match tensor.dtype {
        DType::F32 => (f32::MAX, ""),
        DType::F16 => (65_504.0, "take the type BF16 or F32, which GGUF files have"),
        DType::BF16 => (f32::from(half::bf16::MAX), "take the type F32"),
        DType::Q8_0
        | DType::Q4_0
        | DType::Q4_1
        | DType::Q5_0
        | DType::Q5_1
        | DType::Q2_K
        | DType::Q3_K
        | DType::Q4_K
        | DType::Q5_K
        | DType::Q6_K
        | DType::IQ4_NL
        | DType::IQ4_XS => (65_504.0, "keep this tensor as it is with --tensor NAME=BF16 or --tensor NAME=F32"),
    };
    // A comparison with a number that is none is false.
    let Some(at) = numbers.iter().position(|number| number.is_nan() || number.abs() > limit) else { return Ok(()) };
    let (file, tensor, dtype) = (file.name().into(), tensor.name.clone(), tensor.dtype);
    let (index, value) = (first + at, numbers[at]);
    Err(match value.is_finite() {
        true => ConvertError::TooLarge { file, tensor, index, value, dtype, limit, advice },
        false => ConvertError::NotFinite { file, tensor, index, value },
    })
}
