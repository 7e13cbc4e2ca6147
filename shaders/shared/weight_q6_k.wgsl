// A matrix stored in llama.cpp's blocks Q6_K of 256 values, row after row: 32 words of the lower four bits of eight codes, 16 of the
// upper two of sixteen; four of signed bytes, a scale for each 16 values; the f32 that scales the scales. Codes are less 32.
alias stored = u32;
alias weight4 = vec2<u32>; // four codes, the lower bits in the lower half, the upper ones above them; their scale

// Where the words of a quad lie.
fn places_of(quad: u32) -> vec4<u32> {
    let within = quad % 64u;
    return quad / 64u * 53u + vec4(within / 2u, 32u + within / 4u, 48u + within / 16u, 52u);
}

fn weight_of(low: stored, high: stored, scales: stored, scale: stored, quad: u32) -> weight4 {
    let codes = ((low >> (16u * (quad % 2u))) & 0xffffu) | ((high >> (8u * (quad % 4u))) << 16u);
    let byte = bitcast<i32>(scales << (24u - 8u * (quad / 4u % 4u))) >> 24u;
    return vec2(codes, bitcast<u32>(bitcast<f32>(scale) * f32(byte)));
}

fn unpack(four: weight4) -> vec4<f32> {
    let low = (vec4(four.x) >> vec4(0u, 4u, 8u, 12u)) & vec4(15u);
    let high = (vec4(four.x) >> vec4(12u, 14u, 16u, 18u)) & vec4(48u);
    let scale = bitcast<f32>(four.y);
    return fma(vec4(scale), vec4<f32>(low | high), vec4(-32.0 * scale)); // exact
}

fn prepare(lane: u32) {}
