//! Sequences that join a batch and leave it between any two steps.
//!
//! A step reads a token of every text that is being generated, and some tokens of prompts. Where the device draws tokens
//! itself, these are two steps of the executor, one after the other; elsewhere they are one.

mod ahead;
mod draft_pace;
mod drafting;
mod likelihood;
mod lookup;
mod on_device;
mod row;

use crate::batch::{Part, feed_step};
use crate::error::Error;
use crate::generate::{FinishReason, Piece, Text};
use crate::grammar;
use crate::model::Model;
use crate::now::now;
use crate::session::{Fed, Session, Want};
pub use ahead::Proposals;
use ahead::{Ahead, Attempt, Proposal, Proposer};
use anser_tokenizer::Tokenizer;
pub(crate) use draft_pace::DraftPace;
pub(crate) use drafting::Drafting;
use drafting::TimedStep;
pub use likelihood::Likelihood;
pub(crate) use lookup::Lookup;
use on_device::OnDevice;
use row::{Progress, Task};
pub use row::{Row, RowTask, StoredRow};
use std::borrow::BorrowMut;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Names a row among all that a batch has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId(u64);

/// What has happened to a row in a step.
#[derive(Debug)]
pub struct RowEvent {
    /// The row.
    pub row: RowId,
    /// What has happened.
    pub kind: RowEventKind,
}

/// The kinds of a [`RowEvent`].
#[derive(Debug)]
pub enum RowEventKind {
    /// The row has read its prompt. If it generates no text, it rests from now on.
    PromptRead,
    /// The log-probabilities of the next tokens of the prompt, in order; `None` for a token with no logits before it, which only
    /// the first one can be.
    Scored(Vec<Option<Likelihood>>),
    /// A token was drawn.
    Token(Drawn),
    /// More of the text is certain.
    Text(Piece),
    /// The text has ended. The row stays, without taking part in steps, until the caller takes it.
    Ended(FinishReason),
    /// The row cannot go on: the model computed numbers that are not finite, all tokens were forbidden, or its grammar takes too much
    /// work. The other rows are not concerned. The row stays, without taking part in steps, until the caller takes it.
    Failed(Error),
}

/// A drawn token.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// The token's id.
    pub id: u32,
    /// Its bytes; empty if the vocabulary is not known.
    pub bytes: Vec<u8>,
    /// Its likelihood, for rows that report it.
    pub likelihood: Option<Likelihood>,
}

/// Sequences that are read and generated side by side, in steps that the caller asks for one by one.
///
/// Each row has its own session, sampler and end, and no row's state or text depends on the others but for rounding: a row that
/// joins, leaves, ends or fails changes nothing for the rest. `S` is [`Session`] for rows that own their sessions, or
/// `&mut Session`.
#[derive(Debug)]
pub struct Rows<S: BorrowMut<Session> = Session> {
    model: Model,
    rows: BTreeMap<RowId, Row<S>>,
    /// Rows that have failed and take part in no step.
    failed: Vec<RowId>,
    next_id: u64,
    /// The vocabulary, if the model has one, and the tokens that samplers do not count.
    vocabulary: Option<(Tokenizer, Vec<u32>)>,
    device: OnDevice,
    /// The step that runs now, for each draft model that its texts use.
    timed: Vec<TimedStep>,
}

/// The most tokens whose logits are copied to the host in one step, to be scored there: those of 128 tokens take 33 MB with a
/// vocabulary of 65,536.
const MAX_SCORED_LEN: usize = 128;

impl<S: BorrowMut<Session>> Rows<S> {
    /// A batch without rows.
    pub fn new(model: &Model) -> Rows<S> {
        let vocabulary = model.tokenizer().ok();
        let vocabulary = vocabulary.map(|tokenizer| (tokenizer.clone(), crate::sampler::uncounted_tokens(tokenizer)));
        Rows {
            model: model.clone(),
            rows: BTreeMap::new(),
            failed: vec![],
            next_id: 0,
            vocabulary,
            device: OnDevice::default(),
            timed: vec![],
        }
    }

