//! The tokens of conversations as a model has read and drawn them, found by their text.
//!
//! Clients send answers back as text. A tokenizer may cut such a text otherwise than the model drew it, and the state after the answer,
//! which is cached by tokens, would not be found. A conversation that goes on from an answer of this server therefore has the tokens
//! that were drawn.

use anser::Tokenizer;
use anser_engine::Tenant;
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// The most bytes of tokens that are kept for a model.
const MAX_N_BYTES: usize = 32 << 20;
/// The most answers to one prompt that are kept, as those of a request for several.
const MAX_ANSWERS: usize = 16;

/// A prompt of a tenant: the digest of both.
type Key = [u8; 32];

/// The answers of all tenants, within a bound of bytes: the oldest go first. No tenant finds those of another.
#[derive(Debug, Default)]
pub(crate) struct Transcripts {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    by_prompt: HashMap<Key, Answered>,
    /// The prompts, the oldest one first.
    order: VecDeque<Key>,
    n_bytes: usize,
}

/// A prompt that was answered.
#[derive(Debug)]
struct Answered {
    prompt: Arc<[u32]>,
    answers: VecDeque<Vec<u32>>,
}

impl Answered {
    fn n_bytes(&self) -> usize {
        size_of_val(&self.prompt[..]) + self.answers.iter().map(|answer| size_of_val(&answer[..])).sum::<usize>()
    }
}

/// The tokens of the beginning of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Beginning {
    pub(crate) ids: Vec<u32>,
    /// The length of the beginning, in bytes.
    pub(crate) n_bytes: usize,
}

impl Transcripts {
    /// The tokens of the longest beginning of `text` that is a prompt of `tenant` and the whole of an answer to it. `prompt_ends`: the lengths
    /// that the prompt may have, in bytes. `None` if there is no such answer.
    pub(crate) fn beginning(
        &self,
        tenant: Tenant,
        tokenizer: &Tokenizer,
        text: &str,
        prompt_ends: &[usize],
    ) -> Option<Beginning> {
        let found = prompt_ends.iter().filter_map(|&prompt_end| {
            let (prompt, rest) = text.split_at_checked(prompt_end)?;
            let key = key(tenant, prompt);
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let answered = kept.by_prompt.get(&key)?;
            let ends = answered.answers.iter().map(|answer| {
                let n_bytes = prompt_end + len_as_text(tokenizer, answer, rest)?;
                text.is_char_boundary(n_bytes).then_some(n_bytes)
            });
            let (n_bytes, answer) = ends.zip(&answered.answers).max_by_key(|&(n_bytes, _)| n_bytes)?;
            Some(Beginning { ids: [&answered.prompt[..], answer].concat(), n_bytes: n_bytes? })
        });
        found.max_by_key(|beginning| beginning.n_bytes)
    }

    fn insert(&self, key: Key, prompt: &Arc<[u32]>, answer: Vec<u32>) {
        if answer.is_empty() || size_of_val(&prompt[..]) + size_of_val(&answer[..]) > MAX_N_BYTES {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Kept { by_prompt, order, n_bytes } = &mut *kept;
        let answered = by_prompt.entry(key).or_insert_with(|| {
            order.push_back(key);
            Answered { prompt: prompt.clone(), answers: VecDeque::new() }
        });
        let before = if answered.answers.is_empty() { 0 } else { answered.n_bytes() };
        if answered.prompt != *prompt {
            // The same text was read as other tokens since: its answers go on from these.
            *answered = Answered { prompt: prompt.clone(), answers: VecDeque::new() };
        }
        answered.answers.retain(|known| *known != answer);
        if answered.answers.len() == MAX_ANSWERS {
            answered.answers.pop_front();
        }
        answered.answers.push_back(answer);
        *n_bytes = *n_bytes + answered.n_bytes() - before;
        while *n_bytes > MAX_N_BYTES
            && let Some(oldest) = order.pop_front()
        {
            *n_bytes -= by_prompt.remove(&oldest).map_or(0, |answered| answered.n_bytes());
        }
    }
}

fn key(Tenant(tenant): Tenant, prompt: &str) -> Key {
    Sha256::new().chain_update(tenant.to_le_bytes()).chain_update(prompt).finalize().into()
}

/// The length of the text of `answer`, in bytes, if `text` begins with it.
fn len_as_text(tokenizer: &Tokenizer, answer: &[u32], text: &str) -> Option<usize> {
    let mut rest = text.as_bytes();
    for &id in answer {
        rest = rest.strip_prefix(tokenizer.token_bytes(id)?)?;
    }
    Some(text.len() - rest.len())
}

/// Keeps the answers of a request as they are drawn.
#[derive(Debug)]
pub(crate) struct Recorder {
    transcripts: Arc<Transcripts>,
    key: Key,
    prompt: Arc<[u32]>,
    /// The tokens drawn so far, for each answer.
    answers: Vec<Vec<u32>>,
}

impl Recorder {
    /// `text`: the prompt, whose tokens are `prompt`.
    pub(crate) fn new(
        transcripts: &Arc<Transcripts>,
        tenant: Tenant,
        text: &str,
        prompt: &[u32],
        n: usize,
    ) -> Recorder {
        let answers = vec![vec![]; n];
        Recorder { transcripts: transcripts.clone(), key: key(tenant, text), prompt: prompt.into(), answers }
    }

