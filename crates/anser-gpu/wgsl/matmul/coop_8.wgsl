// Cooperative matrices of 8×8.

const SIDE: u32 = 8u;

alias MatA = coop_mat8x8<f16, A>;
alias MatB = coop_mat8x8<f16, B>;
alias MatC = coop_mat8x8<f32, C>;
