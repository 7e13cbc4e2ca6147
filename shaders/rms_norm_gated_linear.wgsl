// rms_norm_gated_linear: act[i, j] = f(sum over k of n[i, k] * gate[j, k]) * (sum over k of n[i, k] * up[j, k])
//                        n[i, k] = x[i, k] / sqrt(mean over k of x[i, k]^2 + epsilon) * (offset + norm[k])
// f = SiLU or tanh-GELU (shared/gate.wgsl). i < rows, j < cols, k < inner; all are multiples of 4 but the rows. This file says where
// the operands lie; norm_rows.wgsl computes.

struct Params {
    first_row: u32,
    rows: u32,
    inner: u32,
    cols: u32,
    activation: u32,
    epsilon: f32,
    offset: f32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, inner]
@group(0) @binding(1) var<storage, read> norm: array<vec4<f32>>; // [inner]
@group(0) @binding(2) var<storage, read> gate: array<stored>; // [cols, inner]
@group(0) @binding(3) var<storage, read> up: array<stored>; // [cols, inner]
@group(0) @binding(4) var<storage, read_write> act: array<vec4<f32>>; // [rows, cols]

// Whether an invocation's half of the workgroup reads the gate's matrix; the other reads as many rows of the other matrix.
const COLS = 4u;
var<private> is_gate: bool;

fn column_of(corner: u32, side: u32) -> u32 {
    is_gate = side == 0u;
    return corner;
}

// The grid of tiles of a size, columns first.
fn grid_of(size: vec2<u32>) -> vec2<u32> {
    return (vec2(params.cols, params.rows) + size - 1u) / size;
}

// The first column and row of a tile.
fn corner_of(tile: vec2<u32>, size: vec2<u32>) -> vec2<u32> {
    return tile * size;
}

// Where a quad of an operand lies. Rows and columns after the last are read as the last; their sums are not stored.
fn left_place(row: u32, k: u32) -> u32 {
    return ((params.first_row + min(row, params.rows - 1u)) * params.inner + k) / 4u;
}

fn right_place(col: u32, k: u32) -> u32 {
    return (min(col, params.cols - 1u) * params.inner + k) / 4u;
}

// A quad, as it is stored.
fn left_quad(place: u32) -> vec4<f32> {
    return x[place];
}

fn right_quad(quad: u32) -> weight4 {
    if (is_gate) {
        let at = places_of(quad);
        return weight_of(gate[at.x], gate[at.y], gate[at.z], gate[at.w], quad);
    }
    let at = places_of(quad);
    return weight_of(up[at.x], up[at.y], up[at.z], up[at.w], quad);
}

// A row's sums of the gate's columns and of the other matrix's.
fn finish(row: u32, col: u32, side: u32, gate_sum: vec4<f32>, up_sum: vec4<f32>) {
    if (side == 0u && row < params.rows && col < params.cols) {
        let value = gate_sum * sigmoid(gate_z(gate_sum, params.activation)) * up_sum;
        act[((params.first_row + row) * params.cols + col) / 4u] = value;
    }
}
