//! Heads of embedding models: what EmbeddingRWKV makes of a pooled row for a task.
//!
//! ```text
//! e = LN(p + fc2 · relu(fc1 · p); norm)
//! ```

use crate::error::Error;
use anser_format::quant::dequantize;
use anser_format::{ModelFile, Tensor};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

/// The token that EmbeddingRWKV was trained to pool at: it ends every chunk of a text.
pub(crate) const END_OF_CHUNK: u32 = 65_535;
/// The most tokens of a chunk, as the model's authors cut texts.
pub(crate) const CHUNK_LEN: usize = 512;
/// The epsilon of the heads' norms.
const EPSILON: f64 = 1e-5;

/// The task that an embedding is for, which an embedding model has a head for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskHead {
    /// Classification.
    Cls,
    /// Similarity of texts.
    Sts,
    /// Retrieval: which texts answer a question.
    Retr,
}

impl TaskHead {
    /// All heads.
    pub const ALL: [TaskHead; 3] = [TaskHead::Cls, TaskHead::Sts, TaskHead::Retr];

    /// `cls`, `sts` or `retr`.
    pub fn name(self) -> &'static str {
        match self {
            TaskHead::Cls => "cls",
            TaskHead::Sts => "sts",
            TaskHead::Retr => "retr",
        }
    }
}

impl FromStr for TaskHead {
    type Err = Error;

    fn from_str(text: &str) -> Result<TaskHead, Error> {
        let found = TaskHead::ALL.into_iter().find(|head| head.name() == text);
        let reason = || format!("{text:?} is none of cls, sts, retr");
        found.ok_or_else(|| Error::Option { option: "head", reason: reason() })
    }
}

/// The heads in a model's file.
#[derive(Debug, Default)]
pub(crate) struct Heads(Vec<(TaskHead, Head)>);

/// One head: its tensors, and their numbers once they are needed.
#[derive(Debug)]
struct Head {
    tensors: [Tensor; 4],
    weights: OnceLock<Weights>,
}

#[derive(Debug)]
struct Weights {
    /// `[C, C]`
    fc1: Vec<f32>,
    /// `[C, C]`
    fc2: Vec<f32>,
    /// `[C]`
    norm_weight: Vec<f32>,
    /// `[C]`
    norm_bias: Vec<f32>,
}

impl Heads {
    /// The heads in `file`, whose model has rows of `n_embd` numbers.
    ///
    /// # Errors
    /// A head that lacks a tensor, or has one of another shape.
    pub(crate) fn of(file: &Arc<ModelFile>, n_embd: usize) -> Result<Heads, Error> {
        let mut heads = vec![];
        for task in TaskHead::ALL {
            let prefix = format!("head.{}_head.", task.name());
            if file.tensors().all(|info| !info.name.starts_with(&prefix)) {
                continue;
            }
            let tensor = |part: &str, shape: &[usize]| tensor(file, &format!("{prefix}{part}"), shape);
            let tensors = [
                tensor("fc1.weight", &[n_embd, n_embd])?,
                tensor("fc2.weight", &[n_embd, n_embd])?,
                tensor("norm.weight", &[n_embd])?,
                tensor("norm.bias", &[n_embd])?,
            ];
            heads.push((task, Head { tensors, weights: OnceLock::new() }));
        }
        Ok(Heads(heads))
    }

    /// The tasks that there are heads for.
    pub(crate) fn tasks(&self) -> impl ExactSizeIterator<Item = TaskHead> {
        self.0.iter().map(|(task, _)| *task)
    }

    /// What the head of `task` makes of a pooled row; `None` if there is none.
    ///
    /// # Errors
    /// If the head's tensors cannot be read.
    pub(crate) fn apply(&self, task: TaskHead, pooled: &[f32]) -> Result<Option<Vec<f32>>, Error> {
        let head = self.0.iter().find(|(other, _)| *other == task);
        head.map(|(_, head)| Ok(head.weights()?.apply(pooled))).transpose()
    }
}

impl Head {
    fn weights(&self) -> Result<&Weights, Error> {
        if let Some(weights) = self.weights.get() {
            return Ok(weights);
        }
        let [fc1, fc2, norm_weight, norm_bias] = self.tensors.each_ref().map(numbers);
        let weights = Weights { fc1: fc1?, fc2: fc2?, norm_weight: norm_weight?, norm_bias: norm_bias? };
        Ok(self.weights.get_or_init(|| weights))
    }
}

impl Weights {
    fn apply(&self, pooled: &[f32]) -> Vec<f32> {
        let hidden: Vec<f32> = products(&self.fc1, pooled).map(|x| x.max(0.0)).collect();
        let row: Vec<f64> =
            products(&self.fc2, &hidden).zip(pooled).map(|(x, &p)| f64::from(x) + f64::from(p)).collect();
        let n = row.len() as f64;
        let mean = row.iter().sum::<f64>() / n;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let scale = 1.0 / (variance + EPSILON).sqrt();
        let affine = self.norm_weight.iter().zip(&self.norm_bias);
        row.iter().zip(affine).map(|(x, (w, b))| ((x - mean) * scale * f64::from(*w) + f64::from(*b)) as f32).collect()
    }
}

/// The tensor `name` of `file`, which must have `shape`.
pub(crate) fn tensor(file: &Arc<ModelFile>, name: &str, shape: &[usize]) -> Result<Tensor, Error> {
    let (file_name, tensor) = (file.name().to_owned(), name.to_owned());
    let Some(info) = file.info(name) else {
        return Err(anser_model::ModelError::MissingTensor { file: file_name, tensor }.into());
    };
    let Some(found) = file.tensor(name) else {
        return Err(anser_model::ModelError::Type { file: file_name, tensor, found: info.stored.name().into() }.into());
    };
    if info.shape != shape {
        let (expected, found) = (format!("{shape:?}"), info.shape.to_vec());
        return Err(anser_model::ModelError::Shape { file: file_name, tensor, expected, found }.into());
    }
    Ok(found)
}

/// The elements of a tensor.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    let mut numbers = vec![0.0; tensor.shape().iter().product()];
    dequantize(tensor.dtype(), &tensor.read()?, &mut numbers);
    Ok(numbers)
}

/// The products of a matrix's rows, each as long as `x`, with `x`.
pub(crate) fn products(matrix: &[f32], x: &[f32]) -> impl Iterator<Item = f32> {
    matrix.chunks_exact(x.len().max(1)).map(|row| {
        // Several sums at a time, which the compiler computes in one register.
        const LANES: usize = 16;
        let (rows, row_rest) = row.as_chunks::<LANES>();
        let (xs, x_rest) = x.as_chunks::<LANES>();
        let mut sums = [0.0f32; LANES];
        for (row, x) in rows.iter().zip(xs) {
            (0..LANES).for_each(|i| sums[i] += row[i] * x[i]);
        }
        let rest: f32 = row_rest.iter().zip(x_rest).map(|(a, b)| a * b).sum();
        sums.iter().sum::<f32>() + rest
    })
}
