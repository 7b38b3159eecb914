//! `anser logits`

use crate::args::LogitsArgs;
use crate::output::{self, Output};
use crate::report::Failure;
use crate::{commands, input, npy};
use serde::Serialize;

/// What is printed; described in the help.
#[derive(Serialize)]
struct Logits {
    n: usize,
    top: Vec<(u32, f32)>,
}

pub(crate) fn run(args: &LogitsArgs) -> Result<(), Failure> {
    let model = args.model.load()?;
    let tokens = input::or_document_start(args.tokens.resolve(&model)?);
    let mut session = model.session()?;
    commands::read(&mut session, &tokens)?;
    let logits = session.logits();
    if let Some(position) = logits.iter().position(|x| !x.is_finite()) {
        let found = logits[position];
        return Err(Failure::about(
            model.name(),
            format!("the logit of token {position} is {found}: the weights are damaged, or left their number format"),
        ));
    }
    if let Some(path) = &args.out {
        output::write_file(path, &npy::encode(logits, &[logits.len()]))?;
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
