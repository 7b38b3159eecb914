//! Which shape a kernel runs in, where several compete: tiles, threads, how many workgroups share a row.
//!
//! The candidates are data. The first one is what the kernel takes on a device that was never measured; a measurement
//! (`run/tune.rs`) may choose another.

use super::dispatch::Dispatch;
use crate::device::tuning::Tuning;
use std::fmt::Display;

/// Where choices come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Choices<'a> {
    /// What was measured on the device, else the first candidate.
    Measured(&'a Tuning),
    /// The candidate of this number, or the first one where there are fewer: measurements and tests go through all of them.
    Trial(usize),
}

/// A choice among several candidates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// What it depends on besides the device: kernel, storage types, sizes, number of tokens.
    pub(crate) key: String,
    /// Name of the chosen candidate.
    pub(crate) candidate: String,
    /// Number of candidates.
    pub(crate) n_candidates: usize,
}

impl Choices<'_> {
    /// The candidate for `key`, of which there is at least one; the choice is `None` if there is only one.
    pub(crate) fn choose<S: Clone + Display>(
        self,
        key: impl FnOnce() -> String,
        candidates: &[S],
    ) -> (S, Option<Choice>) {
        let [first, _, ..] = candidates else { return (candidates[0].clone(), None) };
        let key = key();
        let chosen = match self {
            Choices::Trial(number) => candidates.get(number),
            Choices::Measured(tuning) => {
                tuning.chosen.get(&key).and_then(|name| candidates.iter().find(|c| c.to_string() == *name))
            }
        };
        let chosen = chosen.unwrap_or(first);
        (chosen.clone(), Some(Choice { key, candidate: chosen.to_string(), n_candidates: candidates.len() }))
    }
}

/// The dispatches, whose shapes come from `choice`.
pub(crate) fn by_choice(dispatches: Vec<Dispatch>, choice: Option<Choice>) -> Vec<Dispatch> {
    dispatches.into_iter().map(|dispatch| Dispatch { choice: choice.clone(), ..dispatch }).collect()
}
