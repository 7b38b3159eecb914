//! `anser generate`

mod prompts;
mod result;

use crate::args::GenerateArgs;
use crate::output::Output;
use crate::printable::printable;
use crate::report::Failure;
use crate::term::{self, Progress};
use crate::{commands, input, interrupt};
use anser::{
    CancelToken, Draft, Error, FinishReason, GenerateOptions, Model, Proposals, RowEventKind, RowTask, Rows,
    SamplerOptions, Session, Want,
};
use result::TokenLikelihood;
use serde::Serialize;
use std::ops::ControlFlow;
use std::time::Instant;

/// The JSON object that `--json` prints; the help describes it.
#[derive(Serialize)]
struct Generated {
    text: String,
    tokens: Vec<u32>,
    n_prompt: usize,
    n_generated: usize,
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Vec<TokenLikelihood>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proposals: Option<Proposed>,
    timings: Timings,
}

#[derive(Clone, Copy, Serialize)]
struct Proposed {
    n_proposed: usize,
    n_accepted: usize,
}

#[derive(Serialize)]
struct Timings {
    load_ms: f64,
    prompt_ms: f64,
    generate_ms: f64,
    prompt_tps: Option<f64>,
    generate_tps: Option<f64>,
}

pub(crate) fn run(args: &GenerateArgs) -> Result<(), Failure> {
    if let Some(file) = &args.prompts {
        return prompts::run(args, file);
    }
    if args.logprobs.is_some() && !args.json {
        return Err(Failure::Usage("--logprobs: expected --json or --prompts, which have a place for them".into()));
    }
    let started = Instant::now();
    let model = args.model.load()?;
    let draft = draft(args, &model)?;
    let mut session = model.session()?;
    if let Some(state) = &args.from {
        commands::tell_origin(state, session.load_state(state)?);
    }
    let load_ms = elapsed_ms(started);
    term::remark(&format!("{} on {}", printable(model.name()), printable(model.device())));

    let grammar = args.grammar.grammar(&model)?;
    let cancel = CancelToken::default();
    let options = GenerateOptions {
        sampler: sampler(args, grammar.is_some()),
        max_tokens: args.max_tokens,
        stop: args.stop.clone(),
        grammar,
        lookup: args.lookup,
        draft,
        cancel: cancel.clone(),
        ..GenerateOptions::default()
    };
    options.sampler.validate(model.config().n_vocab)?;
    let prompt = args.prompt.as_deref().map(input::text).transpose()?.unwrap_or_default();
    let mut tokens = model.encode(&prompt)?;
    if session.is_fresh() {
        tokens = input::or_document_start(&model, tokens);
    }
    let mut output = Output::new();
    let mut text = String::new();
    if args.echo && args.json {
        text.push_str(&String::from_utf8_lossy(&prompt));
    } else if args.echo {
        output.write(&prompt)?;
    }

    let _armed = interrupt::arm(&cancel);
    let began_prompt = Instant::now();
    let was_read = read_prompt(&mut session, &tokens, &cancel)?;
    let prompt_ms = elapsed_ms(began_prompt);

    let began = Instant::now();
    let (mut generated, mut end) = (vec![], FinishReason::Cancelled);
    let (mut logprobs, mut proposals) = (None, Proposals::default());
    if let (true, Some(n_top)) = (was_read, args.logprobs) {
        let likely = generate_likely(session, &options, n_top)?;
        text += &likely.text;
        (generated, end, logprobs) = (likely.tokens, likely.end.unwrap_or(end), Some(likely.likelihoods));
        proposals = likely.proposals;
    } else if was_read {
        let mut generation = session.generate(&[], &options)?;
        for piece in &mut generation {
            let piece = piece?;
            if args.json { text.push_str(&piece.text) } else { output.write(&piece.bytes)? }
        }
        end = generation.finish_reason().unwrap_or(end);
        generated = generation.tokens().to_vec();
        proposals = generation.proposals();
    }
    let generate_ms = elapsed_ms(began);
    let timings = Timings {
        load_ms,
        prompt_ms,
        generate_ms,
        prompt_tps: per_second(tokens.len(), prompt_ms),
        generate_tps: per_second(generated.len(), generate_ms),
    };
    let (n_prompt, n_generated) = (tokens.len(), generated.len());
    let Proposals { n_proposed, n_accepted } = proposals;
    let proposals = (args.lookup || args.draft.is_some()).then_some(Proposed { n_proposed, n_accepted });
    if args.json {
        let tokens = generated;
        let finish_reason = end.name();
        output.write_json(&Generated {
            text,
            tokens,
            n_prompt,
            n_generated,
            finish_reason,
            logprobs,
            proposals,
            timings,
        })?;
    } else {
        output.finish_line()?;
        term::remark(&summary(n_prompt, n_generated, end, proposals, &timings));
    }
    if end == FinishReason::Cancelled { Err(Failure::Interrupted) } else { Ok(()) }
}

