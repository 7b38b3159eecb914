//! Has draft models propose the next tokens of texts.
//!
//! A draft model reads what the text has, draws a token with the sampler of the text and its random numbers, reads that, and draws the
//! next. Since a draw hardly depends on small differences of the logits (`sampler/race.rs`), the model then draws the same token nearly
//! as often as the two models agree on the most likely one.

use super::draft_pace::{Candidate, DraftPace, Stopwatch, TextPace};
use super::{Proposal, Proposer, Row, RowId, Rows};
use crate::batch::{Part, feed_step};
use crate::draft::Draft;
use crate::error::Error;
use crate::model::Model;
use crate::sampler::Sampler;
use crate::session::{Session, Want};
use std::borrow::BorrowMut;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most tokens of prompts that the draft model reads in a step of the batch, so that other texts need not wait for long.
const MAX_CATCH_UP_LEN: usize = 256;

/// The number of tokens that a draft model has not read of a text at which it forgets the older half of them.
const MAX_UNREAD_LEN: usize = 8192;

/// What a draft model has of a text.
#[derive(Debug)]
pub(crate) struct Drafting {
    model: Model,
    pace: Arc<Mutex<DraftPace>>,
    /// The number of tokens to propose each time, if the caller gave one.
    n_fixed: Option<usize>,
    /// The draft model's session, which has read all tokens but `unread` and, until they are verified, `n_ahead` proposed ones. It is
    /// made for the first proposal.
    session: Option<Session>,
    /// The session before it read proposed tokens, or just memory for that.
    before: Option<Session>,
    n_ahead: usize,
    /// The tokens of the prompt and the text that the session has not read.
    unread: Vec<u32>,
    /// Draws the proposed tokens.
    sampler: Sampler,
    stop_tokens: Vec<u32>,
    of_text: TextPace,
    /// The device has no memory for another state, or the draft model computes numbers that are not finite.
    is_off: bool,
}

impl Drafting {
    /// Of a text by `model` that follows `tokens`, the last 4,096 of which the draft model reads. Errors: the draft model has another vocabulary.
    pub(crate) fn new(
        model: &Model,
        draft: &Draft,
        tokens: &[u32],
        sampler: &Sampler,
        stop_tokens: &[u32],
    ) -> Result<Drafting, Error> {
        let pace = model.pace_with(draft)?;
        let of_text = lock(&pace).new_text();
        Ok(Drafting {
            model: draft.model.clone(),
            n_fixed: draft.n_tokens,
            pace,
            session: None,
            before: None,
            n_ahead: 0,
            unread: tokens[tokens.len().saturating_sub(MAX_UNREAD_LEN / 2)..].to_vec(),
            sampler: sampler.clone(),
            stop_tokens: stop_tokens.to_vec(),
            of_text,
            is_off: false,
        })
    }

    /// Appends a token to the text.
    pub(crate) fn push(&mut self, token: u32) {
        self.unread.push(token);
        // Where the draft model rests for long, the last tokens are enough.
        if self.n_ahead == 0 && self.unread.len() >= MAX_UNREAD_LEN {
            let last = self.unread.split_off(MAX_UNREAD_LEN / 2);
            self.free_states(last);
        }
    }

    /// Whether `draft` may propose tokens for the text now.
    fn proposes_by(&self, draft: &Model) -> bool {
        self.model.is(draft) && !self.is_off && !self.unread.is_empty()
    }

    /// Frees the states of the draft model. `tokens`: the last ones of the text, which it is to read where it goes on.
    pub(super) fn free_states(&mut self, tokens: Vec<u32>) {
        (self.session, self.before, self.n_ahead, self.unread) = (None, None, 0, tokens);
    }

    /// Notes how many of the proposed tokens were drawn, all of which were pushed. The session goes back if it has read others.
    pub(super) fn has_verified(&mut self, n_proposed: usize, n_right: usize) {
        lock(&self.pace).has_verified(n_proposed, n_right);
        self.of_text.has_verified(n_proposed, n_right);
        if n_right >= self.n_ahead {
            self.unread.drain(..self.n_ahead);
            self.n_ahead = 0;
        } else {
            self.go_back();
        }
    }

    /// The session goes back to before the proposed tokens.
    pub(super) fn go_back(&mut self) {
        if std::mem::take(&mut self.n_ahead) > 0 {
            std::mem::swap(&mut self.session, &mut self.before);
        }
    }

