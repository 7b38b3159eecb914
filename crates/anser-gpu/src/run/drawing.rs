//! Sequences that draw their own tokens: each step embeds the token that the one before has drawn, so that the host only
//! follows.
//!
//! The next step is submitted before its tokens are known to the host. Should the caller not ask for one, that step must not
//! have happened: the step reads the state of the sequence from one slot and writes the next one to another, the *spare*,
//! and only when its token is asked for do the two slots exchange their contents.
//!
//! Sequences that draw side by side are the rows of one step, which stays as it is when some of them leave: their rows
//! then go on in the spare slots, which no other sequence uses.

use super::embed_table::EmbedTable;
use super::program::Bound;
use super::sampling::{DrawnToken, Memory, drawn_tokens, largest_row_n_bytes, of_32_bits};
use crate::compile::dispatch::Binding;
use crate::compile::schedule::Reads;
use crate::compile::target::Target;
use crate::device::mapping::Mapping;
use crate::error::GpuError;
use crate::kernels::sample::{MAX_VOCAB, N_SHARES};
use crate::memory::state::{Passage, SlotId};
use crate::run::buffers::Sizes;
use crate::run::executor::Gpu;
use crate::run::recorder::{Recorder, RepeatedStep};
use crate::run::sampling::DrawOptions;
use anser_model::{Sequence, Step, ValueId};
use std::fmt;

/// Random numbers above 0 and up to 1, one for each token in order.
pub struct Shares(Box<dyn FnMut() -> f64 + Send + Sync>);

impl Shares {
    /// Numbers that `next` gives.
    pub fn new(next: impl FnMut() -> f64 + Send + Sync + 'static) -> Shares {
        Shares(Box::new(next))
    }
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shares")
    }
}

/// A random number as kernels take it: never 0.
pub(super) fn share_of(share: f64) -> u32 {
    of_32_bits(share).max(1)
}

/// What all sequences that draw have in common.
#[derive(Debug, Default)]
pub(crate) struct Sampling {
    table: Table,
    /// Grows when buffers that are bound are replaced.
    pub(crate) epoch: u64,
    /// The step of one token each that the tables on the device describe, if they do.
    pub(crate) next: Option<Vec<Passage>>,
}

/// The embedding table on the device.
#[derive(Debug, Default)]
enum Table {
    #[default]
    NotAskedFor,
    There(EmbedTable),
    /// It cannot be there: the reason was logged.
    Impossible,
}

/// A sequence that is to draw its own tokens.
#[derive(Debug)]
pub struct Drawer {
    /// Holds its state.
    pub slot: SlotId,
    /// What it reads before it draws its first token.
    pub token: u32,
    /// How it draws.
    pub options: DrawOptions,
    /// Not asked where it always takes the most likely token.
    pub shares: Shares,
}

/// Sequences that draw their own tokens, side by side.
#[derive(Debug)]
pub struct Drawing {
    rows: Vec<Row>,
    memory: Memory,
    /// Where the tokens of two consecutive steps wait to be read.
    staging: [wgpu::Buffer; 2],
    /// Steps submitted so far.
    n_steps: usize,
    /// The step whose tokens the caller has not asked for yet.
    ahead: Option<Flight>,
    /// Half of [`Memory::kept`] with the logits of the last step that counts.
    half: Option<usize>,
    steps: Option<BoundSteps>,
}

/// A sequence among others that draw.
#[derive(Debug)]
struct Row {
    slot: SlotId,
    /// Gets the state of the step ahead.
    spare: SlotId,
    greedy: bool,
    shares: Shares,
    has_left: bool,
    /// No token could be drawn for it. Its slot has the state before the step that failed.
    has_halted: bool,
}

impl Row {
    /// Whether its steps count.
    fn draws(&self) -> bool {
        !self.has_left && !self.has_halted
    }
}

impl Drawing {
    /// Bytes of the tokens of a step.
    fn places_n_bytes(&self) -> u64 {
        (size_of::<DrawnToken>() * self.rows.len()) as u64
    }
}

/// A submitted step.
#[derive(Debug)]
struct Flight {
    mapping: Mapping,
    half: usize,
}

/// The commands of its steps.
#[derive(Debug)]
struct BoundSteps {
    epoch: u64,
    target: Target,
    /// Records the steps of both halves.
    recorder: Recorder,
}

/// Stands for a token that only the device knows.
const UNKNOWN: u32 = 0;

