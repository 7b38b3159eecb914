//! How far a model's weights are from those of another file of it: what quantizing has cost.

use crate::error::Error;
use crate::model::Model;
use anser_format::DType;
use anser_format::quant::dequantize;
use anser_model::{Config, Version, Weight};
use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::channel;

/// The number of elements that are read at a time.
const CHUNK_LEN: usize = 1 << 18;

/// How far a weight is from that of another file.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightError {
    /// BlinkDL's name, e.g. `blocks.3.att.key.weight`.
    pub name: String,
    /// Rows and columns; a vector has one row.
    pub shape: [usize; 2],
    /// How the first model's file stores it.
    pub dtype_a: DType,
    /// How the second one's does.
    pub dtype_b: DType,
    /// √(Σ (b − a)² / Σ a²); 0 if all numbers are equal, infinite if only those of the first are all 0.
    pub relative: f64,
}

/// The errors of all weights that two models have.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WeightErrors {
    /// Weights of equal names and shapes, in the order of the first model's plan.
    pub errors: Vec<WeightError>,
    /// Names of weights that only one model has, or that have other shapes.
    pub unmatched: Vec<String>,
}

impl Model {
    /// Compares the weights of `other` with this model's, on all cores. `progress(read, total)`, in weights, may end the call.
    ///
    /// # Errors
    /// If a file cannot be read; [`Error::Cancelled`] if `progress` returned `Break`.
    pub fn weight_errors(
        &self,
        other: &Model,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<WeightErrors, Error> {
        let (mut pairs, unmatched) = pairs(self, other);
        let total = pairs.len();
        // The largest ones first, so that no thread begins one when the others are done.
        pairs.sort_by_key(|pair| std::cmp::Reverse(pair.a.n_rows() * pair.a.n_cols()));
        let work = Mutex::new(pairs.into_iter());
        let (results, done) = channel();
        let n_threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut errors = std::thread::scope(|scope| {
            for _ in 0..n_threads {
                let (work, results) = (&work, results.clone());
                scope.spawn(move || {
                    loop {
                        let next = work.lock().unwrap_or_else(PoisonError::into_inner).next();
                        let Some(pair) = next else { return };
                        if results.send(pair.error()).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(results);
            let mut errors = vec![];
            for error in &done {
                errors.push(error?);
                if progress(errors.len(), total).is_break() && errors.len() < total {
                    return Err(Error::Cancelled);
                }
            }
            Ok(errors)
        })?;
        errors.sort_by_key(|(place, _)| *place);
        Ok(WeightErrors { errors: errors.into_iter().map(|(_, error)| error).collect(), unmatched })
    }
}

/// Two weights that stand for the same.
struct Pair {
    /// The number of the weight in the first model's plan.
    place: usize,
    a: Weight,
    b: Weight,
    /// What the second one's numbers are multiplied with.
    factor: f32,
}

/// The weights that both models have, and the names of those that only one has. Matrices that a file stacks share a name, so the
/// number of the weight among those of its name counts, too.
fn pairs(a: &Model, b: &Model) -> (Vec<Pair>, Vec<String>) {
    let by_name = |model: &Model| {
        let mut by_name: BTreeMap<(String, usize), (usize, Weight)> = BTreeMap::new();
        for (place, weight) in model.plan().weights.iter().enumerate() {
            let mut number = 0;
            while by_name.contains_key(&(weight.name().to_owned(), number)) {
                number += 1;
            }
            by_name.insert((weight.name().to_owned(), number), (place, weight.clone()));
        }
        by_name
    };
    let (mut pairs, mut unmatched) = (vec![], vec![]);
    let mut of_b = by_name(b);
    for (key, (place, weight)) in by_name(a) {
        match of_b.remove(&key) {
            Some((_, other)) if other.n_rows() == weight.n_rows() && other.n_cols() == weight.n_cols() => {
                let factor = stored_smaller_by(b.config(), &key.0) / stored_smaller_by(a.config(), &key.0);
                pairs.push(Pair { place, a: weight, b: other, factor });
            }
            _ => unmatched.push(key.0),
        }
    }
    unmatched.extend(of_b.into_keys().map(|(name, _)| name));
    unmatched.sort();
    unmatched.dedup();
    (pairs, unmatched)
}

/// By how much a matrix is stored smaller: llama.cpp's converter halves two of RWKV-6 after every few layers, and what reads them knows it.
fn stored_smaller_by(config: &Config, name: &str) -> f32 {
    let layer = name.strip_prefix("blocks.").and_then(|name| name.split_once('.'));
    let exponent = match layer {
        Some((layer, "att.output.weight" | "ffn.value.weight")) if config.version == Version::V6 => {
            layer.parse::<usize>().unwrap_or(0).checked_div(config.rescale_every).unwrap_or(0)
        }
        _ => 0,
    };
    (exponent as f32).exp2()
}

impl Pair {
    fn error(&self) -> Result<(usize, WeightError), Error> {
        let [n_rows, n_cols] = [self.a.n_rows(), self.a.n_cols()];
        let n_at_once = (CHUNK_LEN / n_cols.max(1)).max(1);
        let (mut squares, mut differences) = (0.0f64, 0.0f64);
        for first in (0..n_rows).step_by(n_at_once) {
            let rows = first..(first + n_at_once).min(n_rows);
            let numbers = |weight: &Weight| {
                let mut scratch = vec![];
                let stored = weight.fetch_rows(rows.clone(), &mut scratch)?;
                let mut numbers = vec![0.0; rows.len() * n_cols];
                dequantize(weight.dtype(), stored, &mut numbers);
                Ok::<Vec<f32>, Error>(numbers)
            };
            for (a, b) in numbers(&self.a)?.into_iter().zip(numbers(&self.b)?) {
                let (a, b) = (f64::from(a), f64::from(b) * f64::from(self.factor));
                squares += a * a;
                differences += (b - a) * (b - a);
            }
        }
        let relative = if differences == 0.0 { 0.0 } else { (differences / squares).sqrt() };
        let (dtype_a, dtype_b, name) = (self.a.dtype(), self.b.dtype(), self.a.name().to_owned());
        Ok((self.place, WeightError { name, shape: [n_rows, n_cols], dtype_a, dtype_b, relative }))
    }
}