    /// Adds a row that reads `prompt` in `session`. An empty prompt continues after the session's tokens; in a fresh session it is
    /// [`Model::document_start`]. No token is read before the next step.
    ///
    /// # Errors
    /// A session of another model; ids or options out of range; an empty prompt in a session without a token to go on from.
    pub fn join(&mut self, session: S, prompt: &[u32], task: &RowTask) -> Result<RowId, Error> {
        let s: &Session = session.borrow();
        if !s.model().is(&self.model) {
            let (found, expected) = (s.model().name(), self.model.name());
            let reason = format!("it is a session of {found}, not of this {expected}");
            return Err(Error::Option { option: "session", reason });
        }
        s.check_ids(prompt)?;
        if !matches!(task, RowTask::Read { .. }) {
            self.model.check_has_logits()?;
        }
        let start = [self.model.document_start()];
        let prompt = if prompt.is_empty() && s.is_fresh() { &start } else { prompt };
        let pending = s.pending();
        let task = match task {
            RowTask::Read { wants_logits } => Task::Read { wants_logits: *wants_logits },
            RowTask::Score { n_top } => Task::Score { n_top: *n_top, n_unscored: pending.len() },
            RowTask::Generate { options, n_top } => {
                if prompt.is_empty() && pending.is_empty() && s.logits().is_empty() {
                    let reason = "a restored state needs at least one token to go on from".into();
                    return Err(Error::Option { option: "prompt", reason });
                }
                if !options.stop.is_empty() {
                    self.model.tokenizer()?;
                }
                let (tokenizer, uncounted) = match &self.vocabulary {
                    Some((tokenizer, uncounted)) => (Some(tokenizer), &uncounted[..]),
                    None => (None, &[][..]),
                };
                let constraint = options.grammar.as_ref();
                let constraint =
                    constraint.map(|grammar| grammar.constraint(&self.model, options.stop_tokens_of(&self.model)));
                let mut text = Text::new(&self.model, options, constraint.transpose()?, tokenizer, uncounted)?;
                if options.lookup || options.draft.is_some() {
                    text.begin_proposals(&self.model, options, &[s.recent(), pending, prompt].concat())?;
                }
                Task::Generate { text: Box::new(text), n_top: *n_top }
            }
        };
        // The last token of a text that goes on is read with those of the other texts.
        let goes_on = prompt.is_empty() && matches!(task, Task::Generate { .. });
        let prompt = if goes_on { vec![] } else { [pending, prompt].concat() };
        let id = RowId(self.next_id);
        self.next_id += 1;
        let progress = Progress { prompt, n_read: 0, task };
        self.rows.insert(id, Row { session, progress });
        Ok(id)
    }

    /// Puts a row back that was taken, under the same name.
    pub fn put_back(&mut self, id: RowId, row: Row<S>) {
        self.rows.insert(id, row);
    }

    /// Takes a row out of the batch, at any time. Its session has the logits of the last token that it has read, if it reads that
    /// token alone or the last one of its prompt. `None` for a row that is not in the batch.
    ///
    /// # Errors
    /// A lost device.
    pub fn take(&mut self, id: RowId) -> Result<Option<Row<S>>, Error> {
        self.model.may_block()?;
        now(self.take_async(id))
    }

    /// [`Rows::take`], for where nothing may block.
    ///
    /// # Errors
    /// As [`Rows::take`].
    pub async fn take_async(&mut self, id: RowId) -> Result<Option<Row<S>>, Error> {
        self.leave_device(&[id]).await?;
        Ok(self.discard(id))
    }

    /// [`Rows::take`] without waiting for the device: the session may lack the logits of the last token.
    pub fn discard(&mut self, id: RowId) -> Option<Row<S>> {
        self.device.forget(id);
        self.failed.retain(|&failed| failed != id);
        self.rows.remove(&id)
    }

    /// Takes a row out of the batch and returns its session, as [`Rows::take`] does.
    ///
    /// # Errors
    /// A lost device.
    pub fn leave(&mut self, id: RowId) -> Result<Option<S>, Error> {
        Ok(self.take(id)?.map(Row::into_session))
    }

