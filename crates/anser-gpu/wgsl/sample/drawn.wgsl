// Where a sequence that draws its own tokens stands.

struct DrawnToken {
    token: u32,   // the token that the next step reads; NO_TOKEN if none could be drawn
    n_drawn: u32, // tokens drawn on the device
}

const NO_TOKEN: u32 = 0xffffffffu;
