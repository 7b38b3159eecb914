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
mod schema;
#[cfg(feature = "grammar")]
mod source;
#[cfg(all(test, feature = "grammar"))]
mod tests;

#[cfg(not(feature = "grammar"))]
pub use absent::Grammar;
#[cfg(not(feature = "grammar"))]
pub(crate) use absent::{Compiler, Constraint};
#[cfg(feature = "grammar")]
pub(crate) use compiler::Compiler;
#[cfg(feature = "grammar")]
pub(crate) use constraint::Constraint;
#[cfg(feature = "grammar")]
pub use source::Grammar;

/// The tokens that may be drawn next.
#[derive(Debug)]
pub(crate) enum Allowed<'a> {
    /// A bit for each token of the vocabulary, 32 in a word, the lowest bit first. Tokens beyond the last word are forbidden.
    Tokens(&'a [u32]),
    /// None: the text is complete, and nothing may follow.
    Nothing,
}
