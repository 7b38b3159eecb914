//! `anser quantize --size` and `--target-kl`: a mix of types of its own for a model.
//!
//! The cost of a matrix in a type is its relative error times how much the model's distributions feel such an error. The latter is
//! measured: the model is run with the matrix in one type and all others as they are. Divergences are nearly proportional to the
//! squares of errors and add up nearly, so one run a matrix says what each of its types costs.

use crate::args::{MixArgs, QuantizeArgs, load, not_run};
use crate::input;
use crate::interrupt;
use crate::output::Output as Standard;
use crate::report::Failure;
use crate::term::{Progress, note};
use anser::{Calibration, CancelToken, InputSquares, Model, Weight};
use anser_convert::{
    Candidate, FileType, ImportanceMatrix, Output, QuantizeOptions, TensorErrors, bounds, choose_for_cost,
};
use anser_format::DType;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// The tokens of a piece of the calibration text.
const PIECE_LEN: usize = 256;
/// The most tokens that an importance matrix is made of where none is given.
const MATRIX_N_TOKENS: usize = 16 << 10;
/// The most bands of layers: matrices of one kind in one band are measured together.
const MAX_N_BANDS: usize = 8;
/// The share of the cost of a mix from which a matrix is measured in each type that it may get, and how often that is repeated for
/// another mix.
const LARGE_SHARE: f64 = 0.05;
const N_REFINEMENTS: usize = 4;
/// Up to how many times the cost of the best mix by single measurements one of llama-quantize's is measured beside it.
const MAY_BE_BETTER: f64 = 1.5;
/// How often a mix for --target-kl is measured and corrected.
const N_CORRECTIONS: usize = 8;
/// The share of --target-kl from which a mix is near enough to it.
const NEAR_ENOUGH: f64 = 0.95;

/// The mix that was chosen.
pub(crate) struct Chosen {
    json: bool,
    report: Report,
}

/// The JSON object that `--json` prints; the help describes it.
#[derive(Serialize)]
struct Report {
    n_bytes: u64,
    expected_kl: Option<f64>,
    measured_kl: Option<f64>,
    types: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    r#type: &'static str,
    relative_error: f64,
    cost: f64,
}

