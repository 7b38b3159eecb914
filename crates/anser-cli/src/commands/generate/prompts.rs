//! `anser generate --prompts`: a line of JSON in, a line of JSON out, many texts side by side.

use super::result::TokenLikelihood;
use super::{draft, sampler};
use crate::args::GenerateArgs;
use crate::output::Output;
use crate::printable::printable;
use crate::report::Failure;
use crate::term::{self, Progress};
use crate::{commands, input, interrupt};
use anser::{CancelToken, Error, FinishReason, GenerateOptions, Grammar, Model, SamplerOptions, StateOrigin};
use anser_engine::{Delivery, Engine, Event, Limits, Request, Saved, Start, Ticket, Tuned, Work};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel, sync_channel};
use std::time::Duration;

/// The most bytes of a line.
const MAX_LINE_N_BYTES: u64 = 16 << 20;
/// How long the thread that prints waits for an event before it looks for another line.
const LOOK_TIME: Duration = Duration::from_millis(5);

/// A line of the input; the help describes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: String,
    id: Option<Value>,
    max_tokens: Option<usize>,
    stop: Option<Vec<String>>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<usize>,
    min_p: Option<f32>,
    typical_p: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    penalty_decay: Option<f32>,
    repetition_penalty: Option<f32>,
    seed: Option<u64>,
    json_schema: Option<Value>,
    regex: Option<String>,
    lark: Option<String>,
}

/// A line of the output; the help describes it.
#[derive(Default, Serialize)]
struct LineResult {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Value>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    text: Option<LineText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Default, Serialize)]
struct LineText {
    text: String,
    tokens: Vec<u32>,
    n_prompt: usize,
    n_generated: usize,
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<TokenLikelihood>>,
}

/// A text that is being generated.
struct Running {
    result: LineText,
    id: Option<Value>,
    _ticket: Ticket,
}

pub(super) fn run(args: &GenerateArgs, file: &Path) -> Result<(), Failure> {
    let reader: Box<dyn BufRead + Send> = match input::stdin_named_by(file) {
        Some(_) => Box::new(BufReader::new(std::io::stdin())),
        None => {
            let open = std::fs::File::open(file);
            Box::new(BufReader::new(open.map_err(|e| Failure::about(file.display(), format!("cannot read: {e}")))?))
        }
    };
    let model = args.model.load()?;
    model.tokenizer()?;
    let start = match &args.from {
        None => Start::Fresh,
        Some(path) => {
            let loaded = model.load_state(path)?;
            commands::tell_origin(path, loaded.origin);
            match loaded.origin {
                StateOrigin::Tuned => Start::Tuned(Arc::new(Tuned::new(loaded.state))),
                _ => Start::State(Arc::new(Saved { state: loaded.state, logits: loaded.logits })),
            }
        }
    };
    term::remark(&format!("{} on {}", printable(model.name()), printable(model.device())));
    let grammar = args.grammar.grammar(&model)?;
    let cancel = CancelToken::default();
    let defaults = GenerateOptions {
        sampler: sampler(args, grammar.is_some()),
        max_tokens: args.max_tokens,
        stop: args.stop.clone(),
        grammar,
        lookup: args.lookup,
        draft: draft(args, &model)?,
        cancel: cancel.clone(),
        ..GenerateOptions::default()
    };
    defaults.sampler.validate(model.config().n_vocab)?;
    let limits = Limits {
        max_rows: Some(args.jobs),
        max_waiting: Some(2 * args.jobs),
        max_waiting_per_tenant: 2 * args.jobs,
        max_wait: Duration::MAX,
        ..Limits::default()
    };
    let engine = Engine::start(model.clone(), limits);
    let _armed = interrupt::arm(&cancel);
    let texts = Texts::new(model, engine, start, defaults, args);
    texts.generate(&lines(reader, args.jobs), &cancel)
}

/// Reads lines in a thread of its own, at most `n_ahead` of them before they are wanted. A line that cannot be read is an error in
/// its place.
fn lines(mut reader: Box<dyn BufRead + Send>, n_ahead: usize) -> Receiver<Result<Vec<u8>, String>> {
    let (to, from) = sync_channel(n_ahead);
    // The thread ends with the input or with the receiver. It is not waited for: it may wait for standard input.
    std::thread::spawn(move || {
        loop {
            let line = read_line(&mut reader);
            let is_last = matches!(line, Ok(None) | Err((_, true)));
            let sent = match line {
                Ok(None) => return,
                Ok(Some(line)) => to.send(Ok(line)),
                Err((reason, _)) => to.send(Err(reason)),
            };
            if sent.is_err() || is_last {
                return;
            }
        }
    });
    from
}