    /// Keeps a copy of the session, to which it can go back. Errors: the device fails or has no memory for another state.
    fn keep_before(&mut self) -> Result<(), Error> {
        match (&self.session, &mut self.before) {
            (Some(session), Some(before)) => before.copy_from(session),
            (Some(session), None) => {
                self.before = Some(session.fork()?);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }
}

/// A text for which the draft model proposes tokens now.
struct Drafter {
    id: RowId,
    drafting: Box<Drafting>,
    /// The number of tokens to propose.
    n_wanted: usize,
    proposed: Vec<u32>,
}

impl Drafter {
    /// Draws the next proposed token, unless enough were drawn.
    fn draw(&mut self) {
        let drafting = &mut *self.drafting;
        let Some(session) = drafting.session.as_ref().filter(|_| self.proposed.len() < self.n_wanted) else { return };
        let Ok(token) = drafting.sampler.sample(session.logits()) else {
            (drafting.is_off, self.n_wanted) = (true, 0);
            return;
        };
        drafting.sampler.accept(token);
        self.proposed.push(token);
        if drafting.stop_tokens.contains(&token) {
            self.n_wanted = self.proposed.len();
        }
    }

    /// What the draft model reads before it can draw another token; `None` if the text wants none. The last token that is proposed for a
    /// text is not read. Errors: the device fails.
    fn read_ahead(&mut self) -> Result<Option<Part<'_>>, Error> {
        let Some(last) = self.proposed.len().checked_sub(1).filter(|_| self.proposed.len() < self.n_wanted) else {
            return Ok(None);
        };
        if self.drafting.n_ahead == 0
            && let Err(error) = self.drafting.keep_before()
        {
            self.n_wanted = 0;
            return if error.is_out_of_memory() { Ok(None) } else { Err(error) };
        }
        self.drafting.n_ahead += 1;
        let session = self.drafting.session.as_mut();
        Ok(session.map(|session| Part { session, tokens: &self.proposed[last..], want: Want::LOGITS }))
    }
}

/// A step of the model whose time is measured for a draft model.
#[derive(Debug)]
pub(super) struct TimedStep {
    pace: Arc<Mutex<DraftPace>>,
    stopwatch: Stopwatch,
    /// The number of tokens of texts that it reads, and of those that the draft model proposed.
    n_tokens: usize,
    n_drafted: usize,
}

impl TimedStep {
    /// Notes that the step begins, which reads `n_tokens` tokens of texts.
    pub(super) fn begin(&mut self, n_tokens: usize) {
        (self.stopwatch, self.n_tokens) = (Stopwatch::start(), n_tokens);
    }

    /// Notes that the step has ended.
    pub(super) fn end(self) {
        lock(&self.pace).has_stepped(self.n_tokens, self.n_drafted, self.stopwatch.seconds());
    }
}

impl<S: BorrowMut<Session>> Rows<S> {
    /// Proposes tokens for the rows `ids`, whose last tokens are read in the next step.
    pub(super) async fn propose(&mut self, ids: &[RowId]) -> Result<BTreeMap<RowId, Proposal>, Error> {
        let mut proposals = BTreeMap::new();
        let mut drafts: Vec<Model> = vec![];
        for id in ids {
            let Some((_, text)) = self.rows.get_mut(id).and_then(Row::session_and_text) else { continue };
            let max_len = text.n_left().saturating_sub(1);
            let found = text.lookup.as_mut().map_or(&[][..], |lookup| lookup.propose(max_len));
            if !found.is_empty() {
                proposals.insert(*id, Proposal { tokens: found.to_vec(), by: Proposer::Lookup });
            } else if let Some(drafting) = &text.draft
                && !drafts.iter().any(|draft| draft.is(&drafting.model))
            {
                drafts.push(drafting.model.clone());
            }
        }
        for draft in drafts {
            self.propose_by(&draft, ids, &mut proposals).await?;
        }
        Ok(proposals)
    }

