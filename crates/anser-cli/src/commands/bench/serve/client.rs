//! A client of the OpenAI API that looks at the clock.

use crate::commands::bench::clients::Seen;
use crate::printable::printable;
use crate::report::Failure;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::io::{BufRead, BufReader, Read};
use std::time::Instant;
use ureq::Agent;

/// The most bytes of an answer without a stream, and of a line of a stream.
const MAX_N_BYTES: u64 = 1 << 20;

/// A client of the server at `url`, which ends in `/v1`.
pub(super) struct Client {
    agent: Agent,
    url: String,
    model: String,
    key: Option<String>,
}

/// What is read of an event of a stream, of completions and of chats.
#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    text: Option<String>,
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    completion_tokens: usize,
}

impl Choice {
    /// The text that it adds, and whether that belongs to the answer rather than to a thought.
    fn text(&self) -> (&str, bool) {
        if let Some(text) = &self.text {
            return (text, true);
        }
        let Some(delta) = &self.delta else { return ("", true) };
        match (&delta.content, &delta.reasoning_content) {
            (Some(content), _) if !content.is_empty() => (content, true),
            (_, Some(thought)) => (thought, false),
            (_, None) => ("", true),
        }
    }
}

impl Client {
    pub(super) fn new(url: &str, model: String, key: Option<String>) -> Client {
        // Answers that are no success say why.
        // Each request has a connection of its own, since some servers end idle ones at any time.
        let config = Agent::config_builder().http_status_as_error(false).max_idle_connections(0);
        let agent = config.max_idle_connections_per_host(0).build().new_agent();
        Client { agent, url: url.trim_end_matches('/').to_owned(), model, key }
    }

    /// Completes the prompts one after the other with `n_tokens` tokens each.
    pub(super) fn complete(&self, prompts: impl Iterator<Item = Vec<u32>>, n_tokens: usize) -> Result<Seen, Failure> {
        let mut seen = Seen::default();
        for prompt in prompts {
            let body = json!({
                "model": self.model, "prompt": prompt, "max_tokens": n_tokens, "temperature": 0,
                // Token 0 would end the text before.
                "logit_bias": {"0": -100}, "stream": true, "stream_options": {"include_usage": true},
            });
            let mut last = None;
            let sent = Instant::now();
            let n_tokens = self.stream("completions", &body, |_| seen.arrival(sent, &mut last))?;
            seen.n_tokens += n_tokens;
        }
        Ok(seen)
    }

    /// Holds a chat of these messages, with answers of `n_tokens` tokens at most, all of them among `words`. Returns the milliseconds from
    /// each message to the first token of its answer.
    pub(super) fn chat(&self, messages: Vec<String>, words: &[u32], n_tokens: usize) -> Result<Vec<f64>, Failure> {
        let bias: Map<String, Value> = words.iter().map(|id| (id.to_string(), 100.into())).collect();
        let mut chat: Vec<Value> = vec![];
        let mut first_ms = vec![];
        for message in messages {
            chat.push(json!({"role": "user", "content": message}));
            let body = json!({
                "model": self.model, "messages": chat, "max_tokens": n_tokens, "temperature": 0, "logit_bias": bias,
                "stream": true, "stream_options": {"include_usage": true},
            });
            let (mut seen, mut last, mut answer) = (Seen::default(), None, String::new());
            let sent = Instant::now();
            self.stream("chat/completions", &body, |choice| {
                seen.arrival(sent, &mut last);
                if let (text, true) = choice.text() {
                    answer.push_str(text);
                }
            })?;
            let first_s = seen.first_s.first();
            first_ms.push(1e3 * first_s.ok_or_else(|| self.failure("an answer of a chat has no text"))?);
            chat.push(json!({"role": "assistant", "content": answer}));
        }
        Ok(first_ms)
    }

    /// Sends a request, calls `on_text` for each piece of text of the answer, and returns the number of its tokens.
    fn stream(&self, route: &str, body: &Value, mut on_text: impl FnMut(&Choice)) -> Result<usize, Failure> {
        let mut request = self.agent.post(format!("{}/{route}", self.url)).content_type("application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let response = request.send(body.to_string()).map_err(|error| self.failure(error))?;
        let status = response.status();
        let mut reader = BufReader::new(response.into_body().into_reader());
        if !status.is_success() {
            let mut answer = String::new();
            reader.take(MAX_N_BYTES).read_to_string(&mut answer).map_err(|error| self.failure(error))?;
            return Err(self.failure(format!("{status}: {}", printable(answer.trim()))));
        }
        let mut n_tokens = None;
        let mut line = vec![];
        while reader.by_ref().take(MAX_N_BYTES).read_until(b'\n', &mut line).map_err(|error| self.failure(error))? > 0 {
            if let Some(data) = line.strip_prefix(b"data: ").map(<[u8]>::trim_ascii).filter(|data| *data != b"[DONE]") {
                let chunk: Chunk = serde_json::from_slice(data).map_err(|error| self.failure(error))?;
                if let Some(error) = chunk.error {
                    return Err(self.failure(printable(&error.to_string())));
                }
                chunk.choices.iter().filter(|choice| !choice.text().0.is_empty()).for_each(&mut on_text);
                n_tokens = chunk.usage.map(|usage| usage.completion_tokens).or(n_tokens);
            }
            line.clear();
        }
        n_tokens.ok_or_else(|| self.failure("the stream ended without its number of tokens (usage)"))
    }

    fn failure(&self, error: impl std::fmt::Display) -> Failure {
        Failure::about(printable(&self.url), error)
    }
}
