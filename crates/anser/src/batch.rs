//! Many sequences in one step.

use crate::error::Error;
use crate::model::Model;
use crate::now::now;
use crate::session::{Fed, Session, Want, Which};
use anser_model::{Sequence, Step};
use std::ops::ControlFlow;

/// The tokens that one sequence reads in a step, and the outputs that it wants.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) tokens: &'a [u32],
    pub(crate) want: Want,
}

impl Model {
    /// Reads the tokens of several sessions side by side (a batch). A batch takes little more time than one session,
    /// since every weight is read once for all of them. Prompts and single tokens may be mixed. The results are in the
    /// order of `feeds` and, but for rounding, those that [`Session::feed_for`] gives one by one. Logits of last tokens
    /// are not copied out of the sessions, see [`Session::logits`].
    ///
    /// # Errors
    /// An id that is out of range, before anything is read; a session of another model; a device that fails;
    /// [`Error::NotFinite`] if the model computed a number that is not finite.
    pub fn feed_batch(&self, feeds: &mut [(&mut Session, &[u32])], want: Want) -> Result<Vec<Fed>, Error> {
        self.feed_batch_for(feeds, want, |_, _| ControlFlow::Continue(()))
    }

    /// [`Model::feed_batch`], for where nothing may block; see [`Session::feed_async`].
    ///
    /// # Errors
    /// As [`Model::feed_batch`].
    pub async fn feed_batch_async(&self, feeds: &mut [(&mut Session, &[u32])], want: Want) -> Result<Vec<Fed>, Error> {
        self.feed_batch_for_async(feeds, want, |_, _| ControlFlow::Continue(())).await
    }

