// A matrix stored in llama.cpp's blocks Q4_0, row after row. A block of 32 values has four words of eight codes, four in the lower
// halves of the bytes, then four in the upper ones; the f32 that scales codes less 8.
alias stored = u32;
alias weight4 = vec2<u32>; // four codes, a byte each, and their scale

// Where the words of a quad lie, of which there are two: what is read in the others' places is not used.
fn places_of(quad: u32) -> vec4<u32> {
    let block = quad / 8u * 5u;
    return vec2(block + quad % 8u / 2u, block + 4u).xyyy;
}

fn weight_of(word: stored, scale: stored, third: stored, fourth: stored, quad: u32) -> weight4 {
    return vec2((word >> (4u * (quad % 2u))) & 0x0f0f0f0fu, scale);
}

fn unpack(four: weight4) -> vec4<f32> {
    let codes = (vec4(four.x) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
    let scale = bitcast<f32>(four.y);
    return fma(vec4(scale), vec4<f32>(codes), vec4(-8.0 * scale)); // exact
}

fn prepare(lane: u32) {}
