//! `anser rerank`

use crate::args::RerankArgs;
use crate::input;
use crate::output::Output;
use crate::report::Failure;
use crate::term::Progress;
use anser::{Ranked, Reranker};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::Path;

/// The bytes of documents' states that are kept for the next query; a command has one query.
const KEPT_N_BYTES: usize = 0;
/// The most bytes of a file of documents.
const MAX_DOCUMENTS_N_BYTES: u64 = 1 << 30;

/// A line of a file of documents.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Object { text: String },
}

/// A line of output.
#[derive(Debug, Serialize)]
struct Row<'a> {
    index: usize,
    relevance_score: f32,
    logit: f32,
    document: &'a str,
}

pub(crate) fn run(args: &RerankArgs) -> Result<(), Failure> {
    let utf8 = |text: Vec<u8>| String::from_utf8(text).map_err(|_| Failure::Usage("expected texts in UTF-8".into()));
    let query = utf8(input::text(&args.query)?)?;
    let mut documents = vec![];
    if let Some(path) = &args.documents {
        documents = read_documents(path)?;
    }
    for text in &args.texts {
        documents.push(utf8(input::text(text)?)?);
    }
    let model = args.model.load()?;
    let reranker = Reranker::load(&model, &args.reranker, &args.model.options()?, KEPT_N_BYTES)?;
    let mut progress = Progress::new("ranking");
    let ranked = reranker.rank_for(&query, &documents, |done, total| {
        progress.update(done, total);
        ControlFlow::Continue(())
    })?;
    drop(progress);
    let mut output = Output::new();
    for (rank, Ranked { index, score, logit }) in ranked.into_iter().take(args.top_n.unwrap_or(usize::MAX)).enumerate()
    {
        let document = &documents[index];
        match args.json {
            true => output.write_json(&Row { index, relevance_score: score, logit, document })?,
            false => output.write(format!("{}\t{score:.4}\t{}\n", rank + 1, document.replace(['\n', '\r'], " ")))?,
        }
    }
    Ok(())
}

/// The documents of a file of JSON lines.
fn read_documents(path: &Path) -> Result<Vec<String>, Failure> {
    let is_stdin = input::stdin_named_by(path).is_some();
    let bytes = match is_stdin {
        true => input::text(path.as_os_str())?,
        false => anser::files::read_at_most(path, MAX_DOCUMENTS_N_BYTES, "a file of documents")?,
    };
    let lines = bytes.split(|&byte| byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
    let document = |(i, line): (usize, &[u8])| match serde_json::from_slice(line) {
        Ok(Line::Text(text) | Line::Object { text }) => Ok(text),
        Err(error) => {
            let place = format!("{}, line {}", path.display(), i + 1);
            Err(Failure::about(place, format!("expected a JSON text, or an object with the field text: {error}")))
        }
    };
    lines.map(document).collect()
}
