//! The rows whose tokens a device draws, one step ahead of the host.

use super::{Row, RowId, Rows, Task};
use crate::device::DrawerOf;
use crate::error::Error;
use crate::now::now;
use crate::session::Session;
use anser_gpu::{Drawing, DrawnFor};
use std::borrow::BorrowMut;

/// The number of tokens from which drawing on the device saves more time than setting it up takes.
const MIN_DEVICE_TOKENS: usize = 8;

/// The number of steps without a row that joined after which a drawing to which rows have joined may shrink. Where rows come and
/// go it would otherwise shrink and grow again, and each time it begins anew costs some steps.
const MIN_QUIET_STEPS: usize = 32;

/// What a device that draws has of the rows.
#[derive(Debug)]
pub(super) struct OnDevice {
    drawing: Option<Drawing>,
    /// For each row of the drawing, the row of the batch; `None` for one that no row of the batch has.
    rows: Vec<Option<RowId>>,
    /// The most rows that the device can draw for.
    max_rows: usize,
    /// The number of steps since a row has joined; `None` if none has joined the drawing since it began.
    n_quiet_steps: Option<usize>,
}

impl Default for OnDevice {
    fn default() -> OnDevice {
        OnDevice { drawing: None, rows: vec![], max_rows: usize::MAX, n_quiet_steps: None }
    }
}

impl OnDevice {
    pub(super) fn has(&self, id: RowId) -> bool {
        self.rows.contains(&Some(id))
    }

    pub(super) fn has_drawing(&self) -> bool {
        self.drawing.is_some()
    }

    pub(super) fn n_rows(&self) -> usize {
        self.rows.iter().flatten().count()
    }

    fn place_of(&self, id: RowId) -> Option<usize> {
        self.rows.iter().position(|&row| row == Some(id))
    }

    /// The row leaves the drawing without its logits.
    pub(super) fn forget(&mut self, id: RowId) {
        if let Some(at) = self.place_of(id) {
            self.rows[at] = None;
            if let Some(drawing) = &mut self.drawing {
                drawing.forget(at);
            }
        }
    }
}

impl<S: BorrowMut<Session>> Row<S> {
    /// What the device needs to draw for the row, if it has drawn a token by its prompt's logits and the device has its sampler.
    fn drawer(&self) -> Option<DrawerOf<'_>> {
        let Task::Generate { text, n_top: None } = &self.progress.task else { return None };
        match self.session().pending() {
            &[token] if self.draws() && text.draws_on_device => {
                Some(DrawerOf { slot: self.session().slot(), token, sampler: &text.sampler })
            }
            _ => None,
        }
    }

    /// Whether the device will draw for the row once it has read its prompt.
    fn will_draw(&self) -> bool {
        let Task::Generate { text, n_top: None } = &self.progress.task else { return false };
        text.end().is_none() && text.draws_on_device
    }
}

impl<S: BorrowMut<Session>> Rows<S> {
    /// Takes the texts that have ended off the device, and brings those there that have begun. Where they do not fit, all leave
    /// the device and it begins anew with more rows. It also begins anew once at most half of its rows go on, since the time of a
    /// step depends on the number of rows that it began with.
    pub(super) async fn settle_device(&mut self) -> Result<(), Error> {
        if self.device.max_rows == 0 {
            return Ok(());
        }
        let n_rows = self.device.rows.len();
        if self.device.drawing.is_none() {
            return self.start_drawing(None).await;
        }
        let on_device = self.device.rows.iter().flatten().copied();
        let ended: Vec<RowId> = on_device.filter(|id| self.rows.get(id).is_none_or(|row| !row.draws())).collect();
        let n_going = self.device.n_rows() - ended.len();
        let is_new = |(id, row): &(&RowId, &Row<S>)| !self.device.has(**id) && row.drawer().is_some();
        let joining: Vec<RowId> = self.rows.iter().filter(is_new).map(|(&id, _)| id).collect();
        let n_wanted = (n_going + joining.len()).min(self.device.max_rows);
        let n_soon = self.rows.values().filter(|row| row.will_draw()).count();
        let may_shrink = self.device.n_quiet_steps.is_none_or(|n| n >= MIN_QUIET_STEPS);
        self.device.n_quiet_steps = self.device.n_quiet_steps.map(|n| n + 1);
        if n_wanted > n_rows {
            self.rest_device_async().await?;
            return self.start_drawing(Some(n_wanted.next_power_of_two())).await;
        }
        if may_shrink && 2 * n_soon <= n_rows {
            self.rest_device_async().await?;
            return self.start_drawing(None).await;
        }
        self.leave_device(&ended).await?;
        for id in joining {
            let Some(drawer) = self.rows.get(&id).and_then(Row::drawer) else { continue };
            let Some(drawing) = &mut self.device.drawing else { break };
            let joined = self.model.executor()?.join_drawing(drawing, &drawer)?;
            let Some(place) = joined.and_then(|at| self.device.rows.get_mut(at)) else { break };
            *place = Some(id);
            self.device.n_quiet_steps = Some(0);
        }
        Ok(())
    }