impl Gpu {
    /// Lets sequences draw their own tokens, each the first after it has read its [`Drawer::token`]. `None` if the device
    /// cannot: the embedding table does not fit or is of a type that it cannot decode exactly, the vocabulary is too large,
    /// or there is no room for all of them.
    ///
    /// # Errors
    /// An unknown slot or one that occurs twice, an unknown token, or a lost device.
    pub fn start_drawing(&mut self, drawers: Vec<Drawer>) -> Result<Option<Drawing>, GpuError> {
        let tokens: Vec<u32> = drawers.iter().map(|drawer| drawer.token).collect();
        let sequences: Vec<Sequence> = drawers.iter().map(|d| Sequence { slot: d.slot, n_tokens: 1 }).collect();
        let step = Step { tokens: &tokens, sequences: &sequences, ..Step::default() };
        step.check(&self.plan, |slot| self.states.get(slot).is_some())?;
        let Some(logits) = self.plan.logits else { return Ok(None) };
        let n_vocab = self.plan.value(logits).n_cols;
        // A step that draws is one submission: all weights must be there.
        let weights = self.weights.get()?;
        weights.residency.wait()?;
        let n_bytes = (drawers.len() * largest_row_n_bytes(n_vocab)) as u64;
        let fits = self.max_rows().iter().all(|&max| drawers.len() <= max)
            && n_vocab <= MAX_VOCAB
            && n_bytes <= self.states.max_binding_n_bytes();
        if weights.streams() || !fits || !self.device.draws() || !self.has_table()? {
            return Ok(None);
        }
        let none_if_full = |error| match error {
            GpuError::OutOfMemory { .. } | GpuError::Limit { .. } => Ok(None),
            error => Err(error),
        };
        let mut drawing = match self.drawing(&drawers, n_vocab) {
            Ok(drawing) => drawing,
            Err(error) => return none_if_full(error),
        };
        for Drawer { slot, options, shares, .. } in drawers {
            match self.create_state() {
                Ok(spare) => drawing.rows.push(Row {
                    slot,
                    spare,
                    greedy: options.greedy,
                    shares,
                    has_left: false,
                    has_halted: false,
                }),
                Err(error) => {
                    self.drop_spares(&drawing);
                    return none_if_full(error);
                }
            }
        }
        Ok(Some(drawing))
    }

    /// A drawing that has memory for its rows, but no rows yet.
    fn drawing(&self, drawers: &[Drawer], n_vocab: usize) -> Result<Drawing, GpuError> {
        let memory = Memory::new(&self.device, drawers.len(), n_vocab)?;
        memory.begin(&self.device, &drawers.iter().map(|d| (&d.options, d.token)).collect::<Vec<_>>())?;
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let n_bytes = (size_of::<DrawnToken>() * drawers.len()) as u64;
        let staging = || self.device.create_buffer("drawn tokens", n_bytes, usage);
        let staging = [staging()?, staging()?];
        Ok(Drawing { rows: vec![], memory, staging, n_steps: 0, ahead: None, half: None, steps: None })
    }

    fn drop_spares(&mut self, drawing: &Drawing) {
        drawing.rows.iter().for_each(|row| self.drop_state(row.spare));
    }

    /// Uploads the embedding table unless that was tried before; tells whether it is there.
    fn has_table(&mut self) -> Result<bool, GpuError> {
        if matches!(self.sampling.table, Table::NotAskedFor) {
            let max_binding_n_bytes = self.states.max_binding_n_bytes();
            self.sampling.table = match EmbedTable::new(&self.plan, &self.device, max_binding_n_bytes) {
                Ok(Some(table)) => Table::There(table),
                Ok(None) => {
                    log::info!("tokens are drawn on the host: the embedding table is of a type that is decoded there");
                    Table::Impossible
                }
                Err(error @ (GpuError::OutOfMemory { .. } | GpuError::Limit { .. })) => {
                    log::info!("tokens are drawn on the host: {error}");
                    Table::Impossible
                }
                Err(error) => return Err(error),
            };
        }
        Ok(matches!(self.sampling.table, Table::There(_)))
    }

