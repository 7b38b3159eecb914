//! `anser tokenize`

use crate::args::{TokenizeArgs, load, not_run};
use crate::input::{self, TokenIds};
use crate::output::Output;
use crate::report::Failure;
use anser::{MAX_VOCABULARY_N_BYTES, Tokenizer, files};
use serde::Serialize;

/// The JSON object that `--json` prints; the help describes it.
#[derive(Serialize)]
struct Tokenized<'a> {
    n_tokens: usize,
    n_bytes: usize,
    ids: &'a [u32],
    text: Option<&'a str>,
}

pub(crate) fn run(args: &TokenizeArgs) -> Result<(), Failure> {
    let tokenizer = tokenizer(args)?;
    let given = match (&args.text, &args.file) {
        (Some(text), _) => input::text(text)?,
        (None, Some(file)) => input::file(file)?,
        (None, None) => vec![],
    };
    let mut output = Output::new();
    let (ids, bytes) = if args.decode {
        let ids = parse_ids(&given)?;
        let bytes = tokenizer.decode(&ids).map_err(anser::Error::from)?;
        (ids, bytes)
    } else {
        (tokenizer.encode(&given), given)
    };
    if args.json {
        let text = std::str::from_utf8(&bytes).ok();
        output.write_json(&Tokenized { n_tokens: ids.len(), n_bytes: bytes.len(), ids: &ids, text })
    } else if args.decode {
        output.write(bytes)?;
        output.finish_line()
    } else {
        output.write_json(&ids)
    }
}

fn tokenizer(args: &TokenizeArgs) -> Result<Tokenizer, Failure> {
    if let Some(path) = &args.vocab {
        return Ok(match input::stdin_named_by(path) {
            Some(stdin) => {
                let bytes = files::read_stream(stdin, MAX_VOCABULARY_N_BYTES, "a vocabulary file");
                let bytes = bytes.map_err(|e| Failure::about("standard input", e))?;
                Tokenizer::from_vocab_file(&bytes).map_err(|e| Failure::about("standard input", e))?
            }
            None => anser::read_vocabulary(path)?,
        });
    }
    match &args.model {
        Some(path) => Ok(load(path, &not_run())?.tokenizer()?.clone()),
        None => Ok(Tokenizer::world()),
    }
}

fn parse_ids(given: &[u8]) -> Result<Vec<u32>, Failure> {
    let text = std::str::from_utf8(given).map_err(|_| Failure::Usage("--decode: the ids are not text".into()))?;
    let TokenIds(ids) = text.parse().map_err(|e| Failure::Usage(format!("--decode: {e}")))?;
    Ok(ids)
}
