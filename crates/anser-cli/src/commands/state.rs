//! `anser state`

use crate::args::StateArgs;
use crate::report::Failure;
use crate::{commands, input};
use anser::files;

pub(crate) fn run(args: &StateArgs) -> Result<(), Failure> {
    let from = args.from.as_deref().map(|state| ("the state", state));
    files::check_output(&args.out, from.as_slice())?;
    let model = commands::load_for(&args.model, Some(&args.out))?;
    let mut session = model.session()?;
    if let Some(state) = &args.from {
        commands::tell_origin(state, session.load_state(state)?);
    }
    let mut tokens = args.tokens.resolve(&model)?;
    if session.is_fresh() {
        tokens = input::or_document_start(&model, tokens);
    }
    commands::read(&mut session, &tokens)?;
    Ok(session.save_state(&args.out)?)
}