    pub(crate) fn drawn(&mut self, choice: usize, id: u32) {
        if let Some(answer) = self.answers.get_mut(choice) {
            answer.push(id);
        }
    }

    pub(crate) fn ended(&mut self, choice: usize) {
        if let Some(answer) = self.answers.get_mut(choice) {
            self.transcripts.insert(self.key, &self.prompt, std::mem::take(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Beginning, MAX_N_BYTES, Recorder, Transcripts};
    use anser::Tokenizer;
    use anser_engine::Tenant;
    use std::sync::Arc;

    const PROMPT: &str = "User: hi\n\nAssistant:";

    fn record(transcripts: &Arc<Transcripts>, tenant: u64, prompt: &[u32], answers: &[&[u32]]) {
        let mut recorder = Recorder::new(transcripts, Tenant(tenant), PROMPT, prompt, answers.len());
        for (choice, answer) in answers.iter().enumerate() {
            answer.iter().for_each(|&id| recorder.drawn(choice, id));
            recorder.ended(choice);
        }
    }

    /// The ids of single bytes.
    fn bytes(text: &str) -> Vec<u32> {
        text.bytes().map(|byte| u32::from(byte) + 1).collect()
    }

    #[test]
    fn the_longest_answer_that_a_text_has_is_found() {
        let (transcripts, tokenizer) = (Arc::new(Transcripts::default()), Tokenizer::world());
        let prompt = tokenizer.encode(PROMPT.as_bytes());
        record(&transcripts, 1, &prompt, &[&bytes(" so"), &bytes(" so it"), &bytes(" so it is")]);
        let find = |tenant, text: &str| {
            transcripts.beginning(Tenant(tenant), &tokenizer, &format!("{PROMPT}{text}"), &[3, PROMPT.len()])
        };
        let of_answer = |answer: &str| {
            let ids = [prompt.clone(), bytes(answer)].concat();
            Some(Beginning { ids, n_bytes: PROMPT.len() + answer.len() })
        };
        assert_eq!(find(1, " so it was\n\nUser: why"), of_answer(" so it"));
        assert_eq!(find(1, " so"), of_answer(" so"));
        assert_eq!(find(1, " no"), None);
        assert_eq!(find(2, " so"), None, "another tenant's answer");
        // Half of a letter is no place to go on from.
        record(&transcripts, 1, &prompt, &[&bytes("é")[..1]]);
        assert_eq!(find(1, "é"), None);
    }

    #[test]
    fn a_prompt_that_was_read_otherwise_takes_the_place() {
        let (transcripts, tokenizer) = (Arc::new(Transcripts::default()), Tokenizer::world());
        record(&transcripts, 1, &bytes(PROMPT), &[&bytes(" a")]);
        let prompt = tokenizer.encode(PROMPT.as_bytes());
        record(&transcripts, 1, &prompt, &[&bytes(" b")]);
        let find = |text: &str| transcripts.beginning(Tenant(1), &tokenizer, text, &[PROMPT.len()]);
        assert_eq!(find(&format!("{PROMPT} a")), None);
        let ids = [prompt, bytes(" b")].concat();
        assert_eq!(find(&format!("{PROMPT} b")), Some(Beginning { ids, n_bytes: PROMPT.len() + 2 }));
    }

    #[test]
    fn the_oldest_go_first() {
        let transcripts = Arc::new(Transcripts::default());
        let prompt = vec![7; MAX_N_BYTES / 4 / 4];
        for number in 0..20 {
            let mut recorder = Recorder::new(&transcripts, Tenant(0), &number.to_string(), &prompt, 1);
            recorder.drawn(0, 98);
            recorder.ended(0);
            let kept = transcripts.kept.lock().unwrap();
            let n_bytes: usize = kept.by_prompt.values().map(super::Answered::n_bytes).sum();
            assert_eq!((kept.n_bytes, kept.order.len()), (n_bytes, kept.by_prompt.len()));
            assert!(n_bytes <= MAX_N_BYTES);
            assert!(kept.by_prompt.contains_key(&super::key(Tenant(0), &number.to_string())));
        }
        assert_eq!(transcripts.kept.lock().unwrap().order.len(), 3);
    }
}
