//! Grammars, which say what text a generation may give.
//!
//! A [`Grammar`] is a text: a JSON schema, a regular expression or a grammar in Lark's notation. Before a token is drawn, the tokens
//! that would lead the text out of the grammar are forbidden (a *mask* with one bit for each token), and the sampler draws among the
//! others. Tokens are bytes and need not be whole characters: a token is allowed if the text with its bytes can still be completed.

#[cfg(not(feature = "grammar"))]
mod absent;
#[cfg(feature = "grammar")]
mod compiler;
#[cfg(feature = "grammar")]
mod constraint;
#[cfg(feature = "grammar")]
mod rewrite;
#[cfg(feature = "grammar")]
mod schema;
#[cfg(feature = "grammar")]
mod source;
#[cfg(all(test, feature = "grammar"))]
mod tests;

#[cfg(not(feature = "grammar"))]
pub(crate) use absent::Constraint;
#[cfg(not(feature = "grammar"))]
pub use absent::Grammar;
#[cfg(feature = "grammar")]
pub(crate) use compiler::Compiler;
#[cfg(feature = "grammar")]
pub(crate) use constraint::Constraint;
#[cfg(feature = "grammar")]
pub use source::Grammar;

/// The tokens that may be drawn next.
#[derive(Debug)]
#[cfg_attr(not(feature = "grammar"), expect(dead_code, reason = "without grammars no constraint gives any"))]
pub(crate) enum Allowed<'a> {
    /// A bit for each token of the vocabulary, 32 in a word, the lowest bit first. Tokens beyond the last word are forbidden.
    Tokens(&'a [u32]),
    /// None: the text is complete, and nothing may follow.
    Nothing,
}

/// Computes the masks of the next tokens of many texts, in several threads: inside strings one takes up to 0.25 ms. Those of few texts
/// are computed when they are asked for.
pub(crate) fn compute_masks(mut constraints: Vec<&mut Constraint>) {
    /// The least texts of a thread, which takes about as long to start.
    const MIN_TEXTS: usize = 4;

    constraints.retain(|constraint| constraint.lacks_mask());
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = (constraints.len() / MIN_TEXTS).min(n_cores);
    if n_threads <= 1 {
        return;
    }
    let n_texts = constraints.len().div_ceil(n_threads);
    std::thread::scope(|scope| {
        for constraints in constraints.chunks_mut(n_texts) {
            // An error is told again when the mask is asked for, and masks are computed then if the system starts no thread.
            let compute = || constraints.iter_mut().for_each(|constraint| drop(constraint.allowed()));
            let _ = std::thread::Builder::new().name("anser-masks".into()).spawn_scoped(scope, compute);
        }
    });
}
