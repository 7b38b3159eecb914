//! Drawing tokens on the device: the kernels that go from logits to a token, and the memory between them.
//!
//! Every kernel works on rows `[O, V]`, one sequence each. `scan` counts the last token and applies bias and penalties;
//! `argmax` takes the most likely token, or `weigh` lists the candidates that can still be drawn and `choose` draws one.
//! The steps and their order are those of the sampler in crate `anser`, which tests compare them with.

#[cfg(not(target_arch = "wasm32"))]
use super::buffers::Sizes;
use super::program::Bound;
use crate::compile::dispatch::Extent;
use crate::device::Device;
use crate::device::features::Features;
use crate::error::GpuError;
use crate::kernels::sample::{CHUNK_LEN, N_SEEDS, kernels};
use bytemuck::{Pod, Zeroable};

/// How tokens are drawn, and what a sequence has drawn so far.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DrawOptions {
    /// Always the most likely token, the lowest id of equals; the fields from `temperature` to `min_p` do not matter.
    pub greedy: bool,
    /// Whether filters see probabilities at temperature 1 that are never renormalised, and the temperature acts on what
    /// they leave over. Otherwise it acts first, and top-p refers to what top-k leaves over.
    pub tempers_last: bool,
    /// Above 0.
    pub temperature: f32,
    /// 0 = off.
    pub top_k: usize,
    /// Above 0; 1 = off.
    pub top_p: f32,
    /// 0 = off.
    pub min_p: f32,
    /// Subtracted from the logits of seen tokens.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit times its count.
    pub frequency_penalty: f32,
    /// Multiplies every count before a token is counted.
    pub penalty_decay: f32,
    /// Added to the logits of distinct tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Distinct tokens that are never counted, only seen.
    pub uncounted: Vec<u32>,
    /// Tokens seen so far, the one that is read next included, with their counts.
    pub counts: Vec<(u32, f32)>,
}

/// `Draw` of `wgsl/sample/numbers.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
struct DrawEntry {
    scale: f32,
    last_scale: f32,
    beyond_p: f32,
    min_p: f32,
    top_k: u32,
    top_p: u32,
    presence: f32,
    frequency: f32,
    decay: f32,
    flags: u32,
}

/// Values of `DrawEntry::flags`.
const HAS_FILTER: u32 = 1;
const HAS_TOP_P: u32 = 2;
const RENORMALIZES: u32 = 4;

/// `DrawnToken` of `wgsl/sample/drawn.wgsl`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(super) struct DrawnToken {
    token: u32,
    n_drawn: u32,
}

/// `DrawnToken::token` where none could be drawn.
const NO_TOKEN: u32 = u32::MAX;

/// Values of `counts` in `wgsl/sample/scan.wgsl` besides counts.
const UNSEEN: f32 = -1.0;
const NEVER_COUNTED: f32 = -2.0;
const NEVER_COUNTED_BUT_SEEN: f32 = -3.0;

impl DrawOptions {
    fn entry(&self) -> DrawEntry {
        let DrawOptions { greedy, tempers_last, temperature, top_k, top_p, min_p, .. } = *self;
        // Among sequences that draw, a greedy one has a single candidate.
        let (tempers_last, temperature) = if greedy { (true, 1.0) } else { (tempers_last, temperature) };
        let (top_k, top_p, min_p) = if greedy { (1, 1.0, 1.0) } else { (top_k, top_p, min_p) };
        let has_top_p = top_p < 1.0;
        let has_filter = top_k > 0 || has_top_p || min_p > 0.0;
        // Kept finite so that 0 times it is 0 however small the temperature is.
        let inverse = (1.0 / temperature).min(f32::MAX);
        let flag = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        DrawEntry {
            scale: if tempers_last && has_filter { 1.0 } else { inverse },
            last_scale: inverse,
            beyond_p: 1.0 - top_p,
            min_p,
            top_k: u32::try_from(top_k).unwrap_or(u32::MAX),
            top_p: of_32_bits(top_p.into()),
            presence: self.presence_penalty,
            frequency: self.frequency_penalty,
            decay: self.penalty_decay,
            flags: flag(has_filter, HAS_FILTER) | flag(has_top_p, HAS_TOP_P) | flag(!tempers_last, RENORMALIZES),
        }
    }

    /// `[V]`, see `wgsl/sample/scan.wgsl`.
    fn dense_counts(&self, n_vocab: usize) -> Vec<f32> {
        let mut dense = vec![UNSEEN; n_vocab];
        let mut set = |token: u32, to: f32| {
            if let Some(count) = dense.get_mut(token as usize) {
                *count = to;
            }
        };
        self.uncounted.iter().for_each(|&token| set(token, NEVER_COUNTED));
        for &(token, count) in &self.counts {
            set(token, if self.uncounted.contains(&token) { NEVER_COUNTED_BUT_SEEN } else { count });
        }
        dense
    }

