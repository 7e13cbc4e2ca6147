// A matrix stored in llama.cpp's blocks Q4_0 of 32 values, row after row: four words of eight codes, then the f32 that scales them,
// less 8.
alias stored = u32;
alias weight4 = vec2<u32>; // four codes, in the lower half, and their scale

// Where the words of a quad lie, of which there are two: what is read in the others' places is not used.
fn places_of(quad: u32) -> vec4<u32> {
    let block = quad / 8u * 5u;
    return vec2(block + quad % 8u / 2u, block + 4u).xyyy;
}

fn weight_of(word: stored, scale: stored, third: stored, fourth: stored, quad: u32) -> weight4 {
    return vec2(word >> (16u * (quad % 2u)), scale);
}

fn unpack(four: weight4) -> vec4<f32> {
    let codes = (vec4(four.x) >> vec4(0u, 4u, 8u, 12u)) & vec4(15u);
    let scale = bitcast<f32>(four.y);
    return fma(vec4(scale), vec4<f32>(codes), vec4(-8.0 * scale)); // exact
}

fn prepare(lane: u32) {}
