//! Embeddings `[T, C]`: the host gathers their rows from the file before a step.

use super::prelude::*;

pub(super) static EMBED: Rule =
    Rule { name: "embed", pattern: Pattern::OnHost, fits: always, forms: Forms::FLOATS, lower: |_, _| Ok(vec![]) };
