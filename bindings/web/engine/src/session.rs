//! A session: a sequence, its state, and a text that is being generated.

use crate::error::{refused, thrown};
use crate::model::to_json;
use crate::options::{Generate, parse};
use anser::chat::{Opening, ReplyEnd, ReplyParser};
use anser::stop::StopMatcher;
use anser::{FinishReason, Likelihood, RowEventKind, RowId, RowTask, Rows, State, StateOrigin, Want, Which};
use serde::Serialize;
use std::ops::ControlFlow;
use wasm_bindgen::prelude::*;

/// One sequence of tokens and its state.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Session {
    place: Place,
}

/// Where the sequence is.
#[derive(Debug)]
enum Place {
    Idle(anser::Session),
    Generating(Box<Generating>),
    /// A call has failed while the sequence was not in its place.
    Lost,
}

#[derive(Debug)]
struct Generating {
    rows: Rows,
    id: RowId,
    parser: Option<ReplyParser>,
    end: Option<&'static str>,
}

/// What a step of a generation gave.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reasoning: String,
    tokens: Vec<DrawnToken>,
    /// Tokens of the prompt that are not read yet.
    n_unread: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DrawnToken {
    id: u32,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_probability: Option<f32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    top: Vec<Candidate>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    id: u32,
    text: String,
    log_probability: f32,
}

impl Candidate {
    fn new(model: &anser::Model, id: u32, log_probability: f32) -> Candidate {
        Candidate { id, text: token_text(model, id), log_probability }
    }
}

/// The text of one token; bytes that are no whole character become U+FFFD.
fn token_text(model: &anser::Model, id: u32) -> String {
    let bytes = model.tokenizer().ok().and_then(|tokenizer| tokenizer.decode(&[id]).ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The outputs of tokens that were read: rows of numbers, empty where none were wanted.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Fed {
    inner: anser::Fed,
}

#[wasm_bindgen]
impl Fed {
    /// Logits `[1 or T, V]`; they are given away.
    pub fn logits(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.inner.logits)
    }

    /// Rows after the final norm, `[1 or T, C]`; they are given away.
    pub fn hidden(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.inner.hidden)
    }
}

#[wasm_bindgen]
impl Session {
    /// Reads `tokens`. `logits` and `hidden` are `none`, `last` or `all`.
    ///
    /// # Errors
    /// Ids that the vocabulary does not have; a generation that has not ended.
    pub async fn feed(&mut self, tokens: Vec<u32>, logits: String, hidden: String) -> Result<Fed, JsValue> {
        let want = Want { logits: which("logits", &logits)?, hidden: which("hidden", &hidden)? };
        let session = self.idle()?;
        let inner = session.feed_for_async(&tokens, want, |_, _| ControlFlow::Continue(())).await.map_err(thrown)?;
        Ok(Fed { inner })
    }

    /// The number of tokens read since the fresh or restored state.
    ///
    /// # Errors
    /// A generation that has not ended.
    pub fn n_tokens(&mut self) -> Result<usize, JsValue> {
        self.idle().map(|session| session.n_tokens())
    }

    /// The logits `[V]` of the token that follows; empty if they are not known.
    ///
    /// # Errors
    /// A generation that has not ended.
    pub fn logits(&mut self) -> Result<Vec<f32>, JsValue> {
        self.idle().map(|session| session.logits().to_vec())
    }

    /// The `n` tokens that are most likely to follow, the most likely first, as JSON; none if no logits are known.
    ///
    /// # Errors
    /// A generation that has not ended.
    pub fn likely(&mut self, n: usize) -> Result<String, JsValue> {
        let session = self.idle()?;
        let logits = session.logits();
        let top = if logits.is_empty() { vec![] } else { Likelihood::new(logits, 0, n).top };
        let model = session.model();
        let candidates = top.into_iter().map(|(id, log_probability)| Candidate::new(model, id, log_probability));
        Ok(to_json(&candidates.collect::<Vec<_>>()))
    }

