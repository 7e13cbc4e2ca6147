// A matrix whose quads are stored one after the other, as they are read.
alias stored = weight4;

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
