// The step's tables become those of the next step of the same sequences. Follows step.wgsl.

// The next step reads the states where this one wrote them, and writes where this one read. A sequence without a token to read
// goes on in the slot that this step wrote to: the state before this step stays as it was, for the host to compute the step again.
fn turn(sequence: Sequence, has_token: bool) -> Sequence {
    let to_slot = select(sequence.to_slot, sequence.slot, has_token);
    return Sequence(sequence.to_slot, to_slot, sequence.first, sequence.n_tokens, 0u);
}

fn turn_token(token: Token, has_token: bool) -> Token {
    let to_slot = select(token.to_slot, token.slot, has_token);
    return Token(token.to_slot, to_slot, 1u - token.half, PREVIOUS_STATE, token.is_last);
}
