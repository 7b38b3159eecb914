//! Sequences that draw their own tokens: each step embeds the token that the one before has drawn, so that the host only
//! follows.
//!
//! The next step is submitted before its tokens are known to the host. Should the caller not ask for one, that step must not
//! have happened: the step reads the state of the sequence from one slot and writes the next one to another, the *spare*,
//! and only when its token is asked for do the two slots exchange their contents.
//!
//! Sequences that draw side by side are the rows of one step, which stays as it is when some of them leave: their rows
//! then go on in the spare slots, which no other sequence uses, until other sequences take them over. Recorded commands name the
//! buffers of rows and no slots, so a sequence joins by writes to its row of these buffers; the tables, which name the slots, are
//! written anew for the next step. The step ahead, if there is one, does not count for a sequence that joins after it was
//! submitted.

use super::embed_table::EmbedTable;
use super::program::Bound;
use super::sampling::{DrawnToken, Memory, drawn_tokens, largest_row_n_bytes};
use crate::compile::dispatch::Binding;
use crate::compile::schedule::Reads;
use crate::compile::target::Target;
use crate::device::faults::Watch;
use crate::device::mapping::Mapping;
use crate::error::GpuError;
use crate::kernels::sample::{MAX_VOCAB, N_SEEDS};
use crate::memory::state::{Passage, SlotId};
use crate::run::buffers::Sizes;
use crate::run::executor::Gpu;
use crate::run::recorder::{Recorder, RepeatedStep};
use crate::run::sampling::DrawOptions;
use anser_model::{Sequence, Step, ValueId};
use std::fmt;

/// Random numbers, one for each draw in order.
pub struct Seeds(Box<dyn FnMut() -> u32 + Send + Sync>);

impl Seeds {
    /// Numbers that `next` gives.
    pub fn new(next: impl FnMut() -> u32 + Send + Sync + 'static) -> Seeds {
        Seeds(Box::new(next))
    }
}

impl fmt::Debug for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seeds")
    }
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
    pub seeds: Seeds,
}

/// What a step has drawn for a row of a [`Drawing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrawnFor {
    /// The sequence of the row has read its last token, and this one was drawn.
    Token(u32),
    /// None can be drawn from the logits, because a number in the step was too large for a half or NaN. The sequence has not read
    /// its token: it halts with the state before the step, and the caller takes it out and reads the token by [`Gpu::step`].
    Halted,
    /// Nothing: no sequence has the row, it has halted before, or it joined after the step had been submitted.
    Nothing,
}

impl DrawnFor {
    /// The token, if one was drawn.
    pub fn token(self) -> Option<u32> {
        match self {
            DrawnFor::Token(token) => Some(token),
            DrawnFor::Halted | DrawnFor::Nothing => None,
        }
    }
}

/// Sequences that draw their own tokens, side by side.
#[derive(Debug)]
pub struct Drawing {
    rows: Vec<Row>,
    /// Whether the recorded commands only take most likely tokens.
    greedy: bool,
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

/// A row of the steps: a sequence among others that draw, or the place of one.
#[derive(Debug)]
struct Row {
    slot: SlotId,
    /// Gets the state of the step ahead.
    spare: SlotId,
    greedy: bool,
    seeds: Seeds,
    /// The first step that counts for its sequence.
    first_step: usize,
    /// Whether a token of its sequence was drawn, so that the logits kept are those of the sequence.
    has_drawn: bool,
    /// The sequence has left, or there was none yet.
    has_left: bool,
    /// No token could be drawn for it. Its slot has the state before the step that failed.
    has_halted: bool,
}

impl Row {
    /// A row for a sequence to join.
    fn empty(spare: SlotId) -> Row {
        Row {
            slot: spare,
            spare,
            greedy: true,
            seeds: Seeds::new(|| 0),
            first_step: 0,
            has_drawn: false,
            has_left: true,
            has_halted: false,
        }
    }

