// A product in halves takes no matrices of sums: these are f32.

const TAKES_MATRICES: bool = false;

fn write_matrix(sums: MatC, place: Place, i: u32, j: u32) {}
