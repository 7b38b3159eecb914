//! The numbers of tokens of an answer.

use crate::flight::Counts;
use serde::Serialize;

/// `usage` of chats, completions and embeddings.
#[derive(Debug, Serialize)]
pub(crate) struct Usage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Serialize)]
struct PromptDetails {
    cached_tokens: usize,
}

#[derive(Debug, Serialize)]
struct CompletionDetails {
    reasoning_tokens: usize,
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Usage {
        Usage {
            prompt_tokens: counts.n_prompt,
            completion_tokens: counts.n_generated,
            total_tokens: counts.n_prompt + counts.n_generated,
            prompt_tokens_details: PromptDetails { cached_tokens: counts.n_cached },
            completion_tokens_details: CompletionDetails { reasoning_tokens: counts.n_reasoning },
        }
    }
}
