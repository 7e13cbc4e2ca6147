// A matrix stored as bf16, which is the upper half of an f32: two values to a u32, the first in the lower half.
alias weight4 = vec2<u32>;

fn unpack(word: weight4) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4(word.x << 16u, word.x & 0xffff0000u, word.y << 16u, word.y & 0xffff0000u));
}
