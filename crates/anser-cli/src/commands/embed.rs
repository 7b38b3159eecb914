//! `anser embed`

use crate::args::{EmbedArgs, Pooling};
use crate::output::{self, Output};
use crate::report::Failure;
use crate::term::Progress;
use crate::{input, npy};
use anser::EmbedOptions;

pub(crate) fn run(args: &EmbedArgs) -> Result<(), Failure> {
    let model = args.model.load()?;
    let pooling = match args.pooling {
        Pooling::Last => anser::Pooling::Last,
        Pooling::Mean => anser::Pooling::Mean,
    };
    let options = EmbedOptions { pooling, normalize: args.normalize };
    let mut rows = vec![];
    let mut progress = Progress::new("embedding texts");
    for text in &args.texts {
        progress.update(rows.len(), args.texts.len());
        let tokens = input::document_tokens(&model, &input::text(text)?)?;
        rows.push(model.embed(&tokens, &options)?);
    }
    drop(progress);
    if let Some(path) = &args.out {
        let shape = [rows.len(), model.config().n_embd];
        output::write_file(path, &npy::encode(&rows.concat(), &shape))?;
    }
    let mut output = Output::new();
    rows.iter().try_for_each(|row| output.write_json(row))
}
