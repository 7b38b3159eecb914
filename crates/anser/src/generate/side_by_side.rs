//! Generates several texts side by side: one step reads a token of each.

use super::text::Text;
use super::{END_OF_TEXT, FinishReason, GenerateOptions, Piece};
use crate::error::Error;
use crate::model::Model;
use crate::session::{Session, Want};
use anser_gpu::Drawing;
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Texts that are being generated side by side: iterate for their pieces, each with the index of its prompt. If it is
/// dropped early, every session stands after the last token drawn for it.
#[derive(Debug)]
pub struct Generations<'a> {
    model: Model,
    texts: Vec<Text<'a>>,
    /// Pieces that the iterator has not returned yet.
    ready: VecDeque<(usize, Piece)>,
    /// The texts on a device that draws their tokens, one step ahead of the host; `None` while the host draws.
    device: Option<OnDevice>,
    /// Whether the host draws all tokens, because the device lacks a sampler of these texts.
    host_draws: bool,
    failed: bool,
}

/// Texts whose tokens a device draws.
#[derive(Debug)]
struct OnDevice {
    drawing: Drawing,
    /// For each row of the drawing, the index of its text; `None` once the text has left the device.
    rows: Vec<Option<usize>>,
}

/// The number of tokens from which drawing on the device saves more time than setting it up takes.
const MIN_DEVICE_TOKENS: usize = 8;

impl Model {
    /// Reads prompts and generates the text that follows each of them, in the session that is given with it. `options`
    /// are one for all or one for each. The texts are those that [`Session::generate`] gives one by one with the same
    /// seeds, unless rounding decides between tokens. They take far less time, since every weight is read once for all
    /// of them. A text that ends does not change the others. A GPU that draws the tokens needs a second state and 28
    /// bytes per token of the vocabulary for each text; if one text needs a sampler that the GPU does not have, the
    /// host draws for all.
    ///
    /// # Errors
    /// As [`Session::generate`], if possible before any token is read; a session of another model.
    pub fn generate_batch<'a>(
        &self,
        prompts: &'a mut [(&mut Session, &[u32])],
        options: &[GenerateOptions],
    ) -> Result<Generations<'a>, Error> {
        let prompts = prompts.iter_mut().map(|(session, prompt)| (&mut **session, *prompt)).collect();
        Generations::start(self.clone(), prompts, options)
    }
}

impl<'a> Generations<'a> {
    /// Reads the prompts.
    pub(super) fn start(
        model: Model,
        prompts: Vec<(&'a mut Session, &[u32])>,
        options: &[GenerateOptions],
    ) -> Result<Generations<'a>, Error> {
        if options.len() != 1 && options.len() != prompts.len() {
            let (n, found) = (prompts.len(), options.len());
            let reason = format!("expected one for all or one for each of {n} prompts, found {found}");
            return Err(Error::Option { option: "options", reason });
        }
        // Without one, there are ids and no texts to end at.
        let tokenizer = match model.tokenizer() {
            Err(error) if options.iter().any(|options| !options.stop.is_empty()) => return Err(error),
            tokenizer => tokenizer.ok(),
        };
        let uncounted = tokenizer.map(crate::sampler::uncounted_tokens).unwrap_or_default();
        let (mut texts, mut unread) = (vec![], vec![]);
        for ((session, prompt), options) in prompts.into_iter().zip(options.iter().cycle()) {
            let prompt = if prompt.is_empty() && session.is_fresh() { &[END_OF_TEXT] } else { prompt };
            if prompt.is_empty() && session.pending().is_empty() && session.logits().is_empty() {
                let reason = "a restored state needs at least one token to go on from".into();
                return Err(Error::Option { option: "prompt", reason });
            }
            texts.push(Text::new(session, options, tokenizer, &uncounted)?);
            unread.push(prompt);
        }
        let cancels: Vec<_> = options.iter().map(|options| options.cancel.clone()).collect();
        let progress = |_, _| match cancels.iter().all(|cancel| cancel.is_cancelled()) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let mut feeds: Vec<_> = texts.iter_mut().map(|text| &mut *text.session).zip(unread).collect();
        model.feed_batch_for(&mut feeds, Want::LOGITS, progress)?;
        Ok(Generations { model, texts, ready: VecDeque::new(), device: None, host_draws: false, failed: false })
    }

    /// The reason for which the text of a prompt ended; `None` while it goes on, and for an index without a prompt.
    pub fn finish_reason(&self, index: usize) -> Option<FinishReason> {
        self.texts.get(index)?.end()
    }

    /// All tokens drawn so far for a prompt, but for a stop token.
    pub fn tokens(&self, index: usize) -> &[u32] {
        self.texts.get(index).map_or(&[], Text::tokens)
    }

    /// Runs to the end and returns the texts, in the order of the prompts.
    ///
    /// # Errors
    /// The first error of any piece.
    pub fn texts(&mut self) -> Result<Vec<String>, Error> {
        let mut texts = vec![String::new(); self.texts.len()];
        for piece in self {
            let (index, piece) = piece?;
            texts[index] += &piece.text;
        }
        Ok(texts)
    }

