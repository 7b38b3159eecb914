//! Texts that are generated or read side by side.

use crate::error::exception;
use crate::options::same_number;
use crate::progress::Progress;
use crate::service::{Arrival, Served, Service, failed};
use crate::state::State;
use crate::values;
use anser::{Error, GenerateOptions, Want};
use anser_engine::{Event, Request, Saved, Work};
use pyo3::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// The most texts that are generated or read at a time, since each has a state.
const MAX_SIDE_BY_SIDE: usize = 64;

/// The states from which texts begin.
pub(crate) struct Starts {
    pub(crate) states: Vec<anser::State>,
    /// For each prompt the index of its state; `None` for a fresh one.
    pub(crate) of_prompts: Vec<Option<usize>>,
}

impl Starts {
    /// Where `n_prompts` texts begin: all at one state, or each at its own.
    pub(crate) fn new(
        py: Python<'_>,
        model: &anser::Model,
        state: Option<&Bound<'_, PyAny>>,
        n_prompts: usize,
    ) -> PyResult<Starts> {
        let Some(state) = state else { return Ok(Starts { states: vec![], of_prompts: vec![None; n_prompts] }) };
        if let Ok(state) = state.cast::<State>() {
            let states = vec![state.get().to_engine(py, model)?];
            return Ok(Starts { states, of_prompts: vec![Some(0); n_prompts] });
        }
        let wrong = || values::wrong_type("state", "a State, or a list of State or None", state);
        let (mut seen, mut starts) = (vec![], Starts { states: vec![], of_prompts: vec![] });
        for state in state.try_iter().map_err(|_| wrong())? {
            let state = state?;
            if state.is_none() {
                starts.of_prompts.push(None);
                continue;
            }
            // A state that several prompts have is copied once.
            let at = seen.iter().position(|other: &Bound<'_, PyAny>| other.is(&state));
            if at.is_none() {
                let state = state.cast::<State>().map_err(|_| wrong())?;
                starts.states.push(state.get().to_engine(py, model)?);
            }
            starts.of_prompts.push(at.or(Some(seen.len())));
            if at.is_none() {
                seen.push(state);
            }
        }
        same_number("state", starts.of_prompts.len(), n_prompts, "prompts")?;
        Ok(starts)
    }

    /// Sessions for some of the prompts. Of prompts with the same start one session is made, and the others are copies of it.
    fn sessions(&self, model: &anser::Model, prompts: Range<usize>) -> Result<Vec<anser::Session>, Error> {
        let mut firsts: BTreeMap<Option<usize>, usize> = BTreeMap::new();
        let mut sessions: Vec<anser::Session> = vec![];
        for start in &self.of_prompts[prompts] {
            let session = match firsts.get(start) {
                Some(&at) => sessions[at].fork()?,
                None => {
                    firsts.insert(*start, sessions.len());
                    let mut session = model.session()?;
                    start.map_or(Ok(()), |at| session.restore(&self.states[at]))?;
                    session
                }
            };
            sessions.push(session);
        }
        Ok(sessions)
    }
}

/// The texts that follow `prompts`, generated side by side, each with its own start and options. Call this without the GIL.
/// `progress` gets the number of texts done.
pub(crate) fn generate(
    model: &anser::Model,
    starts: &Starts,
    prompts: &[Vec<u32>],
    options: &[GenerateOptions],
    progress: &mut Progress,
) -> Result<Vec<String>, Error> {
    let mut texts = vec![];
    for prompts_now in prompts.chunks(MAX_SIDE_BY_SIDE) {
        let n_before = texts.len();
        let now = n_before..n_before + prompts_now.len();
        let mut report = |n_done| progress.report(n_before + n_done, prompts.len());
        let mut sessions = starts.sessions(model, now.clone())?;
        let mut feeds: Vec<_> = sessions.iter_mut().zip(prompts_now.iter().map(|prompt| &prompt[..])).collect();
        // Signals are checked in every step.
        model.feed_batch_for(&mut feeds, Want::LOGITS, |_, _| report(0))?;
        feeds.iter_mut().for_each(|(_, prompt)| *prompt = &[]);
        let mut generations = model.generate_batch(&mut feeds, &options[now])?;
        texts.resize(n_before + prompts_now.len(), String::new());
        let mut last = 0;
        while let Some(piece) = generations.next() {
            let (index, piece) = piece?;
            texts[n_before + index] += &piece.text;
            // One report covers all pieces of one step.
            if index <= last {
                let is_done = |&i: &usize| generations.finish_reason(i).is_some();
                if report((0..prompts_now.len()).filter(is_done).count()).is_break() {
                    return Err(Error::Cancelled);
                }
            }
            last = index;
        }
        if report(prompts_now.len()).is_break() {
            return Err(Error::Cancelled);
        }
    }
    Ok(texts)
}

/// The states after each of `texts`, which the engine reads side by side. Call this without the GIL. `progress` gets the number of texts
/// done.
pub(crate) fn read_states(
    service: &Service,
    texts: Vec<Vec<u32>>,
    progress: &mut Progress,
) -> PyResult<Vec<Arc<Saved>>> {
    let total = texts.len();
    let mut texts = texts.into_iter();
    let (mut waiting, mut states) = (VecDeque::new(), vec![]);
    while states.len() < total {
        // Some more texts than the engine reads at a time wait in its queue, so that it always finds one.
        for tokens in texts.by_ref().take(2 * MAX_SIDE_BY_SIDE - waiting.len()) {
            waiting.push_back(service.submit(Request::new(tokens, Work::State))?);
        }
        let Some(first) = waiting.pop_front() else { break };
        states.push(state_of(&first)?);
        if progress.report(states.len(), total).is_break() {
            return Err(exception(Error::Cancelled));
        }
    }
    Ok(states)
}

/// The state that a request for one gives.
fn state_of(served: &Served) -> PyResult<Arc<Saved>> {
    let mut state = None;
    loop {
        match served.wait()? {
            Arrival::Event(Event::State(saved)) => state = Some(saved),
            Arrival::Event(Event::Failed(failure)) => return Err(failed(failure)),
            Arrival::Event(Event::Done(_)) | Arrival::End => return state.ok_or_else(|| exception(Error::Cancelled)),
            Arrival::Event(
                Event::Started { .. }
                | Event::Token { .. }
                | Event::Text { .. }
                | Event::Scored(_)
                | Event::Embedding(_)
                | Event::Ended { .. },
            ) => {}
        }
    }
}
