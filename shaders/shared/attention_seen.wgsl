// The first key that a token sees: none before its sequence, and `window` of them with itself.
fn first_seen(token: u32) -> u32 {
    return max(bounds[token].x, token + 1u - min(token + 1u, params.window));
}
