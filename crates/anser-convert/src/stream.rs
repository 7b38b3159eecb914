//! Reads rows, converts them on all cores and hands them out in their order.
//!
//! Chunks are numbered through all tensors. The caller's thread hands a few for each thread out, takes the results in the order of their numbers, and
//! hands another chunk out for each that it has taken. So writing goes on beside converting, a thread that the system leaves without a core holds the
//! others up only when they are that far ahead, and memory holds those few chunks.

use crate::error::ConvertError;
use crate::output::{OutputTensor, Piece};
use anser_format::quant::{QuantizeError, dequantize, quantize_row};
use anser_format::{DType, ModelFile};
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

/// The number of elements that a thread converts at a time, if rows are not longer.
const CHUNK_LEN: usize = 1 << 19;
/// The number of chunks for each thread that are on their way: being converted, or waiting for their turn.
const N_AHEAD: usize = 4;

/// What the caller is told, and whether it has ended the work.
struct Progress<F> {
    n_bytes: u64,
    total_n_bytes: u64,
    on_progress: F,
}

impl<F: FnMut(u64, u64) -> ControlFlow<()>> Progress<F> {
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
    tensor: &'a OutputTensor,
    piece: &'a Piece,
    rows: Range<usize>,
    first: usize,
}

/// The chunks of a tensor, in order.
fn chunks(tensor: &OutputTensor) -> impl Iterator<Item = Chunk<'_>> {
    let mut first = 0;
    tensor.pieces.iter().flat_map(move |piece| {
        let [n_rows, n_cols] = piece.shape();
        let start = first;
        first += n_rows * n_cols;
        let n_at_once = (CHUNK_LEN / n_cols.max(1)).max(1);
        (0..n_rows).step_by(n_at_once).map(move |row| {
            let rows = row..(row + n_at_once).min(n_rows);
            Chunk { tensor, piece, rows, first: start + row * n_cols }
        })
    })
}

/// What comes of a chunk.
type Bytes = Result<Vec<u8>, ConvertError>;

/// The converted chunks of all tensors, as the threads make them.
pub(crate) struct Converted<'a, F> {
    /// Chunks that have not been handed out.
    waiting: Box<dyn Iterator<Item = (usize, Chunk<'a>)> + 'a>,
    to_threads: Sender<(usize, Chunk<'a>)>,
    from_threads: Receiver<(usize, Bytes)>,
    /// What came before its turn, by number.
    early: BTreeMap<usize, Bytes>,
    /// The number of the chunk whose turn it is.
    next: usize,
    progress: Progress<F>,
}

impl<F: FnMut(u64, u64) -> ControlFlow<()>> Converted<'_, F> {
    /// The bytes of a tensor, piece by piece; tensors have to be asked for in their order. After an error there is no other piece.
    pub(crate) fn of<'b>(&'b mut self, tensor: &'b OutputTensor) -> impl Iterator<Item = Bytes> + 'b {
        let mut has_failed = false;
        chunks(tensor).map_while(move |_| {
            if has_failed {
                return None;
            }
            let bytes = self.take();
            has_failed = bytes.is_err();
            Some(bytes)
        })
    }

    /// Hands the next chunk out, if there is one.
    fn hand_out(&mut self) {
        if let Some(chunk) = self.waiting.next() {
            // Threads end before this value only if they panic, of which the next result tells.
            let _ = self.to_threads.send(chunk);
        }
    }

    fn take(&mut self) -> Bytes {
        let bytes = loop {
            match self.early.remove(&self.next) {
                Some(bytes) => break bytes?,
                None => {
                    // A thread that panics says so, and its scope passes that on.
                    let (number, bytes) = self.from_threads.recv().map_err(|_| ConvertError::Cancelled)?;
                    self.early.insert(number, bytes);
                }
            }
        };
        self.next += 1;
        self.hand_out();
        self.progress.advance(bytes.len())?;
        Ok(bytes)
    }
}

/// A chunk that a thread converts. If the thread panics, the caller's must not wait for it.
struct Promise {
    number: usize,
    results: Sender<(usize, Bytes)>,
}

impl Drop for Promise {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.results.send((self.number, Err(ConvertError::Cancelled)));
        }
    }
}

/// Converts all tensors with this many threads, while `consume` takes the chunks. What it does not take is not converted.
pub(crate) fn convert_all<'a, R, F: FnMut(u64, u64) -> ControlFlow<()>>(
    file: &ModelFile,
    tensors: &'a [OutputTensor],
    n_threads: usize,
    on_progress: F,
    consume: impl FnOnce(&mut Converted<'a, F>) -> R,
) -> R {
    let n_threads = n_threads.max(1);
    let total_n_bytes = tensors.iter().filter_map(OutputTensor::n_bytes).sum();
    let progress = Progress { n_bytes: 0, total_n_bytes, on_progress };
    let (to_threads, work) = channel::<(usize, Chunk)>();
    let (results, from_threads) = channel();
    let work = Mutex::new(work);
    std::thread::scope(|scope| {
        for _ in 0..n_threads {
            let (work, results) = (&work, results.clone());
            scope.spawn(move || {
                loop {
                    let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    // The channels close when nothing more is wanted.
                    let Ok((number, chunk)) = next else { return };
                    let _promise = Promise { number, results: results.clone() };
                    if results.send((number, convert(file, &chunk))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let waiting = Box::new(tensors.iter().flat_map(chunks).enumerate());
        let mut converted = Converted { waiting, to_threads, from_threads, early: BTreeMap::new(), next: 0, progress };
        (0..N_AHEAD * n_threads).for_each(|_| converted.hand_out());
        let result = consume(&mut converted);
        // This closes the channels, which ends the threads.
        drop(converted);
        result
    })
}

/// The rows of a chunk in the tensor's type.
fn convert(file: &ModelFile, chunk: &Chunk) -> Bytes {
    let tensor = chunk.tensor;
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
        | DType::IQ4_XS
        | DType::IQ2_XXS
        | DType::IQ2_XS
        | DType::IQ2_S
        | DType::IQ3_XXS
        | DType::IQ3_S
        | DType::IQ1_S
        | DType::IQ1_M => (65_504.0, "keep this tensor as it is with --tensor NAME=BF16 or --tensor NAME=F32"),
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