/// The options of sampling, for a text that follows a grammar or none.
fn sampler(args: &GenerateArgs, has_grammar: bool) -> SamplerOptions {
    let recommended = SamplerOptions::default();
    args.generation.sampler(if has_grammar { recommended.without_penalties() } else { recommended })
}

/// The draft model, if one is given, opened as the model is.
fn draft(args: &GenerateArgs, model: &Model) -> Result<Option<Draft>, Failure> {
    let Some(path) = &args.draft else { return Ok(None) };
    let draft = Draft { model: args.model.opening.load_plain(path)?, n_tokens: args.draft_tokens };
    model.check_draft(&draft.model)?;
    Ok(Some(draft))
}

/// A text whose tokens have log-probabilities.
#[derive(Default)]
struct Likely {
    text: String,
    tokens: Vec<u32>,
    likelihoods: Vec<TokenLikelihood>,
    end: Option<FinishReason>,
    proposals: Proposals,
}

/// Generates the text that follows in `session`, with the `n_top` most likely tokens in the place of each token.
fn generate_likely(session: Session, options: &GenerateOptions, n_top: usize) -> Result<Likely, Failure> {
    let mut likely = Likely::default();
    let mut rows = Rows::new(&session.model().clone());
    let row = rows.join(session, &[], &RowTask::Generate { options: options.clone(), n_top: Some(n_top) })?;
    while rows.n_going() > 0 {
        for event in rows.step(usize::MAX)? {
            match event.kind {
                RowEventKind::Token(drawn) => {
                    likely.tokens.push(drawn.id);
                    likely.likelihoods.extend(drawn.likelihood.map(TokenLikelihood::of));
                }
                RowEventKind::Text(piece) => likely.text += &piece.text,
                RowEventKind::Ended(end) => likely.end = Some(end),
                RowEventKind::Failed(error) => return Err(error.into()),
                RowEventKind::PromptRead | RowEventKind::Scored(_) => {}
            }
        }
    }
    likely.proposals = rows.proposals(row);
    Ok(likely)
}

/// Reads `tokens`. Returns false if Ctrl-C ended it.
fn read_prompt(session: &mut Session, tokens: &[u32], cancel: &CancelToken) -> Result<bool, Failure> {
    if tokens.is_empty() {
        return Ok(true);
    }
    let mut progress = Progress::new("reading the prompt");
    let read = session.feed_for(tokens, Want::LOGITS, |done, total| {
        progress.update(done, total);
        if cancel.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match read {
        Ok(_) => Ok(true),
        Err(Error::Cancelled) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// `16 tokens read at 210.3/s, 256 generated at 101.2/s, ended by length`
fn summary(
    n_prompt: usize,
    n_generated: usize,
    end: FinishReason,
    proposals: Option<Proposed>,
    timings: &Timings,
) -> String {
    let at = |rate: Option<f64>| rate.map_or(String::new(), |r| format!(" at {r:.1}/s"));
    let (prompt_rate, generate_rate) = (at(timings.prompt_tps), at(timings.generate_tps));
    let accepted = proposals.map_or(String::new(), |Proposed { n_proposed, n_accepted }| {
        format!(", {n_accepted} of {n_proposed} proposed tokens accepted")
    });
    let end = end.name();
    format!("{n_prompt} tokens read{prompt_rate}, {n_generated} generated{generate_rate}{accepted}, ended by {end}")
}

fn elapsed_ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn per_second(n: usize, ms: f64) -> Option<f64> {
    (n > 0 && ms > 0.0).then(|| n as f64 / ms * 1e3)
}
