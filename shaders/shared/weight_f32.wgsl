// A matrix stored as f32: four values a word.
alias stored = vec4<f32>;
alias weight4 = vec4<f32>;

fn word_of(quad: u32) -> u32 {
    return quad;
}

// There is no scale: what is read in its place is not used.
fn scale_of(quad: u32) -> u32 {
    return quad;
}

fn weight_of(word: stored, scale: stored, quad: u32) -> weight4 {
    return word;
}

fn prepare(lane: u32) {}

fn unpack(word: weight4) -> vec4<f32> {
    return word;
}
