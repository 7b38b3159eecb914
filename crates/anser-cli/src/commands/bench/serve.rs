//! `anser bench serve`: clients of a server that speaks the OpenAI API, ours or another one.

mod client;

use super::clients::{Report, measure_all};
use super::figures::Spread;
use super::prompt;
use crate::args::{BenchServeArgs, load, not_run};
use crate::commands::serve::stem;
use crate::printable::printable;
use crate::report::Failure;
use anser::Model;
use anser_engine::{CacheLimits, Limits};
use anser_serve::{Bounds, Keys, Listener, Options, ServedModel, Server, Stop};
use client::Client;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// The variable that may hold the key of a server elsewhere.
const KEY_VARIABLE: &str = "ANSER_API_KEY";
/// The tokens of each message of the chat that is measured, and of each answer.
const N_CHAT_TOKENS: usize = 64;
/// The memory for states of conversations, as `anser serve` has it unless it is told otherwise.
const CACHE_N_BYTES: usize = 1 << 30;
/// The first of the tokens that requests begin with, each with its own, so that no server has read any beginning before.
const FIRST_OWN_TOKEN: u32 = 1000;

pub(super) fn run(args: &BenchServeArgs) -> Result<(), Failure> {
    let began_at = SystemTime::now();
    let clients = &args.clients;
    let most = clients.clients.iter().copied().max().unwrap_or(1);
    let name = args.name.clone().unwrap_or_else(|| stem(&args.model.model));
    let key = std::env::var(KEY_VARIABLE).ok();
    let (model, gpu, server, url) = match &args.url {
        Some(url) => (load(&args.model.model, &not_run())?, None, None, url.clone()),
        None => {
            let gpu = anser::keep_open(&args.model.options()?)?;
            let model = args.model.load()?;
            model.finish_loading()?;
            let server = OwnServer::start(&model, &name, key.as_deref(), most)?;
            let url = server.url.clone();
            (model, gpu, Some(server), url)
        }
    };
    let client = Client::new(&url, name, key);
    let text = prompt(&model, clients.prompt + clients.r#gen + N_CHAT_TOKENS * args.turns)?;
    let n_vocab = model.config().n_vocab as u32;
    let n_asked = AtomicU32::new(0);
    let mut figures = measure_all(clients, &|_, n_requests| {
        let next_prompt = || {
            let number = n_asked.fetch_add(1, Ordering::Relaxed);
            let own = (FIRST_OWN_TOKEN + number) % n_vocab;
            [&[own], &text[..clients.prompt - 1]].concat()
        };
        client.complete((0..n_requests).map(|_| next_prompt()), clients.r#gen)
    })?;
    if args.turns > 0 {
        figures.extend(measure_chat(args, &client, &model, &text)?);
    }
    let device = args.url.as_ref().map_or_else(|| model.device().to_owned(), |url| printable(url));
    let report = Report::of(clients, &args.model, &model, device, gpu.as_deref(), began_at, figures)?;
    server.map_or(Ok(()), OwnServer::end)?;
    report.print(clients.json)
}

/// What the answers of chats are made of, each with a space before it. Those of random weights would be parts of letters and of words
/// otherwise, which no client sends back as they were drawn; a trained model's are text.
const WORDS: [&str; 16] =
    ["the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not"];

/// The first and the last turn of a chat, one in each run: milliseconds to their first tokens.
fn measure_chat(
    args: &BenchServeArgs,
    client: &Client,
    model: &Model,
    text: &[u32],
) -> Result<Vec<(String, Spread)>, Failure> {
    let tokenizer = model.tokenizer()?;
    let words = WORDS.map(|word| tokenizer.encode(format!(" {word}").as_bytes()));
    let words: Vec<u32> = words.into_iter().filter(|ids| ids.len() == 1).flatten().collect();
    let mut turns_ms: Vec<Vec<f64>> = vec![];
    for run in 0..args.clients.runs {
        let message = |(turn, tokens): (usize, &[u32])| {
            let bytes = tokenizer.decode(tokens).map_err(|error| Failure::Run(error.to_string()))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            // No server has read the beginning of this chat before.
            Ok(if turn == 0 { format!("Chat {run} of {}. {text}", std::process::id()) } else { text })
        };
        let messages = text.chunks(N_CHAT_TOKENS).take(args.turns).enumerate().map(message);
        let messages = messages.collect::<Result<Vec<String>, Failure>>()?;
        turns_ms.push(client.chat(messages, &words, N_CHAT_TOKENS)?);
    }
    let of_turn = |turn: usize| {
        let runs = turns_ms.iter().filter_map(|turns| turns.get(turn - 1).copied()).collect();
        (format!("turn_{turn}_first_token_ms"), Spread::of(runs))
    };
    let mut turns = vec![1, args.turns];
    turns.dedup();
    Ok(turns.into_iter().map(of_turn).collect())
}

/// A server of this process.
struct OwnServer {
    url: String,
    stop: Stop,
    thread: JoinHandle<Result<(), anser_serve::ServeError>>,
}

impl OwnServer {
    /// A server of `model` for `n_clients` clients at a time.
    fn start(model: &Model, name: &str, key: Option<&str>, n_clients: usize) -> Result<OwnServer, Failure> {
        let io = |error| Failure::about("a server on 127.0.0.1", error);
        let listener = TcpListener::bind("127.0.0.1:0").map_err(io)?;
        let url = format!("http://{}/v1", listener.local_addr().map_err(io)?);
        let limits = Limits {
            max_rows: Some(n_clients),
            max_waiting: Some(n_clients),
            max_waiting_per_tenant: n_clients,
            max_wait: Duration::from_secs(3600),
            cache: CacheLimits { host_n_bytes: CACHE_N_BYTES, ..CacheLimits::default() },
            ..Limits::default()
        };
        let served = ServedModel {
            is_adapted: false,
            model: model.clone(),
            names: vec![name.to_owned()],
            created: SystemTime::now(),
            limits,
            states: vec![],
            reranker: None,
        };
        let keys = match key {
            Some(key) => Keys::from_lines(key).map_err(|reason| Failure::Usage(format!("{KEY_VARIABLE}: {reason}")))?,
            None => Keys::default(),
        };
        let bounds = Bounds { request_time: Duration::from_secs(3600), ..Bounds::default() };
        let options = Options { keys, bounds, ..Options::default() };
        let server = Server::new(vec![served], Listener::Tcp(listener), options)?;
        let stop = server.stop_handle();
        let thread = std::thread::spawn(move || server.run(Duration::ZERO));
        Ok(OwnServer { url, stop, thread })
    }

    fn end(self) -> Result<(), Failure> {
        self.stop.stop();
        match self.thread.join() {
            Ok(served) => Ok(served?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