    /// The state, in the order of the model's layout.
    ///
    /// # Errors
    /// A generation that has not ended; a model that computed numbers which are not finite.
    pub async fn state(&mut self) -> Result<Vec<f32>, JsValue> {
        Ok(self.idle()?.state_async().await.map_err(thrown)?.data().to_vec())
    }

    /// Continues from a state with the numbers `data`.
    ///
    /// # Errors
    /// Another number of elements than the layout has, or numbers that are not finite.
    pub fn restore(&mut self, data: Vec<f32>) -> Result<(), JsValue> {
        let session = self.idle()?;
        let layout = session.model().state_layout().clone();
        let state = State::from_vec(layout, data).map_err(|e| thrown(e.into()))?;
        session.restore(&state).map_err(thrown)
    }

    /// The bytes of a state file, which names the model and has the last token's logits if they are known.
    ///
    /// # Errors
    /// As [`Session::state`].
    pub async fn save(&mut self) -> Result<Vec<u8>, JsValue> {
        let session = self.idle()?;
        let state = session.state_async().await.map_err(thrown)?;
        session.model().state_to_bytes(&state, session.logits()).map_err(thrown)
    }

    /// Continues from a state file, or begins with a tuned state. Returns a remark if the state may be another model's, else nothing.
    ///
    /// # Errors
    /// A damaged file, or one of another model.
    pub fn open(&mut self, name: &str, bytes: Vec<u8>) -> Result<Option<String>, JsValue> {
        let session = self.idle()?;
        let loaded = session.model().state_from_bytes(name, bytes).map_err(thrown)?;
        match loaded.origin {
            StateOrigin::Tuned => session.begin_from(&loaded.state).map_err(thrown)?,
            _ => session.resume(&loaded.state, &loaded.logits).map_err(thrown)?,
        }
        Ok(loaded.origin.remark().map(str::to_string))
    }

    /// A second session that continues from the same point.
    ///
    /// # Errors
    /// No memory for another state; a generation that has not ended.
    pub fn fork(&mut self) -> Result<Session, JsValue> {
        self.idle()?.fork().map(Session::new).map_err(thrown)
    }

    /// Returns to a fresh state.
    ///
    /// # Errors
    /// A generation that has not ended.
    pub fn reset(&mut self) -> Result<(), JsValue> {
        self.idle()?.reset().map_err(thrown)
    }

    /// Begins to generate the text after `prompt`, which the next steps read; `options` is JSON. An empty prompt goes on after the
    /// session's tokens.
    ///
    /// # Errors
    /// Options that are not known or out of range; a generation that has not ended.
    pub fn begin(&mut self, prompt: Vec<u32>, options: &str) -> Result<(), JsValue> {
        let generate: Generate = parse("options", options)?;
        let (n_top, reply) = (generate.probabilities, generate.reply);
        let (options, stop) = generate.options();
        let model = self.idle()?.model().clone();
        let parser = match reply {
            Some(reply) => {
                let template = reply.template.map_or_else(|| model.chat_template(), Into::into);
                let parser = ReplyParser::new(template, Opening::from(reply.thinking), stop);
                Some(parser.map_err(|e| refused(&format!("stop: {e}")))?)
            }
            None => None,
        };
        options.sampler.validate(model.config().n_vocab).map_err(|e| thrown(e.into()))?;
        model.check_ids(&prompt).map_err(thrown)?;
        // A session that joins and is refused is gone; so all that can be refused is looked at before.
        model.check_has_logits().map_err(thrown)?;
        if !options.stop.is_empty() {
            model.tokenizer().map_err(thrown)?;
            StopMatcher::new(options.stop.clone()).map_err(|e| refused(&format!("stop: {e}")))?;
        }
        if prompt.is_empty()
            && !self.idle()?.is_fresh()
            && self.idle()?.logits().is_empty()
            && self.idle()?.pending().is_empty()
        {
            return Err(refused("prompt: it is empty, and the session has no token to go on from"));
        }
        let Place::Idle(session) = std::mem::replace(&mut self.place, Place::Lost) else { return Err(lost()) };
        let mut rows = Rows::new(&model);
        let id = rows.join(session, &prompt, &RowTask::Generate { options, n_top }).map_err(thrown)?;
        self.place = Place::Generating(Box::new(Generating { rows, id, parser, end: None }));
        Ok(())
    }

