//! `anser bench engine`: clients of the engine itself.

use super::clients::{Report, Seen, measure_all};
use super::figures::Spread;
use super::prompt;
use crate::args::BenchEngineArgs;
use crate::report::Failure;
use anser::{GenerateOptions, Model, SamplerOptions};
use anser_engine::{Engine, Event, Limits, Request, channel};
use std::time::{Duration, Instant, SystemTime};

pub(super) fn run(args: &BenchEngineArgs) -> Result<(), Failure> {
    let began_at = SystemTime::now();
    let gpu = anser::keep_open(&args.model.options()?)?;
    let model = args.model.load()?;
    model.finish_loading()?;
    let clients = &args.clients;
    let most = clients.clients.iter().copied().max().unwrap_or(1);
    let limits = Limits {
        max_rows: Some(most),
        max_waiting: Some(most),
        max_waiting_per_tenant: most,
        max_wait: Duration::MAX,
        ..Limits::default()
    };
    let engine = Engine::start(model.clone(), limits);
    let text = prompt(&model, clients.prompt + most)?;
    let mut figures = measure_all(clients, &|client, n_requests| {
        ask(&engine, &text[client..client + clients.prompt], clients.r#gen, n_requests)
    })?;
    for &n_clients in &clients.clients {
        let prompts: Vec<&[u32]> = (0..n_clients).map(|client| &text[client..client + clients.prompt]).collect();
        in_one_batch(&model, &prompts, clients.r#gen)?;
        let runs = (0..clients.runs).map(|_| in_one_batch(&model, &prompts, clients.r#gen));
        figures.push((format!("batch_{n_clients}_tps"), Spread::of(runs.collect::<Result<_, _>>()?)));
    }
    let device = model.device().to_owned();
    Report::of(clients, &args.model, &model, device, gpu.as_deref(), began_at, figures)?.print(clients.json)
}

fn options(n_tokens: usize) -> GenerateOptions {
    GenerateOptions {
        sampler: SamplerOptions::greedy(),
        max_tokens: n_tokens,
        stop_tokens: Some(vec![]),
        ..GenerateOptions::default()
    }
}

/// The tokens per second of the same requests in one call of [`Model::generate_batch`], the time for their prompts included: what clients
/// could reach if the engine cost nothing.
fn in_one_batch(model: &Model, prompts: &[&[u32]], n_tokens: usize) -> Result<f64, Failure> {
    let began = Instant::now();
    let mut sessions = prompts.iter().map(|_| model.session()).collect::<Result<Vec<_>, _>>()?;
    let mut texts: Vec<_> = sessions.iter_mut().zip(prompts.iter().copied()).collect();
    let mut generations = model.generate_batch(&mut texts, &[options(n_tokens)])?;
    generations.by_ref().try_for_each(|piece| piece.map(drop))?;
    let n_drawn: usize = (0..prompts.len()).map(|i| generations.tokens(i).len()).sum();
    Ok(n_drawn as f64 / began.elapsed().as_secs_f64())
}

/// A client: sends a request, waits for its end, sends the next.
fn ask(engine: &Engine, prompt: &[u32], n_tokens: usize, n_requests: usize) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    for _ in 0..n_requests {
        let (on_event, events) = channel(256);
        let sent = Instant::now();
        let ticket = engine.submit(Request::generate(prompt.to_vec(), options(n_tokens)), on_event);
        let _ticket = ticket.map_err(|refusal| Failure::Run(refusal.to_string()))?;
        let mut last: Option<Instant> = None;
        for event in events {
            match event {
                Event::Token { .. } => {
                    seen.arrival(sent, &mut last);
                    seen.n_tokens += 1;
                }
                Event::Failed(failure) => return Err(Failure::Run(failure.to_string())),
                Event::Started { .. }
                | Event::Text { .. }
                | Event::Ended { .. }
                | Event::Scored(_)
                | Event::Embedding(_)
                | Event::State(_)
                | Event::Done(_) => {}
            }
        }
    }
    Ok(seen)
}