/// The next line that is not blank; `None` at the end. Errors: the reason, and whether nothing more can be read.
fn read_line(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>, (String, bool)> {
    let failed = |error: std::io::Error| (format!("cannot read: {error}"), true);
    loop {
        let mut line = vec![];
        let n = reader.by_ref().take(MAX_LINE_N_BYTES + 1).read_until(b'\n', &mut line).map_err(failed)?;
        if n == 0 {
            return Ok(None);
        }
        if n as u64 > MAX_LINE_N_BYTES && line.last() != Some(&b'\n') {
            skip_line(reader).map_err(failed)?;
            return Err((format!("a line has more than {MAX_LINE_N_BYTES} bytes"), false));
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(line));
        }
    }
}

/// Skips the rest of a line.
fn skip_line(reader: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let n = end.map_or(buffer.len(), |at| at + 1);
        let is_over = end.is_some() || n == 0;
        reader.consume(n);
        if is_over {
            return Ok(());
        }
    }
}

/// All texts of a run.
struct Texts {
    model: Model,
    engine: Engine,
    start: Start,
    defaults: GenerateOptions,
    /// The sampler of a line that brings a grammar.
    grammar_sampler: SamplerOptions,
    n_top: Option<usize>,
    n_jobs: usize,
    /// Where the engine sends events, each with the index of its line.
    sender: Sender<(usize, Event)>,
    events: Receiver<(usize, Event)>,
    running: BTreeMap<usize, Running>,
    /// Results that wait for those of lines before them.
    done: BTreeMap<usize, LineResult>,
    n_lines: usize,
    n_printed: usize,
    n_failed: usize,
    output: Output,
    progress: Progress,
}

impl Texts {
    fn new(model: Model, engine: Engine, start: Start, defaults: GenerateOptions, args: &GenerateArgs) -> Texts {
        let (sender, events) = channel();
        Texts {
            model,
            engine,
            start,
            defaults,
            grammar_sampler: sampler(args, true),
            n_top: args.logprobs,
            n_jobs: args.jobs,
            sender,
            events,
            running: BTreeMap::new(),
            done: BTreeMap::new(),
            n_lines: 0,
            n_printed: 0,
            n_failed: 0,
            output: Output::new(),
            progress: Progress::new("generating"),
        }
    }

    /// Generates the texts of all lines and prints the results in their order.
    fn generate(mut self, lines: &Receiver<Result<Vec<u8>, String>>, cancel: &CancelToken) -> Result<(), Failure> {
        let mut has_more = true;
        while has_more || !self.running.is_empty() {
            // As many lines wait for an earlier one to be printed as run at a time: memory is bounded.
            while has_more && self.running.len() < self.n_jobs && self.n_lines - self.n_printed < 2 * self.n_jobs {
                match lines.try_recv() {
                    Ok(line) => self.begin(line),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => has_more = false,
                }
            }
            has_more &= !cancel.is_cancelled();
            self.print()?;
            let mut event = self.events.recv_timeout(LOOK_TIME).ok();
            while let Some((index, of_line)) = event {
                self.take(index, of_line);
                event = self.events.try_recv().ok();
            }
            self.print()?;
        }
        if cancel.is_cancelled() {
            return Err(Failure::Interrupted);
        }
        match self.n_failed {
            0 => Ok(()),
            n => Err(Failure::Run(format!("{n} of {} lines failed; their results say why", self.n_lines))),
        }
    }

    /// Begins to generate the text of a line.
    fn begin(&mut self, line: Result<Vec<u8>, String>) {
        let index = self.n_lines;
        self.n_lines += 1;
        let line = line.and_then(|line| serde_json::from_slice::<Line>(&line).map_err(|error| error.to_string()));
        let (id, begun) = match line {
            Ok(mut line) => (line.id.take(), self.submit(index, line)),
            Err(error) => (None, Err(error)),
        };
        match begun {
            Ok((ticket, n_prompt)) => {
                let logprobs = self.n_top.map(|_| vec![]);
                let result = LineText { n_prompt, logprobs, ..LineText::default() };
                self.running.insert(index, Running { result, id, _ticket: ticket });
            }
            Err(error) => self.fail(index, id, error),
        }
    }

    /// Hands a line to the engine; returns the number of tokens of its prompt.
    fn submit(&self, index: usize, line: Line) -> Result<(Ticket, usize), String> {
        let mut prompt = self.model.encode(&line.prompt).map_err(|error| error.to_string())?;
        if matches!(self.start, Start::Fresh | Start::Tuned(_)) {
            prompt = input::or_document_start(&self.model, prompt);
        }
        let n_prompt = prompt.len();
        let grammar = line.grammar().transpose().map_err(|error| error.to_string())?;
        let options = match grammar {
            Some(grammar) => line.options(&GenerateOptions {
                sampler: self.grammar_sampler.clone(),
                grammar: Some(grammar),
                ..self.defaults.clone()
            }),
            None => line.options(&self.defaults),
        };
        let work = Work::Generate { choices: vec![options], n_top: self.n_top };
        let request = Request { start: self.start.clone(), ..Request::new(prompt, work) };
        let to = self.sender.clone();
        let on_event = move |event| match to.send((index, event)) {
            Ok(()) => Delivery::Taken,
            Err(_) => Delivery::Gone,
        };
        let ticket = self.engine.submit(request, on_event).map_err(|refusal| refusal.to_string())?;
        Ok((ticket, n_prompt))
    }