    /// Reads at most `max_prompt_tokens` tokens of the prompt, or draws a token. Returns what is new, as JSON.
    ///
    /// # Errors
    /// No generation; the model computed numbers that are not finite.
    pub async fn step(&mut self, max_prompt_tokens: usize) -> Result<String, JsValue> {
        let Place::Generating(generating) = &mut self.place else { return Err(refused("no generation has begun")) };
        generating.step(max_prompt_tokens).await.map(|progress| to_json(&progress))
    }

    /// Ends the generation, if there is one. The session stands after the last token drawn.
    ///
    /// # Errors
    /// A lost device.
    pub async fn finish(&mut self) -> Result<(), JsValue> {
        match std::mem::replace(&mut self.place, Place::Lost) {
            Place::Generating(mut generating) => {
                let session = generating.rows.leave_async(generating.id).await.map_err(thrown)?;
                self.place = session.map_or(Place::Lost, Place::Idle);
            }
            place => self.place = place,
        }
        Ok(())
    }
}

impl Session {
    pub(crate) fn new(session: anser::Session) -> Session {
        Session { place: Place::Idle(session) }
    }

    fn idle(&mut self) -> Result<&mut anser::Session, JsValue> {
        match &mut self.place {
            Place::Idle(session) => Ok(session),
            Place::Generating(_) => Err(refused("the session generates a text: let that end first")),
            Place::Lost => Err(lost()),
        }
    }
}

impl Generating {
    async fn step(&mut self, max_prompt_tokens: usize) -> Result<Progress, JsValue> {
        let mut progress = Progress::default();
        for event in self.rows.step_async(max_prompt_tokens).await.map_err(thrown)? {
            match event.kind {
                RowEventKind::Text(piece) => self.take_text(&piece.text, &mut progress),
                RowEventKind::Token(drawn) => progress.tokens.push(self.drawn(drawn.id, drawn.likelihood)),
                RowEventKind::Ended(reason) => {
                    self.end = self.end.or(Some(reason_name(reason)));
                    if let Some(parser) = &mut self.parser {
                        let rest = parser.finish();
                        progress.reasoning += &rest.reasoning;
                        progress.text += &rest.content;
                    }
                }
                RowEventKind::Failed(error) => return Err(thrown(error)),
                RowEventKind::PromptRead | RowEventKind::Scored(_) => {}
            }
        }
        progress.n_unread = self.rows.n_unread();
        progress.end = self.end;
        Ok(progress)
    }

    fn take_text(&mut self, text: &str, progress: &mut Progress) {
        let Some(parser) = &mut self.parser else {
            progress.text += text;
            return;
        };
        if self.end.is_some() {
            return;
        }
        let step = parser.push(text);
        progress.reasoning += &step.reasoning;
        progress.text += &step.content;
        self.end = step.end.map(|end| match end {
            ReplyEnd::Turn => "turn",
            ReplyEnd::Stop(_) => "stop",
        });
    }

    fn drawn(&self, id: u32, likelihood: Option<Likelihood>) -> DrawnToken {
        let model = self.rows.model();
        let (log_probability, top) = match likelihood {
            Some(likelihood) => (Some(likelihood.log_probability), likelihood.top),
            None => (None, vec![]),
        };
        let candidate = |(id, log_probability)| Candidate::new(model, id, log_probability);
        DrawnToken { id, text: token_text(model, id), log_probability, top: top.into_iter().map(candidate).collect() }
    }
}

fn which(name: &str, text: &str) -> Result<Which, JsValue> {
    match text {
        "none" => Ok(Which::None),
        "last" => Ok(Which::Last),
        "all" => Ok(Which::All),
        _ => Err(refused(&format!("{name}: expected \"none\", \"last\" or \"all\", found {text:?}"))),
    }
}

fn reason_name(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::TurnEnd => "turn",
        reason => reason.name(),
    }
}

fn lost() -> JsValue {
    refused("the session's last call failed while it was at work: make another session")
}
