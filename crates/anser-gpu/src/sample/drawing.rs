//! Sequences that draw their own tokens: each step embeds the token that the one before has drawn, so that the host only
//! follows.
//!
//! The next step is submitted before its token is known to the host. Should it turn out that nobody wants it, it must not
//! have happened: it reads the state of the sequence from one slot and writes the next one to another, the *spare*, and
//! only when its token is asked for do the two slots exchange their contents.

use super::{EmbedTable, Launch, MAX_VOCAB, Memory, N_SHARES, NO_TOKEN, of_32_bits};
use crate::buffers::Sizes;
use crate::error::GpuError;
use crate::executor::Gpu;
use crate::kernels::Binding;
use crate::mapping::Mapping;
use crate::parallel::each_part;
use crate::run::StepKind;
use crate::sample::DrawOptions;
use crate::schedule::Reads;
use crate::state::{Passage, SlotId};
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
    /// The step of one sequence and token that the tables on the device describe, if they do.
    pub(crate) next: Option<Passage>,
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

/// A sequence that draws its own tokens.
#[derive(Debug)]
pub struct Drawing {
    slot: SlotId,
    /// Gets the state of the step ahead.
    spare: SlotId,
    greedy: bool,
    memory: Memory,
    /// Where the tokens of two consecutive steps wait to be read.
    staging: [wgpu::Buffer; 2],
    shares: Shares,
    /// Steps submitted so far.
    n_steps: usize,
    /// The step whose token nobody has asked for yet.
    ahead: Option<Flight>,
    /// Half of [`Memory::kept`] with the logits of the last step that counts.
    half: Option<usize>,
    bound: Option<Bound>,
}

/// A submitted step.
#[derive(Debug)]
struct Flight {
    mapping: Mapping,
    half: usize,
}

/// What a step runs around the plan's own dispatches.
#[derive(Debug)]
struct Bound {
    epoch: u64,
    kind: StepKind,
    reads: Reads,
    embed: Vec<Launch>,
    /// By half.
    sample: [Vec<Launch>; 2],
    /// Recorded ahead, for the next half.
    commands: Option<Vec<wgpu::CommandBuffer>>,
}

/// The logits of the one token of a step.
const OUTPUTS: [u32; 1] = [0];
/// Stands for a token that only the device knows.
const UNKNOWN: [u32; 1] = [0];

