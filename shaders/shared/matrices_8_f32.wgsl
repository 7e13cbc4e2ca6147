// Matrices of 8 x 8 f32: operands as they are.
const SIZE = 8u;
const SCALES = false;
const IN_16_BYTES = 4u;
alias entry = f32;
alias entry4 = vec4<f32>;
alias Left = coop_mat8x8<f32, A>;
alias Right = coop_mat8x8<f32, B>;
alias Sum = coop_mat8x8<f32, C>;