    /// `[V]`; empty where there is none.
    fn dense_bias(&self, n_vocab: usize) -> Vec<f32> {
        let mut dense = vec![0.0; if self.logit_bias.is_empty() { 0 } else { n_vocab }];
        for &(token, bias) in &self.logit_bias {
            if let Some(of_token) = dense.get_mut(token as usize) {
                *of_token = bias;
            }
        }
        dense
    }
}

/// A number of 0 to 1 in units of 2⁻³².
fn of_32_bits(share: f64) -> u32 {
    (share * 4_294_967_296.0).round() as u32 // saturates
}

/// What is kept of sequences that draw side by side: O rows.
#[derive(Debug)]
pub(super) struct Memory {
    n_rows: usize,
    pub(super) n_vocab: usize,
    draws: wgpu::Buffer,
    pub(super) places: wgpu::Buffer,
    /// `[O, N_SEEDS]`
    pub(super) seeds: wgpu::Buffer,
    /// `[O, V]`
    bias: wgpu::Buffer,
    /// `[O, V]`
    counts: wgpu::Buffer,
    /// `[O, V]`
    adjusted: wgpu::Buffer,
    /// `[O, V]`: the logits of the last step, and of the one before.
    pub(super) kept: [wgpu::Buffer; 2],
    chunks: wgpu::Buffer,
    /// `[O, V]`
    candidates: wgpu::Buffer,
    totals: wgpu::Buffer,
}

/// Bytes of a row in the largest of these buffers.
pub(super) fn largest_row_n_bytes(n_vocab: usize) -> usize {
    8 * n_vocab.max(N_SEEDS)
}

impl Memory {
    pub(super) fn new(device: &Device, n_rows: usize, n_vocab: usize) -> Result<Memory, GpuError> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let buffer = |what, n_bytes: usize| device.create_buffer(what, (n_rows * n_bytes) as u64, usage);
        Ok(Memory {
            n_rows,
            n_vocab,
            draws: buffer("sampling options", size_of::<DrawEntry>())?,
            places: buffer("drawn tokens", size_of::<DrawnToken>())?,
            seeds: buffer("random numbers", 4 * N_SEEDS)?,
            bias: buffer("logit bias", 4 * n_vocab)?,
            counts: buffer("token counts", 4 * n_vocab)?,
            adjusted: buffer("adjusted logits", 4 * n_vocab)?,
            kept: [buffer("logits", 4 * n_vocab)?, buffer("logits", 4 * n_vocab)?],
            chunks: buffer("chunks of logits", 16 * n_vocab.div_ceil(CHUNK_LEN))?,
            candidates: buffer("candidates", 8 * n_vocab)?,
            totals: buffer("weights of candidates", 16)?,
        })
    }

    /// In new memory, which is zero: each row draws by its options, after it has read its token.
    pub(super) fn begin(&self, device: &Device, rows: &[(&DrawOptions, u32)]) -> Result<(), GpuError> {
        let entries: Vec<DrawEntry> = rows.iter().map(|(options, _)| options.entry()).collect();
        let places: Vec<DrawnToken> = rows.iter().map(|&(_, token)| DrawnToken { token, n_drawn: 0 }).collect();
        let write = || {
            device.queue.write_buffer(&self.draws, 0, bytemuck::cast_slice(&entries));
            device.queue.write_buffer(&self.places, 0, bytemuck::cast_slice(&places));
            for (row, (options, _)) in rows.iter().enumerate() {
                let at = (4 * row * self.n_vocab) as u64;
                device.queue.write_buffer(&self.counts, at, bytemuck::cast_slice(&options.dense_counts(self.n_vocab)));
                device.queue.write_buffer(&self.bias, at, bytemuck::cast_slice(&options.dense_bias(self.n_vocab)));
            }
        };
        device.guard(|| "sampling options".into(), write)
    }

    /// In a row that another sequence has left, the row draws by `options`, after it has read `token`.
    pub(super) fn replace(
        &self,
        device: &Device,
        row: usize,
        options: &DrawOptions,
        token: u32,
    ) -> Result<(), GpuError> {
        let (entry, place) = (options.entry(), DrawnToken { token, n_drawn: 0 });
        let mut bias = options.dense_bias(self.n_vocab);
        // The other sequence may have had biases.
        bias.resize(self.n_vocab, 0.0);
        let write = || {
            let write = |buffer, row_n_bytes: usize, data: &[u8]| {
                device.queue.write_buffer(buffer, (row * row_n_bytes) as u64, data);
            };
            write(&self.draws, size_of::<DrawEntry>(), bytemuck::bytes_of(&entry));
            write(&self.places, size_of::<DrawnToken>(), bytemuck::bytes_of(&place));
            write(&self.counts, 4 * self.n_vocab, bytemuck::cast_slice(&options.dense_counts(self.n_vocab)));
            write(&self.bias, 4 * self.n_vocab, bytemuck::cast_slice(&bias));
        };
        device.guard(|| "sampling options".into(), write)
    }

    /// The dispatches that draw from `logits` `[O, V]`, keep them in half `half` of [`Memory::kept`], and turn `tables`, of
    /// sequences and of tokens. `greedy`: no row draws otherwise.
    pub(super) fn bind(
        &self,
        device: &Device,
        features: &Features,
        logits: wgpu::BufferBinding,
        tables: [wgpu::BufferBinding; 2],
        greedy: bool,
        half: usize,
    ) -> Result<Vec<Bound>, GpuError> {
        let (n_rows, n_chunks) = (self.n_rows as u32, self.n_vocab.div_ceil(CHUNK_LEN) as u32);
        let Memory { draws, places, seeds, bias, counts, adjusted, kept, chunks, candidates, totals, .. } = self;
        let rest = whole(&[draws, places, bias, counts, adjusted, &kept[half % 2], chunks]);
        let scan = [vec![logits], rest].concat();
        let (of_chunks, of_rows) = ([n_chunks, n_rows, 1].map(Extent::Fixed), [n_rows, 1, 1].map(Extent::Fixed));
        let bound = match greedy {
            true => vec![(scan, of_chunks), ([whole(&[chunks, places]), tables.to_vec()].concat(), of_rows)],
            false => vec![
                (scan, of_chunks),
                (whole(&[adjusted, draws, places, seeds, chunks, candidates, totals]), of_chunks),
                ([whole(&[candidates, draws, seeds, totals, places]), tables.to_vec()].concat(), of_rows),
            ],
        };
        let specs = kernels(self.n_vocab, features, greedy);
        device.compile_all(specs.iter())?;
        specs.iter().zip(bound).map(|(spec, (buffers, grid))| Bound::new(device, spec, buffers, grid)).collect()
    }
}