impl Gpu {
    /// Lets the sequence in `slot` draw its own tokens, the first after it has read `token`. `None` if the device cannot:
    /// the embedding table does not fit or is of a type that it cannot decode exactly, or the vocabulary is too large.
    ///
    /// # Errors
    /// An unknown slot or token, or a lost device.
    pub fn start_drawing(
        &mut self,
        slot: SlotId,
        token: u32,
        options: &DrawOptions,
        shares: Shares,
    ) -> Result<Option<Drawing>, GpuError> {
        let sequences = [Sequence { slot, n_tokens: 1 }];
        let step = Step { tokens: &[token], sequences: &sequences, ..Step::default() };
        step.check(&self.plan, |slot| self.states.get(slot).is_some())?;
        let Some(logits) = self.plan.logits else { return Ok(None) };
        let n_vocab = self.plan.value(logits).n_cols;
        // A step that draws is one submission: all weights must be there.
        let weights = self.weights.get()?;
        weights.residency.wait()?;
        if weights.streams() || n_vocab > MAX_VOCAB || !self.device.draws() || !self.has_table()? {
            return Ok(None);
        }
        let spare = match self.create_state() {
            Ok(spare) => spare,
            Err(GpuError::OutOfMemory { .. } | GpuError::Limit { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let made = self.drawing(slot, spare, options, shares, n_vocab);
        let begun = made.and_then(|drawing| {
            drawing.memory.begin(&self.device, &[(options, token)])?;
            Ok(drawing)
        });
        match begun {
            Ok(drawing) => Ok(Some(drawing)),
            Err(error) => {
                self.drop_state(spare);
                if matches!(error, GpuError::OutOfMemory { .. }) { Ok(None) } else { Err(error) }
            }
        }
    }

    fn drawing(
        &self,
        slot: SlotId,
        spare: SlotId,
        options: &DrawOptions,
        shares: Shares,
        n_vocab: usize,
    ) -> Result<Drawing, GpuError> {
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let staging = || self.device.create_buffer("a drawn token", 4, usage);
        Ok(Drawing {
            slot,
            spare,
            greedy: options.greedy,
            memory: Memory::new(&self.device, 1, n_vocab)?,
            staging: [staging()?, staging()?],
            shares,
            n_steps: 0,
            ahead: None,
            half: None,
            bound: None,
        })
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

    /// Reads the sequence's last token and draws the next one; `None` if none can be drawn from its logits. With
    /// `goes_on` the step after it is submitted too: for when its token will most likely be asked for.
    ///
    /// # Errors
    /// A lost device, or no memory for a step.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn draw(&mut self, drawing: &mut Drawing, goes_on: bool) -> Result<Option<u32>, GpuError> {
        pollster::block_on(self.draw_async(drawing, goes_on))
    }

    /// [`Gpu::draw`], for where nothing may block.
    pub async fn draw_async(&mut self, drawing: &mut Drawing, goes_on: bool) -> Result<Option<u32>, GpuError> {
        let flight = match drawing.ahead.take() {
            Some(flight) => flight,
            None => self.submit_drawing(drawing)?,
        };
        self.states.exchange(drawing.slot, drawing.spare);
        drawing.half = Some(flight.half);
        // An error ahead is that of the next token: it shows again when that one is asked for.
        drawing.ahead = if goes_on { self.submit_drawing(drawing).ok() } else { None };
        let staging = &drawing.staging[flight.half];
        flight.mapping.finish(&self.device).await?;
        let mut token = NO_TOKEN;
        {
            let view = staging.get_mapped_range(..4);
            let view = view.map_err(|e| self.device.failed("reading a drawn token", &e.to_string()))?;
            bytemuck::bytes_of_mut(&mut token).copy_from_slice(&view);
        }
        staging.unmap();
        Ok(Some(token).filter(|&token| token != NO_TOKEN))
    }

    /// Ends the drawing. The sequence has read all tokens but the last drawn one; returns the logits `[V]` that one was
    /// drawn from, or nothing if none was drawn.
    ///
    /// # Errors
    /// A lost device.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn finish_drawing(&mut self, drawing: Drawing) -> Result<Vec<f32>, GpuError> {
        pollster::block_on(self.finish_drawing_async(drawing))
    }

    /// [`Gpu::finish_drawing`], for where nothing may block.
    pub async fn finish_drawing_async(&mut self, drawing: Drawing) -> Result<Vec<f32>, GpuError> {
        self.drop_state(drawing.spare);
        let Some(half) = drawing.half else { return Ok(vec![]) };
        let kept = &drawing.memory.kept[half];
        let n_bytes = 4 * drawing.memory.n_vocab as u64;
        let Some(staging) = self.staging(n_bytes)? else { return Ok(vec![]) };
        let copy = || {
            let mut encoder = self.device.inner.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(kept, 0, &staging, 0, n_bytes);
            self.device.queue.submit([encoder.finish()])
        };
        let submission = self.device.guard(|| "reading logits".into(), copy)?;
        let mut logits = vec![];
        let take = |bytes: &[u8]| logits = bytemuck::pod_collect_to_vec(bytes);
        crate::mapping::read(&self.device, &staging, n_bytes, submission, take).await?;
        Ok(logits)
    }

    /// Submits the step that reads the last token drawn and draws the next one.
    fn submit_drawing(&mut self, drawing: &mut Drawing) -> Result<Flight, GpuError> {
        let sequences = [Sequence { slot: drawing.slot, n_tokens: 1 }];
        let reads: Vec<ValueId> = self.plan.logits.into_iter().collect();
        let step =
            Step { tokens: &UNKNOWN, sequences: &sequences, outputs: &OUTPUTS, reads: &reads, ..Step::default() };
        let kind = self.prepare(&step)?;
        let half = drawing.n_steps % 2;
        let last = drawing.bound.take().filter(|bound| bound.epoch == self.sampling.epoch && bound.kind == kind);
        let mut bound = match last {
            Some(bound) => bound,
            None => self.bind_drawing(drawing, kind, &step)?,
        };
        let to_row = self.states.in_place(drawing.spare).to_row;
        let passage = Passage { from: self.states.in_place(drawing.slot).from, to_row };
        // The step before has left the tables as this one needs them, unless another step came in between.
        if self.sampling.next != Some(passage) {
            self.buffers.write_tables(&self.device, &step, &[passage]);
        }
        self.sampling.next = None;
        if !drawing.greedy && drawing.n_steps.is_multiple_of(N_SHARES) {
            let shares: Vec<u32> = (0..N_SHARES).map(|_| share_of((drawing.shares.0)())).collect();
            self.device.queue.write_buffer(&drawing.memory.shares, 0, bytemuck::cast_slice(&shares));
        }
        let sizes = Sizes::new(&step);
        let submit = || -> Result<wgpu::SubmissionIndex, GpuError> {
            let recorded = bound.commands.take();
            let commands = match recorded {
                Some(commands) => commands,
                None => self.record_drawing(drawing, &bound, half, sizes)?,
            };
            let submission = self.device.queue.submit(commands);
            bound.commands = Some(self.record_drawing(drawing, &bound, 1 - half, sizes)?);
            Ok(submission)
        };
        let submission = self.device.guard(|| "a step".into(), submit)??;
        self.sampling.next = Some(passage.turned());
        drawing.bound = Some(bound);
        drawing.n_steps += 1;
        Ok(Flight { mapping: Mapping::start(&drawing.staging[half], wgpu::MapMode::Read, 4, submission), half })
    }

    /// Binds the kernels around a step of `kind`.
    fn bind_drawing(&self, drawing: &Drawing, kind: StepKind, step: &Step) -> Result<Bound, GpuError> {
        let schedule = &self.replay(kind)?.schedule;
        let memory = |id: Option<ValueId>| id.and_then(|id| self.buffers.value(schedule, id));
        let (Table::There(table), Some(logits)) = (&self.sampling.table, memory(self.plan.logits)) else {
            return Err(self.device.failed("drawing", "the embeddings or logits have no memory"));
        };
        let embedded = memory(Some(table.out));
        let embedded = embedded.ok_or_else(|| self.device.failed("drawing", "the embeddings have no memory"))?;
        let of_step = |binding| self.buffers.resolve(schedule, &binding);
        let tables = of_step(Binding::Sequences).zip(of_step(Binding::Tokens));
        let (sequences, tokens) = tables.ok_or_else(|| self.device.failed("drawing", "the tables have no memory"))?;
        let sample = |half| {
            let tables = [sequences.clone(), tokens.clone()];
            drawing.memory.launches(&self.device, &self.features, logits.clone(), tables, drawing.greedy, half)
        };
        Ok(Bound {
            epoch: self.sampling.epoch,
            kind,
            reads: Reads::new(&self.plan, schedule, step),
            embed: table.launches(&self.device, &drawing.memory.places, embedded, 1)?,
            sample: [sample(0)?, sample(1)?],
            commands: None,
        })
    }

    fn record_drawing(
        &self,
        drawing: &Drawing,
        bound: &Bound,
        half: usize,
        sizes: Sizes,
    ) -> Result<Vec<wgpu::CommandBuffer>, GpuError> {
        let descriptor = wgpu::CommandEncoderDescriptor { label: Some("a step that draws") };
        let launch = |encoder: &mut wgpu::CommandEncoder, launches: &[Launch]| {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            launches.iter().for_each(|launch| launch.encode(&mut pass));
        };
        let replay = self.replay(bound.kind)?;
        let n = replay.dispatches.len();
        Ok(each_part(n, |dispatches| {
            let mut encoder = self.device.inner.create_command_encoder(&descriptor);
            let (is_first, is_last) = (dispatches.start == 0, dispatches.end == n);
            if is_first {
                launch(&mut encoder, &bound.embed);
            }
            self.encode(&mut encoder, replay, &bound.reads, dispatches, sizes, |_, _| {});
            if is_last {
                launch(&mut encoder, &bound.sample[half]);
                encoder.copy_buffer_to_buffer(&drawing.memory.places, 0, &drawing.staging[half], 0, 4);
            }
            encoder.finish()
        }))
    }
}