    /// Adds what the draft model `draft` proposes for those of the rows `ids` that use it and have no proposal yet.
    async fn propose_by(
        &mut self,
        draft: &Model,
        ids: &[RowId],
        proposals: &mut BTreeMap<RowId, Proposal>,
    ) -> Result<(), Error> {
        let mut n_tokens = ids.len() + proposals.values().map(|proposal| proposal.tokens.len()).sum::<usize>();
        let (mut lengths, mut candidates) = (vec![], vec![]);
        let mut pace = None;
        for &id in ids.iter().filter(|id| !proposals.contains_key(id)) {
            let Some(text) = self.rows.get(&id).and_then(Row::text) else { continue };
            let max_len = text.n_left().saturating_sub(1);
            let Some(drafting) = text.draft.as_ref().filter(|drafting| max_len > 0 && drafting.proposes_by(draft))
            else {
                continue;
            };
            pace.get_or_insert_with(|| drafting.pace.clone());
            match drafting.n_fixed {
                Some(n_fixed) => {
                    n_tokens += n_fixed.min(max_len);
                    lengths.push((id, n_fixed.min(max_len)));
                }
                None => candidates.push((id, drafting.of_text.candidate(max_len, drafting.unread.len()))),
            }
        }
        let Some(pace) = pace else { return Ok(()) };
        let (of_candidates, texts): (Vec<RowId>, Vec<Candidate>) = candidates.into_iter().unzip();
        let chosen = lock(&pace).choose(ids.len(), n_tokens, &texts);
        lengths.extend(of_candidates.into_iter().zip(chosen));
        let mut drafters = vec![];
        for (id, n_wanted) in lengths {
            let Some((_, text)) = self.rows.get_mut(&id).and_then(Row::session_and_text) else { continue };
            let Some(mut drafting) = text.draft.take_if(|_| n_wanted > 0) else { continue };
            drafting.go_back();
            drafting.sampler.follow(&text.sampler);
            drafters.push(Drafter { id, drafting, n_wanted, proposed: vec![] });
        }
        let drawn = if drafters.is_empty() { Ok(()) } else { draw(draft, &pace, &mut drafters).await };
        let mut n_drafted = 0;
        for Drafter { id, drafting, proposed, .. } in drafters {
            if let Some((_, text)) = self.rows.get_mut(&id).and_then(Row::session_and_text) {
                text.draft = Some(drafting);
            }
            if !proposed.is_empty() {
                n_drafted += proposed.len();
                proposals.insert(id, Proposal { tokens: proposed, by: Proposer::Draft });
            }
        }
        drawn?;
        self.timed.push(TimedStep { pace, stopwatch: Stopwatch::start(), n_tokens, n_drafted });
        Ok(())
    }
}

/// Has the draft model read what it has not read of the texts of `drafters`, and draw the tokens that they want.
async fn draw(draft: &Model, pace: &Mutex<DraftPace>, drafters: &mut [Drafter]) -> Result<(), Error> {
    for Drafter { drafting, .. } in drafters.iter_mut().filter(|drafter| drafter.drafting.session.is_none()) {
        match draft.session() {
            Ok(session) => drafting.session = Some(session),
            Err(error) if error.is_out_of_memory() => drafting.is_off = true,
            Err(error) => return Err(error),
        }
    }
    let mut stopwatch = Stopwatch::start();
    let mut n_read = catch_up(draft, drafters).await?;
    // For a text of which the draft model has more to read it proposes nothing in this step.
    for Drafter { drafting, n_wanted, .. } in drafters.iter_mut() {
        if drafting.is_off || !drafting.unread.is_empty() {
            *n_wanted = 0;
        }
    }
    loop {
        drafters.iter_mut().for_each(Drafter::draw);
        lock(pace).has_drafted(n_read, stopwatch.seconds());
        stopwatch = Stopwatch::start();
        let mut parts = vec![];
        for drafter in drafters.iter_mut() {
            parts.extend(drafter.read_ahead()?);
        }
        if parts.is_empty() {
            return Ok(());
        }
        n_read = parts.len();
        feed_step(&mut parts).await?;
    }
}

/// Has the draft model read what it has not read of the texts, the shortest first, as far as one step goes. Returns the number of
/// tokens.
async fn catch_up(draft: &Model, drafters: &mut [Drafter]) -> Result<usize, Error> {
    let step_len = draft.executor()?.preferred_step_len().min(MAX_CATCH_UP_LEN);
    let mut drafters: Vec<&mut Drafter> = drafters.iter_mut().collect();
    drafters.sort_by_key(|drafter| drafter.drafting.unread.len());
    let (mut parts, mut lengths) = (vec![], vec![]);
    let mut n_read = 0;
    for Drafter { drafting, .. } in &mut drafters {
        let Drafting { session, unread, .. } = &mut **drafting;
        let len = if session.is_some() { unread.len().min(step_len - n_read) } else { 0 };
        lengths.push(len);
        if let Some(session) = session.as_mut().filter(|_| len > 0) {
            n_read += len;
            let want = if len == unread.len() { Want::LOGITS } else { Want::NOTHING };
            parts.push(Part { session, tokens: &unread[..len], want });
        }
    }
    feed_step(&mut parts).await?;
    for (Drafter { drafting, .. }, len) in drafters.into_iter().zip(lengths) {
        drafting.unread.drain(..len);
    }
    Ok(n_read)
}

fn lock(pace: &Mutex<DraftPace>) -> MutexGuard<'_, DraftPace> {
    pace.lock().unwrap_or_else(PoisonError::into_inner)
}
