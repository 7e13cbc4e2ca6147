// A matrix stored in llama.cpp's blocks Q6_K, row after row. A block of 256 values has 32 words of the lower four bits of eight codes,
// and 16 of the upper two of sixteen, of four codes in the lowest bits of the bytes, then of four above them; four words of signed
// bytes, a scale for each 16 values; the f32 that scales the scales. Codes are less 32.
alias stored = u32;
alias weight4 = vec2<u32>; // four codes, a byte each, and their scale

// Where the words of a quad lie.
fn places_of(quad: u32) -> vec4<u32> {
    let within = quad % 64u;
    return quad / 64u * 53u + vec4(within / 2u, 32u + within / 4u, 48u + within / 16u, 52u);
}

fn weight_of(low: stored, high: stored, scales: stored, scale: stored, quad: u32) -> weight4 {
    let lower = (low >> (4u * (quad % 2u))) & 0x0f0f0f0fu;
    let upper = (high >> (2u * (quad % 4u))) & 0x03030303u;
    let byte = bitcast<i32>((scales >> (8u * (quad / 4u % 4u))) << 24u) >> 24u;
    return vec2(lower | (upper << 4u), bitcast<u32>(bitcast<f32>(scale) * f32(byte)));
}

fn unpack(four: weight4) -> vec4<f32> {
    let codes = (vec4(four.x) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
    let scale = bitcast<f32>(four.y);
    return fma(vec4(scale), vec4<f32>(codes), vec4(-32.0 * scale)); // exact
}

fn prepare(lane: u32) {}
