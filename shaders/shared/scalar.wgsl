// Rows of any length, one value at a time.
alias element = f32;
const WIDTH = 1u;

fn total(v: element) -> f32 {
    return v;
}
