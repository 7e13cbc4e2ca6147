// max_magnitude: m[i] = max over j of |a[i, j]|, or where BY_COLUMN m[j] = max over i of |a[i, j]|, as the bits of an f32
// i < rows, j < cols. Offset and stride of a are in values, multiples of 4; so is cols. What is in m counts where it is added to.

struct Params {
    rows: u32,
    cols: u32,
    a_offset: u32,
    a_stride: u32,
    m_offset: u32,
    accumulate: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> a: array<stored>; // [rows, a_stride]
@group(0) @binding(1) var<storage, read_write> m: array<u32>; // [rows], or [cols], from m_offset on

override BY_COLUMN = false;

// A workgroup has LINES rows, or groups of four columns, and each of them SHARES invocations.
const LANES = 256u;
override LINES = select(4u, 16u, BY_COLUMN);
override SHARES = LANES / LINES;
var<workgroup> largest: array<vec4<u32>, LANES>; // [SHARES, LINES]

// Four magnitudes, as bits: they are in the order of what they stand for, and no number is the largest.
fn magnitudes_at(row: u32, col: u32) -> vec4<u32> {
    let quad = (params.a_offset + row * params.a_stride + col) / 4u;
    let at = places_of(quad);
    return bitcast<vec4<u32>>(unpack(weight_of(a[at.x], a[at.y], a[at.z], a[at.w], quad))) & vec4(0x7fffffffu);
}

fn keep(place: u32, found: u32) {
    m[place] = max(found, select(0u, m[place], params.accumulate != 0u));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    prepare(lane);
    // Neighbouring invocations read neighbouring values.
    let line = select(lane / SHARES, lane % LINES, BY_COLUMN);
    let share = select(lane % SHARES, lane / LINES, BY_COLUMN);
    let index = linear(workgroup) * LINES + line;
    var most = vec4(0u);
    if (BY_COLUMN) {
        let col = min(4u * index, params.cols - 4u);
        for (var row = share; row < params.rows; row += SHARES) {
            most = max(most, magnitudes_at(row, col));
        }
    } else {
        let row = min(index, params.rows - 1u);
        for (var col = 4u * share; col < params.cols; col += 4u * SHARES) {
            most = max(most, magnitudes_at(row, col));
        }
    }
    largest[share * LINES + line] = most;
    workgroupBarrier();
    for (var span = SHARES / 2u; span > 0u; span /= 2u) {
        if (share < span) {
            let place = share * LINES + line;
            largest[place] = max(largest[place], largest[place + span * LINES]);
        }
        workgroupBarrier();
    }
    let found = largest[line];
    if (BY_COLUMN && share < 4u && 4u * index < params.cols) {
        keep(params.m_offset + 4u * index + share, found[share]);
    }
    if (!BY_COLUMN && share == 0u && index < params.rows) {
        keep(params.m_offset + index, max(max(found.x, found.y), max(found.z, found.w)));
    }
}
