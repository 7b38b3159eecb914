//! `anser embed`

use crate::args::{EmbedArgs, Pooling};
use crate::output::Output;
use crate::report::Failure;
use crate::term::Spinner;
use crate::{commands, input, npy};
use anser::{EmbedOptions, files};

pub(crate) fn run(args: &EmbedArgs) -> Result<(), Failure> {
    let model = commands::load_for(&args.model, args.out.as_deref())?;
    let pooling = match args.pooling {
        Pooling::Last => anser::Pooling::Last,
        Pooling::Mean => anser::Pooling::Mean,
    };
    let options = EmbedOptions { pooling, normalize: args.normalize, ..EmbedOptions::default() };
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
