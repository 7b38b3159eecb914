//! `anser embed`

use crate::args::{EmbedArgs, Head, Pooling};
use crate::output::Output;
use crate::report::Failure;
use crate::term::Spinner;
use crate::{commands, input, npy};
use anser::{EmbedOptions, Model, TaskHead, files};

pub(crate) fn run(args: &EmbedArgs) -> Result<(), Failure> {
    let model = commands::load_for(&args.model, args.out.as_deref())?;
    let options = options(args, &model);
    model.check_embed_options(&options)?;
    let mut texts = vec![];
    for text in &args.texts {
        texts.push(model.encode(input::text(text)?)?);
    }
    let spinner = Spinner::new("embedding");
    let rows = model.embed_batch(&texts, &options)?;
    drop(spinner);
    let n_embd = model.config().n_embd;
    if let Some(path) = &args.out {
        files::write_with(path, |out| npy::write(out, &rows, &[texts.len(), n_embd]))?;
    }
    let mut output = Output::new();
    rows.chunks_exact(n_embd).try_for_each(|row| output.write_json(&row))
}

/// How the model was trained to embed texts, changed by the options that were given.
fn options(args: &EmbedArgs, model: &Model) -> EmbedOptions {
    let usual = model.usual_embed_options();
    let of_chunks = EmbedOptions::of_chunks();
    let base = match args.pooling {
        None => usual,
        Some(Pooling::Last) => EmbedOptions { pooling: anser::Pooling::Last, ..EmbedOptions::default() },
        Some(Pooling::Mean) => EmbedOptions { pooling: anser::Pooling::Mean, ..EmbedOptions::default() },
        Some(Pooling::EosMean) => of_chunks,
    };
    let head = match args.head {
        None => base.head,
        Some(Head::Cls) => Some(TaskHead::Cls),
        Some(Head::Sts) => Some(TaskHead::Sts),
        Some(Head::Retr) => Some(TaskHead::Retr),
        Some(Head::None) => None,
    };
    EmbedOptions { head, normalize: args.normalize, ..base }
}
