//! One sequence: its state on the device, and the tokens that it has yet to read.

use crate::error::Error;
use crate::model::Model;
use crate::now::now;
use crate::recent::Recent;
use crate::state_file::StateOrigin;
use anser_model::{Sequence, State, Step};
use std::ops::ControlFlow;
use std::path::Path;

/// The fed tokens whose output is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Which {
    /// None.
    #[default]
    None,
    /// The last one.
    Last,
    /// Every one.
    All,
}

/// The outputs that [`Session::feed_for`] is to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    /// Logits, `[V]` per token.
    pub logits: Which,
    /// Hidden rows after the final norm, `[C]` per token. Without logits, the head is not computed.
    pub hidden: Which,
}

impl Want {
    /// Only the last token's logits.
    pub const LOGITS: Want = Want { logits: Which::Last, hidden: Which::None };
    /// No output: only the state advances.
    pub const NOTHING: Want = Want { logits: Which::None, hidden: Which::None };
}

/// The outputs of fed tokens as rows of f32; empty where none were wanted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fed {
    /// The logits, `[1 or T, V]`.
    pub logits: Vec<f32>,
    /// The hidden rows, `[1 or T, C]`.
    pub hidden: Vec<f32>,
}

/// A value of the plan for every token read.
#[derive(Debug, Clone, PartialEq)]
pub struct Activation {
    /// The name of the value in the plan, e.g. `blocks.3.att.r`.
    pub name: String,
    /// The number of columns of a row.
    pub n_cols: usize,
    /// The elements, `[T, n_cols]`.
    pub data: Vec<f32>,
}

/// One sequence of tokens and its state. Sessions of a model share its weights and nothing else.
#[derive(Debug)]
pub struct Session {
    model: Model,
    slot: usize,
    n_tokens: usize,
    /// Whether the session stands at the beginning of a document: nothing read, nothing but a tuned initial state
    /// restored.
    fresh: bool,
    /// Tokens that belong to the text but have not been read: those that a generation sampled last.
    pending: Vec<u32>,
    /// The last read token's logits, if they were computed.
    logits: Vec<f32>,
    /// The tokens read last since the fresh or restored state, as far as they are kept.
    recent: Recent,
}

impl Session {
    pub(crate) fn new(model: Model) -> Result<Session, Error> {
        let slot = model.executor()?.create_state()?;
        let session = Session {
            model,
            slot,
            n_tokens: 0,
            fresh: true,
            pending: vec![],
            logits: vec![],
            recent: Recent::default(),
        };
        if let Some(state) = session.model.initial_state() {
            session.model.executor()?.write_state(slot, state.data())?;
        }
        Ok(session)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The number of tokens read since the fresh or restored state.
    pub fn n_tokens(&self) -> usize {
        self.n_tokens
    }

    /// Whether the session stands at the beginning of a document: nothing read, nothing but a tuned initial state
    /// restored.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Sampled tokens that will be read first, before those of the next call.
    pub fn pending(&self) -> &[u32] {
        &self.pending
    }

    pub(crate) fn set_pending(&mut self, tokens: Vec<u32>) {
        self.pending = tokens;
    }

    /// Notes that a device which draws tokens itself has read the pending tokens. Their logits stay on the device until
    /// [`Session::set_logits`] is called.
    pub(crate) fn pending_was_read(&mut self) {
        let read = std::mem::take(&mut self.pending);
        self.advance(&read);
        self.logits.clear();
    }

    /// Sets the number of tokens read, for a session that continues from the state after that number of tokens.
    pub(crate) fn set_n_tokens(&mut self, n_tokens: usize) {
        self.n_tokens = n_tokens;
    }

    /// Stores the logits of the last token read, which were on the device.
    pub(crate) fn set_logits(&mut self, logits: Vec<f32>) {
        self.logits = logits;
    }

    /// The buffer for the logits of the last token read.
    pub(crate) fn logits_mut(&mut self) -> &mut Vec<f32> {
        &mut self.logits
    }

    /// Logits `[V]` of the token that follows; empty until [`Session::feed`] has read one.
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// Reads `tokens`; afterwards [`Session::logits`] are those of the last one.
    ///
    /// # Errors
    /// An id that the vocabulary does not have: nothing has been read then.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<(), Error> {
        self.model.may_block()?;
        now(self.feed_async(tokens))
    }

