//! `anser logits`

use crate::args::LogitsArgs;
use crate::output::Output;
use crate::report::Failure;
use crate::{commands, input, npy};
use anser::files;
use serde::Serialize;

/// The JSON object that is printed; the help describes it.
#[derive(Serialize)]
struct Logits {
    n: usize,
    top: Vec<(u32, f32)>,
}

pub(crate) fn run(args: &LogitsArgs) -> Result<(), Failure> {
    let model = commands::load_for(&args.model, args.out.as_deref())?;
    let tokens = input::or_document_start(&model, args.tokens.resolve(&model)?);
    let mut session = model.session()?;
    commands::read(&mut session, &tokens)?;
    let logits = session.logits();
    if let Some(path) = &args.out {
        files::write_with(path, |out| npy::write(out, logits, &[logits.len()]))?;
    }
    Output::new().write_json(&Logits { n: tokens.len(), top: largest(logits, args.top) })
}

/// The `k` largest logits with their ids, the largest first, the lower id first among equals.
fn largest(logits: &[f32], k: usize) -> Vec<(u32, f32)> {
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(k);
    ranked
}
