// A matrix stored in blocks of 32 values, row after row: eight words of four signed bytes, then the f32 that scales them.
alias stored = u32;
alias weight4 = vec2<u32>; // four values and their scale

fn word_of(quad: u32) -> u32 {
    return quad / 8u * 9u + quad % 8u;
}

fn scale_of(quad: u32) -> u32 {
    return quad / 8u * 9u + 8u;
}

fn weight_of(word: stored, scale: stored, quad: u32) -> weight4 {
    return vec2(word, scale);
}

fn unpack(four: weight4) -> vec4<f32> {
    let bytes = bitcast<vec4<i32>>(vec4(four.x << 24u, four.x << 16u, four.x << 8u, four.x)) >> vec4(24u);
    return bitcast<f32>(four.y) * vec4<f32>(bytes);
}

fn prepare(lane: u32) {}