    /// [`Session::feed`], for where nothing may block. A future that is dropped before it is ready leaves the state between tokens: let the
    /// session then begin anew.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub async fn feed_async(&mut self, tokens: &[u32]) -> Result<(), Error> {
        let step_len = self.model.executor()?.preferred_step_len();
        let go_on = |_, _| ControlFlow::Continue(());
        self.model.clone().feed_in_steps(&mut [(self, tokens)], Want::LOGITS, step_len, go_on).await.map(drop)
    }

    /// Reads `tokens` and returns the outputs that `want` names. `progress(read, total)` is called after every chunk
    /// and may end the call.
    ///
    /// # Errors
    /// As [`Session::feed`]; [`Error::Cancelled`] if `progress` returned `Break`: the chunks until then have been read.
    pub fn feed_for(
        &mut self,
        tokens: &[u32],
        want: Want,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Fed, Error> {
        self.model.may_block()?;
        now(self.feed_for_async(tokens, want, progress))
    }

    /// [`Session::feed_for`], for where nothing may block; see [`Session::feed_async`].
    ///
    /// # Errors
    /// As [`Session::feed_for`].
    pub async fn feed_for_async(
        &mut self,
        tokens: &[u32],
        want: Want,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Fed, Error> {
        let step_len = self.model.executor()?.preferred_step_len();
        self.feed_chunked_async(tokens, want, step_len, progress).await
    }

    /// [`Session::feed_for`] with chunks of `step_len` tokens, which changes the speed and not the result.
    ///
    /// # Errors
    /// As [`Session::feed_for`].
    pub fn feed_chunked(
        &mut self,
        tokens: &[u32],
        want: Want,
        step_len: usize,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Fed, Error> {
        self.model.may_block()?;
        now(self.feed_chunked_async(tokens, want, step_len, progress))
    }

    /// [`Session::feed_chunked`], for where nothing may block; see [`Session::feed_async`].
    ///
    /// # Errors
    /// As [`Session::feed_for`].
    pub async fn feed_chunked_async(
        &mut self,
        tokens: &[u32],
        want: Want,
        step_len: usize,
        progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<Fed, Error> {
        let model = self.model.clone();
        if want.logits != Which::None {
            model.check_has_logits()?;
        }
        let reads = !self.pending.is_empty() || !tokens.is_empty();
        let mut fed = model.feed_in_steps(&mut [(self, tokens)], want, step_len, progress).await?.swap_remove(0);
        if want.logits == Which::Last && reads {
            fed.logits.clone_from(&self.logits);
        }
        Ok(fed)
    }

    /// Notes that `tokens` were read, the pending ones first.
    pub(crate) fn advance(&mut self, tokens: &[u32]) {
        self.n_tokens += tokens.len();
        self.fresh = false;
        self.recent.extend(tokens);
    }

    /// The last tokens that the session has read, as far as they are kept: 4,096 at most.
    pub(crate) fn recent(&self) -> &[u32] {
        self.recent.tokens()
    }

    /// Tells the session which tokens have led to its restored state. They are not read, and change no result: a generation proposes
    /// tokens by them ([`GenerateOptions::lookup`](crate::GenerateOptions::lookup),
    /// [`GenerateOptions::draft`](crate::GenerateOptions::draft)).
    ///
    /// # Errors
    /// An id that the vocabulary does not have.
    pub fn recall(&mut self, tokens: &[u32]) -> Result<(), Error> {
        self.check_ids(tokens)?;
        self.recent.clear();
        self.recent.extend(tokens);
        Ok(())
    }

    /// Reads the tokens that the last generation left pending.
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub fn flush(&mut self) -> Result<(), Error> {
        self.model.may_block()?;
        now(self.flush_async())
    }

    /// [`Session::flush`], for where nothing may block; see [`Session::feed_async`].
    ///
    /// # Errors
    /// As [`Session::feed`].
    pub async fn flush_async(&mut self) -> Result<(), Error> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let step_len = self.model.executor()?.preferred_step_len();
        let go_on = |_, _| ControlFlow::Continue(());
        self.model.clone().read_in_steps(&mut [(self, &[])], Want::LOGITS, step_len, go_on).await.map(drop)
    }

    /// Reads `tokens` and returns the values called `names` for each of them, to inspect the model; see
    /// [`Plan::values`](crate::Plan). Values that are computed for wanted outputs only (`ln_out`, `head`) are computed
    /// for every token.
    ///
    /// # Errors
    /// As [`Session::feed`]; a name that the plan does not have.
    pub fn feed_reading(&mut self, tokens: &[u32], names: &[&str]) -> Result<Vec<Activation>, Error> {
        self.model.may_block()?;
        now(self.feed_reading_async(tokens, names))
    }

    /// [`Session::feed_reading`], for where nothing may block; see [`Session::feed_async`].
    ///
    /// # Errors
    /// As [`Session::feed_reading`].
    pub async fn feed_reading_async(&mut self, tokens: &[u32], names: &[&str]) -> Result<Vec<Activation>, Error> {
        self.check_ids(tokens)?;
        self.flush_async().await?;
        let plan = self.model.plan().clone();
        let find = |name: &&str| {
            let reason = || format!("the plan has no value {name:?}; `anser inspect --plan` lists them");
            plan.find_value(name).ok_or_else(|| Error::Option { option: "names", reason: reason() })
        };
        let reads = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let activation = |(name, &id): (&&str, _)| Activation {
            name: name.to_string(),
            n_cols: plan.value(id).n_cols,
            data: vec![],
        };
        let mut activations: Vec<Activation> = names.iter().zip(&reads).map(activation).collect();
        let step_len = self.model.executor()?.preferred_step_len();
        for chunk in tokens.chunks(step_len) {
            let outputs: Vec<u32> = (0..chunk.len() as u32).collect();
            let sequences = [Sequence { slot: self.slot, n_tokens: chunk.len() }];
            let step = Step { tokens: chunk, sequences: &sequences, outputs: &outputs, reads: &reads, inputs: &[] };
            let read = self.model.executor_for_step()?.step(&step).await?;
            activations.iter_mut().zip(read).for_each(|(a, data)| a.data.extend(data));
            self.advance(chunk);
            self.logits.clear();
        }
        Ok(activations)
    }

    pub(crate) fn check_ids(&self, tokens: &[u32]) -> Result<(), Error> {
        self.model.check_ids(tokens)
    }

    /// A copy of the state, pending tokens included.
    ///
    /// # Errors
    /// If the device fails; [`Error::NotFinite`] if a number of the state is not finite.
    pub fn state(&mut self) -> Result<State, Error> {
        self.state_in(vec![])
    }

    /// [`Session::state`], for where nothing may block; see [`Session::feed_async`].
    ///
    /// # Errors
    /// As [`Session::state`].
    pub async fn state_async(&mut self) -> Result<State, Error> {
        self.state_in_async(vec![]).await
    }

    /// [`Session::state`] in the memory of `spare`, where that is possible.
    pub(crate) fn state_in(&mut self, spare: Vec<f32>) -> Result<State, Error> {
        self.model.may_block()?;
        now(self.state_in_async(spare))
    }

    async fn state_in_async(&mut self, spare: Vec<f32>) -> Result<State, Error> {
        self.flush_async().await?;
        let read = self.model.executor()?.read_state(self.slot, self.model.state_layout(), spare).await;
        let state = read.map_err(|error| match error {
            Error::State(anser_model::StateError::NotFinite { part, layer, index, value }) => Error::NotFinite {
                file: self.model.name().into(),
                what: format!("element {index} of {part} in the state of layer {layer}"),
                value,
            },
            error => error,
        })?;
        Ok(state.made_by(self.model.identity()?.clone()))
    }

    /// Continues from `state`. The session has no logits until it has read a token.
    ///
    /// # Errors
    /// A state of another shape or, if the state names its model, of another model; the session is unchanged then.
    pub fn restore(&mut self, state: &State) -> Result<(), Error> {
        self.model.check_state(state)?;
        self.overwrite(state.data())
    }

    /// Begins a document from `state`, an initial state that tuning has made, as a fresh session begins one from zeros.
    ///
    /// # Errors
    /// As [`Session::restore`].
    pub fn begin_from(&mut self, state: &State) -> Result<(), Error> {
        self.restore(state)?;
        self.fresh = true;
        Ok(())
    }

    /// Continues from `state` with the logits `[V]` of the token that led to it, which may be none.
    ///
    /// # Errors
    /// As [`Session::restore`].
    pub fn resume(&mut self, state: &State, logits: &[f32]) -> Result<(), Error> {
        self.restore(state)?;
        self.logits = logits.to_vec();
        Ok(())
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    fn overwrite(&mut self, data: &[f32]) -> Result<(), Error> {
        self.model.executor()?.write_state(self.slot, data)?;
        self.n_tokens = 0;
        self.fresh = false;
        self.pending.clear();
        self.logits.clear();
        self.recent.clear();
        Ok(())
    }

    /// A second session that continues from the same point.
    ///
    /// # Errors
    /// If the device has no memory for another state.
    pub fn fork(&self) -> Result<Session, Error> {
        let mut fork = Session::new(self.model.clone())?;
        fork.copy_from(self)?;
        Ok(fork)
    }

    /// Continues from where `other` is, a session of the same model.
    ///
    /// Errors: the device fails.
    pub(crate) fn copy_from(&mut self, other: &Session) -> Result<(), Error> {
        self.model.executor()?.copy_state(other.slot, self.slot)?;
        self.n_tokens = other.n_tokens;
        self.fresh = other.fresh;
        self.pending.clone_from(&other.pending);
        self.logits.clone_from(&other.logits);
        self.recent.clone_from(&other.recent);
        Ok(())
    }

    /// Returns to a fresh state: zeros, or [`Model::initial_state`].
    ///
    /// # Errors
    /// If the device fails.
    pub fn reset(&mut self) -> Result<(), Error> {
        let model = self.model.clone();
        match model.initial_state() {
            Some(state) => self.overwrite(state.data())?,
            None => self.overwrite(&vec![0.0; model.state_layout().len()])?,
        }
        self.fresh = true;
        Ok(())
    }

    /// Writes the state, pending tokens included, to a safetensors file that names this model. The file holds the last
    /// token's logits, too, if they are known, so that a generation can continue without another token.
    ///
    /// # Errors
    /// If the file cannot be written, see [`files::write_with`](crate::files::write_with); [`Error::Output`] if it is a
    /// file that the model is read from.
    pub fn save_state(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.model.check_output(&path)?;
        let state = self.state()?;
        self.model.save_state(path, &state, &self.logits)
    }

    /// Continues from a state that [`Session::save_state`] wrote, or begins with a tuned initial state; see
    /// [`Model::load_state`]. [`StateOrigin::remark`] tells whether the state may be another model's.
    ///
    /// # Errors
    /// If the file is damaged or its state is another model's; the session is unchanged then.
    pub fn load_state(&mut self, path: impl AsRef<Path>) -> Result<StateOrigin, Error> {
        let loaded = self.model.load_state(path)?;
        self.resume(&loaded.state, &loaded.logits)?;
        self.fresh = loaded.origin == StateOrigin::Tuned;
        Ok(loaded.origin)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.model.drop_state(self.slot);
    }
}
