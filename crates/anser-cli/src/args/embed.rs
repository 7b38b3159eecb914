//! The arguments of `anser embed` and `anser rerank`.

use super::ModelArgs;
use super::numbers::whole;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// Turn texts into vectors
///
/// Prints one JSON array [C] per text: the hidden row after the final norm of the last token, or the mean of several tokens' rows, or what an
/// embedding model's head makes of it.
#[derive(Debug, Args)]
#[command(after_help = EMBED_HELP)]
pub(crate) struct EmbedArgs {
    /// How the rows of a text's tokens are reduced to one row; without it as the model was trained: an embedding model by eos-mean, others by
    /// last
    #[arg(long, value_name = "KIND")]
    pub(crate) pooling: Option<Pooling>,
    /// The head of an embedding model that makes the vector: cls (classification), sts (similarity) or retr (retrieval); none gives the pooled
    /// row. Without it retr, if the model has heads and --pooling is not given
    #[arg(long, value_name = "TASK")]
    pub(crate) head: Option<Head>,
    /// Scale every vector to length 1
    #[arg(long)]
    pub(crate) normalize: bool,
    /// Write the vectors, [texts, C] f32, to this .npy file too
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The texts, each read on its own from a fresh state; - reads standard input as one text
    #[arg(required = true, value_name = "TEXT")]
    pub(crate) texts: Vec<OsString>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

const EMBED_HELP: &str = "\
Examples:
  anser embed \"a small fox\" \"a little fox\"
  anser embed -m model.gguf --pooling mean --normalize --out mail.npy - < mail.txt
  anser embed -m emb.pth --head sts \"a small fox\"          an embedding model with heads";

/// The way in which the rows of a text's tokens are reduced to one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pooling {
    /// The last token's row
    Last,
    /// The mean of all rows
    Mean,
    /// The mean of the rows at token 65535, which is added at the end of every 512 tokens
    EosMean,
}

/// The head of an embedding model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Head {
    Cls,
    Sts,
    Retr,
    None,
}

/// Rank documents by how well they answer a query
///
/// The model is an embedding model, and a reranker that was trained with it scores its states. Documents are read side by side, and best ones
/// come first: rank, score from 0 to 1, and document.
#[derive(Debug, Args)]
#[command(after_help = RERANK_HELP)]
pub(crate) struct RerankArgs {
    /// The reranker: a file with tensors reranker.*
    #[arg(long, value_name = "FILE")]
    pub(crate) reranker: PathBuf,
    /// The query that documents are to answer
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) query: OsString,
    /// Documents from a file, one a line: a JSON text, or an object with the field text; - reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) documents: Option<PathBuf>,
    /// The most documents to print
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>(1, u64::MAX))]
    pub(crate) top_n: Option<usize>,
    /// Print a line of JSON for each document: index, relevance_score, logit, document
    #[arg(long)]
    pub(crate) json: bool,
    /// The documents
    #[arg(value_name = "DOC", required_unless_present = "documents")]
    pub(crate) texts: Vec<OsString>,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

const RERANK_HELP: &str = "\
Examples:
  anser rerank -m emb.pth --reranker reranker.pth --query \"Who wrote Faust?\" \"Goethe wrote it.\" \"A fist is a hand.\"
  anser rerank -m emb.pth --reranker reranker.pth --query \"$q\" --documents corpus.jsonl --top-n 10 --json";
