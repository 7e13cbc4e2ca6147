// A matrix whose quads are stored one after the other, as they are read.
alias stored = weight4;

// Where the words of a quad lie, of which there is one: what is read in the others' places is not used.
fn places_of(quad: u32) -> vec4<u32> {
    return vec4(quad);
}

fn weight_of(word: stored, second: stored, third: stored, fourth: stored, quad: u32) -> weight4 {
    return word;
}

fn prepare(lane: u32) {}