impl Chosen {
    /// Prints it.
    pub(crate) fn tell(&self) -> Result<(), Failure> {
        let Report { n_bytes, measured_kl, types, .. } = &self.report;
        if self.json {
            return Standard::new().write_json(&self.report);
        }
        let mut of_type: BTreeMap<&str, usize> = BTreeMap::new();
        types.iter().for_each(|row| *of_type.entry(row.r#type).or_default() += 1);
        let list: Vec<String> = of_type.iter().map(|(dtype, n)| format!("{dtype} {n}")).collect();
        let kl =
            measured_kl.map_or(String::new(), |kl| format!("; KL divergence {kl:.3e} nats on the calibration text"));
        Standard::new().write(format!("{n_bytes} bytes; matrices: {}{kl}\n", list.join(", ")))
    }
}

/// Chooses the types of a mix and gives them to `output`.
pub(super) fn choose(
    args: &QuantizeArgs,
    output: &mut Output,
    matrix: Option<ImportanceMatrix>,
) -> Result<Chosen, Failure> {
    if !args.rules.is_empty() {
        return Err(Failure::Usage(
            "--tensor: a mix of its own chooses every type; leave --tensor out, or say --type".into(),
        ));
    }
    let cancel = CancelToken::default();
    let _armed = interrupt::arm(&cancel);
    let text = match &args.mix.calibrate {
        None => None,
        Some(file) => Some(Text::open(args, file)?),
    };
    let matrix = match (matrix, &text) {
        (Some(matrix), _) => Some(matrix),
        (None, Some(text)) => Some(text.importance(&args.mix, &cancel)?),
        (None, None) => None,
    };
    if let Some(matrix) = &matrix {
        output.set_importance(matrix)?;
    }
    check_source(args, output)?;
    let mut progress = Progress::new("measuring errors, matrices");
    let errors = output.quantization_errors(|done, total| {
        progress.update(done, total);
        go_on(&cancel)
    })?;
    drop(progress);
    let mut mixer = Mixer {
        output,
        matrix: matrix.as_ref(),
        cancel: &cancel,
        errors,
        factors: vec![],
        measured: BTreeMap::new(),
        calibration: None,
    };
    match &text {
        None => mixer.factors = usual_factors(&mixer.errors),
        Some(text) => mixer.calibrate(text, &args.mix)?,
    }
    let (types, measured_kl) = match (args.mix.size, args.mix.target_kl) {
        (Some(limit), _) => mixer.within(limit)?,
        (None, Some(target)) => mixer.reaching(target)?,
        (None, None) => return Err(Failure::Usage("--size or --target-kl is needed".into())),
    };
    let report = mixer.report(&types, measured_kl)?;
    output.assign(&types, matrix.as_ref())?;
    Ok(Chosen { json: args.mix.json, report })
}

fn go_on(cancel: &CancelToken) -> ControlFlow<()> {
    if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Refuses a source that is quantized already, unless the user allows it.
fn check_source(args: &QuantizeArgs, output: &Output) -> Result<(), Failure> {
    match output.quantizable().find(|tensor| tensor.dtype().is_quantized()) {
        Some(tensor) if !args.allow_requantize => Err(Failure::about(
            args.paths.input.display(),
            format!(
                "tensor {} is {} already, and quantizing it would add a second error to the first; start from the model in F16, BF16 or F32, or \
                 allow it with --allow-requantize",
                tensor.name(),
                tensor.dtype()
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// The calibration text, and the model that reads it.
struct Text {
    model: Model,
    name: String,
    tokens: Vec<u32>,
}

impl Text {
    fn open(args: &QuantizeArgs, file: &std::path::Path) -> Result<Text, Failure> {
        let text = input::file(file)?;
        let options = match args.vocab.vocab.as_deref().filter(|vocab| vocab.as_os_str() != "none") {
            None => not_run(),
            Some(vocab) => anser::Options { vocabulary: Some(vocab.into()), ..not_run() },
        };
        let model = load(&args.paths.input, &options)?;
        let tokens = model.encode(&text)?;
        if tokens.len() < 2 {
            let found = tokens.len();
            return Err(Failure::about(
                file.display(),
                format!("a calibration needs at least 2 tokens, found {found}"),
            ));
        }
        Ok(Text { model, name: file.to_string_lossy().into_owned(), tokens })
    }

    /// Pieces of the text with about `n_tokens` tokens together, at even distances.
    fn pieces(&self, n_tokens: usize) -> Vec<&[u32]> {
        let all: Vec<&[u32]> = self.tokens.chunks(PIECE_LEN).collect();
        let n = n_tokens.div_ceil(PIECE_LEN).min(all.len());
        let piece_len = n_tokens.min(PIECE_LEN);
        (0..n).map(|i| all[i * all.len() / n]).map(|piece| &piece[..piece.len().min(piece_len)]).collect()
    }

    /// An importance matrix of this text.
    fn importance(&self, args: &MixArgs, cancel: &CancelToken) -> Result<ImportanceMatrix, Failure> {
        let mut squares = InputSquares::new(&self.model, args.threads)?;
        let pieces = self.pieces(MATRIX_N_TOKENS.min(8 * args.calibrate_tokens));
        let mut progress = Progress::new("measuring importance, pieces");
        for (done, piece) in pieces.iter().enumerate() {
            if cancel.is_cancelled() {
                return Err(Failure::Interrupted);
            }
            progress.update(done, pieces.len());
            squares.read(piece)?;
        }
        let mut matrix = ImportanceMatrix::of_text(&self.name, &self.name, PIECE_LEN as u32);
        matrix.add_sums(squares.sums().into_iter().map(|sums| (sums.name, sums.sums, sums.n_rows)))?;
        matrix.add_chunks(pieces.len() as u32);
        Ok(matrix)
    }
}

/// Types for matrices, by name.
type Types = Vec<(String, DType)>;

/// What is known while a mix is chosen.
struct Mixer<'a> {
    output: &'a Output,
    matrix: Option<&'a ImportanceMatrix>,
    cancel: &'a CancelToken,
    errors: Vec<TensorErrors>,
    /// For each matrix, the cost of a relative squared error of 1.
    factors: Vec<f64>,
    /// Costs that were measured in the very type, by the number of the matrix.
    measured: BTreeMap<(usize, &'static str), f64>,
    calibration: Option<Calibration>,
}

impl Mixer<'_> {
    /// Measures the factors: for each group of matrices, how far the model's distributions are with the group in a type of few bits.
    fn calibrate(&mut self, text: &Text, args: &MixArgs) -> Result<(), Failure> {
        let mut progress = Progress::new("reading the calibration text");
        let pieces = text.pieces(args.calibrate_tokens);
        let calibration = Calibration::new(&text.model, &pieces, args.threads, |done, total| {
            progress.update(done, total);
            go_on(self.cancel)
        })?;
        drop(progress);
        let groups = groups(&self.errors, text.model.config().n_layer);
        let mut progress = Progress::new("measuring matrices, tokens");
        self.factors = vec![0.0; self.errors.len()];
        for (done, group) in groups.values().enumerate() {
            let types: Types = group.iter().map(|&i| (self.errors[i].name.clone(), probe(&self.errors[i]))).collect();
            let error: f64 = group.iter().map(|&i| error_of(&self.errors[i], probe(&self.errors[i]))).sum();
            let weights = self.weights(&types)?;
            let total = groups.len() * calibration.n_tokens();
            let divergence = calibration.divergence(&weights, |read, _| {
                progress.update(done * calibration.n_tokens() + read, total);
                go_on(self.cancel)
            })?;
            let factor = if error > 0.0 { divergence.mean() / error } else { 0.0 };
            group.iter().for_each(|&i| self.factors[i] = factor);
        }
        self.calibration = Some(calibration);
        Ok(())
    }

    /// Matrices in these types, in memory.
    fn weights(&self, types: &[(String, DType)]) -> Result<Vec<Weight>, Failure> {
        let mut weights = vec![];
        for (name, dtype) in types {
            if self.cancel.is_cancelled() {
                return Err(Failure::Interrupted);
            }
            let source = self.output.quantizable().find(|tensor| tensor.name() == name);
            if source.is_some_and(|tensor| tensor.source_dtype() == *dtype) {
                continue;
            }
            weights.push(self.output.quantized_weight(name, *dtype)?);
        }
        Ok(weights)
    }

    /// How far the model's distributions are with all matrices in these types, if there is a calibration text.
    fn measure(&self, types: &[(String, DType)]) -> Result<Option<f64>, Failure> {
        let Some(calibration) = &self.calibration else { return Ok(None) };
        let weights = self.weights(types)?;
        let mut progress = Progress::new("measuring the mix, tokens");
        let divergence = calibration.divergence(&weights, |done, total| {
            progress.update(done, total);
            go_on(self.cancel)
        })?;
        Ok(Some(divergence.mean()))
    }

    /// The bytes of the file without its matrices.
    fn n_other_bytes(&self) -> Result<u64, Failure> {
        let matrices = self.errors.iter().map(|tensor| {
            let own = self.output.quantizable().find(|own| own.name() == tensor.name);
            own.and_then(|own| own.n_bytes()).map_or(0, |n_bytes| n_bytes.next_multiple_of(32))
        });
        Ok(self.described()?.file_n_bytes()? - matrices.sum::<u64>())
    }

    /// The output with the metadata of a mix, whose length does not depend on the types.
    fn described(&self) -> Result<Output, Failure> {
        let mut described = self.output.clone();
        described.assign(&[], self.matrix)?;
        Ok(described)
    }

    fn candidates(&self) -> Vec<Vec<Candidate>> {
        let of = |(i, tensor): (usize, &TensorErrors)| {
            let candidate =
                |&(dtype, n_bytes, _): &(DType, u64, f64)| Candidate { dtype, n_bytes, cost: self.cost_of(i, dtype) };
            tensor.of_types.iter().map(candidate).collect()
        };
        self.errors.iter().enumerate().map(of).collect()
    }

    /// The best mix whose matrices have at most `limit` bytes; `None` if none has.
    fn best(&self, limit: u64) -> Option<Types> {
        let candidates = self.candidates();
        let choice = anser_convert::choose(&candidates, limit)?;
        Some(self.types_of(&candidates, &choice))
    }

    /// The types of a choice.
    fn types_of(&self, candidates: &[Vec<Candidate>], choice: &[usize]) -> Types {
        let chosen = self.errors.iter().zip(candidates).zip(choice);
        chosen.map(|((tensor, candidates), &number)| (tensor.name.clone(), candidates[number].dtype)).collect()
    }

    fn cost(&self, types: &[(String, DType)]) -> f64 {
        types.iter().enumerate().map(|(i, (_, dtype))| self.cost_of(i, *dtype)).sum()
    }

    /// What matrix `i` costs in a type: as measured, or in proportion to its error.
    fn cost_of(&self, i: usize, dtype: DType) -> f64 {
        let measured = self.measured.get(&(i, dtype.name())).copied();
        measured.unwrap_or_else(|| self.factors[i] * error_of(&self.errors[i], dtype))
    }

    /// The best mix whose matrices have at most `limit` bytes, where those that cost most of all are measured by themselves in their types
    /// and the neighbouring ones, until nothing new is to be measured; `None` if none has so few bytes.
    fn refined(&mut self, limit: u64) -> Result<Option<Types>, Failure> {
        for _ in 0..N_REFINEMENTS {
            let Some(types) = self.best(limit) else { return Ok(None) };
            let Some(calibration) = &self.calibration else { return Ok(Some(types)) };
            let total = self.cost(&types);
            let mut wanted = vec![];
            for (i, (name, dtype)) in types.iter().enumerate() {
                if self.cost_of(i, *dtype) < LARGE_SHARE * total {
                    continue;
                }
                let candidates = &self.errors[i].of_types;
                let at = candidates.iter().position(|(other, ..)| other == dtype).unwrap_or(0);
                let near = candidates[at.saturating_sub(1)..].iter().take(3).map(|&(dtype, ..)| dtype);
                let new = near.filter(|dtype| dtype.is_quantized() && !self.measured.contains_key(&(i, dtype.name())));
                wanted.extend(new.map(|dtype| (i, name.clone(), dtype)));
            }
            if wanted.is_empty() {
                return Ok(Some(types));
            }
            let mut progress = Progress::new("measuring large costs, tokens");
            let (n_tokens, n_wanted) = (calibration.n_tokens(), wanted.len());
            let mut costs = vec![];
            for (done, (i, name, dtype)) in wanted.into_iter().enumerate() {
                let weights = self.weights(&[(name, dtype)])?;
                let divergence = calibration.divergence(&weights, |read, _| {
                    progress.update(done * n_tokens + read, n_wanted * n_tokens);
                    go_on(self.cancel)
                })?;
                costs.push(((i, dtype.name()), divergence.mean()));
            }
            self.measured.extend(costs);
        }
        Ok(self.best(limit))
    }

    /// The mix for a file of at most `limit` bytes, and its measured divergence. llama-quantize's largest mix that fits is measured beside it if
    /// it may be as good, and the better one wins.
    fn within(&mut self, limit: u64) -> Result<(Types, Option<f64>), Failure> {
        let n_other = self.n_other_bytes()?;
        let best = limit.checked_sub(n_other).map(|room| self.refined(room)).transpose()?.flatten();
        let Some(types) = best else {
            let [least, most] = bounds(&self.candidates()).map(|n_bytes| n_bytes + n_other);
            return Err(Failure::Usage(format!(
                "--size {limit}: the smallest file of this model has {least} bytes; ask for {least} to {most}"
            )));
        };
        let Some(kl) = self.measure(&types)? else { return Ok((types, None)) };
        let Some(usual) = self.usual_mix(limit)? else { return Ok((types, Some(kl))) };
        if self.cost(&usual) < MAY_BE_BETTER * self.cost(&types)
            && let Some(of_usual) = self.measure(&usual)?
            && of_usual < kl
        {
            note(
                "A mix of llama-quantize's has a smaller divergence on the calibration text than that by single measurements, and is taken.",
            );
            return Ok((usual, Some(of_usual)));
        }
        Ok((types, Some(kl)))
    }

    /// The largest of llama-quantize's mixes that fits, of those whose types have been measured.
    fn usual_mix(&self, limit: u64) -> Result<Option<Types>, Failure> {
        let mut largest: Option<(u64, Types)> = None;
        for file_type in FileType::ALL {
            let mut output = self.output.clone();
            let options = QuantizeOptions { file_type, matrix: self.matrix, rules: &[], allow_requantize: true };
            if !file_type.dtype().is_quantized() || output.quantize(&options).is_err() {
                continue;
            }
            let types: Types = output.quantizable().map(|tensor| (tensor.name().to_owned(), tensor.dtype())).collect();
            let is_measured = |(tensor, (_, dtype)): (&TensorErrors, &(String, DType))| {
                tensor.of_types.iter().any(|(other, ..)| other == dtype)
            };
            let n_bytes = output.file_n_bytes()?;
            if n_bytes <= limit
                && self.errors.iter().zip(&types).all(is_measured)
                && largest.as_ref().is_none_or(|(most, _)| n_bytes > *most)
            {
                largest = Some((n_bytes, types));
            }
        }
        Ok(largest.map(|(_, types)| types))
    }

    /// The smallest mix whose divergence is measured to be at most `target`. The measurements of single matrices say where it is about;
    /// measuring whole mixes corrects that.
    fn reaching(&self, target: f64) -> Result<(Types, Option<f64>), Failure> {
        let candidates = self.candidates();
        let [_, best] = bounds(&candidates);
        let mut found: Option<(u64, Types, f64)> = None;
        // What the sum of the matrices' costs may be: less than `too_much`, and more than what has been good already.
        let (mut allowed, mut good, mut too_much) = (target, 0.0f64, f64::INFINITY);
        for _ in 0..N_CORRECTIONS {
            let Some(choice) = choose_for_cost(&candidates, allowed) else { break };
            let types = self.types_of(&candidates, &choice);
            let Some(kl) = self.measure(&types)? else { break };
            let n_bytes: u64 = candidates.iter().zip(&choice).map(|(matrix, &number)| matrix[number].n_bytes).sum();
            let cost = self.cost(&types);
            if kl > target {
                too_much = too_much.min(allowed);
            } else {
                good = good.max(allowed);
                if found.as_ref().is_none_or(|(least, ..)| n_bytes < *least) {
                    found = Some((n_bytes, types, kl));
                }
                if kl > NEAR_ENOUGH * target {
                    break;
                }
            }
            let next = cost * target / kl.max(f64::MIN_POSITIVE);
            let next = if next > good && next < too_much { next } else { (good + too_much.min(4.0 * target)) / 2.0 };
            if next == allowed {
                break;
            }
            allowed = next;
        }
        if let Some((_, types, kl)) = found {
            return Ok((types, Some(kl)));
        }
        // The best mix, which is the source itself where that is not quantized.
        let types = self.best(best);
        let measured = types.as_ref().map(|types| self.measure(types)).transpose()?.flatten();
        match (types, measured) {
            (Some(types), Some(kl)) if kl <= target => Ok((types, Some(kl))),
            (_, measured) => Err(Failure::Usage(format!(
                "--target-kl {target}: the best mix of this model has a divergence of {:.3e} nats; ask for more",
                measured.unwrap_or(f64::NAN)
            ))),
        }
    }

    fn report(&self, types: &[(String, DType)], measured_kl: Option<f64>) -> Result<Report, Failure> {
        let mut output = self.output.clone();
        output.assign(types, self.matrix)?;
        let of = |(i, (name, dtype)): (usize, &(String, DType))| Row {
            name: name.clone(),
            r#type: dtype.name(),
            relative_error: error_of(&self.errors[i], *dtype).sqrt(),
            cost: self.cost_of(i, *dtype),
        };
        Ok(Report {
            n_bytes: output.file_n_bytes()?,
            expected_kl: self.calibration.as_ref().map(|_| self.cost(types)),
            measured_kl,
            types: types.iter().enumerate().map(of).collect(),
        })
    }
}

/// The type in which a matrix is measured: the fourth smallest, whose errors are large enough to be seen and small enough to be felt
/// in proportion.
fn probe(tensor: &TensorErrors) -> DType {
    let quantized = tensor.of_types.iter().filter(|(dtype, ..)| dtype.is_quantized());
    quantized.take(4).last().or(tensor.of_types.first()).map_or(DType::F16, |&(dtype, ..)| dtype)
}

/// The relative squared error of a matrix in a type.
fn error_of(tensor: &TensorErrors, dtype: DType) -> f64 {
    tensor.of_types.iter().find(|(other, ..)| *other == dtype).map_or(0.0, |&(.., error)| error)
}

/// The layer of a matrix by its name in GGUF, and the rest of the name; `None` outside of the layers.
fn in_layer(name: &str) -> Option<(usize, &str)> {
    let (layer, name) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse().ok()?, name))
}

/// What relative squared errors cost where nothing is measured: those of a kind of matrices in all layers together 1, those of the head and of the
/// embedding what they were measured to cost beside that with the demo model.
fn usual_factors(errors: &[TensorErrors]) -> Vec<f64> {
    const HEAD: f64 = 2.7;
    const EMBEDDING: f64 = 1.8;
    let layers = errors.iter().filter_map(|tensor| in_layer(&tensor.name));
    let n_layers = layers.map(|(layer, _)| layer + 1).max().unwrap_or(1) as f64;
    let of = |tensor: &TensorErrors| match (&tensor.name[..], in_layer(&tensor.name)) {
        (_, Some(_)) => 1.0 / n_layers,
        ("output.weight", None) => HEAD,
        (_, None) => EMBEDDING,
    };
    errors.iter().map(of).collect()
}

/// Matrices that are measured together: those of one name in neighbouring layers, at most [`MAX_N_BANDS`] groups a name.
fn groups(errors: &[TensorErrors], n_layer: usize) -> BTreeMap<(usize, String), Vec<usize>> {
    let mut groups: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
    for (i, tensor) in errors.iter().enumerate() {
        let key = match in_layer(&tensor.name) {
            Some((layer, name)) => (1 + layer * MAX_N_BANDS.min(n_layer.max(1)) / n_layer.max(1), name.to_owned()),
            None => (0, tensor.name.clone()),
        };
        groups.entry(key).or_default().push(i);
    }
    groups
}
