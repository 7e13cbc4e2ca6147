// sum_squares: partials[first_partial + b] = sum of x[i]^2 over block b of BLOCK values, counted over the blocks of up to
// seven tensors, of which each begins with a block of its own. One workgroup a block; the host adds the blocks up in f64.

const BLOCK = 16384u;

struct Params {
    count0: u32,
    count1: u32,
    count2: u32,
    count3: u32,
    count4: u32,
    count5: u32,
    count6: u32,
    first_partial: u32,
}
var<immediate> params: Params;

@group(0) @binding(0) var<storage, read> x0: array<vec4<f32>>; // [count0]
@group(0) @binding(1) var<storage, read> x1: array<vec4<f32>>; // [count1]
@group(0) @binding(2) var<storage, read> x2: array<vec4<f32>>; // [count2]
@group(0) @binding(3) var<storage, read> x3: array<vec4<f32>>; // [count3]
@group(0) @binding(4) var<storage, read> x4: array<vec4<f32>>; // [count4]
@group(0) @binding(5) var<storage, read> x5: array<vec4<f32>>; // [count5]
@group(0) @binding(6) var<storage, read> x6: array<vec4<f32>>; // [count6]
@group(0) @binding(7) var<storage, read_write> partials: array<f32>; // [any]

// A block of a tensor, or one after its last, which is a block of a tensor after it.
struct Place {
    tensor: u32,
    count: u32,
    block: u32,
}

// The same place where it is in its tensor, else in the next one, of `count` values.
fn onward(place: Place, count: u32) -> Place {
    let blocks = (place.count + BLOCK - 1u) / BLOCK;
    if (place.block < blocks) {
        return place;
    }
    return Place(place.tensor + 1u, count, place.block - blocks);
}

fn four_values(tensor: u32, i: u32) -> vec4<f32> {
    switch (tensor) {
        case 0u: { return x0[i]; }
        case 1u: { return x1[i]; }
        case 2u: { return x2[i]; }
        case 3u: { return x3[i]; }
        case 4u: { return x4[i]; }
        case 5u: { return x5[i]; }
        default: { return x6[i]; }
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, lane: Lane) {
    let partial = linear(workgroup);
    var place = Place(0u, params.count0, partial);
    place = onward(place, params.count1);
    place = onward(place, params.count2);
    place = onward(place, params.count3);
    place = onward(place, params.count4);
    place = onward(place, params.count5);
    place = onward(place, params.count6);
    let first = place.block * BLOCK;
    if (first >= place.count) {
        return;
    }
    var squares = vec4(0.0);
    for (var i = first + 4u * lane.index; i < min(first + BLOCK, place.count); i += 4u * LANES) {
        let inside = vec4(i, i + 1u, i + 2u, i + 3u) < vec4(place.count);
        let value = select(vec4(0.0), four_values(place.tensor, i / 4u), inside);
        squares = fma(value, value, squares);
    }
    let sum = row_sum(dot(squares, vec4(1.0)), lane);
    if (lane.index == 0u) {
        partials[params.first_partial + partial] = sum;
    }
}