    /// The row of `spare` with a new sequence, whose steps count from step `first_step` on.
    fn of(Drawer { slot, token: _, options, seeds }: Drawer, spare: SlotId, first_step: usize) -> Row {
        let greedy = options.greedy;
        Row { slot, greedy, seeds, first_step, has_left: false, ..Row::empty(spare) }
    }

    /// Whether the steps that are yet to be submitted count.
    fn draws(&self) -> bool {
        !self.has_left && !self.has_halted
    }

    /// Whether step `step` counts.
    fn draws_in(&self, step: usize) -> bool {
        self.draws() && self.first_step <= step
    }
}

impl Drawing {
    /// The sequence of row `row` leaves the drawing, as by [`Gpu::leave_drawing`], but its logits stay on the device.
    pub fn forget(&mut self, row: usize) {
        if let Some(row) = self.rows.get_mut(row) {
            row.has_left = true;
        }
    }

    /// The slots that get the states of steps ahead. Who drops a drawing without [`Gpu::finish_drawing`] frees them, and the sequences that
    /// are in it stand after their last drawn tokens.
    pub fn spares(&self) -> impl Iterator<Item = SlotId> {
        self.rows.iter().map(|row| row.spare)
    }

    /// Bytes of the tokens of a step.
    fn places_n_bytes(&self) -> u64 {
        (size_of::<DrawnToken>() * self.rows.len()) as u64
    }
}

/// A submitted step.
#[derive(Debug)]
struct Flight {
    mapping: Mapping,
    watch: Watch,
    half: usize,
    /// The number of steps submitted before it.
    step: usize,
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
    #[cfg(not(target_arch = "wasm32"))]
    pub fn start_drawing(&mut self, drawers: Vec<Drawer>) -> Result<Option<Drawing>, GpuError> {
        let n_rows = drawers.len();
        self.start_drawing_with_room(drawers, n_rows)
    }

    /// [`Gpu::start_drawing`] with `n_rows` rows, of which those that `drawers` leave empty are for sequences that join later.
    /// Every row takes its part of the time of a step, whether a sequence has it or not.
    ///
    /// # Errors
    /// As [`Gpu::start_drawing`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn start_drawing_with_room(
        &mut self,
        drawers: Vec<Drawer>,
        n_rows: usize,
    ) -> Result<Option<Drawing>, GpuError> {
        pollster::block_on(self.start_drawing_with_room_async(drawers, n_rows))
    }

