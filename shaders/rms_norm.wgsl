// rms_norm: rstd[r] = 1 / sqrt(mean over c of x[r, c]^2 + epsilon)
//           y[r, c] (+)= x[r, c] * rstd[r] * (offset + weight[c])
// One workgroup two rows, which share what is read of the weight.

struct Params {
    rows: u32,
    cols: u32,
    epsilon: f32,
    offset: f32,
    accumulate: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x: array<element>; // [rows, cols]
@group(0) @binding(1) var<storage, read> weight: array<element>; // [cols]
@group(0) @binding(2) var<storage, read_write> y: array<element>; // [rows, cols]
@group(0) @binding(3) var<storage, read_write> rstd: array<f32>; // [rows]

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let row = 2u * linear(workgroup);
    if (row >= params.rows) {
        return;
    }
    let width = params.cols / WIDTH;
    let first = row * width;
    let is_pair = row + 1u < params.rows;
    let second = select(first, first + width, is_pair); // an odd last row is summed twice

    var squares = vec2(0.0);
    for (var c = lane.index; c < width; c += LANES) {
        squares += vec2(total(x[first + c] * x[first + c]), total(x[second + c] * x[second + c]));
    }
    let mean = vec2(row_sum(squares.x, lane), row_sum(squares.y, lane)) / f32(params.cols);
    let scale = 1.0 / sqrt(mean + params.epsilon);

    for (var c = lane.index; c < width; c += LANES) {
        let factor = params.offset + weight[c];
        add_or_set(first + c, x[first + c] * scale.x * factor);
        if (is_pair) {
            add_or_set(second + c, x[second + c] * scale.y * factor);
        }
    }
    if (lane.index == 0u) {
        rstd[row] = scale.x;
        if (is_pair) {
            rstd[row + 1u] = scale.y;
        }
    }
}

fn add_or_set(place: u32, value: element) {
    if (params.accumulate != 0u) {
        y[place] += value;
    } else {
        y[place] = value;
    }
}