    /// Reads every sequence's last token and draws the next one; `None` for sequences that have left, and where none can be drawn
    /// from the logits, because a number in the step was too large for a half or NaN. Such a sequence has not read its token: it
    /// halts with the state before the step, and the caller takes it out and reads the token by [`Gpu::step`]. With `goes_on` the step after it is submitted too: for when its tokens will most likely be
    /// asked for.
    ///
    /// # Errors
    /// A lost device, or no memory for a step.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn draw(&mut self, drawing: &mut Drawing, goes_on: bool) -> Result<Vec<Option<u32>>, GpuError> {
        pollster::block_on(self.draw_async(drawing, goes_on))
    }

    /// [`Gpu::draw`], for where nothing may block.
    pub async fn draw_async(&mut self, drawing: &mut Drawing, goes_on: bool) -> Result<Vec<Option<u32>>, GpuError> {
        let flight = match drawing.ahead.take() {
            Some(flight) => flight,
            None => self.submit_drawing(drawing)?,
        };
        let before: Vec<_> = drawing.rows.iter().map(|row| self.states.pair(row.slot, row.spare)).collect();
        for row in drawing.rows.iter().filter(|row| row.draws()) {
            self.states.exchange(row.slot, row.spare);
        }
        drawing.half = Some(flight.half);
        // An error ahead is that of the next tokens: it shows again when those are asked for.
        drawing.ahead = if goes_on { self.submit_drawing(drawing).ok() } else { None };
        let staging = &drawing.staging[flight.half];
        flight.mapping.finish(&self.device).await?;
        let mut tokens = {
            let view = staging.get_mapped_range(..drawing.places_n_bytes());
            drawn_tokens(&view.map_err(|e| self.device.failed("reading drawn tokens", &e.to_string()))?)
        };
        staging.unmap();
        for ((token, row), before) in tokens.iter_mut().zip(&mut drawing.rows).zip(before) {
            if !row.draws() {
                *token = None;
            } else if token.is_none() {
                // The kernel that draws has seen to it that the step ahead leaves this state alone, too.
                self.states.put_back(row.slot, row.spare, before);
                self.sampling.next = None;
                row.has_halted = true;
            }
        }
        Ok(tokens)
    }

    /// The sequences of `rows`, by the order they were given in, leave the drawing, which goes on for the others. Each has
    /// read all tokens but the last drawn one; returns the logits `[V]` those were drawn from, or nothing if none was drawn. The
    /// logits of a sequence that has halted are of no use.
    ///
    /// # Errors
    /// A lost device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn leave_drawing(&mut self, drawing: &mut Drawing, rows: &[usize]) -> Result<Vec<Vec<f32>>, GpuError> {
        pollster::block_on(self.leave_drawing_async(drawing, rows))
    }

    /// [`Gpu::leave_drawing`], for where nothing may block.
    pub async fn leave_drawing_async(
        &mut self,
        drawing: &mut Drawing,
        rows: &[usize],
    ) -> Result<Vec<Vec<f32>>, GpuError> {
        for &row in rows {
            if let Some(row) = drawing.rows.get_mut(row) {
                row.has_left = true;
            }
        }
        let row_n_bytes = 4 * drawing.memory.n_vocab as u64;
        let n_bytes = row_n_bytes * rows.len() as u64;
        let (Some(half), Some(staging)) = (drawing.half, self.staging(n_bytes)?) else {
            return Ok(vec![vec![]; rows.len()]);
        };
        let kept = &drawing.memory.kept[half];
        let copy = || {
            let mut encoder = self.device.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for (&row, to) in rows.iter().zip(0..) {
                let from = row as u64 * row_n_bytes;
                encoder.copy_buffer_to_buffer(kept, from, &staging, to * row_n_bytes, row_n_bytes);
            }
            self.device.queue.submit([encoder.finish()])
        };
        let submission = self.device.guard(|| "reading logits".into(), copy)?;
        let mut logits = vec![];
        let take = |bytes: &[u8]| {
            logits = bytes.chunks_exact(row_n_bytes as usize).map(bytemuck::pod_collect_to_vec).collect();
        };
        crate::device::mapping::read(&self.device, &staging, n_bytes, submission, take).await?;
        Ok(logits)
    }

    /// Ends the drawing: the sequences that are still in it leave, in their order. See [`Gpu::leave_drawing`].
    ///
    /// # Errors
    /// A lost device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn finish_drawing(&mut self, drawing: Drawing) -> Result<Vec<Vec<f32>>, GpuError> {
        pollster::block_on(self.finish_drawing_async(drawing))
    }

    /// [`Gpu::finish_drawing`], for where nothing may block.
    pub async fn finish_drawing_async(&mut self, mut drawing: Drawing) -> Result<Vec<Vec<f32>>, GpuError> {
        self.drop_spares(&drawing);
        let rows: Vec<usize> = (0..drawing.rows.len()).filter(|&row| !drawing.rows[row].has_left).collect();
        self.leave_drawing_async(&mut drawing, &rows).await
    }

    /// Submits the step that reads the last tokens drawn and draws the next ones.
    fn submit_drawing(&mut self, drawing: &mut Drawing) -> Result<Flight, GpuError> {
        let n_rows = drawing.rows.len();
        let slot = |row: &Row| if row.draws() { row.slot } else { row.spare };
        let sequences: Vec<Sequence> =
            drawing.rows.iter().map(|row| Sequence { slot: slot(row), n_tokens: 1 }).collect();
        let (tokens, outputs): (Vec<u32>, Vec<u32>) = (vec![UNKNOWN; n_rows], (0..n_rows as u32).collect());
        let reads: Vec<ValueId> = self.plan.logits.into_iter().collect();
        let step = Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, ..Step::default() };
        let target = self.prepare(&step)?;
        let half = drawing.n_steps % 2;
        let last = drawing.steps.take().filter(|steps| steps.epoch == self.sampling.epoch && steps.target == target);
        let steps = match last {
            Some(steps) => steps,
            None => self.bind_drawing(drawing, target, &step)?,
        };
        let passage = |row: &Row| {
            let spare = self.states.in_place(row.spare);
            let from = if row.draws() { self.states.in_place(row.slot).from } else { spare.from };
            Passage { from, ..spare }
        };
        let passages: Vec<Passage> = drawing.rows.iter().map(passage).collect();
        // The step before has left the tables as this one needs them, unless another step came in between.
        if self.sampling.next.as_ref() != Some(&passages) {
            self.buffers.write_tables(&self.device, &step, &passages);
        }
        self.sampling.next = None;
        if drawing.n_steps.is_multiple_of(N_SHARES) {
            for (at, row) in drawing.rows.iter_mut().enumerate().filter(|(_, row)| !row.greedy && row.draws()) {
                let shares: Vec<u32> = (0..N_SHARES).map(|_| share_of((row.shares.0)())).collect();
                let offset = (4 * at * N_SHARES) as u64;
                self.device.queue.write_buffer(&drawing.memory.shares, offset, bytemuck::cast_slice(&shares));
            }
        }
        let commands = steps.recorder.take(half)?;
        let submission = self.device.guard(|| "a step".into(), || self.device.queue.submit([commands]))?;
        self.sampling.next = Some(passages.into_iter().map(Passage::turned).collect());
        for row in drawing.rows.iter().filter(|row| !row.draws()) {
            self.states.advance(row.spare);
        }
        drawing.steps = Some(steps);
        drawing.n_steps += 1;
        let n_bytes = drawing.places_n_bytes();
        Ok(Flight { mapping: Mapping::start(&drawing.staging[half], wgpu::MapMode::Read, n_bytes, submission), half })
    }

    /// Binds the kernels around steps of `target`.
    fn bind_drawing(&self, drawing: &Drawing, target: Target, step: &Step) -> Result<BoundSteps, GpuError> {
        let schedule = &self.program(target)?.schedule;
        let memory = |id: Option<ValueId>| id.and_then(|id| self.buffers.value(schedule, id));
        let (Table::There(table), Some(logits)) = (&self.sampling.table, memory(self.plan.logits)) else {
            return Err(self.device.failed("drawing", "the embeddings or logits have no memory"));
        };
        let embedded = memory(Some(table.out));
        let embedded = embedded.ok_or_else(|| self.device.failed("drawing", "the embeddings have no memory"))?;
        let of_step = |binding| self.buffers.resolve(schedule, &binding);
        let tables = of_step(Binding::Sequences).zip(of_step(Binding::Tokens));
        let (sequences, tokens) = tables.ok_or_else(|| self.device.failed("drawing", "the tables have no memory"))?;
        let greedy = drawing.rows.iter().all(|row| row.greedy);
        let tables = [sequences, tokens];
        let sample =
            |half| drawing.memory.bind(&self.device, &self.features, logits.clone(), tables.clone(), greedy, half);
        let embed = table.bind(&self.device, &drawing.memory.places, embedded, drawing.rows.len())?;
        let repeated = |half: usize| self.repeated_step(drawing, target, step, &embed, &sample(half)?, half);
        let recorder = Recorder::new(&self.device, [repeated(0)?, repeated(1)?]);
        Ok(BoundSteps { epoch: self.sampling.epoch, target, recorder })
    }

    /// The commands of steps of `target` between what embeds its tokens and what draws the next ones.
    fn repeated_step(
        &self,
        drawing: &Drawing,
        target: Target,
        step: &Step,
        embed: &[Bound],
        sample: &[Bound],
        half: usize,
    ) -> Result<RepeatedStep, GpuError> {
        let program = self.program(target)?;
        let mut passes = vec![embed.to_vec()];
        let mut start = 0;
        for stop in &Reads::new(&self.plan, &program.schedule, step).stops {
            let end = program.n_dispatches(stop.n_units);
            passes.push(program.bound[start..end].to_vec());
            start = end;
        }
        passes.push(sample.to_vec());
        // Each pass makes a small model's step longer by some 2 µs; why large steps have one for each layer, see
        // [`Schedule::segments`].
        if program.schedule.segments.is_empty() {
            passes = vec![passes.concat()];
        }
        let copy = (drawing.memory.places.clone(), drawing.staging[half].clone(), drawing.places_n_bytes());
        Ok(RepeatedStep { passes, sizes: Sizes::new(step), copy })
    }
}