    /// The text of a generation that has only one.
    pub(super) fn only(&self) -> Option<&Text<'a>> {
        self.texts.first()
    }

    /// The text of a generation that has only one, for changes.
    pub(super) fn only_mut(&mut self) -> Option<&mut Text<'a>> {
        self.texts.first_mut()
    }

    /// Texts that have not ended, with their indices.
    fn going(&self) -> impl Iterator<Item = (usize, &Text<'a>)> {
        self.texts.iter().enumerate().filter(|(_, text)| text.end().is_none())
    }

    /// Texts that have not ended, with their indices, for changes.
    fn going_mut(&mut self) -> impl Iterator<Item = (usize, &mut Text<'a>)> {
        self.texts.iter_mut().enumerate().filter(|(_, text)| text.end().is_none())
    }

    /// Draws tokens until there is a piece to return or all texts have ended.
    fn advance(&mut self) -> Result<Option<(usize, Piece)>, Error> {
        while self.ready.is_empty() && self.going().next().is_some() {
            let held = self.going_mut().map(|(i, text)| (i, text.end_if_due())).collect();
            self.show(held);
            self.let_ended_leave()?;
            let tokens = match self.draw_on_device()? {
                Some(tokens) => tokens,
                None => self.draw_on_host()?,
            };
            let certain = self.going_mut().zip(tokens).map(|((i, text), token)| (i, text.push(token))).collect();
            self.show(certain);
            self.let_ended_leave()?;
        }
        Ok(self.ready.pop_front())
    }

    /// Keeps pieces of text, with the indices of their texts, until the iterator returns them.
    fn show(&mut self, pieces: Vec<(usize, Piece)>) {
        self.ready.extend(pieces.into_iter().filter(|(_, piece)| !piece.text.is_empty()));
    }

    /// For all texts that go on, reads the last token and draws the next one.
    fn draw_on_host(&mut self) -> Result<Vec<u32>, Error> {
        let model = self.model.clone();
        let mut feeds: Vec<_> = self.going_mut().map(|(_, text)| (&mut *text.session, &[][..])).collect();
        model.feed_batch(&mut feeds, Want::LOGITS)?;
        let draw = |(_, text): (usize, &mut Text)| Ok(text.sampler.sample(text.session.logits())?);
        self.going_mut().map(draw).collect()
    }

    /// For all texts that go on, lets the device read the last token and draw the next one; `None` if the host has to.
    fn draw_on_device(&mut self) -> Result<Option<Vec<u32>>, Error> {
        let model = self.model.clone();
        let n_left = self.going().map(|(_, text)| text.n_left()).max().unwrap_or(0);
        let mut device = match self.device.take() {
            Some(device) => device,
            None if self.host_draws || n_left < MIN_DEVICE_TOKENS => return Ok(None),
            None => {
                // The first tokens come from the logits of the prompts.
                let drawers: Option<Vec<_>> = self.going().map(|(_, text)| text.drawer()).collect();
                let Some(drawers) = drawers else { return Ok(None) };
                let Some(drawing) = model.executor_for_step()?.start_drawing(&drawers)? else {
                    self.host_draws = true;
                    return Ok(None);
                };
                OnDevice { drawing, rows: self.going().map(|(i, _)| Some(i)).collect() }
            }
        };
        let drawn = model.executor_for_step().and_then(|mut executor| executor.draw(&mut device.drawing, n_left > 1));
        let rows = device.rows.clone();
        self.device = Some(device);
        let drawn: Vec<_> = drawn?.into_iter().zip(rows).filter_map(|(token, text)| Some((text?, token))).collect();
        for (text, _) in drawn.iter().filter(|(_, token)| token.is_some()) {
            self.texts[*text].session.pending_was_read();
        }
        let tokens: Option<Vec<u32>> = drawn.iter().map(|&(_, token)| token).collect();
        match tokens {
            Some(_) => self.going_mut().for_each(|(_, text)| text.sampler.skip()),
            None => {
                // The host reads the tokens that the device could not read (in f32 if numbers exceeded f16) and draws
                // this round's tokens of all texts. If it cannot draw one either, its error says what is wrong with the
                // logits.
                self.leave_device()?;
                for (text, _) in drawn.iter().filter(|(_, token)| token.is_none()) {
                    self.texts[*text].session.set_logits(vec![]);
                }
            }
        }
        Ok(tokens)
    }

    /// Takes the texts that have ended off the device. Once at most half of the device's rows go on, all texts leave it
    /// and it begins anew with the others: the time of a step depends on the number of rows that it began with.
    fn let_ended_leave(&mut self) -> Result<(), Error> {
        let n_going = self.going().count();
        let Some(device) = &mut self.device else { return Ok(()) };
        if 2 * n_going <= device.rows.len() {
            return self.leave_device();
        }
        let has_ended = |text: &Option<usize>| text.is_some_and(|i| self.texts[i].end().is_some());
        let leaving: Vec<usize> = (0..device.rows.len()).filter(|&row| has_ended(&device.rows[row])).collect();
        if leaving.is_empty() {
            return Ok(());
        }
        let logits = self.model.executor()?.leave_drawing(&mut device.drawing, &leaving)?;
        for (row, logits) in leaving.into_iter().zip(logits) {
            if let Some(text) = device.rows[row].take() {
                self.texts[text].take_logits(logits);
            }
        }
        Ok(())
    }

    /// Takes all texts off the device and their logits back to the sessions.
    fn leave_device(&mut self) -> Result<(), Error> {
        let Some(OnDevice { drawing, rows }) = self.device.take() else { return Ok(()) };
        let logits = self.model.executor()?.finish_drawing(drawing)?;
        for (text, logits) in rows.into_iter().flatten().zip(logits) {
            self.texts[text].take_logits(logits);
        }
        Ok(())
    }
}

impl Drop for Generations<'_> {
    /// Leaves the sessions after the last drawn tokens, and discards the step that the device did ahead.
    fn drop(&mut self) {
        // A device that fails here fails again at a session's next call, which returns the error.
        let _ = self.leave_device();
    }
}

impl Iterator for Generations<'_> {
    type Item = Result<(usize, Piece), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.advance();
        self.failed = step.is_err();
        step.transpose()
    }
}