    /// [`Gpu::start_drawing_with_room`], for where nothing may block.
    pub async fn start_drawing_with_room_async(
        &mut self,
        drawers: Vec<Drawer>,
        n_rows: usize,
    ) -> Result<Option<Drawing>, GpuError> {
        let n_rows = n_rows.max(drawers.len());
        let tokens: Vec<u32> = drawers.iter().map(|drawer| drawer.token).collect();
        let sequences: Vec<Sequence> = drawers.iter().map(|d| Sequence { slot: d.slot, n_tokens: 1 }).collect();
        let step = Step { tokens: &tokens, sequences: &sequences, ..Step::default() };
        step.check(&self.plan, |slot| self.states.get(slot).is_some())?;
        let Some(logits) = self.plan.logits else { return Ok(None) };
        let n_vocab = self.plan.value(logits).n_cols;
        // A step that draws is one submission: all weights must be there.
        let weights = self.weights.get()?;
        weights.residency.wait()?;
        let n_bytes = (n_rows * largest_row_n_bytes(n_vocab)) as u64;
        let fits = self.max_rows().iter().all(|&max| n_rows <= max)
            && n_vocab <= MAX_VOCAB
            && n_bytes <= self.states.max_binding_n_bytes();
        if weights.streams() || !fits || !self.device.draws() || !self.has_table().await? {
            return Ok(None);
        }
        let none_if_full = |error| match error {
            GpuError::OutOfMemory { .. } | GpuError::Limit { .. } => Ok(None),
            error => Err(error),
        };
        let mut drawing = match self.drawing(&drawers, n_rows, n_vocab) {
            Ok(drawing) => drawing,
            Err(error) => return none_if_full(error),
        };
        let mut drawers = drawers.into_iter();
        for _ in 0..n_rows {
            match self.create_state() {
                Ok(spare) => drawing.rows.push(match drawers.next() {
                    Some(drawer) => Row::of(drawer, spare, 0),
                    None => Row::empty(spare),
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
    fn drawing(&self, drawers: &[Drawer], n_rows: usize, n_vocab: usize) -> Result<Drawing, GpuError> {
        let memory = Memory::new(&self.device, n_rows, n_vocab)?;
        // A row without a sequence draws, too: greedily, which takes the least time.
        let empty = DrawOptions { greedy: true, ..DrawOptions::default() };
        let of_row = |row: usize| drawers.get(row).map_or((&empty, UNKNOWN), |d| (&d.options, d.token));
        memory.begin(&self.device, &(0..n_rows).map(of_row).collect::<Vec<_>>())?;
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let n_bytes = (size_of::<DrawnToken>() * n_rows) as u64;
        let staging = || self.device.create_buffer("drawn tokens", n_bytes, usage);
        let staging = [staging()?, staging()?];
        let greedy = drawers.iter().all(|drawer| drawer.options.greedy);
        Ok(Drawing { rows: vec![], greedy, memory, staging, n_steps: 0, ahead: None, half: None, steps: None })
    }

    /// Lets another sequence draw its own tokens, in a row whose sequence has left or that had none yet; returns the row. The
    /// others go on as before. `None`, and the drawer is dropped, if all rows are taken.
    ///
    /// # Errors
    /// An unknown slot or token, or a slot that draws in this drawing already; a lost device.
    pub fn join_drawing(&mut self, drawing: &mut Drawing, drawer: Drawer) -> Result<Option<usize>, GpuError> {
        let Some(at) = drawing.rows.iter().position(|row| row.has_left) else { return Ok(None) };
        let sequence = |slot| Sequence { slot, n_tokens: 1 };
        let others = drawing.rows.iter().filter(|row| !row.has_left).map(|row| sequence(row.slot));
        let sequences: Vec<Sequence> = others.chain([sequence(drawer.slot)]).collect();
        let mut tokens = vec![UNKNOWN; sequences.len()];
        tokens[sequences.len() - 1] = drawer.token;
        let step = Step { tokens: &tokens, sequences: &sequences, ..Step::default() };
        step.check(&self.plan, |slot| self.states.get(slot).is_some())?;
        // The writes come after the step ahead, which still computes the row as it was.
        drawing.memory.replace(&self.device, at, &drawer.options, drawer.token)?;
        if drawing.greedy && !drawer.options.greedy {
            drawing.greedy = false;
            drawing.steps = None;
        }
        drawing.rows[at] = Row::of(drawer, drawing.rows[at].spare, drawing.n_steps);
        self.sampling.next = None;
        Ok(Some(at))
    }

    fn drop_spares(&mut self, drawing: &Drawing) {
        drawing.spares().for_each(|spare| self.drop_state(spare));
    }

    /// Uploads the embedding table unless that was tried before; tells whether it is there.
    async fn has_table(&mut self) -> Result<bool, GpuError> {
        if matches!(self.sampling.table, Table::NotAskedFor) {
            let max_binding_n_bytes = self.states.max_binding_n_bytes();
            self.sampling.table = match EmbedTable::new(&self.plan, &self.device, max_binding_n_bytes).await {
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

    /// Reads every sequence's last token and draws the next one, row by row; see [`DrawnFor`]. With `goes_on` the step after it is
    /// submitted too: for when its tokens will most likely be asked for.
    ///
    /// # Errors
    /// A lost device, or no memory for a step.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn draw(&mut self, drawing: &mut Drawing, goes_on: bool) -> Result<Vec<DrawnFor>, GpuError> {
        pollster::block_on(self.draw_async(drawing, goes_on))
    }

    /// [`Gpu::draw`], for where nothing may block.
    pub async fn draw_async(&mut self, drawing: &mut Drawing, goes_on: bool) -> Result<Vec<DrawnFor>, GpuError> {
        let flight = match drawing.ahead.take() {
            Some(flight) => flight,
            None => self.submit_drawing(drawing)?,
        };
        let before: Vec<_> = drawing.rows.iter().map(|row| self.states.pair(row.slot, row.spare)).collect();
        for row in drawing.rows.iter().filter(|row| row.draws_in(flight.step)) {
            self.states.exchange(row.slot, row.spare);
        }
        drawing.half = Some(flight.half);
        // An error ahead is that of the next tokens: it shows again when those are asked for.
        drawing.ahead = if goes_on { self.submit_drawing(drawing).ok() } else { None };
        let staging = &drawing.staging[flight.half];
        flight.mapping.finish(&self.device).await?;
        flight.watch.finish(&self.device).await?;
        let tokens = {
            let view = staging.get_mapped_range(..drawing.places_n_bytes());
            drawn_tokens(&view.map_err(|e| self.device.failed("reading drawn tokens", &e.to_string()))?)
        };
        staging.unmap();
        let mut drawn = vec![];
        for ((token, row), before) in tokens.into_iter().zip(&mut drawing.rows).zip(before) {
            drawn.push(match token {
                _ if !row.draws_in(flight.step) => DrawnFor::Nothing,
                Some(token) => {
                    row.has_drawn = true;
                    DrawnFor::Token(token)
                }
                None => {
                    // The kernel that draws has seen to it that the step ahead leaves this state alone, too.
                    self.states.put_back(row.slot, row.spare, before);
                    self.sampling.next = None;
                    row.has_halted = true;
                    DrawnFor::Halted
                }
            });
        }
        Ok(drawn)
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
            drawing.forget(row);
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
        let submitted = self.device.watch(|| "reading logits".into(), copy)?;
        let mut logits = vec![];
        let take = |bytes: &[u8]| {
            logits = bytes.chunks_exact(row_n_bytes as usize).map(bytemuck::pod_collect_to_vec).collect();
        };
        crate::device::mapping::read(&self.device, &staging, n_bytes, submitted, take).await?;
        for (logits, &row) in logits.iter_mut().zip(rows) {
            // Until a sequence has drawn a token, its row has the logits of another one.
            if drawing.rows.get(row).is_none_or(|row| !row.has_drawn) {
                logits.clear();
            }
        }
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
        let step_now = drawing.n_steps;
        let needs_seeds = |row: &Row| !row.greedy && row.draws() && (step_now - row.first_step).is_multiple_of(N_SEEDS);
        for (at, row) in drawing.rows.iter_mut().enumerate().filter(|(_, row)| needs_seeds(row)) {
            let seeds: Vec<u32> = (0..N_SEEDS).map(|_| (row.seeds.0)()).collect();
            let offset = (4 * at * N_SEEDS) as u64;
            self.device.queue.write_buffer(&drawing.memory.seeds, offset, bytemuck::cast_slice(&seeds));
        }
        let commands = steps.recorder.take(half)?;
        let submit = || self.device.queue.submit([commands]);
        let (submission, watch) = self.device.watch(|| "a step".into(), submit)?;
        self.sampling.next = Some(passages.into_iter().map(Passage::turned).collect());
        for row in drawing.rows.iter().filter(|row| !row.draws()) {
            self.states.advance(row.spare);
        }
        drawing.steps = Some(steps);
        drawing.n_steps += 1;
        let n_bytes = drawing.places_n_bytes();
        let mapping = Mapping::start(&drawing.staging[half], wgpu::MapMode::Read, n_bytes, submission);
        Ok(Flight { mapping, watch, half, step: step_now })
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
        let greedy = drawing.greedy;
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