    /// [`Model::feed_batch`] with a callback: `progress(read, total)`, in tokens of all sessions, is called after every
    /// step and may end the call.
    ///
    /// # Errors
    /// As [`Model::feed_batch`]; [`Error::Cancelled`] if `progress` returned `Break`: every session has read a part of
    /// its tokens.
    pub fn feed_batch_for(
        &self,
        feeds: &mut [(&mut Session, &[u32])],
        want: Want,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Fed>, Error> {
        self.may_block()?;
        now(self.feed_batch_for_async(feeds, want, progress))
    }

    /// [`Model::feed_batch_for`], for where nothing may block; see [`Session::feed_async`].
    ///
    /// # Errors
    /// As [`Model::feed_batch_for`].
    pub async fn feed_batch_for_async(
        &self,
        feeds: &mut [(&mut Session, &[u32])],
        want: Want,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Fed>, Error> {
        if want.logits != Which::None {
            self.check_has_logits()?;
        }
        let step_len = self.executor()?.preferred_step_len();
        self.feed_in_steps(feeds, want, step_len, progress).await
    }

    /// [`Model::feed_batch_for`] in steps of at most `step_len` tokens.
    pub(crate) async fn feed_in_steps(
        &self,
        feeds: &mut [(&mut Session, &[u32])],
        want: Want,
        step_len: usize,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Fed>, Error> {
        for (session, tokens) in feeds.iter_mut() {
            if !session.model().is(self) {
                let (found, expected) = (session.model().name(), self.name());
                let reason = format!("one is a session of {found}, not of this {expected}");
                return Err(Error::Option { option: "feeds", reason });
            }
            session.check_ids(tokens)?;
        }
        // The caller gets no rows of pending tokens: where it wants every row, the sessions read pending tokens in a step
        // before.
        if want.logits == Which::All || want.hidden == Which::All {
            for (session, _) in feeds.iter_mut() {
                session.flush_async().await?;
            }
        }
        self.read_in_steps(feeds, want, step_len, progress).await
    }

    /// [`Model::feed_in_steps`] of ids and sessions that were checked, with the rows of pending tokens.
    pub(crate) async fn read_in_steps(
        &self,
        feeds: &mut [(&mut Session, &[u32])],
        want: Want,
        step_len: usize,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Vec<Fed>, Error> {
        let rest: Vec<Vec<u32>> = feeds.iter().map(|(session, tokens)| [session.pending(), tokens].concat()).collect();
        let total = rest.iter().map(Vec::len).sum();
        let mut fed = vec![Fed::default(); feeds.len()];
        let mut n_read = vec![0; feeds.len()];
        let mut all_finite = true;
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
            let (read, is_finite) = feed_step(&mut parts).await?;
            all_finite &= is_finite;
            for ((i, n_tokens), read) in numbers.into_iter().zip(lengths).zip(read) {
                let session = &mut feeds[i].0;
                let pending = session.pending();
                session.set_pending(pending[n_tokens.min(pending.len())..].to_vec());
                n_read[i] += n_tokens;
                fed[i].logits.extend(read.logits);
                fed[i].hidden.extend(read.hidden);
            }
            let done = n_read.iter().sum();
            if progress(done, total).is_break() && done < total {
                return Err(Error::Cancelled);
            }
        }
        if !all_finite {
            for ((session, _), fed) in feeds.iter().zip(&fed) {
                self.check_finite(session, fed)?;
            }
        }
        Ok(fed)
    }

    /// Errors: [`Error::NotFinite`] if a number that a session or its caller receives is not finite.
    pub(crate) fn check_finite(&self, session: &Session, fed: &Fed) -> Result<(), Error> {
        let check = |numbers: &[f32], n_cols: usize, what: &str| {
            if anser_model::all_finite(numbers) {
                return Ok(());
            }
            match numbers.iter().enumerate().find(|(_, x)| !x.is_finite()) {
                None => Ok(()),
                Some((i, &value)) => {
                    let what = format!("{what} {}", i % n_cols);
                    Err(Error::NotFinite { file: self.name().into(), what, value })
                }
            }
        };
        let (n_vocab, n_embd) = (self.config().n_vocab, self.config().n_embd);
        check(session.logits(), n_vocab, "the logit of token")?;
        check(&fed.logits, n_vocab, "the logit of token")?;
        check(&fed.hidden, n_embd, "the hidden row's element")
    }
}

/// Reads the tokens of several sessions of one model in one step. Returns the results in the order of the sessions, and
/// whether all numbers are finite. The logits of last tokens are stored in the sessions only; sessions that want no
/// logits have none afterwards.
///
/// Errors as [`Session::feed`]. The caller splits long token lists.
pub(crate) async fn feed_step(parts: &mut [Part<'_>]) -> Result<(Vec<Fed>, bool), Error> {
    let Some(first) = parts.first() else { return Ok((vec![], true)) };
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
    let mut fed = vec![Fed::default(); parts.len()];
    let take = |values: &[&[f32]]| {
        let mut values = values.iter().copied();
        let logits = logits.and_then(|_| values.next()).unwrap_or_default();
        let hidden = hidden.and_then(|_| values.next()).unwrap_or_default();
        hand_out(parts, &mut fed, logits, hidden, outputs.len())
    };
    let all_finite = model.executor_for_step()?.step_for(&step, take).await?;
    Ok((fed, all_finite))
}

/// Copies the rows that a step computed, `n_rows` for all parts together, to their sessions and results. Returns
/// whether all numbers are finite.
fn hand_out(parts: &mut [Part], fed: &mut [Fed], logits: &[f32], hidden: &[f32], n_rows: usize) -> bool {
    let widths = [logits, hidden].map(|values| values.len().checked_div(n_rows).unwrap_or(0));
    let mut copies: Vec<Copy> = vec![];
    let mut row = 0;
    for (part, fed) in parts.iter_mut().zip(fed) {
        let end = row + part.n_outputs();
        let [logits, hidden] = [(logits, widths[0]), (hidden, widths[1])].map(|(values, width)| {
            let rows = |start: usize| &values[start * width..end * width];
            [rows(row), rows(end.saturating_sub(1).max(row))]
        });
        part.session.advance(part.tokens);
        let last = part.session.logits_mut();
        last.clear();
        match part.want.logits {
            Which::None => {}
            Which::Last => copies.push((last, logits[1])),
            Which::All => copies.extend([(last, logits[1]), (&mut fed.logits, logits[0])]),
        }
        match part.want.hidden {
            Which::None => {}
            Which::Last => copies.push((&mut fed.hidden, hidden[1])),
            Which::All => copies.push((&mut fed.hidden, hidden[0])),
        }
        row = end;
    }
    copy_all(&mut copies)
}

/// The destination and the source of a copy.
type Copy<'a> = (&'a mut Vec<f32>, &'a [f32]);

/// Does all `copies`; a destination keeps its memory if that is large enough. Several threads copy many numbers: those
/// of a large batch would take one thread some milliseconds. Returns whether all numbers are finite, which is checked
/// here because they are in a core's cache.
fn copy_all(copies: &mut [Copy]) -> bool {
    /// The least numbers of a thread: fewer are copied in less time than a thread takes to start.
    const MIN_LEN: usize = 1 << 19;
    const MAX_THREADS: usize = 8;

    let copy = |copies: &mut [Copy]| {
        let mut all_finite = true;
        for (to, from) in copies {
            to.clear();
            to.extend_from_slice(from);
            all_finite &= anser_model::all_finite(to);
        }
        all_finite
    };
    let len: usize = copies.iter().map(|(_, from)| from.len()).sum();
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = (len / MIN_LEN).min(MAX_THREADS).min(n_cores).min(copies.len());
    if n_threads <= 1 || cfg!(target_arch = "wasm32") {
        return copy(copies);
    }
    let mut parts = copies.chunks_mut(copies.len().div_ceil(n_threads));
    let first = parts.next();
    std::thread::scope(|scope| {
        let threads: Vec<_> = parts.map(|part| scope.spawn(|| copy(part))).collect();
        let mut all_finite = first.is_none_or(copy);
        for thread in threads {
            // The panic hook has reported a thread's panic. Its numbers count as not finite, so that the caller checks
            // them again.
            all_finite &= thread.join().unwrap_or(false);
        }
        all_finite
    })
}

impl Part<'_> {
    /// The number of its last tokens whose outputs are wanted.
    fn n_outputs(&self) -> usize {
        match [self.want.logits, self.want.hidden] {
            [Which::None, Which::None] => 0,
            [Which::All, _] | [_, Which::All] => self.tokens.len(),
            _ => self.tokens.len().min(1),
        }
    }
}