    /// [`Rows::leave`], for where nothing may block.
    ///
    /// # Errors
    /// As [`Rows::leave`].
    pub async fn leave_async(&mut self, id: RowId) -> Result<Option<S>, Error> {
        Ok(self.take_async(id).await?.map(Row::into_session))
    }

    /// A second session that continues from where a row's session is, if the row has read its prompt and drawn nothing.
    ///
    /// # Errors
    /// If the device has no memory for another state.
    pub fn fork(&self, id: RowId) -> Result<Option<Session>, Error> {
        self.rows.get(&id).map(|row| row.session().fork()).transpose()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The number of rows, with those that have ended.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The number of rows that take part in the next step: those with a prompt to read and those with a text that goes on.
    pub fn n_going(&self) -> usize {
        self.rows.iter().filter(|(id, row)| self.goes_on(**id, row)).count()
    }

    /// The number of rows that generate and have read their prompts.
    pub fn n_drawing(&self) -> usize {
        self.rows.iter().filter(|(id, row)| self.goes_on(**id, row) && row.draws()).count()
    }

    /// The number of tokens of prompts that all rows have yet to read.
    pub fn n_unread(&self) -> usize {
        let unread = |(id, row): (&RowId, &Row<S>)| if self.goes_on(*id, row) { row.unread().len() } else { 0 };
        self.rows.iter().map(unread).sum()
    }

    /// Whether memory of the device is kept for drawing there.
    pub fn has_drawing(&self) -> bool {
        self.device.has_drawing()
    }

    /// The number of rows whose tokens the device draws itself.
    pub fn n_on_device(&self) -> usize {
        self.device.n_rows()
    }

    /// The reason for which a row's text ended; `None` while it goes on, and for a row that generates none or is not here.
    pub fn finish_reason(&self, id: RowId) -> Option<FinishReason> {
        self.rows.get(&id)?.end()
    }

    /// All tokens drawn so far for a row's text, but for a stop token.
    pub fn tokens(&self, id: RowId) -> &[u32] {
        self.rows.get(&id).and_then(Row::text).map_or(&[], Text::tokens)
    }

    /// How many tokens were proposed for a row's text, and how many of them were drawn.
    pub fn proposals(&self, id: RowId) -> Proposals {
        self.text(id).map_or_else(Proposals::default, |text| text.proposals)
    }

    pub(crate) fn text(&self, id: RowId) -> Option<&Text> {
        self.rows.get(&id)?.text()
    }

    pub(crate) fn session_and_text(&mut self, id: RowId) -> Option<(&mut Session, &mut Text)> {
        self.rows.get_mut(&id)?.session_and_text()
    }

    /// Reads all prompts, in steps as long as the executor prefers; `progress` as in [`Model::feed_batch_for`].
    pub(crate) async fn read_prompts(
        &mut self,
        want: Want,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let step_len = self.model.executor()?.preferred_step_len();
        let mut prompts = vec![];
        for row in self.rows.values_mut() {
            // What the session has pending is read first in any case.
            let n_pending = row.session().pending().len().min(row.unread().len());
            let prompt = row.unread()[n_pending..].to_vec();
            row.progress.n_read = row.progress.prompt.len();
            prompts.push((row.session.borrow_mut(), prompt));
        }
        let mut feeds: Vec<_> = prompts.iter_mut().map(|(session, prompt)| (&mut **session, &prompt[..])).collect();
        self.model.feed_in_steps(&mut feeds, want, step_len, progress).await.map(drop)
    }

    /// Whether a row takes part in steps.
    fn goes_on(&self, id: RowId, row: &Row<S>) -> bool {
        let rests = match row.progress.task {
            Task::Generate { .. } => row.end().is_some(),
            Task::Read { .. } | Task::Score { .. } => row.unread().is_empty(),
        };
        !rests && !self.failed.contains(&id)
    }

    /// Reads the last token of every text that goes on and draws the next one, and reads at most `max_prompt_tokens` tokens of
    /// prompts, at least one if that is not 0, and no more than fit in one step of the executor. Half of them are of the row that joined
    /// first among those that have a prompt to read, and the rest of the prompts with the fewest tokens left. Events of a row are in
    /// order.
    ///
    /// # Errors
    /// The device fails or has no memory for the step, or a file of the model was changed. What happened to single rows is an
    /// event.
    pub fn step(&mut self, max_prompt_tokens: usize) -> Result<Vec<RowEvent>, Error> {
        self.model.may_block()?;
        now(self.step_async(max_prompt_tokens))
    }

    /// [`Rows::step`], for where nothing may block. A future that is dropped before it is ready leaves the sessions between tokens: let
    /// them then begin anew.
    ///
    /// # Errors
    /// As [`Rows::step`].
    pub async fn step_async(&mut self, max_prompt_tokens: usize) -> Result<Vec<RowEvent>, Error> {
        let mut events = vec![];
        self.timed.clear();
        self.end_due(&mut events);
        self.settle_device().await?;
        let drawn = self.draw_on_device().await?;
        let ahead = self.read_on_host(max_prompt_tokens, &mut events).await?;
        ahead.into_iter().for_each(|ahead| self.verify(ahead, &mut events));
        let drawn_here = self.draw_on_host(&mut events);
        let mut drawn: Vec<_> = drawn.into_iter().map(|(id, token)| (id, token, None)).chain(drawn_here).collect();
        drawn.sort_unstable_by_key(|&(id, ..)| id);
        for (id, token, likelihood) in drawn {
            self.push(id, token, likelihood, &mut events);
        }
        self.end_due(&mut events);
        self.timed.drain(..).for_each(TimedStep::end);
        Ok(events)
    }

    /// Ends the texts that want no further token.
    fn end_due(&mut self, events: &mut Vec<RowEvent>) {
        for (&id, row) in &mut self.rows {
            let has_read = row.unread().is_empty();
            let Some((_, text)) = row.session_and_text().filter(|(_, text)| text.end().is_none()) else { continue };
            // The end of a text of no tokens is told when its prompt is read.
            if has_read || text.is_cancelled() {
                show(id, text.end_if_due(), text.end(), events);
            }
        }
    }

    /// Appends a drawn token to the text of a row.
    fn push(&mut self, id: RowId, token: u32, likelihood: Option<Likelihood>, events: &mut Vec<RowEvent>) {
        let Some((session, text)) = self.session_and_text(id) else { return };
        let n_before = text.tokens().len();
        let piece = match text.push(session, token) {
            Ok(piece) => piece,
            Err(error) => return self.fail(id, error, events),
        };
        if text.tokens().len() > n_before {
            let drawn = Drawn { id: token, bytes: text.token_bytes(token).to_vec(), likelihood };
            events.push(RowEvent { row: id, kind: RowEventKind::Token(drawn) });
        }
        show(id, piece, text.end(), events);
    }

    /// Reads prompts, and the last tokens of texts that the device does not draw, with those that were proposed behind them. Returns
    /// what is to be verified.
    async fn read_on_host(
        &mut self,
        max_prompt_tokens: usize,
        events: &mut Vec<RowEvent>,
    ) -> Result<Vec<Ahead>, Error> {
        let step_len = self.model.executor()?.preferred_step_len().max(1);
        let is_read_here = |(id, row): &(&RowId, &Row<S>)| {
            self.goes_on(**id, row) && row.draws() && !row.session().pending().is_empty() && !self.device.has(**id)
        };
        let going: Vec<RowId> = self.rows.iter().filter(is_read_here).map(|(&id, _)| id).collect();
        let mut proposals = self.propose(&going).await?;
        let chunk = |id| Some(self.rows.get_mut(&id)?.chunk_of_text(id, proposals.remove(&id)));
        let mut chunks: Vec<Chunk> = going.into_iter().filter_map(chunk).collect();
        let n_of_texts: usize = chunks.iter().map(|chunk| chunk.tokens.len()).sum();
        let room = step_len.saturating_sub(n_of_texts % step_len).max(1);
        let n_chunks = chunks.len();
        self.choose_prompts(max_prompt_tokens.min(room), &mut chunks);
        match chunks.len() == n_chunks {
            true => self.timed.iter_mut().for_each(|step| step.begin(n_of_texts)),
            // Its time is that of prompts, too.
            false => self.timed.clear(),
        }
        let mut ahead = vec![];
        while !chunks.is_empty() {
            let mut n_tokens = 0;
            let mut fits = |chunk: &Chunk| {
                n_tokens += chunk.tokens.len();
                n_tokens <= step_len
            };
            let n_chunks = chunks.iter().map_while(|chunk| Some(chunk).filter(|chunk| fits(chunk))).count().max(1);
            let rest = chunks.split_off(n_chunks);
            self.read_chunks(std::mem::replace(&mut chunks, rest), &mut ahead, events).await?;
        }
        Ok(ahead)
    }

    /// Chooses the prompts to read and adds their next tokens, `budget` of them at most, to `chunks`. Half of the budget is the oldest
    /// row's, so that no prompt waits for ever, and the rest goes to the prompts that have the fewest tokens left.
    fn choose_prompts(&mut self, budget: usize, chunks: &mut Vec<Chunk>) {
        let going: Vec<RowId> =
            self.rows.iter().filter(|(id, row)| self.goes_on(**id, row)).map(|(&id, _)| id).collect();
        let waits = |id: &RowId| self.rows.get(id).filter(|row| !row.unread().is_empty()).map(|row| (*id, row));
        let mut waiting: Vec<_> = going.iter().filter_map(waits).collect();
        let max_len = |row: &Row<S>| match row.progress.task {
            Task::Score { .. } => row.unread().len().min(MAX_SCORED_LEN),
            Task::Read { .. } | Task::Generate { .. } => row.unread().len(),
        };
        // Rows are in the order in which they joined.
        let Some((oldest, n_of_oldest)) = waiting.first().map(|(id, row)| (*id, max_len(row).min(budget.div_ceil(2))))
        else {
            return;
        };
        waiting.sort_by_key(|(_, row)| row.unread().len());
        let mut room = budget - n_of_oldest;
        for (id, row) in waiting {
            let n_kept = if id == oldest { n_of_oldest } else { 0 };
            let n_tokens = max_len(row).min(n_kept + room);
            room -= n_tokens - n_kept;
            if n_tokens > 0 {
                let (tokens, want) = (row.unread()[..n_tokens].to_vec(), row.wanted_of_prompt(n_tokens));
                chunks.push(Chunk { id, tokens, want, is_of_prompt: true, attempt: None });
            }
        }
    }

    /// Reads chunks of several rows in one step.
    async fn read_chunks(
        &mut self,
        mut chunks: Vec<Chunk>,
        ahead: &mut Vec<Ahead>,
        events: &mut Vec<RowEvent>,
    ) -> Result<(), Error> {
        chunks.sort_by_key(|chunk| chunk.id);
        // The logits before the first token of a chunk that is scored.
        let before: Vec<Vec<f32>> = chunks.iter().map(|chunk| self.logits_before(chunk)).collect();
        let mut of_chunks = chunks.iter().peekable();
        let part = |(id, row): (&RowId, _)| {
            let chunk = of_chunks.next_if(|chunk| chunk.id == *id)?;
            let row: &mut Row<S> = row;
            Some(Part { session: row.session_mut(), tokens: &chunk.tokens, want: chunk.want })
        };
        let mut parts: Vec<Part> = self.rows.iter_mut().filter_map(part).collect();
        let (fed, all_finite) = feed_step(&mut parts).await?;
        for ((chunk, fed), before) in chunks.into_iter().zip(fed).zip(before) {
            let Some(row) = self.rows.get_mut(&chunk.id) else { continue };
            let n_read_before = row.progress.n_read;
            match chunk.is_of_prompt {
                true => row.has_read(chunk.tokens.len()),
                false => row.session_mut().set_pending(vec![]),
            }
            if !all_finite && let Err(error) = self.model.check_finite(row.session(), &fed) {
                self.fail(chunk.id, error, events);
                continue;
            }
            if let Task::Score { n_top, n_unscored } = row.progress.task {
                let n_skipped = n_unscored.saturating_sub(n_read_before);
                let scores = scores(&chunk.tokens, &before, &fed, n_top).split_off(n_skipped.min(chunk.tokens.len()));
                events.push(RowEvent { row: chunk.id, kind: RowEventKind::Scored(scores) });
            }
            if chunk.is_of_prompt && row.unread().is_empty() {
                events.push(RowEvent { row: chunk.id, kind: RowEventKind::PromptRead });
            }
            ahead.extend(Ahead::of(chunk, fed.logits));
        }
        Ok(())
    }

    fn logits_before(&self, chunk: &Chunk) -> Vec<f32> {
        match self.rows.get(&chunk.id).map(|row| (&row.progress.task, row.session())) {
            Some((Task::Score { .. }, session)) => session.logits().to_vec(),
            Some((Task::Read { .. } | Task::Generate { .. }, _)) | None => vec![],
        }
    }

    /// Draws a token for each row whose session has the logits for it.
    fn draw_on_host(&mut self, events: &mut Vec<RowEvent>) -> Vec<(RowId, u32, Option<Likelihood>)> {
        let texts = self.rows.values_mut().filter(|row| row.draws()).filter_map(Row::session_and_text);
        grammar::compute_masks(texts.filter_map(|(_, text)| text.constraint_mut()).collect());
        let (mut drawn, mut failed) = (vec![], vec![]);
        for (&id, row) in &mut self.rows {
            if !row.draws() || self.device.has(id) || self.failed.contains(&id) {
                continue;
            }
            let Task::Generate { text, n_top } = &mut row.progress.task else { continue };
            let session: &Session = row.session.borrow();
            let logits = session.logits();
            if logits.is_empty() || !session.pending().is_empty() || text.n_left() == 0 || text.is_cancelled() {
                continue;
            }
            match text.draw(logits) {
                Ok(Some(token)) => drawn.push((id, token, n_top.map(|n| Likelihood::new(logits, token, n)))),
                Ok(None) => show(id, text.complete(), text.end(), events),
                Err(error) => failed.push((id, error)),
            }
        }
        failed.into_iter().for_each(|(id, error)| self.fail(id, error, events));
        drawn
    }

    /// Takes a row out of all further steps.
    fn fail(&mut self, id: RowId, error: Error, events: &mut Vec<RowEvent>) {
        self.failed.push(id);
        events.push(RowEvent { row: id, kind: RowEventKind::Failed(error) });
    }
}

/// The next tokens of a row.
#[derive(Debug)]
struct Chunk {
    id: RowId,
    tokens: Vec<u32>,
    want: Want,
    is_of_prompt: bool,
    /// The way back, if the last tokens were proposed and are to be verified.
    attempt: Option<Attempt>,
}

/// The likelihoods of `tokens`, of which the first one followed on the logits `before`, `[V]` or none, and the others on the rows
/// of `fed`, `[T, V]`.
fn scores(tokens: &[u32], before: &[f32], fed: &Fed, n_top: usize) -> Vec<Option<Likelihood>> {
    let n_vocab = fed.logits.len() / tokens.len().max(1);
    let rows = std::iter::once(before).chain(fed.logits.chunks_exact(n_vocab.max(1)));
    let score = |(&token, logits): (&u32, &[f32])| (!logits.is_empty()).then(|| Likelihood::new(logits, token, n_top));
    tokens.iter().zip(rows).map(score).collect()
}

/// Adds the events of a piece of text and of its end.
fn show(row: RowId, piece: Piece, end: Option<FinishReason>, events: &mut Vec<RowEvent>) {
    if !piece.text.is_empty() {
        events.push(RowEvent { row, kind: RowEventKind::Text(piece) });
    }
    if let Some(end) = end {
        events.push(RowEvent { row, kind: RowEventKind::Ended(end) });
    }
}

impl<S: BorrowMut<Session>> Drop for Rows<S> {
    /// Leaves the sessions after the last drawn tokens, and discards the step that the device did ahead. In a browser, where nothing may
    /// wait, the logits of these tokens stay on the device.
    fn drop(&mut self) {
        // A device that fails here fails again at a session's next call, which returns the error.
        let _ = self.rest_device();
        self.abandon_device();
    }
}
