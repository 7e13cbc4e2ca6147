// A matrix stored in blocks of 64 values, row after row: eight words of eight codes of NF4, then the f32 that scales them.
alias stored = u32;
alias weight4 = vec2<u32>; // four codes, in the lower half, and their scale

// Where the words of a quad lie, of which there are two: what is read in the others' places is not used.
fn places_of(quad: u32) -> vec4<u32> {
    let block = quad / 16u * 9u;
    return vec2(block + quad % 16u / 2u, block + 8u).xyyy;
}

fn weight_of(word: stored, scale: stored, third: stored, fourth: stored, quad: u32) -> weight4 {
    return vec2(word >> (16u * (quad % 2u)), scale);
}

fn unpack(four: weight4) -> vec4<f32> {
    let codes = (vec4(four.x) >> vec4(0u, 4u, 8u, 12u)) & vec4(15u);
    return bitcast<f32>(four.y) * nf4(codes);
}

// What codes stand for, bit by bit, so that no array is read at an index.
fn chosen(codes: vec4<u32>) -> vec4<f32> {
    let bit0 = (codes & vec4(1u)) != vec4(0u);
    let bit1 = (codes & vec4(2u)) != vec4(0u);
    let bit2 = (codes & vec4(4u)) != vec4(0u);
    let bit3 = (codes & vec4(8u)) != vec4(0u);
    let c0 = select(vec4(-1.0), vec4(-0.6961928), bit0);
    let c2 = select(vec4(-0.52507305), vec4(-0.3949175), bit0);
    let c4 = select(vec4(-0.28444138), vec4(-0.18477343), bit0);
    let c6 = select(vec4(-0.091050036), vec4(0.0), bit0);
    let c8 = select(vec4(0.0795803), vec4(0.1609302), bit0);
    let c10 = select(vec4(0.2461123), vec4(0.33791524), bit0);
    let c12 = select(vec4(0.44070983), vec4(0.562617), bit0);
    let c14 = select(vec4(0.72295684), vec4(1.0), bit0);
    let low = select(select(c0, c2, bit1), select(c4, c6, bit1), bit2);
    let high = select(select(c8, c10, bit1), select(c12, c14, bit1), bit2);
    return select(low, high, bit3);
}