/// All of every buffer.
fn whole<'a>(buffers: &[&'a wgpu::Buffer]) -> Vec<wgpu::BufferBinding<'a>> {
    buffers.iter().map(|buffer| buffer.as_entire_buffer_binding()).collect()
}

/// Draws one token from each row of `logits`, `[O, V]`, by its options and with its random number, as generations do;
/// `None` where none can be drawn. For tests.
///
/// # Errors
/// If there is no memory, or the device is lost.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub fn draw_rows(device: &Device, logits: &[f32], rows: &[(&DrawOptions, u32)]) -> Result<Vec<Option<u32>>, GpuError> {
    let n_vocab = logits.len() / rows.len().max(1);
    let memory = Memory::new(device, rows.len(), n_vocab)?;
    memory.begin(device, &rows.iter().map(|&(options, _)| (options, 0)).collect::<Vec<_>>())?;
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let buffer = device.create_buffer("logits", size_of_val(logits) as u64, usage)?;
    let tables = device.create_buffer("step", 64 * rows.len() as u64, usage)?;
    let tables = [tables.as_entire_buffer_binding(), tables.as_entire_buffer_binding()];
    let greedy = rows.iter().all(|(options, _)| options.greedy);
    let drawing = memory.bind(device, &device.features(), buffer.as_entire_buffer_binding(), tables, greedy, 0)?;
    let n_bytes = (size_of::<DrawnToken>() * rows.len()) as u64;
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let staging = device.create_buffer("drawn tokens", n_bytes, usage)?;
    let n_rows = rows.len() as u32;
    let sizes = Sizes { n_tokens: n_rows, n_outputs: n_rows, n_sequences: n_rows };
    let submit = || {
        device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(logits));
        for (row, &(_, seed)) in rows.iter().enumerate() {
            device.queue.write_buffer(&memory.seeds, (4 * row * N_SEEDS) as u64, bytemuck::bytes_of(&seed));
        }
        let mut encoder = device.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            drawing.iter().for_each(|bound| bound.encode(&mut pass, sizes));
        }
        encoder.copy_buffer_to_buffer(&memory.places, 0, &staging, 0, n_bytes);
        device.queue.submit([encoder.finish()])
    };
    let submitted = device.watch(|| "drawing".into(), submit)?;
    let mut tokens = vec![];
    let take = |bytes: &[u8]| tokens = drawn_tokens(bytes);
    pollster::block_on(crate::device::mapping::read(device, &staging, n_bytes, submitted, take))?;
    Ok(tokens)
}

/// The tokens at places that were read back.
pub(super) fn drawn_tokens(bytes: &[u8]) -> Vec<Option<u32>> {
    let places: Vec<DrawnToken> = bytemuck::pod_collect_to_vec(bytes);
    places.iter().map(|place| Some(place.token).filter(|&token| token != NO_TOKEN)).collect()
}
