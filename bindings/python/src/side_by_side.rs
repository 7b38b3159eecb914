//! Texts that are generated side by side.

use crate::progress::Progress;
use anser::{Error, GenerateOptions, Want};
use std::collections::BTreeMap;
use std::ops::Range;

/// The most texts that are generated at a time, since each has a state.
const MAX_SIDE_BY_SIDE: usize = 64;

/// The states from which texts begin.
pub(crate) struct Starts {
    pub(crate) states: Vec<anser::State>,
    /// For each prompt the index of its state; `None` for a fresh one.
    pub(crate) of_prompts: Vec<Option<usize>>,
}

impl Starts {
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
