// Values as entries of matrices.
override CUTS_OFF = false; // conversions to f16

// Of f16 rounded to 11 bits, ties to even. Where the adapter's own conversion cuts off, that is done before.
fn rounded(x: vec4<f32>) -> entry4 {
    if (SCALES && CUTS_OFF) {
        let bits = bitcast<vec4<u32>>(x);
        let nearest = (bits + 0xfffu + ((bits >> vec4(13u)) & vec4(1u))) & vec4(0xffffe000u);
        return entry4(bitcast<vec4<f32>>(nearest));
    }
    return entry4(x);
}
