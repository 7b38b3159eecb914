//! `anser state`

use crate::args::StateArgs;
use crate::report::Failure;
use crate::{commands, input};

pub(crate) fn run(args: &StateArgs) -> Result<(), Failure> {
    let model = args.model.load()?;
    let mut session = model.session()?;
    if let Some(state) = &args.from {
        session.load_state(state)?;
    }
    let mut tokens = args.tokens.resolve(&model)?;
    if session.is_fresh() {
        tokens = input::or_document_start(tokens);
    }
    commands::read(&mut session, &tokens)?;
    Ok(session.save_state(&args.out)?)
}
