// What follows a product is a constant: a kernel that writes many matrices repeats it for each of them, and would grow beyond the
// cache of instructions with all activations.

override EPILOGUE: u32; // as in TargetRows

fn epilogue() -> u32 {
    return EPILOGUE;
}
