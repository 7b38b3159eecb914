//! Generates several texts side by side, in sessions that the caller keeps.

use super::text::Text;
use super::{FinishReason, GenerateOptions, Piece};
use crate::error::Error;
use crate::model::Model;
use crate::now::now;
use crate::rows::{Proposals, RowEvent, RowEventKind, RowId, RowTask, Rows};
use crate::session::{Session, Want};
use std::collections::VecDeque;
use std::ops::ControlFlow;

/// Texts that are being generated side by side: iterate for their pieces, each with the index of its prompt. If it is
/// dropped early, every session stands after the last token drawn for it.
#[derive(Debug)]
pub struct Generations<'a> {
    rows: Rows<&'a mut Session>,
    /// The rows, in the order of the prompts.
    ids: Vec<RowId>,
    /// Pieces that the iterator has not returned yet.
    ready: VecDeque<(usize, Piece)>,
    failed: bool,
}

impl Model {
    /// Reads prompts and generates the text that follows each of them, in the session that is given with it. `options`
    /// are one for all or one for each. The texts are those that [`Session::generate`] gives one by one with the same
    /// seeds, unless rounding decides between tokens. They take far less time, since every weight is read once for all
    /// of them. A text that ends does not change the others. A GPU that draws the tokens needs a second state and 28
    /// bytes per token of the vocabulary for each text; the host draws for a text that needs a sampler which the GPU does not
    /// have.
    ///
    /// # Errors
    /// As [`Session::generate`], if possible before any token is read; a session of another model.
    pub fn generate_batch<'a>(
        &self,
        prompts: &'a mut [(&mut Session, &[u32])],
        options: &[GenerateOptions],
    ) -> Result<Generations<'a>, Error> {
        self.may_block()?;
        now(self.generate_batch_async(prompts, options))
    }

    /// [`Model::generate_batch`], for where nothing may block: [`Generations::next_async`] gives the pieces.
    ///
    /// # Errors
    /// As [`Model::generate_batch`].
    pub async fn generate_batch_async<'a>(
        &self,
        prompts: &'a mut [(&mut Session, &[u32])],
        options: &[GenerateOptions],
    ) -> Result<Generations<'a>, Error> {
        let prompts = prompts.iter_mut().map(|(session, prompt)| (&mut **session, *prompt)).collect();
        Generations::start(self, prompts, options).await
    }
}

impl<'a> Generations<'a> {
    /// Reads the prompts.
    pub(super) async fn start(
        model: &Model,
        prompts: Vec<(&'a mut Session, &[u32])>,
        options: &[GenerateOptions],
    ) -> Result<Generations<'a>, Error> {
        if options.len() != 1 && options.len() != prompts.len() {
            let (n, found) = (prompts.len(), options.len());
            let reason = format!("expected one for all or one for each of {n} prompts, found {found}");
            return Err(Error::Option { option: "options", reason });
        }
        let cancels: Vec<_> = options.iter().map(|options| options.cancel.clone()).collect();
        let (mut rows, mut ids) = (Rows::new(model), vec![]);
        for ((session, prompt), options) in prompts.into_iter().zip(options.iter().cycle()) {
            ids.push(rows.join(session, prompt, &RowTask::Generate { options: options.clone(), n_top: None })?);
        }
        let progress = |_, _| match cancels.iter().all(|cancel| cancel.is_cancelled()) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        rows.read_prompts(Want::LOGITS, progress).await?;
        Ok(Generations { rows, ids, ready: VecDeque::new(), failed: false })
    }

    /// The reason for which the text of a prompt ended; `None` while it goes on, and for an index without a prompt.
    pub fn finish_reason(&self, index: usize) -> Option<FinishReason> {
        self.rows.finish_reason(*self.ids.get(index)?)
    }

    /// All tokens drawn so far for a prompt, but for a stop token.
    pub fn tokens(&self, index: usize) -> &[u32] {
        self.ids.get(index).map_or(&[], |&id| self.rows.tokens(id))
    }

    /// How many tokens were proposed for the text of a prompt ([`GenerateOptions::lookup`], [`GenerateOptions::draft`]), and how many of
    /// them were drawn.
    pub fn proposals(&self, index: usize) -> Proposals {
        self.ids.get(index).map_or_else(Proposals::default, |&id| self.rows.proposals(id))
    }

    /// Runs to the end and returns the texts, in the order of the prompts.
    ///
    /// # Errors
    /// The first error of any piece.
    pub fn texts(&mut self) -> Result<Vec<String>, Error> {
        let mut texts = vec![String::new(); self.ids.len()];
        for piece in self {
            let (index, piece) = piece?;
            texts[index] += &piece.text;
        }
        Ok(texts)
    }

    /// The next piece and the index of its prompt, for where nothing may block; `None` once all texts have ended.
    ///
    /// # Errors
    /// What a device or the drawing of a token fails with; the generations have ended then.
    pub async fn next_async(&mut self) -> Option<Result<(usize, Piece), Error>> {
        if self.failed {
            return None;
        }
        let step = self.advance().await;
        self.failed = step.is_err();
        step.transpose()
    }

    /// Ends the generations where they are, for where nothing may block: every session stands after the last token drawn for it, with the
    /// logits of the one before. If they are only dropped, a browser's GPU keeps these logits, and a session whose next prompt is
    /// empty has to read a token first.
    ///
    /// # Errors
    /// A lost device.
    pub async fn finish_async(mut self) -> Result<(), Error> {
        self.rows.rest_device_async().await
    }

    /// The text of a generation that has only one.
    pub(super) fn only(&self) -> Option<&Text> {
        self.rows.text(*self.ids.first()?)
    }

    /// The text of a generation that has only one and its session, for changes.
    pub(super) fn only_mut(&mut self) -> Option<(&mut Session, &mut Text)> {
        self.rows.session_and_text(*self.ids.first()?)
    }

    /// Draws tokens until there is a piece to return or all texts have ended.
    async fn advance(&mut self) -> Result<Option<(usize, Piece)>, Error> {
        while self.ready.is_empty() && self.rows.n_going() > 0 {
            for RowEvent { row, kind } in self.rows.step_async(usize::MAX).await? {
                match kind {
                    RowEventKind::Text(piece) => {
                        // Rows are numbered in the order of the prompts.
                        self.ready.extend(self.ids.binary_search(&row).ok().map(|index| (index, piece)));
                    }
                    RowEventKind::Failed(error) => return Err(error),
                    RowEventKind::PromptRead
                    | RowEventKind::Scored(_)
                    | RowEventKind::Token(_)
                    | RowEventKind::Ended(_) => {}
                }
            }
        }
        if self.rows.n_going() == 0 {
            self.rows.rest_device_async().await?;
        }
        Ok(self.ready.pop_front())
    }
}

impl Iterator for Generations<'_> {
    type Item = Result<(usize, Piece), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.rows.model().may_block() {
            return Some(Err(error));
        }
        now(async { Ok(self.next_async().await) }).unwrap_or_else(|error| Some(Err(error)))
    }
}
