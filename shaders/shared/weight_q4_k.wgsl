// A matrix stored in llama.cpp's blocks Q4_K, row after row. A block of 256 values has 32 words of eight codes, four in the lower
// halves of the bytes, then four in the upper ones; four words of bytes, a scale and a minimum for each 32 values; the f32 that scales
// the scales, and that of the minima.
alias stored = u32;
alias weight4 = vec3<u32>; // four codes, a byte each, their scale, and what is taken off

// Where the words of a quad lie.
fn places_of(quad: u32) -> vec4<u32> {
    let within = quad % 64u;
    return quad / 64u * 38u + vec4(within / 2u, 32u + within / 16u, 36u, 37u);
}

fn weight_of(word: stored, pairs: stored, scale: stored, minimum: stored, quad: u32) -> weight4 {
    let pair = pairs >> (16u * (quad / 8u % 2u));
    let scaled = vec2(bitcast<f32>(scale), bitcast<f32>(minimum)) * vec2<f32>(vec2(pair, pair >> 8u) & vec2(255u));
    return vec3((word >> (4u * (quad % 2u))) & 0x0f0f0f0fu, bitcast<vec2<u32>>(scaled));
}

fn unpack(four: weight4) -> vec4<f32> {
    let codes = (vec4(four.x) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
    return fma(vec4(bitcast<f32>(four.y)), vec4<f32>(codes), vec4(-bitcast<f32>(four.z))); // the product is exact
}

fn prepare(lane: u32) {}
