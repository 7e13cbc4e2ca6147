// A matrix stored in blocks of 32 values, row after row: eight words of four signed bytes, then the f32 that scales them.
alias stored = u32;
alias weight4 = vec2<u32>; // four values and their scale

// Where the words of a quad lie, of which there are two: what is read in the others' places is not used.
fn places_of(quad: u32) -> vec4<u32> {
    let block = quad / 8u * 9u;
    return vec2(block + quad % 8u, block + 8u).xyyy;
}

fn weight_of(word: stored, scale: stored, third: stored, fourth: stored, quad: u32) -> weight4 {
    return vec2(word, scale);
}

fn unpack(four: weight4) -> vec4<f32> {
    let bytes = bitcast<vec4<i32>>(vec4(four.x << 24u, four.x << 16u, four.x << 8u, four.x)) >> vec4(24u);
    return bitcast<f32>(four.y) * vec4<f32>(bytes);
}

fn prepare(lane: u32) {}
