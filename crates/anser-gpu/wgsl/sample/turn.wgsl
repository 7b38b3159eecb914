// The step's tables become those of the next step of the same sequences: that one reads the states where this one wrote
// them, and writes where this one read. Follows step.wgsl.

fn turn(sequence: Sequence) -> Sequence {
    return Sequence(sequence.to_slot, sequence.slot, sequence.first, sequence.n_tokens, 0u);
}

fn turn_token(token: Token) -> Token {
    return Token(token.to_slot, token.slot, 1u - token.half, PREVIOUS_STATE, token.is_last);
}
