//! The recurrent state: what a model remembers of the tokens it has read.

use crate::identity::Identity;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// One kind of state vector or matrix, present once in every layer.
#[derive(Debug, Clone, PartialEq)]
pub struct StatePart {
    /// Name in the field's terms: `att_shift`, `wkv`, `ffn_shift`.
    pub name: &'static str,
    /// Shape in one layer: `[C]`, `[H, N, N]` (head, value row, key column) or `[3, C]`.
    pub shape: Vec<usize>,
}

impl StatePart {
    /// Elements in one layer.
    pub fn layer_len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Which part of the state of which layer an operation reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateRef {
    /// Index into [`StateLayout::parts`].
    pub part: usize,
    /// Layer, 0 to L-1.
    pub layer: usize,
}

/// How the state of one sequence lies in memory: part after part, each `[L, …shape]`, f32, without gaps.
///
/// att_shift `[L, C]`, wkv, ffn_shift `[L, C]`, where wkv is `[L, H, N, N]` (head, value row, key column) from RWKV-5 on, and
/// `[L, 3, C]` (a, b, p of every channel) in RWKV-4. A fresh state is all zeros.
#[derive(Debug, Clone, PartialEq)]
pub struct StateLayout {
    /// L, number of layers.
    pub n_layer: usize,
    /// Parts in memory order.
    pub parts: Vec<StatePart>,
}

impl StateLayout {
    /// Elements of one sequence's state.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|p| p.layer_len() * self.n_layer).sum()
    }

    /// Whether a state has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements of part `part`, all layers.
    pub fn part_range(&self, part: usize) -> Range<usize> {
        let start = self.parts[..part].iter().map(|p| p.layer_len() * self.n_layer).sum();
        start..start + self.parts[part].layer_len() * self.n_layer
    }

    /// Elements of one part of one layer.
    pub fn range(&self, at: StateRef) -> Range<usize> {
        let len = self.parts[at.part].layer_len();
        let start = self.part_range(at.part).start + at.layer * len;
        start..start + len
    }

    /// Whether `data` is a state of this layout.
    ///
    /// # Errors
    /// A wrong length, or a number that is not finite.
    pub fn check(&self, data: &[f32]) -> Result<(), StateError> {
        if data.len() != self.len() {
            return Err(StateError::Length { expected: self.len(), found: data.len() });
        }
        let Some(chunk) = data.chunks(CHUNK).position(|chunk| !all_finite(chunk)) else { return Ok(()) };
        let in_chunk = data[chunk * CHUNK..].iter().position(|x| !x.is_finite());
        let at = chunk * CHUNK + in_chunk.unwrap_or(0);
        for (i, part) in self.parts.iter().enumerate() {
            let range = self.part_range(i);
            if range.contains(&at) {
                let (layer, index) = ((at - range.start) / part.layer_len(), (at - range.start) % part.layer_len());
                return Err(StateError::NotFinite { part: part.name, layer, index, value: data[at] });
            }
        }
        Ok(())
    }

    /// Index of the part called `name`.
    pub fn part(&self, name: &str) -> Option<usize> {
        self.parts.iter().position(|p| p.name == name)
    }
}

/// Few enough to look at twice, many enough to compare side by side.
const CHUNK: usize = 4096;

/// Whether every number is finite.
pub fn all_finite(numbers: &[f32]) -> bool {
    const EXPONENT_BITS: u32 = 0x7f80_0000;

    // Infinities and NaNs, and no other numbers, have all bits of the exponent set. Comparing and collecting bits are
    // instructions that every x86-64 processor has for four numbers at a time.
    let has_other =
        |chunk: &[f32]| chunk.iter().fold(false, |bad, x| bad | (x.to_bits() & EXPONENT_BITS == EXPONENT_BITS));
    !numbers.chunks(CHUNK).any(has_other)
}

/// Why numbers are not a state of this model.
#[derive(Debug, Error, Clone, PartialEq)]
#[non_exhaustive]
pub enum StateError {
    /// Another number of elements than the model's state has.
    #[error("a state of this model has {expected} numbers, found {found}")]
    Length {
        /// Elements of the layout.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A number that is not finite would spoil every later token.
    #[error("state part {part}, layer {layer}: element {index} is {value}; a state must be finite")]
    NotFinite {
        /// Name of the part.
        part: &'static str,
        /// Layer of the number.
        layer: usize,
        /// Index within the part of that layer.
        index: usize,
        /// The number.
        value: f32,
    },
    /// A state that a model of the same sizes and with other weights made.
    #[error("a state of another model: it has the same sizes ({title}), but other weights")]
    OtherModel {
        /// Version and sizes of both.
        title: String,
    },
}

/// The state of one sequence, owned: one buffer in the order of its [`StateLayout`]. States are equal if layout and
/// numbers are.
#[derive(Debug, Clone)]
pub struct State {
    layout: Arc<StateLayout>,
    data: Vec<f32>,
    /// The model that made it, where that is known.
    model: Option<Arc<Identity>>,
}

impl PartialEq for State {
    fn eq(&self, other: &State) -> bool {
        self.layout == other.layout && self.data == other.data
    }
}

impl State {
    /// The state before any token.
    pub fn zeros(layout: Arc<StateLayout>) -> State {
        let data = vec![0.0; layout.len()];
        State { layout, data, model: None }
    }

    /// Takes over `data`, in the order of `layout`.
    ///
    /// # Errors
    /// A wrong length, or a number that is not finite.
    pub fn from_vec(layout: Arc<StateLayout>, data: Vec<f32>) -> Result<State, StateError> {
        layout.check(&data)?;
        Ok(State { layout, data, model: None })
    }

    /// Takes over `data`, in the order of `layout`, whose numbers the caller has found to be finite.
    ///
    /// # Errors
    /// A wrong length.
    pub fn from_finite(layout: Arc<StateLayout>, data: Vec<f32>) -> Result<State, StateError> {
        match data.len() == layout.len() {
            true => Ok(State { layout, data, model: None }),
            false => Err(StateError::Length { expected: layout.len(), found: data.len() }),
        }
    }

    /// The same state, made by `model`.
    pub fn made_by(self, model: Arc<Identity>) -> State {
        State { model: Some(model), ..self }
    }

    /// The model that made it; `None` for numbers that came from elsewhere.
    pub fn model(&self) -> Option<&Arc<Identity>> {
        self.model.as_ref()
    }

    /// How the numbers lie.
    pub fn layout(&self) -> &Arc<StateLayout> {
        &self.layout
    }

    /// All numbers, in the order of the layout.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// Part `name`, all layers, `[L, …shape]`; `None` if the layout has no such part.
    pub fn part(&self, name: &str) -> Option<&[f32]> {
        self.layout.part(name).map(|p| &self.data[self.layout.part_range(p)])
    }

    /// Gives the buffer away, without a copy.
    pub fn into_vec(self) -> Vec<f32> {
        self.data
    }
}