    fn fail(&mut self, index: usize, id: Option<Value>, error: String) {
        self.n_failed += 1;
        self.done.insert(index, LineResult { index, id, text: None, error: Some(error) });
    }

    /// Notes what a text has given.
    fn take(&mut self, index: usize, event: Event) {
        let Some(running) = self.running.get_mut(&index) else { return };
        let result = &mut running.result;
        match event {
            Event::Token { drawn, .. } => {
                result.tokens.push(drawn.id);
                let likelihood = drawn.likelihood.map(TokenLikelihood::of);
                if let (Some(logprobs), Some(likelihood)) = (&mut result.logprobs, likelihood) {
                    logprobs.push(likelihood);
                }
            }
            Event::Text { piece, .. } => result.text += &piece.text,
            Event::Ended { reason, .. } => result.finish_reason = FinishReason::name(reason),
            Event::Done(_) => {
                if let Some(Running { mut result, id, .. }) = self.running.remove(&index) {
                    result.n_generated = result.tokens.len();
                    self.done.insert(index, LineResult { index, id, text: Some(result), error: None });
                }
            }
            Event::Failed(failure) => {
                let id = self.running.remove(&index).and_then(|running| running.id);
                self.fail(index, id, failure.to_string());
            }
            Event::Started { .. } | Event::Scored(_) | Event::Embedding(_) | Event::State(_) => {}
        }
    }

    /// Prints the results whose turn it is.
    fn print(&mut self) -> Result<(), Failure> {
        while let Some(result) = self.done.remove(&self.n_printed) {
            self.output.write_json(&result)?;
            self.n_printed += 1;
        }
        self.progress.update(self.n_printed, self.n_lines);
        Ok(())
    }
}

impl Line {
    /// The grammar of the line, if it brings one.
    fn grammar(&self) -> Option<Result<Grammar, Error>> {
        match (&self.json_schema, &self.regex, &self.lark) {
            (None, None, None) => None,
            (Some(schema), None, None) => Some(Grammar::json_schema(&schema.to_string())),
            (None, Some(regex), None) => Some(Grammar::regex(regex)),
            (None, None, Some(grammar)) => Some(Grammar::lark(grammar)),
            _ => {
                let reason = "expected one of json_schema, regex and lark, found several".into();
                Some(Err(Error::Option { option: "grammar", reason }))
            }
        }
    }

    /// `defaults`, changed by what the line says.
    fn options(self, defaults: &GenerateOptions) -> GenerateOptions {
        let given = &defaults.sampler;
        // As on the command line: at temperature 0 penalties are off unless given.
        let base = match self.temperature {
            Some(temperature) if temperature == 0.0 && given.temperature != 0.0 => {
                &SamplerOptions { logit_bias: given.logit_bias.clone(), seed: given.seed, ..SamplerOptions::greedy() }
            }
            Some(_) | None => given,
        };
        let sampler = SamplerOptions {
            order: base.order,
            temperature: self.temperature.unwrap_or(base.temperature),
            top_k: self.top_k.unwrap_or(base.top_k),
            top_p: self.top_p.unwrap_or(base.top_p),
            min_p: self.min_p.unwrap_or(base.min_p),
            typical_p: self.typical_p.unwrap_or(base.typical_p),
            presence_penalty: self.presence_penalty.unwrap_or(base.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(base.frequency_penalty),
            penalty_decay: self.penalty_decay.unwrap_or(base.penalty_decay),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            logit_bias: base.logit_bias.clone(),
            seed: self.seed.or(base.seed),
        };
        GenerateOptions {
            sampler,
            max_tokens: self.max_tokens.unwrap_or(defaults.max_tokens),
            stop: self.stop.unwrap_or_else(|| defaults.stop.clone()),
            ..defaults.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_LINE_N_BYTES, read_line};
    use std::io::{BufReader, Cursor};

    #[test]
    fn blank_lines_are_skipped_and_a_long_one_is_an_error_by_itself() {
        let long = vec![b'x'; MAX_LINE_N_BYTES as usize + 7];
        let text = [b"\n  \r\nfirst\n", &long[..], b"\n\nlast"].concat();
        let mut reader = BufReader::new(Cursor::new(text));
        assert_eq!(read_line(&mut reader).unwrap().unwrap(), b"first\n");
        let (reason, is_last) = read_line(&mut reader).unwrap_err();
        assert!(reason.contains("bytes") && !is_last);
        assert_eq!(read_line(&mut reader).unwrap().unwrap(), b"last");
        assert!(read_line(&mut reader).unwrap().is_none());
    }
}
