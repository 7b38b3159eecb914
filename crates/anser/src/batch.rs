//! Many sequences in one step.

use crate::error::Error;
use crate::model::Model;
use crate::session::{Fed, Session, Want, Which};
use anser_model::{Sequence, Step};
use std::ops::ControlFlow;

/// What one sequence reads in a step.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) tokens: &'a [u32],
    pub(crate) want: Want,
}

impl Model {
    /// Reads the tokens of several sessions side by side, which costs little more than reading those of one: every weight is
    /// read once for all of them. Prompts and single tokens may be mixed. The results are in the order of `feeds` and the same
    /// as [`Session::feed_for`] would give one by one, but for rounding; logits of last tokens are not copied out of the
    /// sessions, see [`Session::logits`].
    ///
    /// # Errors
    /// An id that is out of range, before anything is read; a session of another model; a device that fails.
    pub fn feed_batch(&self, feeds: &mut [(&mut Session, &[u32])], want: Want) -> Result<Vec<Fed>, Error> {
        self.feed_batch_for(feeds, want, |_, _| ControlFlow::Continue(()))
    }

    /// The same. `progress(read, total)`, in tokens of all sessions, is called after every step and may end the call.
    ///
    /// # Errors
    /// As [`Model::feed_batch`]; [`Error::Cancelled`] if `progress` said so: every session has read its tokens in part.
    pub fn feed_batch_for(
        &self,
        feeds: &mut [(&mut Session, &[u32])],
        want: Want,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Fed>, Error> {
        let step_len = self.executor().preferred_step_len();
        self.feed_in_steps(feeds, want, step_len, progress)
    }

    /// The same in steps of `step_len` tokens.
    pub(crate) fn feed_in_steps(
        &self,
        feeds: &mut [(&mut Session, &[u32])],
        want: Want,
        step_len: usize,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Fed>, Error> {
        let all = want.logits == Which::All || want.hidden == Which::All;
        for (session, tokens) in feeds.iter_mut() {
            if !session.model().is(self) {
                let (found, expected) = (session.model().name(), self.name());
                let reason = format!("one is a session of {found}, not of this {expected}");
                return Err(Error::Option { option: "feeds", reason });
            }
            session.check_ids(tokens)?;
        }
        let mut rest = vec![];
        for (session, tokens) in feeds.iter_mut() {
            // Rows of pending tokens are not the caller's: they are read on their own where every row is wanted.
            if all {
                session.flush()?;
            }
            rest.push([session.pending(), tokens].concat());
        }
        let total = rest.iter().map(Vec::len).sum();
        let mut fed = vec![Fed::default(); feeds.len()];
        let mut n_read = vec![0; feeds.len()];
        loop {
            let mut room = step_len.max(1);
            let (mut parts, mut numbers) = (vec![], vec![]);
            for (i, (session, _)) in feeds.iter_mut().enumerate() {
                let chunk = &rest[i][n_read[i]..];
                let chunk = &chunk[..chunk.len().min(room)];
                if chunk.is_empty() {
                    continue;
                }
                room -= chunk.len();
                let is_last = n_read[i] + chunk.len() == rest[i].len();
                let of_chunk = |which: Which| if which == Which::Last && !is_last { Which::None } else { which };
                let want = Want { logits: of_chunk(want.logits), hidden: of_chunk(want.hidden) };
                parts.push(Part { session, tokens: chunk, want });
                numbers.push(i);
            }
            if parts.is_empty() {
                break;
            }
            let lengths: Vec<usize> = parts.iter().map(|part| part.tokens.len()).collect();
            let read = feed_step(&mut parts)?;
            for ((i, n_tokens), read) in numbers.into_iter().zip(lengths).zip(read) {
                let session = &mut feeds[i].0;
                let pending = session.pending();
                session.set_pending(pending[n_tokens.min(pending.len())..].to_vec());
                n_read[i] += n_tokens;
                let is_last = n_read[i] == rest[i].len();
                match want.logits {
                    Which::All => {
                        fed[i].logits.extend(read.logits);
                        session.keep_logits(&fed[i]);
                    }
                    Which::Last if is_last => session.set_logits(read.logits),
                    Which::Last | Which::None => session.set_logits(vec![]),
                }
                fed[i].hidden.extend(read.hidden);
            }
            let done = n_read.iter().sum();
            if progress(done, total).is_break() && done < total {
                return Err(Error::Cancelled);
            }
        }
        Ok(fed)
    }
}

/// Reads the tokens of several sessions of one model in one step; results in their order.
///
/// Errors as [`Session::feed`]. The caller splits long token lists.
pub(crate) fn feed_step(parts: &mut [Part]) -> Result<Vec<Fed>, Error> {
    let Some(first) = parts.first() else { return Ok(vec![]) };
    let model = first.session.model().clone();
    let plan = model.plan();
    let tokens: Vec<u32> = parts.iter().flat_map(|part| part.tokens.iter().copied()).collect();
    let sequence = |part: &Part| Sequence { slot: part.session.slot(), n_tokens: part.tokens.len() };
    let sequences: Vec<Sequence> = parts.iter().map(sequence).collect();
    let mut outputs = vec![];
    let mut start = 0;
    for part in parts.iter() {
        let end = start + part.tokens.len() as u32;
        outputs.extend(end - part.n_outputs() as u32..end);
        start = end;
    }
    let logits = plan.logits.filter(|_| parts.iter().any(|part| part.want.logits != Which::None));
    let hidden = plan.hidden.filter(|_| parts.iter().any(|part| part.want.hidden != Which::None));
    let reads: Vec<_> = logits.into_iter().chain(hidden).collect();
    let step = Step { tokens: &tokens, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
    let mut read = model.executor().step(&step)?.into_iter();
    let logits = logits.and_then(|_| read.next()).unwrap_or_default();
    let hidden = hidden.and_then(|_| read.next()).unwrap_or_default();

    let mut row = 0;
    let mut fed = vec![];
    for part in parts.iter_mut() {
        part.session.advance(part.tokens.len());
        let n_rows = part.n_outputs();
        let rows = |values: &[f32], which: Which| match (which, values.len().checked_div(outputs.len())) {
            (Which::None, _) | (_, None) => vec![],
            (Which::All, Some(width)) => values[row * width..][..n_rows * width].to_vec(),
            (Which::Last, Some(width)) => values[(row + n_rows - 1) * width..][..width].to_vec(),
        };
        fed.push(Fed { logits: rows(&logits, part.want.logits), hidden: rows(&hidden, part.want.hidden) });
        row += n_rows;
    }
    Ok(fed)
}

impl Part<'_> {
    /// How many of its tokens, the last ones, something is wanted of.
    fn n_outputs(&self) -> usize {
        match [self.want.logits, self.want.hidden] {
            [Which::None, Which::None] => 0,
            [Which::All, _] | [_, Which::All] => self.tokens.len(),
            _ => self.tokens.len().min(1),
        }
    }
}
