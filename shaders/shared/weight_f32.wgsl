// A matrix stored as f32: four values a word.
alias weight4 = vec4<f32>;

fn unpack(word: weight4) -> vec4<f32> {
    return word;
}