    /// Begins to draw on the device for the rows that it can draw for. `n_rows`: the rows to begin with, if there shall be more
    /// than these.
    async fn start_drawing(&mut self, n_rows: Option<usize>) -> Result<(), Error> {
        self.device.n_quiet_steps = n_rows.map(|_| 0);
        loop {
            let able = self.rows.iter().filter_map(|(&id, row)| Some((id, row.drawer()?)));
            let (ids, drawers): (Vec<RowId>, Vec<DrawerOf>) = able.take(self.device.max_rows).unzip();
            let n_left = ids.iter().filter_map(|id| Some(self.rows.get(id)?.text()?.n_left())).max().unwrap_or(0);
            if n_left < MIN_DEVICE_TOKENS {
                return Ok(());
            }
            let n_rows = n_rows.unwrap_or(0).clamp(ids.len(), self.device.max_rows);
            let started = self.model.executor_for_step()?.start_drawing(&drawers, n_rows).await?;
            if let Some(drawing) = started {
                self.device.rows = ids.into_iter().map(Some).collect();
                self.device.rows.resize(n_rows, None);
                self.device.drawing = Some(drawing);
                return Ok(());
            }
            // The host draws for the others, or for all of them.
            self.device.max_rows = n_rows / 2;
        }
    }

    /// Lets the device read the last tokens of its rows and draw the next ones. A row for which it can draw none leaves it, and
    /// the host reads that row's token.
    pub(super) async fn draw_on_device(&mut self) -> Result<Vec<(RowId, u32)>, Error> {
        let n_left = self.device.rows.iter().flatten().filter_map(|id| Some(self.rows.get(id)?.text()?.n_left())).max();
        let Some((drawing, n_left)) = self.device.drawing.as_mut().zip(n_left) else { return Ok(vec![]) };
        let drawn = self.model.executor_for_step()?.draw(drawing, n_left > 1).await?;
        let (mut tokens, mut halted) = (vec![], vec![]);
        for (id, drawn) in self.device.rows.iter().zip(drawn).filter_map(|(id, drawn)| Some(((*id)?, drawn))) {
            match drawn {
                DrawnFor::Token(token) => {
                    if let Some((session, text)) = self.rows.get_mut(&id).and_then(Row::session_and_text) {
                        session.pending_was_read();
                        text.sampler.skip();
                        tokens.push((id, token));
                    }
                }
                DrawnFor::Halted => halted.push(id),
                // The row has joined while the device was a step ahead.
                DrawnFor::Nothing => {}
            }
        }
        // The host reads the tokens that the device could not read (in f32 if numbers exceeded f16). If it cannot draw one
        // either, its error says what is wrong with the logits.
        self.leave_device(&halted).await?;
        for id in halted {
            if let Some(row) = self.rows.get_mut(&id) {
                row.session_mut().set_logits(vec![]);
            }
        }
        Ok(tokens)
    }

    /// Takes rows off the device, and the logits of their last tokens back to the sessions.
    pub(super) async fn leave_device(&mut self, ids: &[RowId]) -> Result<(), Error> {
        let (places, ids): (Vec<usize>, Vec<RowId>) =
            ids.iter().filter_map(|&id| Some((self.device.place_of(id)?, id))).unzip();
        let Some(drawing) = self.device.drawing.as_mut().filter(|_| !places.is_empty()) else { return Ok(()) };
        let logits = self.model.executor()?.leave_drawing(drawing, &places).await?;
        places.into_iter().for_each(|at| self.device.rows[at] = None);
        self.take_logits(ids.into_iter().zip(logits));
        Ok(())
    }

    /// Takes all rows off the device and frees the memory for drawing there. The next step that draws begins anew: call this where
    /// none is near.
    ///
    /// # Errors
    /// A lost device.
    pub fn rest_device(&mut self) -> Result<(), Error> {
        self.model.may_block()?;
        now(self.rest_device_async())
    }

    /// [`Rows::rest_device`], for where nothing may block. In a browser, call this before rows are dropped whose sessions go on: what is
    /// dropped cannot wait, and leaves the logits of the last tokens on the device.
    ///
    /// # Errors
    /// As [`Rows::rest_device`].
    pub async fn rest_device_async(&mut self) -> Result<(), Error> {
        let Some(drawing) = self.device.drawing.take() else { return Ok(()) };
        let ids: Vec<RowId> = std::mem::take(&mut self.device.rows).into_iter().flatten().collect();
        let logits = self.model.executor()?.finish_drawing(drawing).await?;
        self.take_logits(ids.into_iter().zip(logits));
        Ok(())
    }

    /// Frees the memory for drawing on the device without waiting for it.
    pub(super) fn abandon_device(&mut self) {
        let Some(drawing) = self.device.drawing.take() else { return };
        self.device.rows.clear();
        drawing.spares().for_each(|slot| self.model.drop_state(slot));
    }

    /// Gives sessions the logits of the last tokens read on the device; none if the device drew no token from them.
    fn take_logits(&mut self, logits: impl Iterator<Item = (RowId, Vec<f32>)>) {
        for (id, logits) in logits.filter(|(_, logits)| !logits.is_empty()) {
            if let Some(row) = self.rows.get_mut(&id) {
                row.session_mut().set_logits(logits);
            }
        }
    }
}
