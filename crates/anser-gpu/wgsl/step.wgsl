// What every kernel may know about the step it runs in; written once per step.

struct Step {
    n_tokens: u32,    // T
    n_outputs: u32,   // O
    n_sequences: u32, // B
}

// Consecutive tokens of one sequence.
struct Sequence {
    slot: u32,     // state slot that holds the state before the step
    to_slot: u32,  // state slot that gets the one after it; mostly the same
    first: u32,    // row of its first token
    n_tokens: u32, // at least 1
    is_fresh: u32, // 1 if the state before the step is zero, whatever the buffers hold
}

struct Token {
    slot: u32,    // state slots of its sequence, see above
    to_slot: u32,
    // Which of the two halves of a token-shift state `[slots, 2, C]` holds the state before the step. The kernel writes
    // the other half of `to_slot`, so that no element is both read and written in one dispatch.
    half: u32,
    previous: u32, // where the sequence's previous token is: one of the constants below
    is_last: u32,  // 1 if it is the last token of its sequence
}

const PREVIOUS_ROW: u32 = 0u;   // the row before
const PREVIOUS_STATE: u32 = 1u; // the state
const PREVIOUS_ZERO: u32 = 2u;  // nowhere: the state is zero

// Whether the rows of a kernel's values are the step's outputs instead of its tokens.
override OUTPUTS: bool = false;

fn step_n_rows(step: Step) -> u32 {
    return select(step.n_tokens, step.n_outputs, OUTPUTS);
}
